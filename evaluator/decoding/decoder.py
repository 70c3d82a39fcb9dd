"""Decode fields into people on the network's grid: find peaks, score pairs of peaks along the PAFs, group them.

Scoring a pair of peaks by the PAF along the line between them follows Cao et al., "Realtime Multi-Person 2D Pose Estimation
using Part Affinity Fields", CVPR 2017, section 2.4. Nothing is upsampled: peaks are refined in log space, where a Gaussian is
a parabola, and the PAFs are sampled at the nearest cell. The result is deterministic: ties are broken by raster order for
peaks, and by the order of the skeleton's limbs for pairs.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from evaluator.decoding.grouping import Pairs, Peaks, group, ranges
from pipeline.skeleton import Skeleton

LOG_FLOOR = 1e-3  # smaller heatmap values are noise, and their logarithms would shift the refined peak
CERTAIN_PEAK = 0.5  # higher peaks are joints


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """Thresholds of the decoder, in the units of the fields: a perfect peak has height 1, a perfect PAF vector has length 1."""

    peak_threshold: float = 0.03
    """Minimum height of a peak. This is the threshold to tune for a network; weak networks need a low one."""
    relative_threshold: float = 0.2
    """Minimum height of a peak relative to the highest ones in the image: the geometric mean of the highest value of each joint. Strong
    networks need a higher threshold than weak ones; 0 disables this one."""
    noise_factor: float = 4.0
    """Minimum height of a peak in standard deviations of the heatmap noise, estimated by the median absolute deviation."""
    max_peaks: int = 128
    """Maximum number of peaks per joint; the highest are kept. Bounds time and memory on fields that are mostly noise."""
    num_samples: int = 6
    """Number of PAF samples between two peaks. A limb needs one of the two middle samples and half of all samples to agree."""
    paf_threshold: float = 0.05
    """Minimum component of the PAF along the limb at which a sample agrees."""
    short_limb_cells: float = 1.5
    """Limbs shorter than this may cover no cell; their pairs are kept without PAF support, ranked after all other pairs."""
    share_threshold: float = 0.5
    """Minimum score at which a second person may share a peak that another person uses already; 1 or more disables sharing."""
    fragments: bool = True
    """Join body parts that no limb connects if their distances fit the proportions of a body."""

    def __post_init__(self) -> None:
        for name in ("peak_threshold", "paf_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must be in (0, 1), got {getattr(self, name)}")
        if not 0 <= self.relative_threshold < 1:
            raise ValueError(f"relative_threshold must be in [0, 1), got {self.relative_threshold}")
        for name in ("noise_factor", "short_limb_cells", "share_threshold"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for name, least in (("max_peaks", 1), ("num_samples", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class People:
    """Decoded people, best score first.

    keypoints: float32 (N, J, 3), x and y in cells (cell i is centered at i) and the joint's score; 0, 0, 0 for missing joints.
    scores: float32 (N,), sum of the scores of a person's peaks and limbs; only their order is meaningful.
    """

    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


def decode(heatmaps: np.ndarray, pafs: np.ndarray, skeleton: Skeleton, config: DecodeConfig | None = None) -> People:
    """Decode the fields of one image into people.

    heatmaps: float (J + 1, h, w); the last channel, the background, is not used. pafs: float (2 L, h, w).
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
    """Validate the fields and return them as contiguous float32."""
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
            raise ValueError(
                f"{name} must be finite, got NaN or infinite values; the network has diverged, use another checkpoint"
            )
    return heatmaps, pafs


def find_peaks(heatmaps: np.ndarray, config: DecodeConfig) -> Peaks:
    """Find local maxima over the four neighbors and refine them to subcell positions.

    heatmaps: float32 (J, h, w). A plateau yields one peak, its first cell in raster order, and only if a neighbor is lower: a
    constant field has no peak. Neighbors outside the grid are ignored.
    """
    num_joints, height, width = heatmaps.shape
    rows, row = height + 2, width + 2
    padded = np.full((num_joints, rows, row), -np.inf, np.float32)
    padded[:, 1:-1, 1:-1] = heatmaps
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    # All joints are stacked into one image; the padding separates them.
    highest = cv2.dilate(padded.reshape(-1, row), cross).ravel()
    values = padded.ravel()
    at = np.flatnonzero((values >= highest) & (values > _threshold(heatmaps, config)))
    # Left, above, right, below.
    around = values[at[:, None] + np.array([-1, -row, 1, row])]
    level = values[at, None]
    at = at[(around[:, :2] < level).all(axis=1) & ((around < level) & (around > -np.inf)).any(axis=1)]
    joint = at // (rows * row)
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
    """The minimum height of a peak in these heatmaps."""
    # Most cells are background, and half of the background is within 0.6745 standard deviations of its median.
    # A subsample is enough; the step of 17 shares no divisor with common widths, so that all columns are sampled.
    sample = heatmaps.ravel()[::17]
    noise = np.median(np.abs(sample - np.median(sample))) / 0.6745
    # The geometric mean is low if some joints are not in the image, and in images without people.
    highest = np.maximum(heatmaps.max(axis=(1, 2)), LOG_FLOOR)
    typical = np.exp(np.log(highest).mean())
    return max(config.peak_threshold, config.relative_threshold * float(typical), config.noise_factor * float(noise))


