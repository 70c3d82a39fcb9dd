"""The command `bench-decode`: decoding time on real poses and in crowds, and the share of each step."""

import time

import cv2
import numpy as np

from evaluator.ceiling.config import BenchDecodeConfig
from evaluator.ceiling.oracle import perfect_fields
from evaluator.decoding import decode
from evaluator.decoding.decoder import find_peaks, score_pairs
from evaluator.decoding.grouping import group
from evaluator.metrics.coco_eval import labeled_images
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig, render_heatmaps, render_pafs
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton

CROWD_SIZES = (30, 100)
CROWD_GRID_HW = (46, 82)


def run(config: BenchDecodeConfig) -> int:
    """Run the command. Raises UserError for a bad annotation file or one without labeled people."""
    cv2.setNumThreads(1)
    skeleton = read_skeleton(config.skeleton)
    workloads = _workloads(config, skeleton)
    print(f"{'ms':<14}{'median':>8}{'p95':>8}{'peaks':>9}{'pairs':>9}{'grouping':>10}")
    for name, fields in workloads.items():
        times = np.array([_time(heatmaps, pafs, skeleton, config) for heatmaps, pafs in fields])
        shares = times[:, 1:].sum(axis=0) / times[:, 1:].sum()
        median, p95 = np.median(times[:, 0]), np.percentile(times[:, 0], 95)
        print(f"{name:<14}{median:>8.2f}{p95:>8.2f}" + "".join(f"{share:>9.0%}" for share in shares))
    return 0


def _workloads(config: BenchDecodeConfig, skeleton: Skeleton) -> dict[str, list[tuple[np.ndarray, np.ndarray]]]:
    """Heatmaps and PAFs to decode, by name: the images, and crowds of each size."""
    document = CocoFile(config.annotations, skeleton)
    sizes = {image.id: image.size_wh for image in document.images}
    people = {image_id: true_keypoints(document.annotations[image_id], skeleton) for image_id in labeled_images(document)}
    if not people:
        raise UserError(f"annotation file {config.annotations}: no person has labeled joints; use another annotation file")
    perfect = (perfect_fields(keypoints, sizes[i], skeleton, TargetConfig()) for i, keypoints in people.items())
    workloads = {"images": [(fields.heatmaps, fields.pafs) for fields, _ in zip(perfect, range(config.num_images), strict=False)]}
    all_people = np.concatenate(list(people.values()))
    for count in CROWD_SIZES:
        rng = np.random.default_rng(count)
        num_crowds = max(1, config.num_images // 10)
        workloads[f"{count} people"] = [_crowd(all_people, count, skeleton, rng) for _ in range(num_crowds)]
    return workloads


def _crowd(all_people: np.ndarray, count: int, skeleton: Skeleton, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Heatmaps and PAFs of `count` random people out of `all_people`, (N, J, 3).

    Their positions are random; each is a sixth to a half of the grid's height tall.
    """
    config = TargetConfig()
    size = np.array(CROWD_GRID_HW[::-1]) * config.stride_px
    crowd = all_people[rng.integers(len(all_people), size=count)].copy()
    for person in crowd:
        labeled = person[:, 2] > 0
        low, high = person[labeled, :2].min(axis=0), person[labeled, :2].max(axis=0)
        scale = rng.uniform(size[1] / 6, size[1] / 2) / max(*(high - low), 1)
        person[labeled, :2] = (person[labeled, :2] - (low + high) / 2) * scale + rng.uniform((0, 0), size)
    return (
        render_heatmaps(crowd, skeleton=skeleton, grid_hw=CROWD_GRID_HW, config=config),
        render_pafs(crowd, skeleton=skeleton, grid_hw=CROWD_GRID_HW, config=config),
    )


def _time(heatmaps: np.ndarray, pafs: np.ndarray, skeleton: Skeleton, config: BenchDecodeConfig) -> tuple[float, ...]:
    """Fastest times in milliseconds: the whole decoder, finding peaks, scoring pairs, grouping."""
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
