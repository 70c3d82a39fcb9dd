"""Files in COCO's format with the peculiarities of one data set: the reader that those data sets share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.datasets.coco_entries import LicenseId
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError
from pipeline.storage.documents import Id, convert, read_json

Number = Annotated[float, Meta(ge=-1e9, le=1e9)]
Numbers = list[Number]


class ImageEntry(msgspec.Struct):
    """An entry of `images`, with the fields of all data sets."""

    id: Id
    file_name: str
    width: int | None = None
    height: int | None = None
    license: int | None = None
    crowdIndex: float | None = None
    is_labeled: bool = True
    vid_id: str | None = None
    frame_id: int | None = None
    ignore_regions_x: list[Numbers] | None = None
    ignore_regions_y: list[Numbers] | None = None


class PersonEntry(msgspec.Struct):
    """An entry of `annotations`, with the fields of all data sets."""

    image_id: int
    id: int | str | None = None
    keypoints: Numbers | None = None
    num_keypoints: int | None = None
    bbox: Annotated[Numbers, Meta(min_length=4, max_length=4)] | None = None
    area: Number | None = None
    iscrowd: bool | int = 0
    segmentation: Any = None
    bbox_head: Numbers | None = None
    track_id: int | None = None
    foot_kpts: Numbers = []
    face_kpts: Numbers = []
    lefthand_kpts: Numbers = []
    righthand_kpts: Numbers = []
    foot_valid: bool = True
    face_valid: bool = True
    lefthand_valid: bool = True
    righthand_valid: bool = True


class License(msgspec.Struct):
    """An entry of `licenses`."""

    id: LicenseId
    name: str | None = None
    url: str | None = None


class Document(msgspec.Struct):
    """The file."""

    images: list[ImageEntry]
    annotations: list[PersonEntry] = []
    licenses: list[License] = []


KeypointsOf = Callable[[PersonEntry], Sequence[float] | None]
RegionsOf = Callable[[ImageEntry], list[Person]]


def read_coco(
    paths: Sequence[Path],
    request: Request,
    faults: Faults,
    *,
    keypoints_of: KeypointsOf = lambda entry: entry.keypoints,
    regions_of: RegionsOf = lambda entry: [],
) -> Source:
    """Read files in COCO's format into one source.

    keypoints_of: returns x, y, v of each keypoint of an annotation, as a flat list; v as `visibility` takes it. regions_of: returns
    the regions of an image that are to be ignored. Raises UserError for files of another format.
    """
    images: list[SourceImage] = []
    licenses: list[dict[str, Any]] = []
    for path in paths:
        document: Document = read_json(path, "annotation file", Document)
        licenses = licenses or [msgspec.to_builtins(license) for license in document.licenses]
        folder = request.image_folder(path.parent)
        by_id: dict[int, SourceImage] = {}
        for entry in document.images:
            if entry.id in by_id:
                faults.add("image listed twice", f"{path.name}: image {entry.id}")
            else:
                by_id[entry.id] = _image(entry, folder, regions_of)
        for number, annotation in enumerate(document.annotations):
            where = f"{path.name}: annotation {annotation.id if annotation.id is not None else number}"
            image = by_id.get(annotation.image_id)
            if image is None:
                faults.add("annotation without image", where, f"image_id {annotation.image_id}")
            elif person := _person(annotation, keypoints_of(annotation), request.num_joints, where, faults):
                image.people.append(person)
        images += [by_id.pop(entry.id) for entry in document.images if entry.is_labeled and entry.id in by_id]
    known = {license.get("id") for license in licenses}
    for image in images:
        image.license = image.license if image.license in known else None
    return Source(images=images, licenses=licenses)


def _image(entry: ImageEntry, folder: Path, regions_of: RegionsOf) -> SourceImage:
    size = (entry.width, entry.height) if entry.width is not None and entry.height is not None else None
    more = {name: getattr(entry, name) for name in ("crowdIndex", "vid_id", "frame_id") if getattr(entry, name) is not None}
    return SourceImage(
        name=entry.file_name,
        file=folder / entry.file_name,
        size=size,
        id=entry.id,
        license=entry.license,
        people=regions_of(entry),
        more=more,
    )


def _person(entry: PersonEntry, values: Sequence[float] | None, num_joints: int, where: str, faults: Faults) -> Person | None:
    """Return the person; None, with a fault, if the number of keypoints is wrong."""
    if values is not None and len(values) != 3 * num_joints:
        faults.add("wrong number of joints", where, f"{len(values)} numbers, expected x, y, v of {num_joints} joints")
        return None
    more = {name: getattr(entry, name) for name in ("track_id",) if getattr(entry, name) is not None}
    if entry.bbox_head is not None and len(entry.bbox_head) == 4:
        more["head_box"] = entry.bbox_head
    x, y, width, height = entry.bbox or (0.0, 0.0, 0.0, 0.0)
    return Person(
        where=where,
        keypoints=None if values is None else visibility(np.array(values, np.float64).reshape(-1, 3)),
        box=(x, y, width, height) if width > 0 and height > 0 else None,
        area=entry.area,
        segmentation=entry.segmentation,
        iscrowd=bool(entry.iscrowd),
        more=more,
    )


def visibility(points: np.ndarray) -> np.ndarray:
    """Return keypoints (S, 3) with v in {0, 1, 2}. Above 0 and up to 1 becomes 1, labeled but not said to be visible; above 1, 2."""
    points[:, 2] = np.ceil(points[:, 2].clip(0, 2))
    return points


def read_entries(path: Path, kind: Any) -> Any:
    """Read a JSON list of objects of a type. Raises UserError."""
    document = read_json(path, "annotation file")
    if not isinstance(document, list):
        raise UserError(f"annotation file {path}: expected a list of objects; give the original file")
    return convert(document, list[kind], f"annotation file {path}")
