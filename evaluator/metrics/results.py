"""Entries of a COCO results file, as types."""

from typing import TypedDict


class Result(TypedDict):
    """An entry of a COCO results file. keypoints: x, y, v of each joint of the annotation file; v = 1 found, 0 placed nearby."""

    image_id: int
    category_id: int
    keypoints: list[float]
    score: float


Results = list[Result]
