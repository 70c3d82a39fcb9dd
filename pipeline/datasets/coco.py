"""A COCO keypoint file, checked. The only reader of annotation files: what it lets pass, everything behind it may trust."""

import copy
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.skeleton import Skeleton

MAX_SIDE_PX = 65_535  # of a JPEG
MAX_COORDINATE_PX = 100_000
INFO = ("description", "url", "version", "year", "contributor", "date_created")  # of the file, as it says

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
    area: square pixels of the segment. segmentation: None where the file has none.
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
        """Whether it is a person, not a crowd, with at least one labeled keypoint."""
        return not self.iscrowd and bool(self.labeled.any())


class CocoFile:
    """A checked COCO keypoint file: `images` by id, `annotations` of `category_id` by image id, `keypoints` as float64 (S, 3)."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        """Raises UserError for a file that is missing, not JSON, or not COCO keypoints of this skeleton."""
        self.path = Path(path)
        document = read_json(self.path, "annotation file")
        lists = ("images", "annotations", "categories")
        if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in lists):
            raise UserError(f"annotation file {path}: not COCO: expected an object with the lists {', '.join(lists)}")
        self.category_id = self._category(document["categories"], skeleton)
        self.licenses = self._licenses(document.get("licenses") or [])
        info = document.get("info")
        told = {name: info.get(name) for name in INFO} if isinstance(info, dict) else {}
        self.info = {name: str(value)[:200] for name, value in told.items() if isinstance(value, (str, int)) and value != ""}
        self.images = sorted(map(self._image, document["images"]), key=lambda image: image.id)
        sizes = {image.id: (image.height, image.width) for image in self.images}
        if len(sizes) != len(self.images):
            twice = next(id for id, n in Counter(image.id for image in self.images).items() if n > 1)
            raise UserError(f"annotation file {path}: image id {twice} stands there twice; ids must be unique")
        self.annotations: dict[int, list[Annotation]] = {}
        for entry in document["annotations"]:
            self._require(isinstance(entry, dict), "annotations", entry, "an object")
            if entry.get("category_id") == self.category_id:
                annotation = self._annotation(entry, skeleton, sizes)
                self.annotations.setdefault(annotation.image_id, []).append(annotation)

    def only(self, images: list[Image]) -> "CocoFile":
        """The same file with some of its images alone."""
        part = copy.copy(self)
        part.images = images
        part.annotations = {image.id: self.annotations[image.id] for image in images if image.id in self.annotations}
        return part

    def _require(self, holds: bool, where: str, value: Any, expected: str) -> None:
        if not holds:
            shown = repr(value)
            raise UserError(f"annotation file {self.path}: {where} must be {expected}, got {shown[:100]}")

    def _category(self, categories: list, skeleton: Skeleton) -> int:
        """The id of the category whose keypoints are the skeleton's, which no other order or number may stand in for."""
        named = [entry for entry in categories if isinstance(entry, dict) and isinstance(entry.get("keypoints"), list)]
        for entry in named:
            if tuple(entry["keypoints"]) == skeleton.source_joints:
                self._require(_is_int(entry.get("id")), "id of the category", entry.get("id"), "an integer")
                return entry["id"]
        found = [entry["keypoints"] for entry in named] or "no category with keypoints"
        raise UserError(
            f"annotation file {self.path}: not keypoints of skeleton {skeleton.name!r}: expected a category with keypoints "
            f"{list(skeleton.source_joints)}, found {found} (COCO's are in person_keypoints_*.json, not instances_*.json)"
        )

    def _licenses(self, entries: Any) -> dict[int, tuple[str, str]]:
        """Name and address by id."""
        self._require(isinstance(entries, list), "licenses", entries, "a list")
        entries = [entry for entry in entries if isinstance(entry, dict) and _is_int(entry.get("id"))]
        return {entry["id"]: (str(entry.get("name", "")), str(entry.get("url", ""))) for entry in entries}

    def _image(self, image: Any) -> Image:
        self._require(
            isinstance(image, dict) and _is_int(image.get("id")) and image["id"] >= 0,
            "images",
            image,
            "objects with an integer id, 0 or more",
        )
        where = f"image {image['id']}:"
        for name in ("width", "height"):
            good = _is_int(image.get(name)) and 0 < image[name] <= MAX_SIDE_PX
            self._require(good, f"{where} {name}", image.get(name), f"an integer from 1 to {MAX_SIDE_PX}")
        name = image.get("file_name")
        self._require(isinstance(name, str) and name != "", f"{where} file_name", name, "a file name")
        inside = not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name.replace("\\", "/")).parts
        self._require(inside and "\0" not in name, f"{where} file_name", name, "a path inside the image folder")
        license = image.get("license")
        self._require(license is None or _is_int(license), f"{where} license", license, "an integer")
        return Image(id=image["id"], file_name=name, width=image["width"], height=image["height"], license=license)

    def _annotation(self, entry: dict, skeleton: Skeleton, sizes: dict[int, tuple[int, int]]) -> Annotation:
        where = f"annotation {entry.get('id')}:"
        image_id = entry.get("image_id")
        self._require(_is_int(image_id) and image_id in sizes, f"{where} image_id", image_id, "the id of an image of this file")
        crowd = entry.get("iscrowd", 0)
        self._require(crowd in (0, 1), f"{where} iscrowd", crowd, "0 or 1")
        area = entry.get("area")
        self._require(_is_finite(area) and area >= 0, f"{where} area", area, "a number, 0 or more")
        box = entry.get("bbox")
        self._require(
            isinstance(box, list) and len(box) == 4 and all(map(_is_coordinate, box)),
            f"{where} bbox",
            box,
            f"4 numbers, none beyond {MAX_COORDINATE_PX}",
        )
        points = entry.get("keypoints", [0] * 3 * len(skeleton.source_joints) if crowd else None)
        expected = f"{3 * len(skeleton.source_joints)} finite numbers, x, y, v for each of {len(skeleton.source_joints)} joints"
        length = 3 * len(skeleton.source_joints)
        self._require(isinstance(points, list) and len(points) == length, f"{where} keypoints", points, expected)
        self._require(all(map(_is_finite, points)), f"{where} keypoints", points, expected)
        points = np.array(points, np.float64).reshape(-1, 3)
        self._require(bool(np.isin(points[:, 2], (0, 1, 2)).all()), f"{where} v of keypoints", points[:, 2].tolist(), "0, 1 or 2")
        problem = _segmentation_problem(entry.get("segmentation"), sizes[image_id])
        self._require(not problem, f"{where} segmentation", entry.get("segmentation"), problem)
        points[points[:, 2] == 0] = 0
        return Annotation(
            image_id=image_id, iscrowd=bool(crowd), area=area, bbox=tuple(box), keypoints=points,
            segmentation=entry.get("segmentation") or None,
        )  # fmt: skip


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_coordinate(value: Any) -> bool:
    return _is_finite(value) and abs(value) <= MAX_COORDINATE_PX


