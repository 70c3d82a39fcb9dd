"""Segmentations of COCO: polygons and run-length encodings. Checked, because pycocotools crashes or hangs on invalid ones."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

MAX_COORDINATE_PX = 100_000

Segmentation = list[list[float]] | dict[str, Any]
"""Polygons x, y, x, y, …, or a COCO run-length encoding (`size` and `counts`)."""


Coordinate = Annotated[float, Meta(ge=-MAX_COORDINATE_PX, le=MAX_COORDINATE_PX)]
Polygons = list[Annotated[list[Coordinate], Meta(min_length=6)]]
"""Polygons as a document may hold them."""


class Rle(msgspec.Struct):
    """A run-length encoding, compressed or not."""

    size: list[int]
    counts: str | list[Annotated[int, Meta(ge=0)]]


def expected_segmentation(segmentation: list[list[float]] | Rle | None, size: tuple[int, int]) -> str:
    """Return what was expected instead of an invalid segmentation; empty for valid polygons, a valid RLE, and no segmentation.

    Checks everything that the type leaves open, because pycocotools crashes or hangs on invalid polygons and run lengths.
    """
    if not isinstance(segmentation, Rle):
        good = all(len(polygon) % 2 == 0 for polygon in segmentation or ())
        return "" if good else "polygons x, y, x, y, …, with as many x as y"
    if segmentation.size != list(size):
        return f"polygons or an RLE of the image's height and width, {list(size)}"
    runs = decompress_rle(segmentation.counts) if isinstance(segmentation.counts, str) else segmentation.counts
    good = runs is not None and all(run >= 0 for run in runs) and sum(runs) == size[0] * size[1]
    return "" if good else f"an RLE whose counts add up to {size[0] * size[1]} pixels"


def usable_segmentation(value: Any, size: tuple[int, int]) -> Segmentation | None:
    """Return a segmentation from outside without polygons of fewer than three points; None if the rest is invalid or empty.

    size: height and width of the image.
    """
    if isinstance(value, list):
        value = [polygon for polygon in value if isinstance(polygon, list) and len(polygon) >= 6]
    try:
        checked = msgspec.convert(value, Polygons | Rle | None)
    except msgspec.ValidationError:
        return None
    return value if checked and not expected_segmentation(checked, size) else None


def decompress_rle(text: str) -> list[int] | None:
    """Return the run lengths of COCO's compressed RLE; None if the text is not one.

    Each character, counted from "0", holds five bits of a number, lowest first; the sixth bit is set if more follow. From the
    fourth number on, the difference to the number before the previous one is stored
    (https://github.com/cocodataset/cocoapi, maskApi.c, rleFrString).
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return None
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    return None if shift else runs
