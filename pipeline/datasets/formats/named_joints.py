"""People from single points with labels, as annotation tools export them."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.datasets.boxes import Box
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request

IGNORED = ("ignore", "crowd")  # labels of boxes and polygons around people who are not labeled


@dataclass(frozen=True, kw_only=True)
class Point:
    """A labeled point, x and y in pixels; v in {0, 1, 2}."""

    label: str
    x: float
    y: float
    v: int = 2


@dataclass(kw_only=True)
class Group:
    """What belongs to one person."""

    points: list[Point] = field(default_factory=list)
    box: Box | None = None
    polygons: list[list[float]] = field(default_factory=list)


def plain(label: str) -> str:
    """Return a label in small letters, with an underscore for each space or hyphen: "Left Knee" becomes left_knee."""
    return label.strip().lower().replace(" ", "_").replace("-", "_")


def is_ignored(label: str) -> bool:
    """Return whether a box or polygon with this label is a region to ignore."""
    return plain(label) in IGNORED


def region(where: str, *, box: Box | None = None, polygons: Sequence[Sequence[float]] = ()) -> Person:
    """Return a region to ignore."""
    return Person(where=where, box=box, segmentation=[list(polygon) for polygon in polygons] or None, iscrowd=True)


def to_people(groups: Iterable[Group], request: Request, where: str, faults: Faults) -> list[Person]:
    """Return the person of each group. Labels are compared as `plain` writes them; the numbers 1, 2, … name the joints in their order.

    A group without points is a person without keypoints. Groups with a joint twice are left out, with a fault.
    """
    places = {plain(joint): place for place, joint in enumerate(request.skeleton.source_joints)}
    places |= {str(place + 1): place for place in range(request.num_joints) if str(place + 1) not in places}
    people = []
    for number, group in enumerate(groups, 1):
        if person := _to_person(group, places, request.num_joints, f"{where}: person {number}", faults):
            people.append(person)
    return people


def _to_person(group: Group, places: dict[str, int], num_joints: int, where: str, faults: Faults) -> Person | None:
    keypoints = np.zeros((num_joints, 3))
    seen: set[int] = set()
    for point in group.points:
        place = places.get(plain(point.label))
        if place is None:
            faults.add("unknown label, left out", where, point.label)
        elif place in seen:
            faults.add("joint labeled twice", where, point.label)
            return None
        else:
            seen.add(place)
            keypoints[place] = point.x, point.y, point.v
    if not keypoints[:, 2].any() and group.box is None and not group.polygons:
        return None  # nothing but unknown labels, which have been noted
    return Person(where=where, keypoints=keypoints, box=group.box, segmentation=group.polygons or None)


def find_image(names: Iterable[str], folders: Iterable[Path], root: Path) -> tuple[str, Path]:
    """Return name and path of an image: the first of `names` that exists in one of `folders`, else the first name in the first folder.

    The name is the path relative to `root` if the image is inside, else the last part of its path.
    """
    possible = [name.replace("\\", "/").replace("\0", "") for name in names]
    candidates = [folder / name for name in possible for folder in folders]
    path = next((path for path in candidates if os.path.isfile(path)), candidates[0])
    absolute, base = path.resolve(), root.resolve()
    inside = absolute.is_relative_to(base)
    return (absolute.relative_to(base).as_posix() if inside else PurePosixPath(path).name), path