def _segmentation_problem(segmentation: Any, size: tuple[int, int]) -> str:
    """What a segmentation should have been, or nothing if it is a list of polygons, an RLE or absent.

    Thorough, because pycocotools crashes or hangs on polygons and run lengths that are not sound.
    """
    if not segmentation:
        return ""
    if isinstance(segmentation, list):
        good = all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 and all(map(_is_coordinate, p)) for p in segmentation)
        return "" if good else f"polygons x, y, x, y, … of at least 3 points, no number beyond {MAX_COORDINATE_PX}"
    if not isinstance(segmentation, dict) or segmentation.get("size") != list(size):
        return f"polygons or an RLE whose size is the image's, {list(size)}"
    counts = segmentation.get("counts")
    runs = _decompress_rle(counts) if isinstance(counts, str) else counts
    good = isinstance(runs, list) and all(_is_int(run) and run >= 0 for run in runs) and sum(runs) == size[0] * size[1]
    return "" if good else f"an RLE whose counts add up to {size[0] * size[1]} pixels"


def _decompress_rle(text: str) -> list[int] | None:
    """Run lengths of COCO's compressed RLE; None if it is not one.

    Five bits a character from "0" on, low bits first, a sixth says that more follow; from the fourth number on the difference
    to the number before the last (https://github.com/cocodataset/cocoapi, maskApi.c, rleFrString).
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
