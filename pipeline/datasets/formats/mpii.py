"""MPII Human Pose: mpii_human_pose_v1_u12_1.mat, or the JSON form that MMPose and HRNet use.

From http://human-pose.mpi-inf.mpg.de (section "annotation description"): RELEASE.annolist(i).image.name; .annorect(p) with x1, y1, x2, y2,
the head box; .objpos and .scale, center and height / 200 px of the person; .annopoints.point(j) with x, y, id, is_visible;
RELEASE.img_train(i). Ids: 0 to 5 right ankle, knee, hip, left hip, knee, ankle; 6 pelvis, 7 thorax, 8 upper neck, 9 head top; 10 to 15 right
wrist, elbow, shoulder, left shoulder, elbow, wrist. Test images have no annotations and are left out, and so are training images
without people. People without annopoints become regions to ignore: the square of height 200 px x scale around objpos, else the head box.
Head boxes are kept as head_box, for PCKh. Pixels are counted from 1 in both forms, so 1 is subtracted (as in MMPose).

Flags. is_visible 1 -> 2, 0 -> 1; absent or empty, as for neck and head top -> 2. In the JSON form joints_vis 1 -> 2, 0 -> 0.
"""

from typing import Any

import numpy as np

from pipeline.datasets.boxes import Box
from pipeline.datasets.formats import mpii_json
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.matlab import field, items, number, read_mat
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError

NUM_JOINTS = 16
PERSON_HEIGHT_PX = 200  # of a person of scale 1


def read(request: Request, faults: Faults) -> Source:
    """Read MPII in either form. Raises UserError for another file."""
    if request.source.suffix == ".json":
        return mpii_json.read(request, faults)
    release = read_mat(request.source, "RELEASE", "MPII file")
    entries, train = list(items(field(release, "annolist"))), list(items(field(release, "img_train")))
    if not entries or len(entries) != len(train):
        raise UserError(f"MPII file {request.source}: RELEASE must have annolist and img_train, one entry per image")
    folder = request.image_folder(request.source.parent)
    images = []
    for place, (entry, in_train) in enumerate(zip(entries, train, strict=True)):
        where, name = f"RELEASE.annolist({place + 1})", field(field(entry, "image"), "name")
        if not isinstance(name, str):
            raise UserError(f"MPII file {request.source}: {where}.image.name must be a text")
        rects = list(items(field(entry, "annorect")))
        people = [_person(rect, f"{where}.annorect({p})", faults) for p, rect in enumerate(rects, 1)] if in_train else []
        if people:
            images.append(SourceImage(name=name, file=folder / name, people=[person for person in people if person]))
    left_out = len(entries) - len(images)
    return Source(images=images, notes=(f"{left_out:,} test images and images without annotations left out",))


def _person(rect: Any, where: str, faults: Faults) -> Person | None:
    head = _head_box(rect)
    points = list(items(field(field(rect, "annopoints"), "point")))
    if not points:
        box = _body_box(rect) or head
        return Person(where=where, box=box, iscrowd=True) if box else None
    keypoints = np.zeros((NUM_JOINTS, 3))
    for point in points:
        joint, x, y = (number(point, name) for name in ("id", "x", "y"))
        if joint is None or x is None or y is None or joint not in range(NUM_JOINTS):
            faults.add("wrong number of joints", where, f"a point with id {joint}")
            return None
        keypoints[int(joint)] = x - 1, y - 1, 1 if number(point, "is_visible") == 0 else 2
    return Person(where=where, keypoints=keypoints, more={"head_box": list(head)} if head else {})


def _head_box(rect: Any) -> Box | None:
    corners = [number(rect, name) for name in ("x1", "y1", "x2", "y2")]
    left, top, right, bottom = (float("nan") if value is None else value for value in corners)
    return (left - 1, top - 1, right - left, bottom - top) if right > left and bottom > top else None


def _body_box(rect: Any) -> Box | None:
    place, scale = field(rect, "objpos"), number(rect, "scale")
    x, y = number(place, "x"), number(place, "y")
    if x is None or y is None or not scale:
        return None
    side = PERSON_HEIGHT_PX * scale
    return x - 1 - side / 2, y - 1 - side / 2, side, side
