"""Crowds and people who are no targets -> ignore mask: where the loss must not count."""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pipeline import geometry
from pipeline.datasets.coco import Segmentation
from pipeline.datasets.selection import Sample

DILATION_PX = 16  # of the ignored regions, in pixels of the training crop


def ignore_mask(sample: Sample) -> np.ndarray | None:
    """bool (height, width) of the original image, True = ignored; None where there is nothing to ignore.

    Covered are all people who are no targets, and crowds less the targets inside them.
    """
    if not sample.ignored and not sample.crowds:
        return None
    ignored = _union(sample.ignored, sample)
    if sample.crowds:
        crowds = _union(sample.crowds, sample)
        if sample.people:
            crowds &= ~_union(sample.people, sample)
        ignored |= crowds
    return ignored


def warp_to_cells(ignore: np.ndarray, matrix: np.ndarray, *, insize: int, stride_px: int) -> np.ndarray:
    """The ignore mask of an image -> that of a training crop: warped, dilated by DILATION_PX, and as cells.

    ignore: bool (H, W); matrix: float64 (2, 3), pixels of the image -> pixels of the crop.
    Returns bool (insize / stride, insize / stride): True where at least half of the cell's pixels are ignored.
    """
    side = insize // stride_px
    cells = np.zeros((side, side), bool)
    x, y, width, height = cv2.boundingRect(ignore.view(np.uint8))
    corners = geometry.transform_points(
        matrix, np.array([(x, y), (x + width, y), (x, y + height), (x + width, y + height)]) - 0.5
    )
    # Work on the part of the crop, in whole cells, that the warped and dilated mask can touch; what lies just outside the crop
    # is dilated into it.
    margin = -(-(DILATION_PX + 1) // stride_px)
    low = np.clip(np.floor(corners.min(axis=0) / stride_px).astype(int) - margin, -margin, side)
    high = np.clip(np.ceil(corners.max(axis=0) / stride_px).astype(int) + margin, 0, side + margin)
    if not width or (low >= high).any():
        return cells
    part = geometry.compose(matrix, geometry.translation(*-low * stride_px))
    warped = cv2.warpAffine(ignore.view(np.uint8), part, tuple((high - low) * stride_px), flags=cv2.INTER_NEAREST)
    (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, side)
    dilated = to_cells(_dilate(warped.astype(bool)), stride_px)
    cells[y0:y1, x0:x1] = dilated[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]]
    return cells


def to_cells(mask: np.ndarray, stride_px: int) -> np.ndarray:
    """bool (H, W) -> bool (H / stride, W / stride): True where at least half of the cell's pixels are."""
    height, width = mask.shape[0] // stride_px, mask.shape[1] // stride_px
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return share >= 0.5


def _dilate(mask: np.ndarray) -> np.ndarray:
    """bool (H, W) -> bool (H, W), True within DILATION_PX of a True pixel (Euclidean, to 2 %: the exact distance takes thrice as
    long)."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return distance <= DILATION_PX


def _union(segmentations: tuple[Segmentation, ...], sample: Sample) -> np.ndarray:
    height, width = sample.height, sample.width
    codes = []
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            codes += coco_mask.frPyObjects(segmentation, height, width)
        elif isinstance(segmentation["counts"], list):
            codes.append(coco_mask.frPyObjects(segmentation, height, width))
        else:
            codes.append(segmentation)
    if not codes:
        return np.zeros((height, width), bool)
    return coco_mask.decode(coco_mask.merge(codes)).astype(bool)
