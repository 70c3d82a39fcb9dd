"""COCO results: their type, and the conversion of decoded people."""

from typing import NotRequired, TypedDict

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.grouping import body_reach
from pipeline.skeleton import Skeleton


class Result(TypedDict):
    """An entry of a COCO results file, one predicted person.

    keypoints: x, y in pixels and v for each joint of the annotation file; v is 1 for found joints, 0 for missing ones.
    track_id: who it is, in frames of videos; -1 if that is not known.
    """

    image_id: int
    category_id: int
    keypoints: list[float]
    score: float
    track_id: NotRequired[int]


Results = list[Result]


def to_results(
    people: People, *, image_id: int, category_id: int, skeleton: Skeleton, identities: np.ndarray | None = None
) -> Results:
    """Convert people, in pixels of the image, to entries of a COCO results file, in the joint order of the annotations.

    identities: int (N,), in frames of videos.

    COCO scores all labeled joints and derives the area of a prediction from all of its joints. Missing joints at 0, 0 would
    distort that area, so that they are placed at the nearest found joint along the limbs, with v = 0.
    """
    placed = place_missing(people.keypoints, skeleton)
    found = people.keypoints[..., 2:] > 0
    entries = np.concatenate([placed.round(2), found], axis=-1)[:, skeleton.source_indices]
    entries[:, skeleton.source_indices < 0] = 0
    results: Results = [
        {"image_id": image_id, "category_id": category_id, "keypoints": row.ravel().tolist(), "score": float(score)}
        for row, score in zip(entries, people.scores, strict=True)
    ]
    if identities is not None:
        for result, identity in zip(results, identities.tolist(), strict=True):
            result["track_id"] = identity
    return results


def place_missing(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Place missing joints (score 0) at the nearest found joint of the same person.

    keypoints: float32 (N, J, 3), at least one joint per person. Returns float64 (N, J, 2).
    """
    found = keypoints[..., 2] > 0
    distance = body_reach(skeleton).astype(np.float64)
    distance[(distance == 0) & ~np.eye(skeleton.num_joints, dtype=bool)] = 1e6  # no chain of limbs: used as a last resort
    nearest = np.where(found[:, None], distance, np.inf).argmin(axis=2)
    return np.take_along_axis(keypoints[..., :2].astype(np.float64), nearest[..., None], axis=1)
