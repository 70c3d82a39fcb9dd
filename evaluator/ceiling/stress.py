"""The command `stress`: how the score of the decoder falls as its fields get worse."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from evaluator.ceiling.config import Fault, StressConfig
from evaluator.ceiling.oracle import perfect_fields
from evaluator.inference.fields import Fields, find_people
from evaluator.inference.sizes import Size
from evaluator.metrics.coco_eval import evaluate, labeled_images
from evaluator.metrics.results import Results, to_results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.errors import UserError
from pipeline.runtime.progress import progress_bar
from pipeline.samples.targets import TargetConfig
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton

# Strengths of each fault: blur, standard deviation of a Gaussian in cells; weak, height of the weakest channel (the others are
# between it and 1); noise, standard deviation; false, mean number of added peaks per joint; missing, share of joints without a
# peak; reversed, share of limbs whose PAF points the other way.
FAULTS: dict[Fault, tuple[float, ...]] = {
    "blur": (0.0, 0.5, 1.0, 1.5, 2.0),
    "weak": (1.0, 0.9, 0.7, 0.5, 0.3),
    "noise": (0.0, 0.01, 0.02, 0.03, 0.05),
    "false": (0.0, 0.5, 1.0, 2.0, 4.0),
    "missing": (0.0, 0.05, 0.1, 0.2, 0.3),
    "reversed": (0.0, 0.05, 0.1, 0.2, 0.3),
}


def run(config: StressConfig) -> int:
    """Run the command. Raises UserError for a bad annotation file or one without labeled people."""
    skeleton = read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    ids = labeled_images(document)
    order = np.random.default_rng(0).permutation(len(ids))
    parts = {"all": order, "one": order[: len(ids) // 2], "other": order[len(ids) // 2 :]}
    ids = sorted(ids[i] for i in parts[config.half])
    if not ids:
        raise UserError(f"annotation file {config.annotations}: no person has labeled joints; use another annotation file")
    print(f"AP by strength; images: {len(ids)}")
    for fault in config.faults:
        scores = [_score(config, document, skeleton, ids, fault, strength) for strength in FAULTS[fault]]
        print(f"{fault:<10}" + "".join(f"{strength:>7g}: {ap:.3f}" for strength, ap in zip(FAULTS[fault], scores, strict=True)))
    return 0


def _score(config: StressConfig, document: CocoFile, skeleton: Skeleton, ids: list[int], fault: Fault, strength: float) -> float:
    """AP over the images `ids`, degraded by one fault."""
    sizes = {image.id: image.size_wh for image in document.images}
    results: Results = []
    for image_id in progress_bar(ids, desc=f"{fault} {strength:g}", unit="image"):
        keypoints = true_keypoints(document.annotations[image_id], skeleton, one_is_enough=config.neck_joint == "one_shoulder")
        rng = np.random.default_rng([config.seed, image_id])
        fields = degraded_fields(keypoints, sizes[image_id], skeleton, config.targets, fault, strength, rng)
        people = find_people(fields, skeleton, config.decoding)
        results += to_results(
            people, image_id=image_id, category_id=document.category_id, skeleton=skeleton, size_wh=sizes[image_id]
        )
    return evaluate(document, results, skeleton, ids).figures["AP"]


def degraded_fields(
    keypoints: np.ndarray,
    size_wh: Size,
    skeleton: Skeleton,
    config: TargetConfig,
    fault: Fault,
    strength: float,
    rng: np.random.Generator,
) -> Fields:
    """Return the targets of the ground truth, degraded by one fault of FAULTS.

    keypoints: float32 (P, J, 3), x and y in pixels of an image of that size. The limbs of a missing peak remain; a false peak
    has a random height from 0.3 to 1 and no limbs.
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
    """Heatmaps float32 (J, h, w) of Gaussians at random positions, as wide as those of the targets."""
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
