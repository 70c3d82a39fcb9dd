"""The ignore mask: cells that do not count in the loss. All rules of what is ignored are in this module.

1. People who are not targets are ignored, and so are crowds, except for the targets inside them (`ignore_mask`).
2. The mask is dilated by DILATION_PX (`warp_to_cells`).
3. A cell that contains a joint or limb of a target is never ignored (`keep_targets`).
"""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pipeline import geometry
from pipeline.datasets.segmentation import Segmentation
from pipeline.datasets.selection import Sample
from pipeline.samples.targets import shown_cells

DILATION_PX = 16  # pixels of the training crop


def ignore_mask(sample: Sample) -> np.ndarray | None:
    """Return the mask of the original image, bool (height, width), True = ignored; None if nothing is ignored.

    It covers all people who are not targets, and crowds except for the targets inside them.
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


def warp_to_cells(ignore: np.ndarray | None, matrix: np.ndarray, *, insize: int, stride_px: int) -> np.ndarray:
    """Turn the mask of an image into the cells of a training crop: warp, dilate by DILATION_PX, reduce to cells.

    ignore: bool (H, W) or None; matrix: float64 (2, 3), pixels of the image -> pixels of the crop.
    Returns bool (insize / stride, insize / stride), True where at least half of the cell's pixels are ignored.
    """
    side = insize // stride_px
    cells = np.zeros((side, side), bool)
    if ignore is None:
        return cells
    x, y, width, height = cv2.boundingRect(ignore.view(np.uint8))
    corners = geometry.transform_points(
        matrix, np.array([(x, y), (x + width, y), (x, y + height), (x + width, y + height)]) - 0.5
    )
    # Process only the part of the crop, in whole cells, that the dilated mask can reach. It extends beyond the crop, because
    # regions just outside are dilated into it.
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


def keep_targets(ignore: np.ndarray, heatmaps: np.ndarray, pafs: np.ndarray) -> np.ndarray:
    """Return the cells, bool (h, w), without those that contain a joint or limb of a target.

    heatmaps, pafs: quantized targets of the crop. Without this rule, small people next to an unlabeled person would be covered by
    that person's dilated mask and never be learned.
    """
    return ignore & ~shown_cells(heatmaps, pafs) if ignore.any() else ignore


def to_cells(mask: np.ndarray, stride_px: int) -> np.ndarray:
    """Reduce bool (H, W) to bool (H / stride, W / stride), True where at least half of the cell's pixels are True."""
    height, width = mask.shape[0] // stride_px, mask.shape[1] // stride_px
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return share >= 0.5


def _dilate(mask: np.ndarray) -> np.ndarray:
    """Return bool (H, W), True within DILATION_PX of a True pixel. The distance is accurate to 2%; an exact one takes three times as long."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    return distance <= DILATION_PX


def _union(segmentations: tuple[Segmentation, ...], sample: Sample) -> np.ndarray:
    """Draw segmentations into one mask, bool (height, width)."""
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
