"""OCHuman: ochuman.json, or its COCO form ochuman_coco_format_{val,test}_range_*.json.

From https://github.com/liruilong940607/OCHumanApi (ochumanApi/ochuman.py, toCocoFormart). ochuman.json: `keypoint_names`;
`images` with file_name, width, height and `annotations`: bbox (x1, y1, x2, y2), keypoints (x, y, v in the order of
`keypoint_names`) or null, segms ({outer, inner} polygons) or null. People without keypoints keep their box and are ignored. Polygons are
kept if they have no holes (inner). The COCO form is read as COCO's.

Flags of ochuman.json: 0 missing -> 0, 1 visible -> 2, 2 hidden by the person's own body -> 2, 3 hidden by others -> 1, as the API
converts them.
"""

from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.datasets.formats.coco_like import Numbers, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError
from pipeline.storage.documents import convert, read_json

V_OF_COCO = {0: 0, 1: 2, 2: 2, 3: 1}


class _Person(msgspec.Struct):
    bbox: Annotated[Numbers, Meta(min_length=4, max_length=4)]
    keypoints: Numbers | None = None
    segms: dict[str, Any] | None = None


class _Image(msgspec.Struct):
    file_name: str
    width: int
    height: int
    annotations: list[_Person]


class _Document(msgspec.Struct):
    keypoint_names: list[str]
    images: list[_Image]


def read(request: Request, faults: Faults) -> Source:
    """Read OCHuman in either form."""
    document = read_json(request.source, "annotation file")
    if not isinstance(document, dict) or "keypoint_names" not in document:
        return read_coco([request.source], request, faults)
    own: _Document = convert(document, _Document, f"annotation file {request.source}")
    joints = request.skeleton.source_joints
    if missing := [joint for joint in joints if joint not in own.keypoint_names]:
        raise UserError(f"annotation file {request.source}: keypoint_names: lacks {', '.join(missing)}")
    places = [own.keypoint_names.index(joint) for joint in joints]
    folder = request.image_folder(request.source.parent)
    images = []
    for entry in own.images:
        people = [_person(person, places, len(own.keypoint_names), entry.file_name, faults) for person in entry.annotations]
        images.append(
            SourceImage(
                name=entry.file_name,
                file=folder / entry.file_name,
                size=(entry.width, entry.height),
                people=[person for person in people if person],
            )
        )
    return Source(images=images)


def _person(entry: _Person, places: list[int], num_joints: int, where: str, faults: Faults) -> Person | None:
    left, top, right, bottom = entry.bbox
    keypoints = None
    if entry.keypoints is not None:
        if len(entry.keypoints) != 3 * num_joints:
            faults.add("wrong number of joints", where, f"{len(entry.keypoints)} numbers, expected {3 * num_joints}")
            return None
        keypoints = np.array(entry.keypoints, np.float64).reshape(-1, 3)[places]
        keypoints[:, 2] = [V_OF_COCO.get(int(v), 0) for v in keypoints[:, 2]]
    outlines = entry.segms or {}
    return Person(
        where=where,
        keypoints=keypoints,
        box=(left, top, right - left, bottom - top),
        segmentation=None if outlines.get("inner") else outlines.get("outer") or None,
    )
