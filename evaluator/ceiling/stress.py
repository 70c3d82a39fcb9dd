"""The command `stress`: how the score of the decoder falls when its fields are no longer perfect."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import tyro

from evaluator.ceiling.oracle import perfect_fields
from evaluator.decoding.decode import DecodeConfig
from evaluator.inference.infer import Fields, find_people
from evaluator.jobs.config import Decoding
from evaluator.metrics.coco_eval import evaluate, labeled_images, to_results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.errors import UserError
from pipeline.progress import progress_bar
from pipeline.samples.targets import TargetConfig
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton

# What is done to the fields, and how much of it. Units: blur is the sd of a Gaussian in cells, noise the sd of what is added,
# weak the height of the weakest kind of joint (the kinds lie between it and 1), false the peaks added per kind of joint, missing
# the share of joints without a peak, reversed the share of limbs whose PAF points the other way.
FAULTS = {
    "blur": (0.0, 0.5, 1.0, 1.5, 2.0),
    "weak": (1.0, 0.9, 0.7, 0.5, 0.3),
    "noise": (0.0, 0.01, 0.02, 0.03, 0.05),
    "false": (0.0, 0.5, 1.0, 2.0, 4.0),
    "missing": (0.0, 0.05, 0.1, 0.2, 0.3),
    "reversed": (0.0, 0.05, 0.1, 0.2, 0.3),
}


@dataclass(frozen=True, kw_only=True)
class StressConfig:
    """Blur, weaken, and spoil the targets of the true keypoints, decode and score them: AP by fault and by its strength.

    Example: python -m evaluator stress --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO keypoint annotation file; no images are needed."""
    skeleton: Path | None = None
    """Keypoints other than COCO's: the file that `python -m pipeline build --skeleton` took."""
    faults: tuple[Literal["blur", "weak", "noise", "false", "missing", "reversed"], ...] = tuple(FAULTS)
    """Which faults."""
    half: Literal["all", "one", "other"] = "all"
    """A random half of the images, to choose settings on, or the other one, to report."""
    neck_joint: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Where the neck is if one shoulder is unlabeled: nowhere, or at the labeled one."""
    seed: int = 0
    """Seed of the faults."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)


def run(config: StressConfig) -> int:
    """The command `stress`. Raises UserError for an annotation file that cannot be used."""
    skeleton = read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    ids = labeled_images(document)
    order = np.random.default_rng(0).permutation(len(ids))
    parts = {"all": order, "one": order[: len(ids) // 2], "other": order[len(ids) // 2 :]}
    ids = sorted(ids[i] for i in parts[config.half])
    if not ids:
        raise UserError(f"annotation file {config.annotations}: shows nobody with labeled joints")
    print(f"AP over {len(ids)} images")
    for fault in config.faults:
        figures = [_score(config, document, skeleton, ids, fault, strength) for strength in FAULTS[fault]]
        print(f"{fault:<10}" + "".join(f"{strength:>7g}: {ap:.3f}" for strength, ap in zip(FAULTS[fault], figures, strict=True)))
    return 0


def _score(config: StressConfig, document: CocoFile, skeleton: Skeleton, ids: list[int], fault: str, strength: float) -> float:
    sizes = {image.id: image.size_wh for image in document.images}
    results = []
    for image_id in progress_bar(ids, desc=f"{fault} {strength:g}", unit="image"):
        keypoints = true_keypoints(document.annotations[image_id], skeleton, one_is_enough=config.neck_joint == "one_shoulder")
        rng = np.random.default_rng([config.seed, image_id])
        fields = spoil(keypoints, sizes[image_id], skeleton, config.targets, fault, strength, rng)
        people = find_people(fields, skeleton, config.decoding)
        results += to_results(people, image_id=image_id, category_id=document.category_id, skeleton=skeleton)
    return evaluate(document, results, skeleton, ids).figures["AP"]


def spoil(
    keypoints: np.ndarray,
    size_wh: tuple[int, int],
    skeleton: Skeleton,
    config: TargetConfig,
    fault: str,
    strength: float,
    rng: np.random.Generator,
) -> Fields:
    """The targets of keypoints, float32 (P, J, 3) in pixels of an image of that size, with a fault of FAULTS.

    A peak that is missing leaves its limbs; one that is false has a random height from 0.3 to 1 and no limbs.
    """
    fields = perfect_fields(keypoints, size_wh, skeleton, config)
    heatmaps, pafs = fields.heatmaps.copy(), fields.pafs.copy()
    joints = heatmaps[:-1]
    if fault == "blur" and strength:
        heatmaps, pafs = _per_channel(heatmaps, _blur(strength)), _per_channel(pafs, _blur(strength))
    elif fault == "weak":
        heatmaps[:-1] *= rng.uniform(strength, 1, (len(joints), 1, 1)).astype(np.float32)
        pafs *= np.repeat(rng.uniform(strength, 1, (skeleton.num_limbs, 1, 1)), 2, axis=0).astype(np.float32)
    elif fault == "noise":
        heatmaps += rng.normal(0, strength, heatmaps.shape).astype(np.float32)
        pafs += rng.normal(0, strength, pafs.shape).astype(np.float32)
    elif fault == "false":
        heatmaps[:-1] = np.maximum(joints, _false_peaks(joints.shape, strength, config, rng))
    elif fault == "missing":
        kept = keypoints.copy()
        kept[rng.random(kept.shape[:2]) < strength] = 0
        heatmaps = perfect_fields(kept, size_wh, skeleton, config).heatmaps
    elif fault == "reversed":
        pafs *= np.repeat(np.where(rng.random((skeleton.num_limbs, 1, 1)) < strength, -1, 1), 2, axis=0).astype(np.float32)
    return replace(fields, heatmaps=heatmaps, pafs=pafs)


def _blur(sigma_cells: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda channel: cv2.GaussianBlur(channel, (0, 0), sigma_cells, borderType=cv2.BORDER_REPLICATE)


def _per_channel(fields: np.ndarray, work: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    return np.stack([work(channel) for channel in fields])


def _false_peaks(shape: tuple[int, ...], mean_count: float, config: TargetConfig, rng: np.random.Generator) -> np.ndarray:
    """float32 (J, h, w): Gaussians of the targets' width at random places."""
    _, height, width = shape
    fields = np.zeros(shape, np.float32)
    sigma_cells = config.heatmap_sigma_px / config.stride_px
    y, x = np.mgrid[:height, :width]
    for channel, count in zip(fields, rng.poisson(mean_count, len(fields)), strict=True):
        for at_y, at_x, peak in zip(
            rng.uniform(0, height, count), rng.uniform(0, width, count), rng.uniform(0.3, 1, count), strict=True
        ):
            distance = np.square(x - at_x) + np.square(y - at_y)
            np.maximum(channel, peak * np.exp(-distance / (2 * sigma_cells**2)), out=channel, casting="unsafe")
    return fields
