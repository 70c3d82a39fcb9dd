"""Ultralytics YOLO-pose: data.yaml, or a folder with images/ and labels/.

From https://docs.ultralytics.com/datasets/pose: one text file per image, whose path has `labels` instead of `images`; one line per object:
class, center x, center y, width, height of the box, then x, y or x, y, v of each keypoint; all coordinates as shares of the
image's width and height. data.yaml: path, train, val, test (folders, files of paths, or lists of them), names, kpt_shape. If names has a
class `person`, only it is read. The keypoints have no names; they are taken in the order of the skeleton.

Flags: v as in COCO; without v, 0, 0 -> 0 and everything else -> 2.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Person, Request, Source, SourceImage
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, image_size
from pipeline.storage.documents import read_bytes, read_yaml

MAX_LABEL_BYTES = 1 << 24
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class _Data(msgspec.Struct):
    path: str | None = None
    train: str | list[str] | None = None
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    names: dict[int | str, str] | list[str] = []
    kpt_shape: tuple[int, int] | None = None


def read(request: Request, faults: Faults) -> Source:
    """Read the images of all splits. Raises UserError if the keypoints are not as many as those of the skeleton."""
    source = request.source
    data = _Data(train="images") if source.is_dir() else read_yaml(source, "data file", _Data)
    if data.kpt_shape and data.kpt_shape[0] != request.num_joints:
        raise UserError(
            f"data file {source}: kpt_shape: {data.kpt_shape[0]} keypoints, but skeleton {request.skeleton.name!r} has "
            f"{request.num_joints}; give the skeleton with --skeleton"
        )
    root = source if source.is_dir() else source.parent
    base = next((path for path in (root / (data.path or ""), Path(data.path or "")) if path.is_dir()), root)
    files = [file for split in (data.train, data.val, data.test) for file in _files(split, base)]
    if not files:
        raise UserError(f"{source}: no images found in {base}; give data.yaml, or the folder that holds images/ and labels/")
    names = dict(data.names) if isinstance(data.names, dict) else dict(enumerate(data.names))
    people = {int(number) for number, name in names.items() if name == "person"}
    images = []
    for file in dict.fromkeys(files):
        name = (
            file.resolve().relative_to(base.resolve()).as_posix() if file.resolve().is_relative_to(base.resolve()) else file.name
        )
        image = SourceImage(name=name.removeprefix("images/"), file=file)
        images.append(image)
        image.people.extend(_people(file, people, request, faults))
    return Source(images=images)


def _files(split: Any, base: Path) -> Iterator[Path]:
    """Yield the image files of a split: a folder, a file with one path per line, or a list of both."""
    for entry in split if isinstance(split, list) else [split] if split else []:
        path = base / entry
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.suffix.lower() in SUFFIXES)
        elif path.suffix == ".txt":
            lines = read_bytes(path, "list of images", MAX_LABEL_BYTES).decode(errors="replace").splitlines()
            yield from (base / line.strip() for line in lines if line.strip())
        else:
            yield path


def _label_file(image: Path) -> Path:
    """Return the label file of an image: the last folder `images` of its path becomes `labels`."""
    parts = list(image.parts)
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        parts[last] = "labels"
    return Path(*parts).with_suffix(".txt")


def _people(image: Path, classes: set[int], request: Request, faults: Faults) -> Iterator[Person]:
    labels = _label_file(image)
    if not labels.exists() or not image.exists():
        return  # an image without objects has no label file; a missing image is noted when it is placed
    try:
        size = np.array(image_size(image), np.float64)
    except UnreadableImage:
        return
    for number, line in enumerate(read_bytes(labels, "label file", MAX_LABEL_BYTES).decode(errors="replace").splitlines(), 1):
        where, words = f"{labels.name}: line {number}", line.split()
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.array([np.nan])
        if not np.isfinite(values).all():
            faults.add("not a finite number", where, line[:80])
            continue
        if not words or (classes and int(values[0]) not in classes):
            continue
        num_values, num_joints = len(values) - 5, request.num_joints
        if num_values not in (2 * num_joints, 3 * num_joints):
            faults.add(
                "wrong number of joints",
                where,
                f"{num_values} numbers after the box, expected {2 * num_joints} or {3 * num_joints}",
            )
            continue
        yield _person(values, size, num_joints, where)


def _person(values: np.ndarray, size: np.ndarray, num_joints: int, where: str) -> Person:
    points = values[5:].reshape(num_joints, -1)
    visible = 2.0 * (points != 0).any(axis=1) if points.shape[1] == 2 else np.ceil(points[:, 2].clip(0, 2))
    center, extent = values[1:3] * size, values[3:5] * size
    x, y = (center - extent / 2).tolist()
    width, height = extent.tolist()
    return Person(where=where, keypoints=np.column_stack([points[:, :2] * size, visible]), box=(x, y, width, height))
