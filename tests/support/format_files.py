"""Small hand-made sources of every format that `convert` reads, and people for every shipped skeleton."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from evaluator_data import STANDING
from scipy.io import savemat

from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.datasets.formats.config import ConvertConfig
from pipeline.datasets.formats.convert import run
from pipeline.skeleton import Skeleton
from pipeline.skeletons import read_skeleton

SIZE = (64, 48)  # of the images, width and height


def convert(tmp_path: Path, format: str, source: Path, **options: Any) -> tuple[dict[str, Any], dict[str, list[Annotation]]]:
    """Convert, read the result as `build` does, and return the raw document and the annotations by image name."""
    run(ConvertConfig(source=source, source_format=format, out=tmp_path / "out", **options))
    skeleton = read_skeleton(tmp_path / "out" / "skeleton.yaml")
    checked = CocoFile(tmp_path / "out" / "annotations.json", skeleton)
    assert not checked.notes()  # the file says everything, so that other programs can read it
    assert all((tmp_path / "out" / "images" / image.file_name).is_file() for image in checked.images)
    people = {image.file_name: checked.annotations.get(image.id, []) for image in checked.images}
    return json.loads((tmp_path / "out" / "annotations.json").read_text()), people


def faults(tmp_path: Path) -> list[str]:
    """Return the kinds of the faults that `convert` listed."""
    return [line.split("\t")[0] for line in (tmp_path / "out" / "faults.tsv").read_text().splitlines()[1:]]


def write_images(folder: Path, *names: str, size: tuple[int, int] = SIZE) -> None:
    """Write gray images."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((size[1], size[0], 3), 90, np.uint8))


def flat(num_joints: int, v: float = 2, first: float = 5) -> list[float]:
    """Keypoints x, y, v with x = first + joint, y = 10 + joint, modulo the image."""
    return [value for joint in range(num_joints) for value in (first + joint % 40, 10 + joint % 30, v)]


def coco(path: Path, annotations: list[dict], images: list[dict] | None = None, **more) -> Path:
    """Write a COCO-like file with the image 1.jpg beside it."""
    write_images(path.parent, "1.jpg")
    default = [{"id": 1, "file_name": "1.jpg", "width": SIZE[0], "height": SIZE[1]}]
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, **entry} for number, entry in enumerate(annotations, 1)
    ]
    path.write_text(json.dumps({"images": images or default, "annotations": entries, "categories": [], **more}))
    return path


def lsp(folder: Path, joints: np.ndarray, digits: int = 5) -> Path:
    """Write joints.mat and an image for each of its entries."""
    write_images(folder / "images", *(f"im{number + 1:0{digits}}.jpg" for number in range(joints.shape[-1])))
    savemat(folder / "joints.mat", {"joints": joints})
    return folder


def mpii(folder: Path) -> Path:
    """Write MPII's structure: a training image with a labeled person, one without joints and one with a head box alone; a test image."""
    points = np.array(
        [(11.0 + i, 21.0, i, 0 if i == 3 else [] if i in (8, 9) else 1) for i in range(16)],
        [("x", "O"), ("y", "O"), ("id", "O"), ("is_visible", "O")],
    )
    head = {"x1": 11, "y1": 6, "x2": 21, "y2": 16}
    none = np.zeros((0, 0))
    people = [
        {**head, "annopoints": {"point": points}, "scale": 0.2, "objpos": {"x": 20, "y": 20}},
        {**head, "annopoints": none, "scale": 0.1, "objpos": {"x": 33, "y": 25}},
        {**head, "annopoints": none, "scale": none, "objpos": none},
    ]
    rects = np.empty(3, object)
    rects[:] = people
    fields = [(name, "O") for name in ("x1", "y1", "x2", "y2", "annopoints", "scale", "objpos")]
    table = np.array([tuple(person[name] for name, _ in fields) for person in people], fields)
    annolist = np.array(
        [({"name": "a.jpg"}, table), ({"name": "test.jpg"}, none)],
        [("image", "O"), ("annorect", "O")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    savemat(folder / "mpii.mat", {"RELEASE": {"annolist": annolist, "img_train": np.array([1, 0])}})
    write_images(folder / "images", "a.jpg")
    return folder / "mpii.mat"


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
 <image id="0" name="a.jpg" width="64" height="48">
  <skeleton label="person"><points label="left_string" outside="0" occluded="1" points="10.5,11.5"/>
   <points label="1" outside="0" occluded="0" points="20,21"/><points label="left_hook" outside="1" occluded="0" points="1,1"/></skeleton>
  <points label="right_hook" group_id="7" points="30,31" occluded="0"/><box label="person" group_id="7" xtl="25" ytl="26" xbr="45" ybr="46"/>
  <box label="ignore" xtl="50" ytl="2" xbr="60" ybr="12"/><polygon label="person" points="1,1;9,1;9,9"/><tag label="x"/>
 </image>
</annotations>
"""

LABELME = {
    "version": "5.5.0",
    "imagePath": "a.jpg",
    "imageWidth": 64,
    "imageHeight": 48,
    "shapes": [
        {"label": "Left String", "points": [[10, 11]], "group_id": 1, "shape_type": "point", "flags": {"occluded": True}},
        {"label": "left-hook", "points": [[12, 13]], "group_id": 1, "shape_type": "point", "flags": {}},
        {"label": "tail", "points": [[12, 13]], "group_id": 1, "shape_type": "point"},
        {"label": "puppet", "points": [[30, 31], [5, 6]], "group_id": 1, "shape_type": "rectangle"},
        {"label": "puppet", "points": [[40, 2], [60, 20]], "group_id": None, "shape_type": "rectangle"},
        {"label": "crowd", "points": [[1, 30], [20, 30], [20, 40]], "group_id": None, "shape_type": "polygon"},
    ],
}


def label_studio(minimal: bool = False) -> list[dict]:
    """A task with two boxes, of which one contains a point, and a point whose parent is the other box."""
    size = {"original_width": 64, "original_height": 48}
    points = {"x": 25, "y": 50, "width": 1, "keypointlabels": ["left_hook"]}
    other = {"x": 80, "y": 90, "width": 1, "keypointlabels": ["right_hook"]}
    boxes = [
        {"x": 10, "y": 20, "width": 50, "height": 60, "labels": ["person"]},
        {"x": 20, "y": 40, "width": 20, "height": 30, "rectanglelabels": ["person"]},
        {"x": 70, "y": 0, "width": 10, "height": 10, "rectanglelabels": ["Ignore"]},
    ]
    if minimal:
        return [{"id": 3, "image": "/data/upload/1/0123abcd-a.jpg", "kp": [points | size], "box": [box | size for box in boxes]}]
    results = [{"id": f"b{n}", "type": "rectanglelabels", "value": box, **size} for n, box in enumerate(boxes)]
    results += [{"id": "p0", "value": points, **size}, {"id": "p1", "value": other, "parentID": "b0", **size}]
    annotations = [{"was_cancelled": True, "result": []}, {"result": [*results, {"type": "relation", "from_id": "p0"}]}]
    return [{"id": 3, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": annotations}]


def standing(skeleton: Skeleton, x: float, y: float, scale: float = 1.0) -> np.ndarray:
    """Return a standing person with all keypoints of any shipped skeleton, float (S, 3); the nose at x, y, 250 px tall at scale 1."""
    places = STANDING | _MIDDLE | _mirrored(_LEFT) | _face()
    if skeleton.name == "jhmdb15":
        places["head"] = (0, -3)
    return np.array(
        [
            (x + scale * places[joint][0], y + scale * places[joint][1], 2) if joint in skeleton.joints else (0, 0, 0)
            for joint in skeleton.source_joints
        ]
    )


_MIDDLE = {
    "neck": (0, 30), "head_top": (0, -25), "head": (0, -25), "upper_neck": (0, 22), "thorax": (0, 38), "head_bottom": (0, 26),
    "pelvis": (0, 115), "hip": (0, 115), "belly": (0, 80),
}  # fmt: skip
_LEFT = {
    "big_toe": (34, 248), "small_toe": (46, 246), "heel": (14, 248), "hand_root": (51, 121),
    **{
        f"{finger}{k}": (51 + 6 * spread + spread * k, 121 + 8 * k)
        for spread, finger in enumerate(("pinky_finger", "ring_finger", "middle_finger", "forefinger", "thumb"), -2)
        for k in range(1, 5)
    },
}  # fmt: skip


def _mirrored(left: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {f"left_{name}": place for name, place in left.items()} | {f"right_{name}": (-x, y) for name, (x, y) in left.items()}


def _face() -> dict[str, tuple[float, float]]:
    """The 68 points of the face, as in the iBUG layout, symmetrical around x = 0."""
    jaw = [(-16 * np.cos(np.pi * i / 16), 2 + 20 * np.sin(np.pi * i / 16)) for i in range(17)]
    brows = [(-13 + 2.5 * i, -13 - (i in (1, 2, 3))) for i in range(5)] + [
        (3 + 2.5 * i, -13 - (i in (1, 2, 3))) for i in range(5)
    ]
    nose = [(0, -9 + 3 * i) for i in range(4)] + [(-4 + 2 * i, 2 + (i == 2)) for i in range(5)]
    right_eye = [(-12, -8), (-9, -10), (-6, -10), (-4, -8), (-6, -7), (-9, -7)]
    left_eye = [(-x, y) for x, y in (right_eye[i] for i in (3, 2, 1, 0, 5, 4))]
    angles = [np.pi - np.pi * i / 6 for i in range(12)]
    lips = [(8 * np.cos(a), 11 - 4 * np.sin(a)) for a in angles]
    inner = [(5 * np.cos(a), 11 - 2 * np.sin(a)) for a in (np.pi - np.pi * i / 4 for i in range(8))]
    points = [*jaw, *brows, *nose, *right_eye, *left_eye, *lips, *inner]
    return {f"face-{number}": point for number, point in enumerate(points)}
