"""J-HMDB: joint_positions/CLASS/VIDEO/joint_positions.mat and Rename_Images/CLASS/VIDEO/00001.png, …, or MMPose's JSON (Sub*_*.json).

From http://jhmdb.is.tue.mpg.de: variable `pos_img`, (2, 15, frames), x and y in pixels counted from 1, so 1 is subtracted; 15 joints:
neck, belly, face, right shoulder, left shoulder, right hip, left hip, right elbow, left elbow, right knee, left knee, right wrist, left
wrist, right ankle, left ankle. One person is labeled in a video. MMPose's JSON is COCO's format, with pixels counted from 1.

Flags: there are none. Every joint has a position, that of a puppet which annotators fitted, so all -> 2; joints outside the frame -> 0.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.datasets.formats.coco_like import PersonEntry, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.matlab import read_mat
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError

JOINTS, FRAMES = "joint_positions", "Rename_Images"


def read(request: Request, faults: Faults) -> Source:
    """Read J-HMDB in either form. Raises UserError for another folder or file."""
    if not request.source.is_dir():
        return replace(read_coco([request.source], request, faults, keypoints_of=_from_zero), labels_everyone=False)
    files = sorted((request.source / JOINTS).rglob("joint_positions.mat"))
    if not files:
        raise UserError(f"{request.source}: has no {JOINTS}/CLASS/VIDEO/joint_positions.mat; give the folder of J-HMDB")
    images: list[SourceImage] = []
    for path in files:
        images += _video(path, path.parent.relative_to(request.source / JOINTS), request)
    return Source(images=images, notes=("one person per video is labeled",), labels_everyone=False)


def _video(path: Path, video: Path, request: Request) -> list[SourceImage]:
    positions = read_mat(path, "pos_img", "J-HMDB file")
    if (
        not isinstance(positions, np.ndarray)
        or positions.dtype.kind not in "fiu"
        or positions.shape[:2] != (2, request.num_joints)
    ):
        raise UserError(f"J-HMDB file {path}: pos_img must be an array (2, {request.num_joints}, frames)")
    positions = positions.reshape(2, request.num_joints, -1).transpose(2, 1, 0).astype(np.float64) - 1
    folder = request.images or request.source / FRAMES
    images = []
    for frame, points in enumerate(positions, 1):
        name = (video / f"{frame:05d}.png").as_posix()
        person = Person(where=f"{video}: frame {frame}", keypoints=np.column_stack([points, np.full(len(points), 2.0)]))
        images.append(SourceImage(name=name, file=folder / name, people=[person]))
    return images


def _from_zero(entry: PersonEntry) -> list[float] | None:
    """Return the keypoints with pixels counted from 0, and change the box likewise."""
    if entry.bbox is not None:
        entry.bbox = [entry.bbox[0] - 1, entry.bbox[1] - 1, *entry.bbox[2:]]
    values = entry.keypoints
    return None if values is None else [value if place % 3 == 2 else value - 1 for place, value in enumerate(values)]
