"""The command `oracle`: the accuracy that encoding and decoding allow, whatever the network."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.ceiling.config import OracleConfig
from evaluator.decoding import People
from evaluator.inference.fields import Fields, find_people
from evaluator.inference.sizes import Size, grid_size, input_size
from evaluator.metrics.coco_eval import evaluate, labeled_images
from evaluator.metrics.results import Results, to_results
from evaluator.tracking.sequences import follow, require_videos
from pipeline import geometry
from pipeline.cli import flatten, save_config
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.errors import UserError
from pipeline.runtime.progress import progress_bar
from pipeline.samples.targets import (
    TargetConfig,
    dequantize_heatmaps,
    dequantize_pafs,
    quantize_heatmaps,
    quantize_pafs,
    render_heatmaps,
    render_pafs,
)
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton
from pipeline.storage.files import require_folder, write_json
from pipeline.storage.folders import new_folder, require_usable


def run(config: OracleConfig) -> int:
    """Run the command. Raises UserError for a bad annotation file or an output folder that is not empty."""
    if config.out:
        require_usable(config.out)
    skeleton = read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    if not labeled_images(document):
        raise UserError(f"annotation file {config.annotations}: no person has labeled joints; use another annotation file")
    if config.images is not None:
        require_folder(config.images, "image folder")
    if config.video:
        require_videos(document)
    found, milliseconds = decode_targets(config, document, skeleton)
    tracks = follow(document, found, skeleton, config.tracking, config.images) if config.video else None
    if tracks:
        found = {image_id: tracks.people[image_id] for image_id in found}
    sizes = {image.id: image.size_wh for image in document.images}
    results = [
        entry
        for image_id, people in found.items()
        for entry in to_results(
            people,
            image_id=image_id,
            category_id=document.category_id,
            skeleton=skeleton,
            size_wh=sizes[image_id],
            identities=tracks.identities[image_id] if tracks else None,
        )
    ]
    evaluation = evaluate(document, results, skeleton)
    decode_ms = {"median": float(np.median(milliseconds)), "p95": float(np.percentile(milliseconds, 95))}
    num_images = len(document.images)
    print("\n".join([*document.notes(), evaluation.summary()]))
    if tracks:
        print(f"{tracks.summary()}; tracking time {tracks.ms_per_frame:.2f} ms per frame")
    print(f"images with people: {len(milliseconds)} of {num_images}; median decoding time {decode_ms['median']:.2f} ms per image")
    if config.out:
        counts = {"num_images": num_images, "num_images_with_people": len(milliseconds)}
        tracking = {"tracking": tracks.figures, "tracking_ms": tracks.ms_per_frame} if tracks else {}
        _write(config.out, config, results, {"figures": evaluation.figures, **counts, "decode_ms": decode_ms, **tracking})
    return 0


def decode_targets(config: OracleConfig, document: CocoFile, skeleton: Skeleton) -> tuple[dict[int, People], list[float]]:
    """Decode the targets of all images with labeled people. Returns the people by image id, and each image's decoding time in ms."""
    sizes = {image.id: image.size_wh for image in document.images}
    found = {}
    milliseconds = []
    for image_id in progress_bar(labeled_images(document), desc="decoding targets", unit="image"):
        keypoints = true_keypoints(document.annotations[image_id], skeleton, one_is_enough=config.neck_joint == "one_shoulder")
        fields = perfect_fields(keypoints, sizes[image_id], skeleton, config.targets)
        start = time.perf_counter()
        found[image_id] = find_people(fields, skeleton, config.decoding)
        milliseconds.append(1000 * (time.perf_counter() - start))
    return found, milliseconds


def _write(out: Path, config: OracleConfig, results: Results, metrics: dict[str, Any]) -> None:
    with new_folder(out, last="metrics.json") as folder:
        write_json(folder / "results.json", results)
        write_json(folder / "metrics.json", {**metrics, "settings": flatten(config)})
        save_config(config, folder / "config.yaml")


def perfect_fields(keypoints: np.ndarray, size_wh: Size, skeleton: Skeleton, config: TargetConfig) -> Fields:
    """Return the output of a perfect network: the targets of the ground truth, quantized as in records.

    keypoints: float32 (P, J, 3), x and y in pixels of an image of that size.
    """
    width, height = input_size(*size_wh, config.insize)
    matrix = geometry.resizing(width / size_wh[0], height / size_wh[1])
    moved = geometry.transform_keypoints(matrix, keypoints)
    grid_hw = grid_size(width, height, config.stride_px)
    heatmaps = render_heatmaps(moved, skeleton=skeleton, grid_hw=grid_hw, config=config)
    pafs = render_pafs(moved, skeleton=skeleton, grid_hw=grid_hw, config=config)
    return Fields(
        heatmaps=dequantize_heatmaps(quantize_heatmaps(heatmaps)),
        pafs=dequantize_pafs(quantize_pafs(pafs)),
        stride_px=config.stride_px,
        to_image=geometry.invert(matrix),
        size_wh=size_wh,
    )
