"""Boxes and areas of people whose annotations lack them, as many data sets' do. COCO's metrics and the build need both."""

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]
"""x, y, width, height in pixels."""

AREA_SHARE = 0.53
"""Area of a person as a share of the box, for data without segmentations: the rule of CrowdPose's evaluation
(crowdposetools/cocoeval.py, computeOks) and of xtcocotools."""

DERIVED = {
    "bbox": "without a box: the box around their keypoints",
    "area": f"without an area: {AREA_SHARE} x the area of their box",
}
"""What takes the place of a missing field."""


def joint_box(keypoints: np.ndarray) -> Box | None:
    """Return the box of the pixels of all labeled keypoints, float (S, 3); None if none is labeled."""
    labeled = keypoints[keypoints[:, 2] > 0, :2]
    return _box(labeled) if len(labeled) else None


def polygon_box(polygons: Sequence[Sequence[float]]) -> Box | None:
    """Return the box around polygons x, y, x, y, …; None if there are none."""
    points = np.array([value for polygon in polygons for value in polygon], np.float64).reshape(-1, 2)
    return _box(points, pixel=0) if len(points) else None


def _box(points: np.ndarray, pixel: int = 1) -> Box:
    low, high = points.min(axis=0), points.max(axis=0)
    width, height = high - low + pixel
    return float(low[0]), float(low[1]), float(width), float(height)


def box_area(box: Box) -> float:
    """Return the area in square pixels that is assumed for a person with this box."""
    return AREA_SHARE * max(box[2], 0) * max(box[3], 0)
