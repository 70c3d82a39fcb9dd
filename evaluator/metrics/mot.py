"""Metrics of identities over the frames of videos: MOTA, IDF1 and others, by py-motmetrics.

MOTA: Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance", 2008. IDF1: Ristani et al., "Performance
Measures and a Data Set for Multi-Target, Multi-Camera Tracking", ECCV 2016 workshops. The distance of a person to an annotation is
1 - OKS; above MAX_DISTANCE they cannot match.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from evaluator.decoding import People
from evaluator.metrics.oks import oks_of
from evaluator.metrics.results import place_missing
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton

MAX_DISTANCE = 0.5
FIGURES = {
    "MOTA": "mota",
    "IDF1": "idf1",
    "switches": "num_switches",
    "fragmentations": "num_fragmentations",
    "misses": "num_misses",
    "false_positives": "num_false_positives",
    "people": "num_objects",
    "identities": "num_unique_objects",
}
"""Names in metrics.json, and those of py-motmetrics."""


def score_identities(
    document: CocoFile, found: Mapping[int, People], identities: Mapping[int, np.ndarray], skeleton: Skeleton
) -> dict[str, dict[str, float]]:
    """Return the FIGURES and `crossings` of each video by its name, and of all of them as "all"; -1 for those without people.

    found: people by image id, in pixels. identities: of the same people, int (N,); people without one, -1, do not count.
    Raises UserError as `require_identities` does.
    """
    motmetrics = require_identities(document)
    names, accumulators, crossings = [], [], []
    for video_id, images in document.frames().items():
        accumulator = motmetrics.MOTAccumulator()
        places: list[dict[int, np.ndarray]] = []
        for number, image in enumerate(images):
            annotations = document.annotations.get(image.id, [])
            true = [entry for entry in annotations if entry.is_labeled_person]
            keypoints, own = _tracked(found.get(image.id), identities.get(image.id), skeleton)
            oks = oks_of(true, keypoints, skeleton)
            ignored = [entry for entry in annotations if not entry.is_labeled_person]
            counts = (oks.max(axis=0, initial=0) >= 1 - MAX_DISTANCE) | ~_inside(keypoints, ignored)
            distances = np.where(oks >= 1 - MAX_DISTANCE, 1 - oks, np.nan)[:, counts]
            accumulator.update([entry.track_id for entry in true], own[counts].tolist(), distances, frameid=number)
            places.append({entry.track_id or 0: np.array(entry.bbox) for entry in true})
        names.append(document.videos[video_id].name or str(video_id))
        accumulators.append(accumulator)
        crossings.append(count_crossings(places))
    summary = motmetrics.metrics.create().compute_many(
        accumulators, names=names, metrics=list(FIGURES.values()), generate_overall=True
    )
    figures = [
        {name: float(row[key]) if np.isfinite(row[key]) else -1.0 for name, key in FIGURES.items()}
        for _, row in summary.iterrows()
    ]
    counts_of = [*crossings, sum(crossings)]
    return {name: {**own, "crossings": count} for name, own, count in zip([*names, "all"], figures, counts_of, strict=True)}


def require_identities(document: CocoFile) -> Any:
    """Return the package motmetrics. Raises UserError if it is not installed, and for annotated people without a track_id."""
    for image_id, annotations in document.annotations.items():
        if any(entry.is_labeled_person and entry.track_id is None for entry in annotations):
            raise UserError(f"annotation file {document.path}: a person of image {image_id} has no track_id; --video needs it")
    try:
        import motmetrics
    except ImportError as error:
        raise UserError(f"--video needs the package motmetrics ({error}); install it with: pip install '.[tracking]'") from error
    return motmetrics


def count_crossings(frames: list[dict[int, np.ndarray]]) -> int:
    """Count how often two people pass each other in the image.

    frames: the box (x, y, width, height) of each person by identity. Two people pass if their horizontal order changes between two
    successive frames that show both, and each box covers half of the other's height.
    """
    last: dict[tuple[int, int], float] = {}
    crossings = 0
    for boxes in frames:
        people = sorted(boxes)
        for place, one in enumerate(people):
            for other in people[place + 1 :]:
                (x, y, width, height), (x2, y2, width2, height2) = boxes[one], boxes[other]
                apart = x + width / 2 - x2 - width2 / 2
                common = min(y + height, y2 + height2) - max(y, y2)
                side_by_side = common >= 0.5 * min(height, height2)
                crossings += bool(side_by_side and apart * last.get((one, other), 0.0) < 0)
                last[one, other] = apart
    return crossings


def _tracked(people: People | None, identities: np.ndarray | None, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Return the people who have an identity: places of all source joints, float64 (N, S, 2), and the identities, int (N,)."""
    if people is None or identities is None or not len(people):
        return np.zeros((0, len(skeleton.source_joints), 2)), np.zeros(0, np.int64)
    known = identities > 0
    return place_missing(people.keypoints[known], skeleton)[:, skeleton.source_indices], identities[known]


def _inside(keypoints: np.ndarray, ignored: list[Annotation]) -> np.ndarray:
    """Whether more than half of each person's joints are in one of the boxes of crowds and unlabeled people, bool (N,)."""
    inside = np.zeros(len(keypoints), bool)
    for entry in ignored:
        x, y, width, height = entry.bbox
        within = (keypoints >= (x, y)) & (keypoints <= (x + width, y + height))
        inside |= within.all(axis=-1).mean(axis=1) > 0.5
    return inside
