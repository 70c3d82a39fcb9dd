"""COCO results: their type, and the conversion of decoded people."""

from typing import NotRequired, TypedDict

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.grouping import body_heights, body_reach, standing_heights
from evaluator.decoding.scores import ScoreMap, score_map
from evaluator.inference.sizes import Size
from pipeline.skeleton import Skeleton

DROP = 0.4  # share of the difference in height between standing joints: people also sit, lie, and raise arms


class Result(TypedDict):
    """An entry of a COCO results file, one predicted person.

    keypoints: x, y in pixels and v for each joint of the annotation file; v is 1 for found joints, 0 for missing ones.
    score: from 0 to 1. raw_score: sum of the decoder. confidences: height of each joint's peak, 0 for missing ones. Results of other
    programs lack the last two, and may have bbox (x, y, width, height in pixels). track_id: who it is, in frames of videos; -1 if that is not known.
    """

    image_id: int
    category_id: int
    keypoints: list[float]
    score: float
    bbox: NotRequired[list[float]]
    track_id: NotRequired[int]
    raw_score: NotRequired[float]
    confidences: NotRequired[list[float]]


Results = list[Result]


def to_results(
    people: People,
    *,
    image_id: int,
    category_id: int,
    skeleton: Skeleton,
    size_wh: Size | None = None,
    to_scores: ScoreMap | None = None,
    identities: np.ndarray | None = None,
) -> Results:
    """Convert people, in pixels of the image, to entries of a COCO results file, in the joint order of the annotations.

    size_wh: width and height of the image. to_scores: the map from raw scores to scores; by default that of an uncalibrated network.
    identities: int (N,), in frames of videos.

    COCO scores all labeled joints and derives the area of a prediction from all of its joints, so that missing joints must be
    somewhere: see `place_missing`. Their v is 0. Keypoints of the annotations that the network does not predict are placed at the
    center of the found joints.
    """
    placed = place_missing(people.keypoints, skeleton, size_wh)
    peaks = people.keypoints[..., 2:].astype(np.float64)
    # x, y, v and the height of the peak, which is not part of COCO's `keypoints`.
    entries = np.concatenate([placed.round(2), peaks > 0, peaks.round(4)], axis=-1)[:, skeleton.source_indices]
    found = people.keypoints[..., 2:] > 0
    centers = (placed * found).sum(axis=1) / found.sum(axis=1)
    entries[:, skeleton.source_indices < 0] = np.concatenate([centers.round(2), np.zeros_like(centers)], axis=-1)[:, None]
    scores = (to_scores or score_map(skeleton))(people.scores)
    results: Results = [
        {
            "image_id": image_id,
            "category_id": category_id,
            "keypoints": row[:, :3].ravel().tolist(),
            "score": score,
            "raw_score": raw,
            "confidences": row[:, 3].tolist(),
        }
        for row, score, raw in zip(entries, scores.tolist(), people.scores.tolist(), strict=True)
    ]
    if identities is not None:
        for result, identity in zip(results, identities.tolist(), strict=True):
            result["track_id"] = identity
    return results


def place_missing(keypoints: np.ndarray, skeleton: Skeleton, size_wh: Size | None = None) -> np.ndarray:
    """Guess where missing joints (score 0) are: DROP times as far above or below the nearest found joint as in a standing person.

    The nearest joint is the one with the shortest chain of limbs. keypoints: float32 (N, J, 3), in pixels, at least one joint per
    person. size_wh: of the image, inside which the guesses are. Returns float64 (N, J, 2).
    """
    found = keypoints[..., 2] > 0
    distance = body_reach(skeleton).astype(np.float64)
    distance[(distance == 0) & ~np.eye(skeleton.num_joints, dtype=bool)] = 1e6  # no chain of limbs: used as a last resort
    nearest = np.where(found[:, None], distance, np.inf).argmin(axis=2)
    placed = np.take_along_axis(keypoints[..., :2].astype(np.float64), nearest[..., None], axis=1)
    height = standing_heights(skeleton)
    placed[..., 1] += DROP * body_heights(keypoints, skeleton)[:, None] * (height - height[nearest])
    if size_wh is not None:
        placed = np.where(found[..., None], placed, np.clip(placed, 0, np.array(size_wh) - 1))
    return placed
