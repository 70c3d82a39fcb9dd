"""Read and check a COCO keypoint file. The only reader of annotation files: all other code relies on its checks."""

import copy
import posixpath
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.datasets.boxes import DERIVED, Box, box_area, joint_box, polygon_box
from pipeline.datasets.categories import first_repeated, read_categories
from pipeline.datasets.coco_entries import Annotation, AnnotationEntry, Image, License, Video
from pipeline.datasets.segmentation import expected_segmentation
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import convert, read_json
from pipeline.storage.files import file_facts
from pipeline.wording import counted

INFO = ("description", "url", "version", "year", "contributor", "date_created", "note")  # fields of `info` that are kept

View = Callable[[list[Any], Skeleton, str], Skeleton]
"""From the categories of a file, a skeleton, and the begin of messages to the skeleton with the keypoints of the file."""


class CocoFile:
    """A checked COCO keypoint file.

    skeleton: the one whose keypoints the annotations have. images: sorted by id. categories: name by id of all categories with the
    keypoints of the skeleton. category_id: that of the first one, for results. annotations: those of `categories`, by image id. derived: how many of them lacked `bbox` and `area`. licenses:
    name and URL by id. info: the file's own description. videos: by id, if the images are frames of videos.
    """

    def __init__(
        self, path: Path, skeleton: Skeleton, keypoints: tuple[str, ...] = (), view: View = lambda entries, own, where: own
    ) -> None:
        """keypoints: how the file calls those of the skeleton, if it has other names. view: fits the skeleton to the categories of the
        file; by default, they must be those of the skeleton.

        Raises UserError if the file is missing, not JSON, or not a COCO file with the keypoints of this skeleton.
        """
        self.path = Path(path)
        document = read_json(self.path, "annotation file")
        lists = ("images", "annotations", "categories")
        if not isinstance(document, dict) or not all(isinstance(document.get(name), list) for name in lists):
            raise UserError(f"annotation file {path}: not COCO: expected an object with the lists {', '.join(lists)}")
        self.skeleton = skeleton = view(document["categories"], skeleton, f"annotation file {self.path}")
        self.categories = read_categories(document["categories"], skeleton, f"annotation file {self.path}", keypoints)
        self.category_id = next(iter(self.categories))
        known_categories = {entry["id"] for entry in document["categories"]}
        self.licenses = self._licenses(document.get("licenses") or [])
        self.info = _info(document.get("info"))
        self.videos = self._videos(document.get("videos") or [])
        self.images = self._images(document["images"])
        sizes = {image.id: (image.height, image.width) for image in self.images}
        self.derived: Counter[str] = Counter()
        ids: set[int] = set()
        self.annotations: dict[int, list[Annotation]] = {}
        for number, entry in enumerate(document["annotations"]):
            document["annotations"][number] = None  # frees what is not kept, hundreds of megabytes for COCO
            self._require(isinstance(entry, dict), f"annotations[{number}]", entry, "an object")
            name, category = _name(entry, number), entry.get("category_id")
            is_known = _is_int(category) and category in known_categories
            self._require(is_known, f"{name}: category_id", category, "the id of a category of this file")
            if category in self.categories:
                if _is_int(id := entry.get("id")):
                    self._require(id not in ids, f"{name}: id", id, "unique, but occurs twice")
                    ids.add(id)
                annotation = self._annotation(entry, name, skeleton, sizes)
                self.annotations.setdefault(annotation.image_id, []).append(annotation)
        self._require_inside(sizes)

    def _require_inside(self, sizes: dict[int, tuple[int, int]]) -> None:
        """Raise UserError if most labeled keypoints lie outside their images: their unit or their images are others."""
        num_labeled = num_inside = 0
        for image_id, annotations in self.annotations.items():
            points = np.concatenate([annotation.keypoints for annotation in annotations])
            points = points[points[:, 2] > 0, :2]
            num_labeled += len(points)
            num_inside += int(((points >= 0) & (points <= sizes[image_id][::-1])).all(axis=1).sum())
        if 2 * num_inside < num_labeled:
            raise UserError(
                f"annotation file {self.path}: {num_labeled - num_inside:,} of {counted(num_labeled, 'labeled keypoint')} lie outside "
                "their images; give keypoints in pixels of images of the stated width and height"
            )

    @property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return file_facts(self.path)["sha256"]

    def notes(self) -> list[str]:
        """Return what took the place of missing fields, and how often, one sentence per field."""
        return [f"{counted(count, 'annotation')} {DERIVED[field]}" for field, count in self.derived.items() if count]

    def only(self, images: list[Image]) -> "CocoFile":
        """Return the same file reduced to some of its images."""
        part = copy.copy(self)
        part.images = images
        part.annotations = {image.id: self.annotations[image.id] for image in images if image.id in self.annotations}
        return part

    def _require(self, condition: bool, where: str, value: Any, expected: str) -> None:
        if not condition:
            raise UserError(f"annotation file {self.path}: {where} must be {expected}, got {_show(value)}")

    def _licenses(self, entries: Any) -> dict[int, tuple[str, str]]:
        licenses = convert(entries, list[License], f"annotation file {self.path}: licenses")
        return {entry.id: (entry.name or "", entry.url or "") for entry in licenses}

    def _videos(self, entries: Any) -> dict[int, Video]:
        videos = convert(entries, list[Video], f"annotation file {self.path}: videos")
        return {video.id: video for video in videos}

    def _images(self, entries: list[Any]) -> list[Image]:
        images = [self._image(number, entry) for number, entry in enumerate(entries)]
        if (repeated := first_repeated(image.id for image in images)) is not None:
            raise UserError(f"annotation file {self.path}: image id {repeated} occurs twice; ids must be unique")
        names = {image.id: posixpath.normpath(image.file_name) for image in images}
        if (same := first_repeated(names.values())) is not None:
            one, other = sorted(id for id, name in names.items() if name == same)[:2]
            raise UserError(
                f"annotation file {self.path}: images {one} and {other} have the same file_name {_show(same)}; list each image once, "
                "with all of its people"
            )
        return sorted(images, key=lambda image: image.id)

    def _image(self, number: int, entry: Any) -> Image:
        name = f"image {entry['id']}" if isinstance(entry, dict) and _is_int(entry.get("id")) else f"images[{number}]"
        if not self.videos and isinstance(entry, dict) and "video_id" in entry:  # it means nothing here
            entry = {key: value for key, value in entry.items() if key not in ("video_id", "frame_id")}
        image: Image = convert(entry, Image, f"annotation file {self.path}: {name}")
        known = image.video_id is None or image.video_id in self.videos
        self._require(known, f"{name}: video_id", image.video_id, "the id of a video of this file")
        return image

    def frames(self) -> dict[int, list[Image]]:
        """Return the images of each video, by its id, in order. Raises UserError unless every image is a frame of a video."""
        if not self.videos:
            raise UserError(f"annotation file {self.path}: has no list `videos`; use the annotations of videos, or omit --video")
        frames: dict[int, dict[int, Image]] = {}
        for image in self.images:
            if image.video_id is None or image.frame_id is None:
                raise UserError(
                    f"annotation file {self.path}: image {image.id}: needs video_id and frame_id, because the file has videos"
                )
            others = frames.setdefault(image.video_id, {})
            self._require(image.frame_id not in others, f"image {image.id}: frame_id", image.frame_id, "unique in its video")
            others[image.frame_id] = image
        return {video_id: [own[number] for number in sorted(own)] for video_id, own in sorted(frames.items())}

    def _annotation(self, entry: dict[str, Any], name: str, skeleton: Skeleton, sizes: dict[int, tuple[int, int]]) -> Annotation:
        fields: AnnotationEntry = convert(entry, AnnotationEntry, f"annotation file {self.path}: {name}")
        self._require(fields.image_id in sizes, f"{name}: image_id", fields.image_id, "the id of one of `images`")
        expected = expected_segmentation(fields.segmentation, sizes[fields.image_id])
        self._require(not expected, f"{name}: segmentation", entry.get("segmentation"), expected)
        keypoints = self._keypoints(fields, name, len(skeleton.source_joints))
        box = self._box(fields, keypoints, name)
        self.derived["area"] += fields.area is None
        track_id = (fields.instance_id if fields.track_id is None else fields.track_id) if self.videos else None
        self._require(track_id is None or _is_int(track_id), f"{name}: track_id", track_id, "an integer")
        return Annotation(
            image_id=fields.image_id,
            iscrowd=bool(fields.iscrowd),
            area=box_area(box) if fields.area is None else fields.area,
            bbox=box,
            keypoints=keypoints,
            segmentation=entry.get("segmentation") or None,
            track_id=track_id,
            head_box=fields.head_box,
            num_keypoints=fields.num_keypoints if _is_int(fields.num_keypoints) else None,
        )

    def _box(self, fields: AnnotationEntry, keypoints: np.ndarray, name: str) -> Box:
        if fields.bbox is not None:
            x, y, width, height = fields.bbox
            return x, y, width, height
        self.derived["bbox"] += 1
        polygons = fields.segmentation if isinstance(fields.segmentation, list) else []
        box = joint_box(keypoints) or polygon_box(polygons)
        if box is None:
            raise UserError(
                f"annotation file {self.path}: {name}: missing required field `bbox`; only an annotation with a labeled keypoint or a "
                "polygon can do without it"
            )
        return box

    def _keypoints(self, fields: AnnotationEntry, name: str, num_joints: int) -> np.ndarray:
        """float64 (S, 3); zeros for a crowd without keypoints."""
        values = [0.0] * 3 * num_joints if fields.iscrowd and fields.keypoints is None else fields.keypoints
        good = values is not None and len(values) == 3 * num_joints
        self._require(good, f"{name}: keypoints", values, f"{3 * num_joints} numbers: x, y, v for each of {num_joints} joints")
        points = np.array(values, np.float64).reshape(-1, 3)
        visibilities = set(points[:, 2].tolist())
        self._require(visibilities <= {0, 1, 2}, f"{name}: v of keypoints", sorted(visibilities), "0, 1 or 2")
        points[points[:, 2] == 0] = 0
        return points


def choose_images(document: CocoFile, max_images: int | None) -> list[Image]:
    """Return all images, or a fixed random subset of `max_images`, in order of their ids. Raises UserError for an empty file."""
    if not document.images:
        raise UserError(f"annotation file {document.path}: contains no images")
    if max_images is None or max_images >= len(document.images):
        return document.images
    chosen = np.random.default_rng(0).permutation(len(document.images))[:max_images]
    return [document.images[i] for i in sorted(chosen)]


def _name(entry: dict[str, Any], number: int) -> str:
    return f"annotation {entry['id']}" if _is_int(entry.get("id")) else f"annotations[{number}]"


def _info(info: Any) -> dict[str, str]:
    fields = {name: info.get(name) for name in INFO} if isinstance(info, dict) else {}
    return {name: str(value)[:200] for name, value in fields.items() if isinstance(value, (str, int)) and value != ""}


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _show(value: Any) -> str:
    return repr(value)[:100]
