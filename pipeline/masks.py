"""Crowds and people who are no targets -> ignore mask: where the loss must not count."""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from pipeline.annotations import Sample, Segmentation

DILATION_PX = 16  # of the ignored regions, in pixels of the training crop


class BadSegmentation(Exception):
    """A segmentation that does not fill its image; the text names it."""


def ignore_mask(sample: Sample) -> np.ndarray | None:
    """bool (height, width) of the original image, True = ignored; None where there is nothing to ignore.

    Covered are all people who are no targets, and crowds less the targets inside them. Raises BadSegmentation
    for a compressed RLE that does not fill the image.
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


def dilate(mask: np.ndarray) -> np.ndarray:
    """bool (H, W) -> bool (H, W), True within DILATION_PX of a True pixel (Euclidean)."""
    if not mask.any():
        return mask
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return distance <= DILATION_PX


def to_cells(mask: np.ndarray, stride_px: int) -> np.ndarray:
    """bool (H, W) -> bool (H / stride, W / stride): True where at least half of the cell's pixels are."""
    height, width = mask.shape[0] // stride_px, mask.shape[1] // stride_px
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return share >= 0.5


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
    try:
        return coco_mask.decode(coco_mask.merge(codes)).astype(bool)
    except (ValueError, TypeError) as error:
        raise BadSegmentation(f"segmentation: {error}") from error
