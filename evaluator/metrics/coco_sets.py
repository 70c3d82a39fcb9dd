"""Annotations and results as the data sets of pycocotools."""

from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.skeleton import Skeleton

Ignored = Callable[[Annotation], bool]


def ground_truth(document: CocoFile, ignored: Ignored) -> COCO:
    """Return the annotations. ignored: whether COCO ignores a person in addition to crowds and people without labeled joints."""
    annotations = [
        {
            "image_id": image_id,
            "category_id": document.category_id,
            "keypoints": entry.keypoints.ravel().tolist(),
            "num_keypoints": 0 if ignored(entry) else int(entry.labeled.sum()),
            "iscrowd": int(entry.iscrowd),
            "area": entry.area,
            "bbox": list(entry.bbox),
        }
        for image_id, entries in sorted(document.annotations.items())
        for entry in entries
    ]
    return _coco(document, annotations)


def detections(document: CocoFile, results: Results, skeleton: Skeleton) -> COCO:
    """Return the results, as `COCO.loadRes` does: the area of a result is that of its `bbox` if the first result has one, else of the box of its keypoints."""
    points = np.array([entry["keypoints"] for entry in results], np.float64).reshape(len(results), len(skeleton.source_joints), 3)
    low, high = points[..., :2].min(axis=1), points[..., :2].max(axis=1)
    boxes = np.concatenate([low, high - low], axis=1).tolist()
    if results and results[0].get("bbox"):
        boxes = [entry.get("bbox") or box for entry, box in zip(results, boxes, strict=True)]
    annotations = [
        {**entry, "area": box[2] * box[3], "bbox": box, "iscrowd": 0} for entry, box in zip(results, boxes, strict=True)
    ]
    return _coco(document, annotations)


def _coco(document: CocoFile, annotations: list[dict[str, Any]]) -> COCO:
    """Build the pycocotools data set of these entries."""
    coco = COCO()
    # Ids start at 1 in the order of the list: COCOeval mistakes a match with annotation 0 for no match.
    coco.dataset = {
        "images": [{"id": image.id} for image in document.images],
        "categories": [{"id": document.category_id}],
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco
