"""labelme: one JSON file per image.

From https://github.com/wkentaro/labelme (labelme/_label_file.py): shapes with label, points, shape_type, group_id, flags, description;
imagePath, relative to the JSON file; imageWidth, imageHeight. A shape of type point is a joint, its label the joint's name. Points,
rectangles and polygons with equal group_id belong to one person; all points without group_id are one person, too, with the rectangle or
polygon without group_id if there is only one. Rectangles and polygons labeled `ignore` or `crowd` are regions to ignore; others without
points are people without keypoints. Embedded images (imageData) are not read.

Flags: a point with the flag `occluded` or `hidden`, or with that word as its description, -> 1; others -> 2; joints without a point -> 0.
"""

from pathlib import Path
from typing import Any

import msgspec

from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.named_joints import Group, Point, find_image, is_ignored, region, to_people
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError
from pipeline.storage.documents import read_json

HIDDEN = ("occluded", "hidden")


class _Shape(msgspec.Struct):
    label: str
    points: list[tuple[float, float]]
    shape_type: str = "polygon"
    group_id: int | None = None
    flags: dict[str, Any] | None = None
    description: str | None = None


class _Document(msgspec.Struct):
    shapes: list[_Shape]
    imagePath: str
    imageWidth: int | None = None
    imageHeight: int | None = None


def read(request: Request, faults: Faults) -> Source:
    """Read all JSON files of a folder and its folders, or one file."""
    path = request.source
    root = path if path.is_dir() else path.parent
    files = sorted(path.rglob("*.json")) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{path}: no JSON files in this folder; give the folder of labelme's files")
    return Source(images=[_image(file, root, request, faults) for file in files])


def _image(file: Path, root: Path, request: Request, faults: Faults) -> SourceImage:
    document: _Document = read_json(file, "labelme file", _Document)
    folders = [file.parent, *([request.images] if request.images else []), request.image_folder(root)]
    last = document.imagePath.replace("\\", "/").rsplit("/", 1)[-1]
    name, path = find_image([document.imagePath, last], folders, request.images or root)
    width, height = document.imageWidth, document.imageHeight
    return SourceImage(
        name=name,
        file=path,
        size=(width, height) if width and height else None,
        people=_people(document.shapes, request, file.name, faults),
    )


def _people(shapes: list[_Shape], request: Request, where: str, faults: Faults) -> list[Person]:
    groups: dict[int | None, Group] = {}
    loose: list[Group] = []
    regions: list[Person] = []
    for shape in shapes:
        polygon = [value for point in shape.points for value in point]
        xs, ys = polygon[::2], polygon[1::2]
        if shape.shape_type == "point" and len(shape.points) == 1:
            group = groups.setdefault(shape.group_id, Group())
            group.points.append(Point(label=shape.label, x=xs[0], y=ys[0], v=1 if _is_hidden(shape) else 2))
        elif shape.shape_type == "rectangle" and len(shape.points) in (2, 4):
            box = min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
            if is_ignored(shape.label):
                regions.append(region(where, box=box))
            else:
                _group_of_outline(groups, loose, shape.group_id).box = box
        elif shape.shape_type == "polygon" and len(shape.points) >= 3:
            if is_ignored(shape.label):
                regions.append(region(where, polygons=[polygon]))
            else:
                _group_of_outline(groups, loose, shape.group_id).polygons.append(polygon)
        else:
            faults.add("unknown label, left out", where, f"{shape.label}: a {shape.shape_type} of {len(shape.points)} points")
    if None in groups and len(loose) == 1:
        groups[None].box, groups[None].polygons = loose[0].box, loose[0].polygons
        loose = []
    return to_people([*groups.values(), *loose], request, where, faults) + regions


def _group_of_outline(groups: dict[int | None, Group], loose: list[Group], group_id: int | None) -> Group:
    """Return the group of a rectangle or polygon; a new one if it has no group_id."""
    if group_id is not None:
        return groups.setdefault(group_id, Group())
    loose.append(Group())
    return loose[-1]


def _is_hidden(shape: _Shape) -> bool:
    said = (shape.description or "").strip().lower()
    return said in HIDDEN or any(value is True and name.lower() in HIDDEN for name, value in (shape.flags or {}).items())
