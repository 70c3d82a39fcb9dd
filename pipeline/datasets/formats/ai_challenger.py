"""AI Challenger 2017 keypoints: keypoint_{train,validation}_annotations_*.json, or the COCO form that MMPose uses.

From https://github.com/AIChallenger/AI_Challenger_2017 (Evaluation/keypoint_eval, with an example): a list of {image_id: name of the image
without .jpg, human_annotations: {human1: [x1, y1, x2, y2]}, keypoint_annotations: {human1: [x, y, v] * 14}}. area is that of the
whole box, because that evaluation divides by it. People with a box but without keypoints are ignored.

Flags: 1 visible -> 2, 2 labeled but not visible -> 1, 3 not labeled -> 0. In MMPose's form they are COCO's already.
"""

import msgspec
import numpy as np

from pipeline.datasets.formats.coco_like import Numbers, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.storage.documents import convert, read_json

V_OF_COCO = {1: 2, 2: 1, 3: 0}


class _Image(msgspec.Struct):
    image_id: str
    human_annotations: dict[str, Numbers] = {}
    keypoint_annotations: dict[str, Numbers] = {}


def read(request: Request, faults: Faults) -> Source:
    """Read AI Challenger in either form."""
    document = read_json(request.source, "annotation file")
    if isinstance(document, dict):
        return read_coco([request.source], request, faults)
    entries: list[_Image] = convert(document, list[_Image], f"annotation file {request.source}")
    folder = request.image_folder(request.source.parent)
    images = []
    for entry in entries:
        name = f"{entry.image_id}.jpg"
        people = [
            _person(entry, human, request.num_joints, faults)
            for human in sorted({*entry.human_annotations, *entry.keypoint_annotations})
        ]
        images.append(SourceImage(name=name, file=folder / name, people=[person for person in people if person]))
    return Source(images=images)


def _person(entry: _Image, human: str, num_joints: int, faults: Faults) -> Person | None:
    where, values, corners = (
        f"{entry.image_id} {human}",
        entry.keypoint_annotations.get(human),
        entry.human_annotations.get(human),
    )
    if values is not None and len(values) != 3 * num_joints:
        faults.add("wrong number of joints", where, f"{len(values)} numbers, expected {3 * num_joints}")
        return None
    keypoints = None
    if values is not None:
        keypoints = np.array(values, np.float64).reshape(-1, 3)
        keypoints[:, 2] = [V_OF_COCO.get(int(v), 0) for v in keypoints[:, 2]]
    box = area = None
    if corners is not None and len(corners) == 4:
        left, top, right, bottom = corners
        box, area = (left, top, right - left, bottom - top), max(right - left, 0) * max(bottom - top, 0)
    return Person(where=where, keypoints=keypoints, box=box, area=area)
