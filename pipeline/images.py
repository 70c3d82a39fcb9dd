"""Read image files and report exactly why one cannot be used."""

from pathlib import Path

import cv2
import numpy as np

FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION  # keypoints refer to the stored pixels, not to the EXIF view


class UnreadableImage(Exception):
    """An image file that cannot be used; the text is the reason."""


def read_image(path: Path, expected_size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a JPEG, PNG or any other file that OpenCV supports as uint8 (H, W, 3) RGB.

    `expected_size` is (width, height) from the annotation file. Raises UnreadableImage if the file is missing, empty, truncated,
    not an image, or of another size.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    if not data:
        raise UnreadableImage("the file is empty")
    if _is_truncated(data):
        raise UnreadableImage("the file is truncated")
    image = _decode(data)
    if image is None:
        raise UnreadableImage("not an image that can be decoded")
    height, width = image.shape[:2]
    if expected_size is not None and (width, height) != tuple(expected_size):
        raise UnreadableImage(f"{width} x {height} pixels, annotated as {expected_size[0]} x {expected_size[1]}")
    return image


def _decode(data: bytes) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), FLAGS)
    except cv2.error:  # for example more pixels than OpenCV allows
        return None


def _is_truncated(data: bytes) -> bool:
    """Check the end of the file, because decoders silently fill missing data with gray.

    In a JPEG's entropy-coded data, 0xFF is always followed by 0 or a restart marker. An end marker after the last start of scan
    therefore belongs to the image itself; that of an embedded thumbnail comes before it.
    """
    if data.startswith(b"\xff\xd8"):
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-4096:]
    return False
