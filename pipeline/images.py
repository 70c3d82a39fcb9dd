"""Read image files and report exactly why one cannot be used."""

import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from pipeline.storage.files import read_regular, require_regular

FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION  # keypoints refer to the stored pixels, not to the EXIF view
PADDING_GRAY = 128  # around the image: the middle of 0 and 255, 127.5, rounded to even
MAX_BYTES = 1 << 30
HEADER_BYTES = 1 << 17
MAX_PIXELS = 1 << 30  # OpenCV's limit
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"
_FOREIGN = {  # the first bytes of formats that are not read; an ISO file says its format after its size
    "HEIC": tuple(b"ftyp" + brand for brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")),
    "AVIF": (b"ftypavif", b"ftypavis"),
    "GIF": (b"GIF8",),
}
# Decodes the image on stdin; libjpeg writes its warnings to stderr.
_DECODE_STDIN = "import sys, cv2, numpy; cv2.imdecode(numpy.frombuffer(sys.stdin.buffer.read(), numpy.uint8), cv2.IMREAD_COLOR)"


class UnreadableImage(Exception):
    """An image file that cannot be used; the text is the reason."""


def read_image(path: Path, expected_size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a JPEG, PNG or any other file that OpenCV supports as uint8 (H, W, 3) RGB.

    `expected_size` is (width, height) from the annotation file. Raises UnreadableImage if the file is missing, empty, truncated,
    damaged, not an image, not a regular file, or of another size.
    """
    data = read_data(path)
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", data, 16)
        _require_size(width, height, expected_size)
    image = decode_jpeg(data, expected_size) if is_jpeg(data) else decode(data)
    _require_size(image.shape[1], image.shape[0], expected_size)
    return image


def read_data(path: Path) -> bytes:
    """Read an image file as it is. Raises UnreadableImage if it is missing, empty, truncated, or not a regular file."""
    try:
        data = read_regular(Path(path), MAX_BYTES)
    except OSError as error:
        raise UnreadableImage(error.strerror or str(error)) from error
    if not data:
        raise UnreadableImage("the file is empty")
    if _is_truncated(data):
        raise UnreadableImage("the file is truncated")
    return data


def image_size(path: Path) -> tuple[int, int]:
    """Return width and height of an image file, from the header of a JPEG or PNG. Raises UnreadableImage.

    An image whose header is intact may still be damaged.
    """
    try:
        require_regular(path)
        with open(path, "rb") as file:
            head = file.read(HEADER_BYTES)
    except (OSError, ValueError) as error:
        raise UnreadableImage(getattr(error, "strerror", None) or str(error)) from error
    if head.startswith(_PNG) and head[12:16] == b"IHDR":
        width, height = struct.unpack_from(">II", head, 16)
        return width, height
    if head.startswith(_JPEG):
        with suppress(ValueError):  # more metadata than HEADER_BYTES, or a subsampling that simplejpeg does not support
            height, width, _, _ = simplejpeg.decode_jpeg_header(head, strict=False)
            return width, height
    height, width, _ = read_image(path).shape
    return width, height


def is_jpeg(data: bytes) -> bool:
    """Return whether this is the beginning of a JPEG."""
    return data.startswith(_JPEG)


def decode_jpeg(data: bytes, expected_size: tuple[int, int] | None = None, reduction: int = 1) -> np.ndarray:
    """Decode a JPEG, reduced to 1/2, 1/4 or 1/8 of its sides while it is decoded; every warning of the decoder is an error.

    libjpeg fills what it cannot decode with gray or noise and only warns. OpenCV hides the warnings, simplejpeg returns them. Both
    contain libjpeg-turbo and return the same pixels.
    """
    try:
        height, width, _, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:  # not a JPEG, or one with a subsampling that simplejpeg does not support, such as that of some CMYK images
        image = decode(data)
        if warnings := _warnings(data):
            raise UnreadableImage(warnings[0]) from None
        return image
    _require_size(width, height, expected_size)
    try:
        if reduction == 1:
            return simplejpeg.decode_jpeg(data, "RGB")
        smallest = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
        return simplejpeg.decode_jpeg(data, "RGB", **smallest, min_factor=2)
    except ValueError as error:
        raise UnreadableImage(str(error)) from error


def decode(data: bytes, flags: int = FLAGS) -> np.ndarray:
    """Decode an image file with OpenCV. Raises UnreadableImage."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # for example more pixels than OpenCV allows
        raise UnreadableImage(f"not an image that can be decoded{opencv_limits()}") from error
    if image is None:
        raise UnreadableImage(_foreign_format(data) or "not an image that can be decoded")
    return image


def _foreign_format(data: bytes) -> str:
    """Return what to do about an image of a format that is not read; empty if this is none."""
    for name, starts in _FOREIGN.items():
        if data.startswith(starts) or data[4:].startswith(starts):
            return f"{name} is not read; convert it to JPEG, for example with ImageMagick: magick IMAGE IMAGE.jpg"
    return ""


def _warnings(data: bytes) -> list[str]:
    """Return what OpenCV's decoder writes to stderr, from another process: this one's stderr belongs to all of its threads."""
    done = subprocess.run([sys.executable, "-c", _DECODE_STDIN], input=data, stderr=subprocess.PIPE)
    return done.stderr.decode(errors="replace").splitlines()


def _require_size(width: int, height: int, expected_size: tuple[int, int] | None) -> None:
    if expected_size is not None and (width, height) != tuple(expected_size):
        raise UnreadableImage(f"{width} x {height} pixels, annotated as {expected_size[0]} x {expected_size[1]}")
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels, at most {MAX_PIXELS:,} pixels are read")


def opencv_limits() -> str:
    """Return the environment variables that limit the size of the images that OpenCV decodes, such as " (X=100)"; empty if none."""
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("OPENCV_IO_MAX_IMAGE_")]
    return f" ({', '.join(found)})" if found else ""


def _is_truncated(data: bytes) -> bool:
    """Check the end of the file, because a decoder may fill missing data with gray, or explain less.

    In a JPEG's entropy-coded data, 0xFF is always followed by 0 or a restart marker. An end marker after the last start of scan
    therefore belongs to the image itself; that of an embedded thumbnail comes before it.
    """
    if data.startswith(_JPEG):
        return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    if data.startswith(_PNG):
        return b"IEND" not in data[-4096:]
    return False
