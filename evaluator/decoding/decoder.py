"""Fields -> people, on the network's own grid: find peaks, score pairs of peaks along the PAFs, group. NumPy and OpenCV only.

The idea of scoring a pair by the PAF along the line between its peaks is from Cao et al., "Realtime Multi-Person 2D Pose
Estimation using Part Affinity Fields", CVPR 2017, section 2.4. Nothing is upsampled: peaks are refined in log space, where a
Gaussian is a parabola, and the PAFs are read at the nearest cell. Everything is deterministic: equal values are taken in raster
order, equal scores in the order of the skeleton's limbs.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from evaluator.decoding.grouping import Peaks, counting, group
from pipeline.skeleton import Skeleton

FLOOR = 1e-3  # below this a heatmap tells nothing: its logarithm would let noise pull a peak


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """Thresholds of the decoder, in the units of the fields (a perfect peak is 1, a perfect PAF has length 1)."""

    peak_threshold: float = 0.03
    """A peak is higher than this. The one threshold worth choosing again for a network: weak networks need a low one."""
    noise_factor: float = 4.0
    """A peak is also higher than so many standard deviations of the heatmaps' noise (by their median absolute deviation)."""
    max_peaks: int = 128
    """At most so many peaks per joint, the highest; bounds time and memory on fields that are nothing but noise."""
    num_samples: int = 6
    """The PAF is read at so many places between two peaks; one of the middle ones and half of all must agree."""
    paf_threshold: float = 0.05
    """A place agrees if the PAF's component along the limb is above this."""
    short_limb_cells: float = 1.5
    """A limb shorter than this may cover no cell at all: its pair is kept without support, behind all other pairs."""
    share_threshold: float = 0.5
    """Two people whose joints fall on one peak share it if the second one's limb scores at least this; 1 or more: never."""
    fragments: bool = True
    """Join parts of a body that no limb connects, where the proportions of a body allow it."""

    def __post_init__(self) -> None:
        for name in ("peak_threshold", "paf_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name)}")
        for name in ("noise_factor", "short_limb_cells", "share_threshold"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name, least in (("max_peaks", 1), ("num_samples", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class People:
    """What was found, best first.

    keypoints: float32 (N, J, 3): x and y in cells (cell i is centered at i), score of the joint; 0, 0, 0 where it is missing.
    scores: float32 (N,): sum of the person's peaks and limbs; only its order means anything.
    """

    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def decode(heatmaps: np.ndarray, pafs: np.ndarray, skeleton: Skeleton, config: DecodeConfig | None = None) -> People:
    """Fields of one image -> people.

    heatmaps: float (J + 1, h, w), the last is the background and is not used; pafs: float (2 L, h, w).
    Raises ValueError for other shapes and for values that are not finite.
    """
    config = config or DecodeConfig()
    heatmaps, pafs = _checked(heatmaps, pafs, skeleton)
    peaks = find_peaks(heatmaps[: skeleton.num_joints], config)
    pairs = score_pairs(peaks, pafs, skeleton, config)
    keypoints, scores = group(peaks, pairs, skeleton, share_threshold=config.share_threshold, fragments=config.fragments)
    order = np.argsort(-scores, kind="stable")
    return People(keypoints=keypoints[order], scores=scores[order].astype(np.float32))


def _checked(heatmaps: np.ndarray, pafs: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    for name, fields, channels in (("heatmaps", heatmaps, skeleton.num_heatmaps), ("pafs", pafs, skeleton.num_pafs)):
        if fields.ndim != 3 or len(fields) != channels or 0 in fields.shape[1:]:
            raise ValueError(
                f"{name} of skeleton {skeleton.name!r} must have the shape ({channels}, height, width), got {fields.shape}"
            )
    if heatmaps.shape[1:] != pafs.shape[1:]:
        raise ValueError(f"heatmaps and pafs must have the same grid, got {heatmaps.shape[1:]} and {pafs.shape[1:]}")
    heatmaps, pafs = (np.ascontiguousarray(fields, dtype=np.float32) for fields in (heatmaps, pafs))
    for name, fields in (("heatmaps", heatmaps), ("pafs", pafs)):
        if fields.size and not np.isfinite([fields.min(), fields.max()]).all():
            raise ValueError(f"{name} must be finite, got NaN or infinite values: the network that made them has diverged")
    return heatmaps, pafs


def find_peaks(heatmaps: np.ndarray, config: DecodeConfig) -> Peaks:
    """Local maxima over the four neighbors, refined to a fraction of a cell.

    heatmaps: float32 (J, h, w). Of equal neighbors the first in raster order is the peak, so that a plateau gives one; where
    nothing beside it is lower, as in a constant field, there is none. Beyond the border lies nothing.
    """
    num_joints, height, width = heatmaps.shape
    rows, row = height + 2, width + 2
    padded = np.full((num_joints, rows, row), -np.inf, np.float32)
    padded[:, 1:-1, 1:-1] = heatmaps
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # One image of all joints stacked: the padding keeps them apart.
    highest = cv2.dilate(padded.reshape(-1, row), cross).ravel()
    values = padded.ravel()
    at = np.flatnonzero((values >= highest) & (values > _threshold(heatmaps, config)))
    # Left, above, right, below.
    around = values[at[:, None] + np.array([-1, -row, 1, row])]
    level = values[at, None]
    at = at[(around[:, :2] < level).all(axis=1) & ((around < level) & (around > -np.inf)).any(axis=1)]
    joint, cell = np.divmod(at, rows * row)
    at = at[_highest(joint, values[at], config.max_peaks)]
    joint, cell = np.divmod(at, rows * row)
    y, x = np.divmod(cell, row)
    return Peaks(
        joint=joint,
        x=_refined(values, at, x - 1, width, 1),
        y=_refined(values, at, y - 1, height, row),
        value=values[at],
    )


def _threshold(heatmaps: np.ndarray, config: DecodeConfig) -> float:
    # Most cells show no joint, and half of those lie within 0.6745 standard deviations of their median.
    # A sample of the cells is enough; 17 shares no divisor with common widths, so that it visits all columns.
    sample = heatmaps.ravel()[::17]
    noise = np.median(np.abs(sample - np.median(sample))) / 0.6745
    return max(config.peak_threshold, config.noise_factor * float(noise))


def _highest(joint: np.ndarray, value: np.ndarray, most: int) -> np.ndarray:
    """Indices, in order, of the `most` highest values of each joint; joint is sorted."""
    count = np.bincount(joint) if len(joint) else np.zeros(1, int)
    if count.max() <= most:
        return np.arange(len(joint))
    order = np.lexsort((-value, joint))
    rank = np.arange(len(joint)) - (np.cumsum(count) - count)[joint]
    return np.sort(order[rank < most])


def _refined(values: np.ndarray, at: np.ndarray, cell: np.ndarray, size: int, step: int) -> np.ndarray:
    """float32 (n,): the vertex of the parabola through three logarithms, within half a cell of the peak's cell.

    For a Gaussian it is exact whatever its width. At the border the three cells are the peak's and the two inside of it.
    """
    if size < 3:
        return cell.astype(np.float32)
    shift = (cell == 0).astype(np.intp) - (cell == size - 1)
    before, middle, after = (np.log(np.maximum(values[at + (shift + d) * step], FLOOR)) for d in (-1, 0, 1))
    curvature = 2 * middle - before - after
    convex = curvature > 1e-6
    vertex = np.divide(0.5 * (after - before), curvature, out=np.zeros_like(curvature), where=convex)
    return (cell + np.where(convex, np.clip(shift + vertex, -0.5, 0.5), 0)).astype(np.float32)


def score_pairs(
    peaks: Peaks, pafs: np.ndarray, skeleton: Skeleton, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of peaks that a limb may join: start peak, end peak and score, best first.

    The score is the mean over the samples of the PAF's component along the line from start to end: 1 for a perfect limb.
    """
    limb, start, end = _all_pairs(peaks, skeleton)
    x, y = peaks.x, peaks.y
    dx, dy = x[end] - x[start], y[end] - y[start]
    length = np.sqrt(dx * dx + dy * dy)
    short = length < config.short_limb_cells
    middle = config.num_samples // 2
    where = (np.arange(config.num_samples, dtype=np.float32) + 0.5) / config.num_samples
    # Most pairs belong to two people and show nothing in the middle: drop them before all their samples are taken.
    support = _along(peaks, pafs, limb, start, end, where[middle - 1 : middle + 1])
    close = np.flatnonzero((support > config.paf_threshold).any(axis=0) | short)
    limb, start, end, length, short = (values[close] for values in (limb, start, end, length, short))
    support = _along(peaks, pafs, limb, start, end, where)
    score = support.mean(axis=0)
    good = (score > 0) & (2 * (support > config.paf_threshold).sum(axis=0) >= config.num_samples)
    unseen = short & ~good
    # Behind every pair that was seen, the shortest first.
    score[unseen] = 1e-3 * (1 - length[unseen] / config.short_limb_cells)
    keep = np.flatnonzero(good | short)
    keep = keep[np.argsort(-score[keep], kind="stable")]
    return start[keep], end[keep], score[keep]


def _all_pairs(peaks: Peaks, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limb, start peak and end peak of every combination, one flat array for all limbs; peaks are sorted by joint."""
    count = np.bincount(peaks.joint, minlength=skeleton.num_joints)
    first = np.cumsum(count) - count
    start_joint, end_joint = skeleton.limb_joints.T
    # A row for every start peak of every limb, in it a column for every end peak.
    rows = count[start_joint]
    limb = np.repeat(np.arange(skeleton.num_limbs), rows)
    start = counting(rows) + first[start_joint][limb]
    columns = count[end_joint][limb]
    end = counting(columns) + np.repeat(first[end_joint][limb], columns)
    return np.repeat(limb, columns), np.repeat(start, columns), end


def _along(peaks: Peaks, pafs: np.ndarray, limb: np.ndarray, start: np.ndarray, end: np.ndarray, where: np.ndarray) -> np.ndarray:
    """float32 (samples, pairs): the PAF's component along the pair at the fractions `where` of its length."""
    _, height, width = pafs.shape
    values = pafs.ravel()
    dx, dy = peaks.x[end] - peaks.x[start], peaks.y[end] - peaks.y[start]
    length = np.maximum(np.sqrt(dx * dx + dy * dy), 1e-6)
    # Between clipped ends every sample is nearest to a cell of the grid.
    clip_x, clip_y = np.clip(peaks.x, 0, width - 1), np.clip(peaks.y, 0, height - 1)
    along = where[:, None]
    x = np.rint(clip_x[start] + along * (clip_x[end] - clip_x[start]))
    y = np.rint(clip_y[start] + along * (clip_y[end] - clip_y[start]))
    cell = (y * width + x).astype(np.intp) + limb * (2 * height * width)
    return values[cell] * (dx / length) + values[cell + height * width] * (dy / length)
