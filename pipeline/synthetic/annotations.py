"""COCO annotations of a drawn scene.

Pixel i is centered at coordinate i, as in `pipeline.geometry`; polygons follow COCO's convention, in which the corner of the first
pixel is at 0.
"""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_masks

from pipeline.synthetic.drawing import figure_numbers
from pipeline.synthetic.figure import JOINTS
from pipeline.synthetic.scene import Scene

MIN_VISIBLE_AREA_PX = 12
MIN_LABELED_AREA_PX = 32 * 32  # COCO labels no keypoints of smaller people
MIN_VISIBLE_JOINTS = 5  # in videos
MISSING_SHARE = 0.03  # of the larger people, annotated without keypoints as in COCO

CocoEntry = dict[str, Any]


def annotate(scene: Scene, rng: np.random.Generator) -> list[CocoEntry]:
    """Return COCO annotations without ids: all visible people, then the crowd as one region."""
    numbers = figure_numbers(scene.owner)
    people = [number for number in range(len(scene.figures)) if number not in scene.crowd]
    annotations = [entry for number in people if (entry := annotate_person(scene, number, rng))]
    if scene.crowd:
        mask = cv2.morphologyEx(np.isin(numbers, list(scene.crowd)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
        if mask.any():
            rle = {"counts": run_lengths(mask), "size": list(mask.shape)}
            no_keypoints = np.zeros((len(JOINTS), 3))
            annotations.append(_annotation(rle, float(mask.sum()), list(cv2.boundingRect(mask)), no_keypoints, crowd=True))
    return annotations


def annotate_person(scene: Scene, number: int, rng: np.random.Generator | None) -> CocoEntry | None:
    """Return the COCO annotation without ids of a figure, None if too little of it is visible.

    rng: draws which joints an annotator leaves out. None, for the frames of a video: all joints are labeled that nothing but the
    person's own body hides, as in PoseTrack, but none of a person with fewer than MIN_VISIBLE_JOINTS visible ones.
    """
    polygons = mask_to_polygons((figure_numbers(scene.owner) == number).astype(np.uint8))
    if not polygons:
        return None
    area = float(coco_masks.area(coco_masks.merge(coco_masks.frPyObjects(polygons, *scene.owner.shape))))
    if area < MIN_VISIBLE_AREA_PX:
        return None
    unlabeled = bool(area < MIN_LABELED_AREA_PX) | bool(rng is not None and rng.random() < MISSING_SHARE)
    keypoints = _keypoints(scene, number, rng, unlabeled=unlabeled)
    corners = np.concatenate(polygons).reshape(-1, 2)
    low, high = corners.min(0), corners.max(0)
    return _annotation(polygons, area, [*low, *(high - low)], keypoints)


def _annotation(
    segmentation: list[list[float]] | dict[str, Any],
    area: float,
    bbox: list[float],
    keypoints: np.ndarray,
    *,
    crowd: bool = False,
) -> CocoEntry:
    return {
        "segmentation": segmentation,
        "area": area,
        "bbox": [float(value) for value in bbox],
        "iscrowd": int(crowd),
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [int(value) if i % 3 == 2 else round(value, 2) for i, value in enumerate(keypoints.ravel().tolist())],
    }


def _keypoints(scene: Scene, number: int, rng: np.random.Generator | None, *, unlabeled: bool) -> np.ndarray:
    """Return float64 (17, 3): x, y, v.

    v is 0 outside the image. Like a human annotator, `rng` leaves out many hidden joints and a few visible ones.
    """
    height, width = scene.owner.shape
    placed = scene.figures[number]
    points, visible = placed.joints(), placed.visible(scene.owner, number)
    inside = ((np.rint(points) >= 0) & (np.rint(points) <= (width - 1, height - 1))).all(1)
    if rng is None:
        columns, rows = np.clip(np.rint(points).astype(int), 0, (width - 1, height - 1)).T
        labeled = visible | (figure_numbers(scene.owner[rows, columns]) == number)
        labeled &= (visible & inside).sum() >= MIN_VISIBLE_JOINTS
    else:
        face = np.array([joint.endswith(("nose", "eye", "ear")) for joint in JOINTS])
        labeled = rng.random(len(JOINTS)) < np.where(visible, 0.98, np.where(face, 0.15, 0.7))
    labeled &= inside & (not unlabeled)
    return np.column_stack([points, 1 + visible]) * labeled[:, None]


def mask_to_polygons(mask: np.ndarray) -> list[list[float]]:
    """Return the outlines of a mask, uint8 (H, W) of 0 and 1, in COCO's corner convention."""
    # In a mask widened by one pixel to the right and below, contours through pixel centers follow the edges of the original pixels.
    wide = cv2.dilate(cv2.copyMakeBorder(mask, 0, 1, 0, 1, cv2.BORDER_CONSTANT), np.ones((2, 2), np.uint8), anchor=(1, 1))
    contours, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [cv2.approxPolyDP(contour, 0.7, True) for contour in contours]
    return [outline.ravel().astype(float).tolist() for outline in outlines if len(outline) >= 3 and cv2.contourArea(outline) > 2]


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return COCO's uncompressed RLE of a mask (H, W) of 0 and 1: lengths of the runs down the columns, zeros first."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths
