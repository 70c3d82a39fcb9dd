"""Photos as a viewer shows them: turned as EXIF says, and huge JPEGs at a fraction of their sides.

Only for prediction. Annotations refer to the stored pixels, which `pipeline.images.read_image` returns.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from pipeline import images

MAX_WHOLE_PIXELS = 1 << 26  # 192 MiB as RGB; larger JPEGs are reduced while they are decoded
_REDUCTIONS = (2, 4, 8)  # of libjpeg
_ORIENTATION_TAG, _SHORT = 0x0112, 3
_APP1, _START_OF_SCAN, _NO_LENGTH = 0xE1, 0xDA, {0x01, *range(0xD0, 0xD8)}  # JPEG markers
_EXIF = b"Exif\0\0"
# What brings the stored pixels upright, by EXIF orientation (Exif 2.32, table 6): rotation, then a flip across the vertical axis.
_UPRIGHT: dict[int, tuple[int | None, bool]] = {
    2: (None, True),
    3: (cv2.ROTATE_180, False),
    4: (cv2.ROTATE_180, True),
    5: (cv2.ROTATE_90_CLOCKWISE, True),
    6: (cv2.ROTATE_90_CLOCKWISE, False),
    7: (cv2.ROTATE_90_COUNTERCLOCKWISE, True),
    8: (cv2.ROTATE_90_COUNTERCLOCKWISE, False),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Photo:
    """A photo.

    pixels: uint8 RGB (h, w, 3). size_wh: its width and height; larger than those of `pixels` if it was reduced.
    """

    pixels: np.ndarray
    size_wh: tuple[int, int]


def whole(pixels: np.ndarray) -> Photo:
    """Return pixels, uint8 RGB (H, W, 3), as a photo that is not reduced."""
    return Photo(pixels=pixels, size_wh=(pixels.shape[1], pixels.shape[0]))


def read_photo(path: Path) -> Photo:
    """Read an image file. Raises UnreadableImage as `read_image` does."""
    data = images.read_data(path)
    if images.is_jpeg(data):
        pixels = images.decode_jpeg(data, reduction=_reduction(data))
        size_wh, tiff = _jpeg_size(data) or (pixels.shape[1], pixels.shape[0]), _jpeg_exif(data)
    elif data[8:12] == b"WEBP":
        pixels = images.decode(data)
        size_wh, tiff = (pixels.shape[1], pixels.shape[0]), _webp_exif(data)
    else:
        return whole(images.decode(data, cv2.IMREAD_COLOR_RGB))  # OpenCV turns PNG and TIFF images
    rotation, flips = _UPRIGHT.get(_orientation(tiff), (None, False))
    if rotation is not None:
        pixels = cv2.rotate(pixels, rotation)
        size_wh = size_wh if rotation == cv2.ROTATE_180 else size_wh[::-1]
    return Photo(pixels=np.ascontiguousarray(pixels[:, ::-1]) if flips else pixels, size_wh=size_wh)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:  # of a kind that only OpenCV decodes
        return None
    return width, height


def _reduction(data: bytes) -> int:
    """Return 1 for a JPEG of usual size, otherwise the smallest factor that brings it to MAX_WHOLE_PIXELS, at most 8."""
    width, height = _jpeg_size(data) or (0, 0)
    if width * height <= MAX_WHOLE_PIXELS:
        return 1
    return next((factor for factor in _REDUCTIONS if width * height <= MAX_WHOLE_PIXELS * factor**2), _REDUCTIONS[-1])


def _jpeg_exif(data: bytes) -> bytes:
    """Return the EXIF data of a JPEG, which has the structure of a TIFF file: segment APP1 (Exif 2.32, section 4.5.2)."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and (marker := data[at + 1]) != _START_OF_SCAN:
        if marker in _NO_LENGTH or marker == 0xFF:  # 0xFF: filling
            at += 1 if marker == 0xFF else 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == _APP1 and data[at + 4 : at + 10] == _EXIF:
            return data[at + 10 : end]
        at = end
    return b""


def _webp_exif(data: bytes) -> bytes:
    """Return the EXIF data of a WebP: the chunk EXIF (RFC 9649, section 2.7.1.5)."""
    at = 12
    while at + 8 <= len(data):
        end = at + 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            return data[at + 8 : end].removeprefix(_EXIF)
        at = end + end % 2
    return b""


def _orientation(tiff: bytes) -> int:
    """Return the tag Orientation of the first directory (Exif 2.32, section 4.6.4), 1 to 8; 1 if there is none."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}HH", tiff, entry) == (_ORIENTATION_TAG, _SHORT):
                value: int = struct.unpack_from(f"{order}H", tiff, entry + 8)[0]
                return value
    except struct.error:  # damaged
        pass
    return 1
