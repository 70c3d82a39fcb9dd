"""Label Studio: the JSON or JSON-MIN export of a project with KeyPointLabels, and RectangleLabels or PolygonLabels around people.

From https://labelstud.io/guide/task_format and https://labelstud.io/tags/keypointlabels: a list of tasks; JSON has `data` and
`annotations` with `result`, JSON-MIN has the results in fields of the task, named after the control tags. A result has `value` with x, y
(and width, height, points) in percent of original_width and original_height, and keypointlabels, rectanglelabels (or labels), or polygonlabels. The first
annotation of a task that was not canceled is read.

People. A point belongs to its parent region (`parentID`), else to the smallest rectangle that contains it, else, if the task has no
rectangles, to the only person. Rectangles and polygons labeled `ignore` or `crowd` are regions to ignore; rectangles without points
are people without keypoints. Rotation is not read.

Images are searched by the name in the task, with and without the eight digits that Label Studio puts before uploaded names.

Flags: there are none, so every point -> 2; joints without a point -> 0.
"""

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from pipeline.datasets.boxes import Box
from pipeline.datasets.formats.coco_like import Number, read_entries
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.named_joints import Group, Point, find_image, is_ignored, region, to_people
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError

_PICTURE = re.compile(r"\.(jpe?g|png|bmp|webp|tiff?)$", re.IGNORECASE)


class _Value(msgspec.Struct):
    x: Number | None = None
    y: Number | None = None
    width: Number | None = None
    height: Number | None = None
    points: list[tuple[Number, Number]] = []
    keypointlabels: list[str] = []
    rectanglelabels: list[str] = []
    labels: list[str] = []
    polygonlabels: list[str] = []


class _Result(msgspec.Struct):
    value: _Value
    original_width: int
    original_height: int
    id: str | None = None
    parentID: str | None = None


def read(request: Request, faults: Faults) -> Source:
    """Read an export. Raises UserError for another file."""
    tasks: list[dict[str, Any]] = read_entries(request.source, dict[str, Any])
    return Source(images=[_image(task, f"task {task.get('id', place)}", request, faults) for place, task in enumerate(tasks)])


def _image(task: dict[str, Any], where: str, request: Request, faults: Faults) -> SourceImage:
    data = task["data"] if isinstance(task.get("data"), dict) else task
    urls = [value for value in data.values() if isinstance(value, str) and _PICTURE.search(_path_in(value))]
    if not urls:
        raise UserError(f"annotation file {request.source}: {where}: no field with the name of an image")
    path = _path_in(urls[0])
    last = path.rsplit("/", 1)[-1]
    names = [path.lstrip("/"), last, re.sub(r"^[0-9a-f]{8}-", "", last)]
    folder = request.image_folder(request.source.parent)
    name, file = find_image(names, [folder], folder)
    try:
        results = [msgspec.convert(result, _Result) for result in _results(task) if "value" in result]
    except msgspec.ValidationError as error:
        raise UserError(f"annotation file {request.source}: {where}: {error}; export the project as JSON") from error
    size = next(((result.original_width, result.original_height) for result in results), None)
    return SourceImage(name=name, file=file, size=size, people=_people(results, request, where, faults))


def _path_in(url: str) -> str:
    """Return the path of an image from a URL, a path, or the parameter d of Label Studio's local files."""
    parts = urlsplit(url)
    query = parse_qs(parts.query).get("d")
    return unquote(query[0] if query else parts.path)


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of a task, as dicts; in JSON-MIN, sizes and labels are inside the values."""
    if isinstance(annotations := task.get("annotations"), list):
        kept = [entry for entry in annotations if isinstance(entry, dict) and not entry.get("was_cancelled")]
        results = kept[0].get("result") if kept else []
        return [result for result in results or [] if isinstance(result, dict)]
    values = [value for field in task.values() if isinstance(field, list) for value in field if isinstance(value, dict)]
    return [{**value, "value": value} for value in values if "original_width" in value]


def _people(results: list[_Result], request: Request, where: str, faults: Faults) -> list[Person]:
    groups: dict[str | None, Group] = {}
    regions: list[Person] = []
    for place, result in enumerate(results):
        value, key = result.value, result.id or f"result {place}"
        across, down = result.original_width / 100, result.original_height / 100
        box = _box(value, across, down)
        polygon = [n for x, y in value.points for n in (x * across, y * down)]
        if (labels := value.rectanglelabels or value.labels) and box:
            if is_ignored(labels[0]):
                regions.append(region(where, box=box))
            else:
                groups.setdefault(key, Group()).box = box
        elif value.polygonlabels and len(polygon) >= 6:
            if is_ignored(value.polygonlabels[0]):
                regions.append(region(where, polygons=[polygon]))
            else:
                groups.setdefault(key, Group()).polygons.append(polygon)
    for result in results:
        value = result.value
        if value.keypointlabels and value.x is not None and value.y is not None:
            x, y = value.x * result.original_width / 100, value.y * result.original_height / 100
            owner = result.parentID if result.parentID in groups else _smallest_around(groups, x, y)
            groups.setdefault(owner, Group()).points.append(Point(label=value.keypointlabels[0], x=x, y=y))
    return to_people(groups.values(), request, where, faults) + regions


def _box(value: _Value, across: float, down: float) -> Box | None:
    if value.x is None or value.y is None or not value.width or not value.height:
        return None
    return value.x * across, value.y * down, value.width * across, value.height * down


def _smallest_around(groups: dict[str | None, Group], x: float, y: float) -> str | None:
    """Return the key of the smallest box that contains the point; None if there is none."""
    found = [
        (group.box[2] * group.box[3], key)
        for key, group in groups.items()
        if group.box and 0 <= x - group.box[0] <= group.box[2] and 0 <= y - group.box[1] <= group.box[3]
    ]
    return min(found, key=lambda entry: entry[0])[1] if found else None
