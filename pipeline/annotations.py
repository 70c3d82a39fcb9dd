"""COCO key-point JSON -> samples. The only reader of annotation files and the only filter of people and images."""

import functools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from pipeline.cli import UserError, read_json
from pipeline.licences import choose_licences
from pipeline.skeleton import Skeleton

MAX_SIDE_PX = 65_535  # of a JPEG
MAX_COORDINATE_PX = 100_000
INFO = ("description", "url", "version", "year", "contributor", "date_created")  # of the file, as it says

Segmentation = list | dict


@dataclass(frozen=True, kw_only=True)
class PersonFilter:
    """Who is a target; every other annotated person goes into the ignore mask."""

    min_joints: int = 5
    """A target person has at least so many labelled joints."""
    min_area_px: float = 32 * 32
    """The area of a target person's segment is above this (square pixels of the original image)."""
    min_diagonal_px: float = 0.0
    """The box around a target person's labelled joints has at least this diagonal (pixels of the original image)."""
    neck: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Where the neck is if one shoulder is unlabelled: nowhere, or at the labelled one, which keeps the two halves of one body in
    five together (`python -m evaluator oracle`: AP 0.01 higher)."""
    licenses: tuple[str, ...] = ()
    """Keep only images under these licences: ids of the annotation file, or commercial (no NonCommercial clause), adaptable (no
    NoDerivs clause). An image whose licence is not listed in the file is then left out. Default: all images."""
    people_free_share: float = 0.0
    """Share of the samples that show no annotated person at all (0 leaves such images out)."""

    def __post_init__(self) -> None:
        if self.min_joints < 1:
            raise ValueError(f"min_joints must be at least 1, got {self.min_joints}")
        for name in ("min_area_px", "min_diagonal_px"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not 0 <= self.people_free_share < 1:
            raise ValueError(f"people_free_share must be in [0, 1), got {self.people_free_share}")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One image and its people, in pixels of the original image.

    keypoints: float32 (P, J, 3), target people by falling box diagonal; x and y in pixels, v in {0, 1, 2}; 0, 0, 0 = unlabelled.
    ignored, crowds, people: COCO segmentations of people who are no targets, of crowd regions, of the targets.
    """

    image_id: int
    file_name: str
    width: int
    height: int
    licence: int
    keypoints: np.ndarray
    ignored: tuple[Segmentation, ...] = ()
    crowds: tuple[Segmentation, ...] = ()
    people: tuple[Segmentation, ...] = ()

    @functools.cached_property
    def boxes(self) -> tuple[np.ndarray, np.ndarray]:
        """`joint_boxes` of the target people."""
        return joint_boxes(self.keypoints)

    @functools.cached_property
    def sizes(self) -> np.ndarray:
        """`box_diagonals` of the target people."""
        return box_diagonals(self.keypoints)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The samples of an annotation file in order of image id, and what became of everything else.

    origin: what the file says of itself (`info`) and of where its licences stand (`licence_urls`, by id).
    """

    samples: list[Sample]
    counts: dict[str, int]
    licences: dict[int, str]
    origin: dict[str, dict[str, str]]


def read_annotations(path: Path, *, skeleton: Skeleton, person_filter: PersonFilter, seed: int = 0) -> Selection:
    """Read, check and filter a COCO key-point file (2014 and 2017 have the same form).

    `seed` chooses which people-free images are kept. Raises UserError naming the file, the entry and the field.
    """
    document = CocoFile(path, skeleton)
    counts = Counter({name: 0 for name in ("images_without_target", "images_people_free_dropped", "people_free")})
    allowed = choose_licences(person_filter.licenses, document.licences) if person_filter.licenses else None
    samples, people_free = [], []
    for image in document.images:
        if allowed is not None and image.get("license") not in allowed:
            counts["images_of_other_licences"] += 1
            continue
        annotations = document.annotations.get(image["id"], [])
        sample = _make_sample(image, annotations, skeleton, person_filter, counts)
        if len(sample.keypoints):
            samples.append(sample)
        elif annotations:
            counts["images_without_target"] += 1
        else:
            people_free.append(sample)
    wanted = round(len(samples) * person_filter.people_free_share / (1 - person_filter.people_free_share))
    order = np.random.default_rng([seed, 0]).permutation(len(people_free))[:wanted]
    counts["people_free"] = len(order)
    counts["images_people_free_dropped"] = len(people_free) - len(order)
    samples = sorted(samples + [people_free[i] for i in order], key=lambda sample: sample.image_id)
    counts["images_in_file"], counts["images_selected"] = len(document.images), len(samples)
    return Selection(
        samples=samples,
        counts=dict(sorted(counts.items())),
        licences={id: name for id, (name, _) in document.licences.items()},
        origin={"info": document.info, "licence_urls": {str(id): url for id, (_, url) in document.licences.items()}},
    )


def add_derived_joints(source: np.ndarray, skeleton: Skeleton, *, one_is_enough: bool) -> np.ndarray:
    """Key points in the order of the file, float (P, S, 3) -> float32 (P, J, 3) in the order of the skeleton.

    A derived joint (the neck) is the middle of its two; its v is the smaller of theirs. Where one of them is unlabelled it is
    unlabelled too, or, if `one_is_enough`, the labelled one.
    """
    keypoints = np.zeros((len(source), skeleton.num_joints, 3), np.float32)
    for place, joint in enumerate(skeleton.source_indices):
        if joint >= 0:
            keypoints[:, joint] = source[:, place]
    for joint, first, second in skeleton.derived:
        a, b = (source[:, skeleton.source_joints.index(name)] for name in (first, second))
        both = (a[:, 2:] > 0) & (b[:, 2:] > 0)
        middle = np.concatenate([(a[:, :2] + b[:, :2]) / 2, np.minimum(a[:, 2:], b[:, 2:])], axis=1)
        single = np.where(a[:, 2:] > 0, a, b) * one_is_enough
        keypoints[:, skeleton.index(joint)] = np.where(both, middle, single)
    keypoints[keypoints[..., 2] <= 0] = 0
    return keypoints


def box_diagonals(keypoints: np.ndarray) -> np.ndarray:
    """float32 (P, J, 3) with a labelled joint each -> (P,): diagonal in pixels of the box around the labelled joints."""
    low, high = joint_boxes(keypoints)
    return np.hypot(*(high - low + 1).T)


def joint_boxes(keypoints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (P, J, 3) with a labelled joint each -> the least and the greatest x, y of the labelled joints, (P, 2) each."""
    labelled = keypoints[..., 2:] > 0
    low = np.where(labelled, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(labelled, keypoints[..., :2], -np.inf).max(axis=1)
    return low, high


def _make_sample(
    image: dict, annotations: list[dict], skeleton: Skeleton, person_filter: PersonFilter, counts: Counter
) -> Sample:
    targets, ignored, crowds, people = [], [], [], []
    for annotation in annotations:
        segmentation = annotation.get("segmentation") or _rectangle(annotation["bbox"])
        points = annotation["keypoints"]
        labelled = int((points[:, 2] > 0).sum())
        if annotation["iscrowd"]:
            counts["people_crowd"] += 1
            crowds.append(segmentation)
        elif labelled >= person_filter.min_joints and _is_large(annotation, person_filter):
            counts["people_target"] += 1
            targets.append(points)
            people.append(segmentation)
        else:
            few = labelled < person_filter.min_joints
            counts["people_unlabelled" if not labelled else "people_few_joints" if few else "people_small"] += 1
            ignored.append(segmentation)
    source = np.stack(targets) if targets else np.zeros((0, len(skeleton.source_joints), 3))
    keypoints = add_derived_joints(source, skeleton, one_is_enough=person_filter.neck == "one_shoulder")
    if len(keypoints):
        order = np.argsort(-box_diagonals(keypoints), kind="stable")
        keypoints, people = keypoints[order], [people[i] for i in order]
    return Sample(
        image_id=image["id"],
        file_name=image["file_name"],
        width=image["width"],
        height=image["height"],
        licence=image.get("license") or 0,
        keypoints=keypoints,
        ignored=tuple(ignored),
        crowds=tuple(crowds),
        people=tuple(people),
    )


def _is_large(annotation: dict, person_filter: PersonFilter) -> bool:
    if annotation["area"] <= person_filter.min_area_px:
        return False
    return not person_filter.min_diagonal_px or box_diagonals(annotation["keypoints"][None])[0] >= person_filter.min_diagonal_px


def _rectangle(bbox: list[float]) -> list[list[float]]:
    x, y, width, height = bbox
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


class CocoFile:
    """A checked COCO key-point file: `images` by id, `annotations` of `category_id` by image id, `keypoints` as float64 (S, 3)."""

    def __init__(self, path: Path, skeleton: Skeleton) -> None:
        """Raises UserError for a file that is missing, not JSON, or not COCO key points of this skeleton."""
        self.path = Path(path)
        document = read_json(self.path, "annotation file")
        lists = ("images", "annotations", "categories")
        if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in lists):
            raise UserError(f"annotation file {path}: not COCO: expected an object with the lists {', '.join(lists)}")
        self.category_id = self._category(document["categories"], skeleton)
        self.licences = self._licences(document.get("licenses") or [])
        info = document.get("info")
        told = {name: info.get(name) for name in INFO} if isinstance(info, dict) else {}
        self.info = {name: str(value)[:200] for name, value in told.items() if isinstance(value, (str, int)) and value != ""}
        self.images = sorted(map(self._image, document["images"]), key=lambda image: image["id"])
        sizes = {image["id"]: (image["height"], image["width"]) for image in self.images}
        if len(sizes) != len(self.images):
            twice = next(id for id, n in Counter(image["id"] for image in self.images).items() if n > 1)
            raise UserError(f"annotation file {path}: image id {twice} stands there twice; ids must be unique")
        self.annotations: dict[int, list[dict]] = {}
        for entry in document["annotations"]:
            self._require(isinstance(entry, dict), "annotations", entry, "an object")
            if entry.get("category_id") == self.category_id:
                annotation = self._annotation(entry, skeleton, sizes)
                self.annotations.setdefault(annotation["image_id"], []).append(annotation)

    def _require(self, holds: bool, where: str, value: Any, expected: str) -> None:
        if not holds:
            shown = repr(value)
            raise UserError(f"annotation file {self.path}: {where} must be {expected}, got {shown[:100]}")

    def _category(self, categories: list, skeleton: Skeleton) -> int:
        """The id of the category whose key points are the skeleton's, which no other order or number may stand in for."""
        named = [entry for entry in categories if isinstance(entry, dict) and isinstance(entry.get("keypoints"), list)]
        for entry in named:
            if tuple(entry["keypoints"]) == skeleton.source_joints:
                self._require(_is_int(entry.get("id")), "id of the category", entry.get("id"), "an integer")
                return entry["id"]
        found = [entry["keypoints"] for entry in named] or "no category with key points"
        raise UserError(
            f"annotation file {self.path}: not key points of skeleton {skeleton.name!r}: expected a category with keypoints "
            f"{list(skeleton.source_joints)}, found {found} (COCO's are in person_keypoints_*.json, not instances_*.json)"
        )

    def _licences(self, entries: Any) -> dict[int, tuple[str, str]]:
        """Name and address by id."""
        self._require(isinstance(entries, list), "licenses", entries, "a list")
        entries = [entry for entry in entries if isinstance(entry, dict) and _is_int(entry.get("id"))]
        return {entry["id"]: (str(entry.get("name", "")), str(entry.get("url", ""))) for entry in entries}

    def _image(self, image: Any) -> dict:
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
        licence = image.get("license")
        self._require(licence is None or _is_int(licence), f"{where} license", licence, "an integer")
        return image

    def _annotation(self, entry: dict, skeleton: Skeleton, sizes: dict[int, tuple[int, int]]) -> dict:
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
        return {**entry, "iscrowd": crowd, "keypoints": points}


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
