"""Input and grid sizes, resizing and padding."""

import cv2
import numpy as np

from pipeline.images import PADDING_GRAY

MAX_ASPECT = 8  # longer images are shrunk further, so that an extreme aspect ratio cannot exhaust the memory

Size = tuple[int, int]


def input_size(width: int, height: int, insize: float, most: tuple[int | None, int | None] = (None, None)) -> Size:
    """Return the (width, height) at which the shorter side is `insize` and the aspect ratio is kept, rounded to pixels.

    most: largest width and height; an image that exceeds it is shrunk further.
    """
    scale = min(insize / min(width, height), MAX_ASPECT * insize / max(width, height))
    scale = min([scale, *(limit / side for limit, side in zip(most, (width, height), strict=True) if limit)])
    return max(1, round(width * scale)), max(1, round(height * scale))


def grid_size(width: int, height: int, stride_px: int) -> Size:
    """Return the (h, w) of the smallest grid whose cells cover width x height pixels."""
    return -(-height // stride_px), -(-width // stride_px)


def round_up(value: float, multiple: int) -> int:
    """Round up to the next multiple."""
    return int(-(-value // multiple)) * multiple


def resize_and_pad(image: np.ndarray, resized: Size, padded: Size) -> np.ndarray:
    """Resize an image, uint8 RGB (H, W, 3), to (width, height), then pad it in gray on the right and at the bottom."""
    height, width = image.shape[:2]
    shrinks = resized[0] * resized[1] < width * height
    scaled = cv2.resize(image, resized, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    right, bottom = padded[0] - resized[0], padded[1] - resized[1]
    return cv2.copyMakeBorder(scaled, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=(PADDING_GRAY,) * 3)
