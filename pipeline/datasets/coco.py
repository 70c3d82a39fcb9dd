"""Read and check a COCO keypoint file. The only reader of annotation files: all other code relies on its checks."""

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.documents import read_json
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton

MAX_SIDE_PX = 65_535  # limit of the JPEG format
MAX_COORDINATE_PX = 100_000
INFO = ("description", "url", "version", "year", "contributor", "date_created")  # fields of `info` that are kept

Segmentation = list[list[float]] | dict[str, Any]
"""Polygons x, y, x, y, …, or a COCO run-length encoding (`size` and `counts`)."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """An entry of the list `images`: an image of `width` x `height` pixels."""

    id: int
    file_name: str
    width: int
    height: int
    license: int | None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """An entry of the list `annotations`: a person, or a crowd (`iscrowd`).

    keypoints: float64 (S, 3), x and y in pixels, v in {0, 1, 2}; 0, 0, 0 = unlabeled. bbox: x, y, width, height in pixels.
    area: area of the segmentation in square pixels. segmentation: None if the file has none.
    """

    image_id: int
    iscrowd: bool
    area: float
    bbox: tuple[float, float, float, float]
    keypoints: np.ndarray
    segmentation: Segmentation | None

    @property
    def labeled(self) -> np.ndarray:
        """bool (S,): which keypoints are labeled (v > 0)."""
        return self.keypoints[:, 2] > 0

    @property
    def is_labeled_person(self) -> bool:
        """Whether this is a person, not a crowd, with at least one labeled keypoint."""
        return not self.iscrowd and bool(self.labeled.any())


class CocoFile:
    """A checked COCO keypoint file.

    images: sorted by id. annotations: those of category `category_id`, by image id. licenses: name and URL by id.
    info: the file's own description.
    """

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        """Raises UserError if the file is missing, not JSON, or not a COCO file with the keypoints of this skeleton."""
        self.path = Path(path)
        document = read_json(self.path, "annotation file")
        lists = ("images", "annotations", "categories")
        if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in lists):
            raise UserError(f"annotation file {path}: not COCO: expected an object with the lists {', '.join(lists)}")
        self.category_id = self._category_id(document["categories"], skeleton)
        self.licenses = self._licenses(document.get("licenses") or [])
        self.info = _info(document.get("info"))
        self.images = sorted(map(self._image, document["images"]), key=lambda image: image.id)
        sizes = {image.id: (image.height, image.width) for image in self.images}
        if len(sizes) != len(self.images):
            repeated = next(id for id, n in Counter(image.id for image in self.images).items() if n > 1)
            raise UserError(f"annotation file {path}: image id {repeated} occurs twice; ids must be unique")
        self.annotations: dict[int, list[Annotation]] = {}
        for entry in document["annotations"]:
            self._require(isinstance(entry, dict), "annotations", entry, "a list of objects")
            if entry.get("category_id") == self.category_id:
                annotation = self._annotation(entry, skeleton, sizes)
                self.annotations.setdefault(annotation.image_id, []).append(annotation)

    def only(self, images: list[Image]) -> "CocoFile":
        """Return the same file reduced to some of its images."""
        part = copy.copy(self)
        part.images = images
        part.annotations = {image.id: self.annotations[image.id] for image in images if image.id in self.annotations}
        return part

    def _require(self, condition: bool, where: str, value: Any, expected: str) -> None:
        if not condition:
            raise UserError(f"annotation file {self.path}: {where} must be {expected}, got {repr(value)[:100]}")

    def _category_id(self, categories: list[Any], skeleton: Skeleton) -> int:
        """Find the category whose keypoints are exactly those of the skeleton, in the same order."""
        with_keypoints = [entry for entry in categories if isinstance(entry, dict) and isinstance(entry.get("keypoints"), list)]
        for entry in with_keypoints:
            if tuple(entry["keypoints"]) == skeleton.source_joints:
                self._require(_is_int(entry.get("id")), "id of the category", entry.get("id"), "an integer")
                return entry["id"]
        found = [entry["keypoints"] for entry in with_keypoints] or "no category with keypoints"
        raise UserError(
            f"annotation file {self.path}: not keypoints of skeleton {skeleton.name!r}: expected a category with keypoints "
            f"{list(skeleton.source_joints)}, found {found} (COCO's are in person_keypoints_*.json, not instances_*.json)"
        )

    def _licenses(self, entries: Any) -> dict[int, tuple[str, str]]:
        self._require(isinstance(entries, list), "licenses", entries, "a list")
        entries = [entry for entry in entries if isinstance(entry, dict) and _is_int(entry.get("id"))]
        return {entry["id"]: (str(entry.get("name", "")), str(entry.get("url", ""))) for entry in entries}

    def _image(self, image: Any) -> Image:
        good_id = isinstance(image, dict) and _is_int(image.get("id")) and image["id"] >= 0
        self._require(good_id, "images", image, "a list of objects with an integer id, 0 or more")
        where = f"image {image['id']}:"
        for side in ("width", "height"):
            good = _is_int(image.get(side)) and 0 < image[side] <= MAX_SIDE_PX
            self._require(good, f"{where} {side}", image.get(side), f"an integer from 1 to {MAX_SIDE_PX}")
        name = image.get("file_name")
        self._require(isinstance(name, str) and name != "", f"{where} file_name", name, "a file name")
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name.replace("\\", "/")).parts
        self._require(inside and "\0" not in name, f"{where} file_name", name, "a path inside the image folder")
        license = image.get("license")
        self._require(license is None or _is_int(license), f"{where} license", license, "an integer")
        return Image(id=image["id"], file_name=name, width=image["width"], height=image["height"], license=license)

    def _annotation(self, entry: dict[str, Any], skeleton: Skeleton, sizes: dict[int, tuple[int, int]]) -> Annotation:
        where = f"annotation {entry.get('id')}:"
        image_id: Any = entry.get("image_id")
        self._require(_is_int(image_id) and image_id in sizes, f"{where} image_id", image_id, "the id of an image of this file")
        crowd = entry.get("iscrowd", 0)
        self._require(crowd in (0, 1), f"{where} iscrowd", crowd, "0 or 1")
        area: Any = entry.get("area")
        self._require(_is_finite(area) and area >= 0, f"{where} area", area, "a number, 0 or more")
        box: Any = entry.get("bbox")
        good_box = isinstance(box, list) and len(box) == 4 and all(map(_is_coordinate, box))
        self._require(good_box, f"{where} bbox", box, f"4 numbers from {-MAX_COORDINATE_PX} to {MAX_COORDINATE_PX}")
        segmentation = entry.get("segmentation")
        expected = _expected_segmentation(segmentation, sizes[image_id])
        self._require(not expected, f"{where} segmentation", segmentation, expected)
        return Annotation(
            image_id=image_id,
            iscrowd=bool(crowd),
            area=area,
            bbox=(box[0], box[1], box[2], box[3]),
            keypoints=self._keypoints(entry, where, len(skeleton.source_joints), optional=bool(crowd)),
            segmentation=segmentation or None,
        )

    def _keypoints(self, entry: dict[str, Any], where: str, num_joints: int, *, optional: bool) -> np.ndarray:
        """float64 (S, 3); zeros if they are `optional` and absent."""
        values: Any = entry.get("keypoints", [0] * 3 * num_joints if optional else None)
        good = isinstance(values, list) and len(values) == 3 * num_joints and all(map(_is_finite, values))
        expected = f"{3 * num_joints} finite numbers: x, y, v for each of {num_joints} joints"
        self._require(good, f"{where} keypoints", values, expected)
        points = np.array(values, np.float64).reshape(-1, 3)
        self._require(bool(np.isin(points[:, 2], (0, 1, 2)).all()), f"{where} v of keypoints", points[:, 2].tolist(), "0, 1 or 2")
        points[points[:, 2] == 0] = 0
        return points


def _info(info: Any) -> dict[str, str]:
    fields = {name: info.get(name) for name in INFO} if isinstance(info, dict) else {}
    return {name: str(value)[:200] for name, value in fields.items() if isinstance(value, (str, int)) and value != ""}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_coordinate(value: Any) -> bool:
    return _is_finite(value) and abs(value) <= MAX_COORDINATE_PX


def _expected_segmentation(segmentation: Any, size: tuple[int, int]) -> str:
    """Return what was expected instead of an invalid segmentation; empty for valid polygons, a valid RLE, and no segmentation.

    Checks everything, because pycocotools crashes or hangs on invalid polygons and run lengths.
    """
    if not segmentation:
        return ""
    if isinstance(segmentation, list):
        good = all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(_is_coordinate, p)) for p in segmentation)
        return "" if good else f"polygons x, y, x, y, … of at least 3 points, no coordinate beyond {MAX_COORDINATE_PX}"
    if not isinstance(segmentation, dict) or segmentation.get("size") != list(size):
        return f"polygons or an RLE of the image's size, {list(size)}"
    counts = segmentation.get("counts")
    runs = _decompress_rle(counts) if isinstance(counts, str) else counts
    good = isinstance(runs, list) and all(_is_int(run) and run >= 0 for run in runs) and sum(runs) == size[0] * size[1]
    return "" if good else f"an RLE whose counts add up to {size[0] * size[1]} pixels"


def _decompress_rle(text: str) -> list[int] | None:
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