def _highest(joint: np.ndarray, value: np.ndarray, limit: int) -> np.ndarray:
    """Ascending indices of the `limit` highest values of each joint; `joint` is sorted."""
    count = np.bincount(joint) if len(joint) else np.zeros(1, int)
    if count.max() <= limit:
        return np.arange(len(joint))
    order = np.lexsort((-value, joint))
    rank = np.arange(len(joint)) - (np.cumsum(count) - count)[joint]
    return np.sort(order[rank < limit])


def _refined(values: np.ndarray, at: np.ndarray, cell: np.ndarray, size: int, step: int) -> np.ndarray:
    """Refine cells to float32 (n,): the vertex of a parabola through three logarithms, at most half a cell away.

    Exact for Gaussians of any width. At a border, the parabola runs through the peak and the two cells next to it.
    """
    if size < 3:
        return cell.astype(np.float32)
    shift = (cell == 0).astype(np.intp) - (cell == size - 1)
    before, middle, after = (np.log(np.maximum(values[at + (shift + d) * step], LOG_FLOOR)) for d in (-1, 0, 1))
    curvature = 2 * middle - before - after
    concave = curvature > 1e-6
    vertex = np.divide(0.5 * (after - before), curvature, out=np.zeros_like(curvature), where=concave)
    return (cell + np.where(concave, np.clip(shift + vertex, -0.5, 0.5), 0)).astype(np.float32)


def score_pairs(peaks: Peaks, pafs: np.ndarray, skeleton: Skeleton, config: DecodeConfig) -> Pairs:
    """Score all pairs of peaks that a limb may join. Returns start peak, end peak and score, in the order in which to join them.

    The score is the mean over the samples of the PAF's component along the line from start to end; a perfect limb scores 1. Pairs of
    low peaks come later than their scores say, so that peaks of noise do not take limbs from those of joints.
    """
    limb, start, end = _all_pairs(peaks, skeleton)
    x, y = peaks.x, peaks.y
    dx, dy = x[end] - x[start], y[end] - y[start]
    length = np.sqrt(dx * dx + dy * dy)
    short = length < config.short_limb_cells
    middle = config.num_samples // 2
    fractions = (np.arange(config.num_samples, dtype=np.float32) + 0.5) / config.num_samples
    # Most pairs join two people and have no support in the middle: drop them before sampling the whole line.
    support = _support(peaks, pafs, limb, start, end, fractions[middle - 1 : middle + 1])
    close = np.flatnonzero((support > config.paf_threshold).any(axis=0) | short)
    limb, start, end, length, short = (values[close] for values in (limb, start, end, length, short))
    support = _support(peaks, pafs, limb, start, end, fractions)
    score = support.mean(axis=0)
    good = (score > 0) & (2 * (support > config.paf_threshold).sum(axis=0) >= config.num_samples)
    unsupported = short & ~good
    # Ranked after all supported pairs, the shortest first.
    score[unsupported] = 1e-3 * (1 - length[unsupported] / config.short_limb_cells)
    certainty = np.minimum(peaks.value, CERTAIN_PEAK) / CERTAIN_PEAK
    priority = score * np.sqrt(certainty[start] * certainty[end])
    keep = np.flatnonzero(good | short)
    keep = keep[np.lexsort((-priority[keep], unsupported[keep]))]
    return start[keep], end[keep], score[keep]


def _all_pairs(peaks: Peaks, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Limb, start peak and end peak of all combinations, as flat arrays over all limbs; peaks are sorted by joint."""
    count = np.bincount(peaks.joint, minlength=skeleton.num_joints)
    first = np.cumsum(count) - count
    start_joint, end_joint = skeleton.limb_joints.T
    # One row per start peak of each limb, with one column per end peak.
    rows = count[start_joint]
    limb = np.repeat(np.arange(skeleton.num_limbs), rows)
    start = ranges(rows) + first[start_joint][limb]
    columns = count[end_joint][limb]
    end = ranges(columns) + np.repeat(first[end_joint][limb], columns)
    return np.repeat(limb, columns), np.repeat(start, columns), end


def _support(
    peaks: Peaks, pafs: np.ndarray, limb: np.ndarray, start: np.ndarray, end: np.ndarray, fractions: np.ndarray
) -> np.ndarray:
    """Component of the PAF along each pair at these fractions of its length: float32 (samples, pairs)."""
    _, height, width = pafs.shape
    values = pafs.ravel()
    dx, dy = peaks.x[end] - peaks.x[start], peaks.y[end] - peaks.y[start]
    length = np.maximum(np.sqrt(dx * dx + dy * dy), 1e-6)
    # With both ends clipped to the grid, the nearest cell of every sample is on the grid.
    clip_x, clip_y = np.clip(peaks.x, 0, width - 1), np.clip(peaks.y, 0, height - 1)
    along = fractions[:, None]
    x = np.rint(clip_x[start] + along * (clip_x[end] - clip_x[start]))
    y = np.rint(clip_y[start] + along * (clip_y[end] - clip_y[start]))
    cell = (y * width + x).astype(np.intp) + limb * (2 * height * width)
    return values[cell] * (dx / length) + values[cell + height * width] * (dy / length)
