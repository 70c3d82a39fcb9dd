"""The command `bench-decode`: milliseconds of the decoder on real poses and in crowds, and which part takes them."""

import time
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from evaluator.ceiling.oracle import perfect_fields
from evaluator.decoding.decode import DecodeConfig, decode, find_peaks, score_pairs
from evaluator.decoding.grouping import group
from evaluator.jobs.config import Decoding
from evaluator.metrics.coco_eval import labeled_images
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig, render_heatmaps, render_pafs
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton

CROWDS = (30, 100)
CROWD_GRID_HW = (46, 82)


@dataclass(frozen=True, kw_only=True)
class BenchDecodeConfig:
    """Time the decoder, in one thread, on the targets of the true keypoints, and on crowds put together from the same people.

    Example: python -m evaluator bench-decode --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO keypoint annotation file; no images are needed."""
    skeleton: Path | None = None
    """Keypoints other than COCO's: the file that `python -m pipeline build --skeleton` took."""
    num_images: int = 200
    """Images with people to use; as many crowds of each size are made as a tenth of it."""
    repeats: int = 5
    """Every image is decoded so often; the fastest counts."""
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        for name in ("num_images", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def run(config: BenchDecodeConfig) -> int:
    """The command `bench-decode`. Raises UserError for an annotation file that cannot be used."""
    cv2.setNumThreads(1)
    skeleton = read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    sizes = {image.id: image.size_wh for image in document.images}
    people = {image_id: true_keypoints(document.annotations[image_id], skeleton) for image_id in labeled_images(document)}
    if not people:
        raise UserError(f"annotation file {config.annotations}: shows nobody with labeled joints")
    perfect = (perfect_fields(keypoints, sizes[i], skeleton, TargetConfig()) for i, keypoints in people.items())
    kinds = {"images": [(fields.heatmaps, fields.pafs) for fields, _ in zip(perfect, range(config.num_images), strict=False)]}
    everybody = np.concatenate(list(people.values()))
    for count in CROWDS:
        rng = np.random.default_rng(count)
        kinds[f"{count} people"] = [_crowd(everybody, count, skeleton, rng) for _ in range(max(1, config.num_images // 10))]
    print(f"{'ms':<14}{'median':>8}{'p95':>8}{'peaks':>9}{'pairs':>9}{'grouping':>10}")
    for name, fields in kinds.items():
        times = np.array([_time(*pair, skeleton, config) for pair in fields])
        shares = times[:, 1:].sum(axis=0) / times[:, 1:].sum()
        median, p95 = np.median(times[:, 0]), np.percentile(times[:, 0], 95)
        print(f"{name:<14}{median:>8.2f}{p95:>8.2f}" + "".join(f"{share:>9.0%}" for share in shares))
    return 0


def _crowd(everybody: np.ndarray, count: int, skeleton: Skeleton, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Targets of random people of `everybody`, (N, J, 3), at random places and from a sixth to half the height of the grid."""
    config = TargetConfig()
    size = np.array(CROWD_GRID_HW[::-1]) * config.stride_px
    crowd = everybody[rng.integers(len(everybody), size=count)].copy()
    for person in crowd:
        seen = person[:, 2] > 0
        low, high = person[seen, :2].min(axis=0), person[seen, :2].max(axis=0)
        scale = rng.uniform(size[1] / 6, size[1] / 2) / max(*(high - low), 1)
        person[seen, :2] = (person[seen, :2] - (low + high) / 2) * scale + rng.uniform((0, 0), size)
    render = {"skeleton": skeleton, "grid_hw": CROWD_GRID_HW, "config": config}
    return render_heatmaps(crowd, **render), render_pafs(crowd, **render)


def _time(heatmaps: np.ndarray, pafs: np.ndarray, skeleton: Skeleton, config: BenchDecodeConfig) -> tuple[float, ...]:
    """Milliseconds, least of the repeats: the whole, finding peaks, scoring pairs, grouping."""
    options = config.decoding
    best = [np.inf] * 4
    for _ in range(config.repeats):
        marks = [time.perf_counter()]
        decode(heatmaps, pafs, skeleton, options)
        marks.append(time.perf_counter())
        peaks = find_peaks(heatmaps[: skeleton.num_joints], options)
        marks.append(time.perf_counter())
        pairs = score_pairs(peaks, pafs, skeleton, options)
        marks.append(time.perf_counter())
        group(peaks, pairs, skeleton, share_threshold=options.share_threshold, fragments=options.fragments)
        marks.append(time.perf_counter())
        best = [min(old, 1000 * new) for old, new in zip(best, np.diff(marks), strict=True)]
    return tuple(best)
