"""The command `oracle`: how much encoding and decoding alone cost, whatever the network."""

import time

import numpy as np

from evaluator.inference.infer import Fields, find_people, grid_size, input_size
from evaluator.jobs.config import OracleConfig
from evaluator.metrics.coco_eval import evaluate, labeled_images, to_results
from pipeline import geometry
from pipeline.cli import flatten, save_config
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import true_keypoints
from pipeline.files import new_folder, refuse_used, write_json
from pipeline.progress import progress_bar
from pipeline.samples import targets
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton


def run(config: OracleConfig) -> int:
    """Raises UserError for an annotation file that cannot be used and for an output folder that is not empty."""
    if config.out:
        refuse_used(config.out)
    skeleton = read_skeleton(config.skeleton)
    document = CocoFile(config.annotations, skeleton)
    sizes = {image.id: image.size_wh for image in document.images}
    results, milliseconds = [], []
    for image_id in progress_bar(labeled_images(document), desc="decoding targets", unit="image"):
        keypoints = true_keypoints(document.annotations[image_id], skeleton, one_is_enough=config.neck_joint == "one_shoulder")
        fields = perfect_fields(keypoints, sizes[image_id], skeleton, config.targets)
        start = time.perf_counter()
        people = find_people(fields, skeleton, config.decoding)
        milliseconds.append(1000 * (time.perf_counter() - start))
        results += to_results(people, image_id=image_id, category_id=document.category_id, skeleton=skeleton)
    evaluation = evaluate(document, results, skeleton)
    decode_ms = {"median": float(np.median(milliseconds or 0)), "p95": float(np.percentile(milliseconds or 0, 95))}
    print(evaluation.line())
    print(f"{len(milliseconds)} images with people of {len(sizes)}; decoding took {decode_ms['median']:.2f} ms an image (median)")
    if config.out:
        metrics = {
            "figures": evaluation.figures,
            "num_images": len(sizes),
            "num_images_with_people": len(milliseconds),
            "decode_ms": decode_ms,
            "settings": flatten(config),
        }
        with new_folder(config.out) as folder:
            write_json(folder / "results.json", results)
            write_json(folder / "metrics.json", metrics)
            save_config(config, folder / "config.yaml")
    return 0


def perfect_fields(keypoints: np.ndarray, size_wh: tuple[int, int], skeleton: Skeleton, config: targets.TargetConfig) -> Fields:
    """What a perfect network gives for an image of that size with these people: their targets, quantized as in records."""
    width, height = input_size(*size_wh, config.insize)
    matrix = geometry.resizing(width / size_wh[0], height / size_wh[1])
    moved = geometry.transform_keypoints(matrix, keypoints)
    render = {"skeleton": skeleton, "grid_hw": grid_size(width, height, config.stride_px), "config": config}
    heatmaps = targets.quantize_heatmaps(targets.render_heatmaps(moved, **render))
    pafs = targets.quantize_pafs(targets.render_pafs(moved, **render))
    return Fields(
        heatmaps=targets.dequantize_heatmaps(heatmaps),
        pafs=targets.dequantize_pafs(pafs),
        stride_px=config.stride_px,
        to_image=geometry.invert(matrix),
        size_wh=size_wh,
    )
