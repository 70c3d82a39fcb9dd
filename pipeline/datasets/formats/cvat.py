"""CVAT for images 1.1: annotations.xml with skeletons, or with grouped points.

From https://docs.cvat.ai/docs/dataset_management/formats/format-cvat and .../docs/contributing/xml_format: <image name width height> with
<skeleton label> of <points label points="x,y" outside occluded>, and <points>, <box xtl ytl xbr ybr>, <polygon points> with label and
group_id. A skeleton is a person; points outside a skeleton belong to the person of their group_id, and so do boxes and polygons. A box or
polygon without points is a person without keypoints; with the label `ignore` or `crowd` it is a region to ignore. Element labels
1, 2, … stand for the joints in their order. Other shapes are left out.

Flags: outside="1" -> 0; occluded="1" -> 1; else 2. XML with a document type is refused, because it can define entities.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.named_joints import Group, Point, find_image, is_ignored, region, to_people
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError
from pipeline.storage.documents import read_xml


def read(request: Request, faults: Faults) -> Source:
    """Read annotations.xml, or the folder that holds it. Raises UserError for another file."""
    path = request.source / "annotations.xml" if request.source.is_dir() else request.source
    document = read_xml(path, "CVAT file")
    if document.tag != "annotations" or document.find("track") is not None:
        raise UserError(f"CVAT file {path}: expected <annotations> with <image>; export the task as CVAT for images 1.1")
    folder = request.image_folder(path.parent)
    images = []
    for entry in document.iterfind("image"):
        name, where = entry.get("name", ""), f"image {entry.get('id')} ({entry.get('name')})"
        name, file = find_image([name or "-"], [folder], folder)
        size = _integer(entry, "width", path), _integer(entry, "height", path)
        images.append(SourceImage(name=name, file=file, size=size, people=_people(entry, path, where, request, faults)))
    return Source(images=images)


def _people(image: Element, path: object, where: str, request: Request, faults: Faults) -> list[Person]:
    people: list[Group] = []
    groups: dict[str, Group] = {}
    regions: list[Person] = []
    for shape in image:
        label, outline = shape.get("label", ""), _outline(shape, path)
        if shape.tag == "skeleton":
            people.append(Group(points=[point for element in shape.iterfind("points") for point in _points(element, path)]))
        elif shape.tag == "points":
            _group_of(shape, groups, people).points.extend(_points(shape, path))
        elif outline and is_ignored(label):
            regions.append(region(where, box=outline.box, polygons=outline.polygons))
        elif outline:
            group = _group_of(shape, groups, people)
            group.box, group.polygons = outline.box or group.box, group.polygons + outline.polygons
        elif shape.tag != "tag":
            faults.add("unknown label, left out", where, f"{label}: a {shape.tag}")
    return to_people([*people, *groups.values()], request, where, faults) + regions


def _group_of(shape: Element, groups: dict[str, Group], people: list[Group]) -> Group:
    """Return the group of a shape: that of its group_id; without one, a new one, but all single points are one person."""
    group_id = shape.get("group_id") or ("points" if shape.tag == "points" else None)
    if group_id is not None:
        return groups.setdefault(group_id, Group())
    people.append(Group())
    return people[-1]


def _points(shape: Element, path: object) -> Iterator[Point]:
    """Yield the points of a shape that are not outside."""
    if shape.get("outside") == "1":
        return
    for x, y in _coordinates(shape, path):
        yield Point(label=shape.get("label", ""), x=x, y=y, v=1 if shape.get("occluded") == "1" else 2)


def _outline(shape: Element, path: object) -> Group | None:
    """Return the box or polygon of a shape; None for other shapes."""
    if shape.tag == "polygon":
        points = _coordinates(shape, path)
        return Group(polygons=[[value for point in points for value in point]]) if len(points) >= 3 else None
    if shape.tag != "box":
        return None
    left, top, right, bottom = (_number(shape, name, path) for name in ("xtl", "ytl", "xbr", "ybr"))
    return Group(box=(left, top, right - left, bottom - top))


def _coordinates(shape: Element, path: object) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in shape.get("points", "").split(";") if pair.strip()]
    try:
        return [(float(x), float(y)) for x, y in pairs]
    except ValueError as error:
        raise UserError(
            f"CVAT file {path}: <{shape.tag}>: points must be x,y;x,y;…, got {shape.get('points', '')[:80]!r}"
        ) from error


def _number(element: Element, name: str, path: object) -> float:
    try:
        return float(element.get(name, ""))
    except ValueError as error:
        raise UserError(f"CVAT file {path}: <{element.tag}>: {name} must be a number, got {element.get(name)!r}") from error


def _integer(element: Element, name: str, path: object) -> int:
    value = _number(element, name, path)
    if value != value // 1:
        raise UserError(f"CVAT file {path}: <{element.tag}>: {name} must be an integer, got {element.get(name)!r}")
    return int(value)
