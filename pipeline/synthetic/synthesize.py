"""A COCO-format people data set made from nothing: drawn figures with keypoints over drawn clutter.

Image i is a pure function of (seed, i): the same bytes for any number of jobs. Pixel i is centered at i, as in `geometry`;
polygons have COCO's convention, in which the corner of the first pixel is at 0.
"""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import cv2
import joblib
import numpy as np
from pycocotools import mask as coco_masks

from pipeline.files import new_folder
from pipeline.progress import progress_bar
from pipeline.synthetic.figure import JOINTS, figure_of
from pipeline.synthetic.scene import Scene, SceneConfig, make_scene, photograph

FIRST_IDS = {"train": 1, "val": 500_001}  # apart, so that one seed gives train and val different pictures
MAX_IMAGES = 500_000
MAX_PEOPLE = 100
LEAST_VISIBLE_PX = 12
_CC = "http://creativecommons.org/licenses"
LICENSES = (
    ("Attribution-NonCommercial-ShareAlike License", f"{_CC}/by-nc-sa/2.0/"),
    ("Attribution-NonCommercial License", f"{_CC}/by-nc/2.0/"),
    ("Attribution-NonCommercial-NoDerivs License", f"{_CC}/by-nc-nd/2.0/"),
    ("Attribution License", f"{_CC}/by/2.0/"),
    ("Attribution-ShareAlike License", f"{_CC}/by-sa/2.0/"),
    ("Attribution-NoDerivs License", f"{_CC}/by-nd/2.0/"),
    ("No known copyright restrictions", "http://flickr.com/commons/usage/"),
    ("United States Government Work", "http://www.usa.gov/copyright.shtml"),
)
# The limbs of COCO's "skeleton" field, in its order.
_COCO_LIMBS = (
    *(("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"), ("right_knee", "right_hip")),
    *(("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip")),
    *(("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow")),
    *(("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("left_eye", "right_eye")),
    *(("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear")),
    *(("left_ear", "left_shoulder"), ("right_ear", "right_shoulder")),
)


@dataclass(frozen=True, kw_only=True)
class SynthesizeConfig:
    """Make a COCO-format data set of drawn people: OUT/annotations/person_keypoints_train2017.json and OUT/train2017/*.jpg.

    Example: python -m pipeline synthesize --out people --num-images 1000 --seed 7
    """

    out: Path
    """Folder of the data set; absent or empty. It appears when everything is written."""
    num_images: int = 1000
    """Number of images; about one in seven has no people."""
    seed: int = 0
    """Seed of the pictures."""
    width: int = 640
    """Width of the images in pixels."""
    height: int = 480
    """Height of the images in pixels."""
    year: Literal["2014", "2017"] = "2017"
    """Whose file names: COCO_train2014_000000000042.jpg or 000000000042.jpg."""
    split: Literal["train", "val"] = "train"
    """Name of the split. Train and val of one seed are different pictures with different ids."""
    jpeg_quality: int = 90
    """JPEG quality, 1 to 100."""
    jobs: int = -1
    """Processes; -1 = one per core. The pictures do not depend on it."""
    scene: SceneConfig = field(default_factory=SceneConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.num_images < MAX_IMAGES:
            raise ValueError(f"num_images must be from 1 to {MAX_IMAGES - 1}, got {self.num_images}")
        for name in ("width", "height"):
            if not 64 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} must be from 64 to 4096 pixels, got {getattr(self, name)}")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality must be from 1 to 100, got {self.jpeg_quality}")
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    @property
    def folder(self) -> str:
        return f"{self.split}{self.year}"

    def file_name(self, image_id: int) -> str:
        return f"COCO_{self.folder}_{image_id:012d}.jpg" if self.year == "2014" else f"{image_id:012d}.jpg"


def run(config: SynthesizeConfig) -> None:
    """Write the data set. Raises UserError where `out` is not empty."""
    with new_folder(config.out) as folder:
        (folder / config.folder).mkdir()
        (folder / "annotations").mkdir()
        ids = range(FIRST_IDS[config.split], FIRST_IDS[config.split] + config.num_images)
        work = joblib.Parallel(n_jobs=config.jobs, return_as="generator")(
            joblib.delayed(_write_image)(config, folder / config.folder, image_id) for image_id in ids
        )
        with contextlib.closing(work):  # stops the workers, so that none writes into a folder that is being removed
            entries = list(progress_bar(work, total=len(ids), desc="drawing", unit="image"))
        path = folder / "annotations" / f"person_keypoints_{config.folder}.json"
        path.write_text(json.dumps(_document(config, entries)))
    people = sum(annotation["num_keypoints"] > 0 for _, annotations in entries for annotation in annotations)
    print(f"{config.out}: {len(entries)} images, {people} people with keypoints")


def _document(config: SynthesizeConfig, entries: list[tuple[dict, list[dict]]]) -> dict:
    return {
        "info": {
            "description": f"Synthetic people, seed {config.seed}",
            **{"url": "", "version": "1.0", "year": int(config.year), "contributor": "", "date_created": f"{config.year}/01/01"},
        },
        "licenses": [{"url": url, "id": i, "name": name} for i, (name, url) in enumerate(LICENSES, 1)],
        "images": [image for image, _ in entries],
        "annotations": [annotation for _, annotations in entries for annotation in annotations],
        "categories": [
            {
                **{"supercategory": "person", "id": 1, "name": "person", "keypoints": list(JOINTS)},
                "skeleton": [[JOINTS.index(a) + 1, JOINTS.index(b) + 1] for a, b in _COCO_LIMBS],
            }
        ],
    }


def _write_image(config: SynthesizeConfig, folder: Path, image_id: int) -> tuple[dict, list[dict]]:
    rng = np.random.default_rng([config.seed, image_id])
    scene = make_scene(rng, config.height, config.width, config.scene)
    annotations = annotate(scene, rng)
    picture = cv2.cvtColor(photograph(scene.image, rng), cv2.COLOR_RGB2BGR)
    name = config.file_name(image_id)
    (folder / name).write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality])[1].tobytes())
    image = {"id": image_id, "file_name": name, "width": config.width, "height": config.height}
    image |= {"license": int(rng.integers(len(LICENSES))) + 1, "date_captured": f"{config.year}-01-01 00:00:00", "coco_url": ""}
    for k, annotation in enumerate(annotations):
        annotation |= {"id": image_id * MAX_PEOPLE + k, "image_id": image_id, "category_id": 1}
    return image, annotations


def annotate(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """COCO annotations without ids: everyone of whom something is seen, and the crowd as one region."""
    numbers = figure_of(scene.owner)
    annotations = []
    for number in range(len(scene.figures)):
        if number in scene.crowd:
            continue
        polygons = _polygons((numbers == number).astype(np.uint8))
        if not polygons:
            continue
        area = float(coco_masks.area(coco_masks.merge(coco_masks.frPyObjects(polygons, *scene.owner.shape))))
        if area < LEAST_VISIBLE_PX:
            continue
        # As in COCO, where nobody below 32 x 32 pixels has keypoints and 2% of the others have none.
        unlabeled = bool(area < 32 * 32) | bool(rng.random() < 0.03)
        keypoints = _keypoints(scene, number, rng, unlabeled=unlabeled)
        corners = np.concatenate(polygons).reshape(-1, 2)
        low, high = corners.min(0), corners.max(0)
        annotations.append(_annotation(polygons, area, [*low, *(high - low)], keypoints))
    if scene.crowd:
        mask = cv2.morphologyEx(np.isin(numbers, list(scene.crowd)).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
        if mask.any():
            rle = {"counts": run_lengths(mask), "size": list(mask.shape)}
            x, y, width, height = cv2.boundingRect(mask)
            annotations.append(_annotation(rle, float(mask.sum()), [x, y, width, height], np.zeros((len(JOINTS), 3)), crowd=1))
    return annotations


def _annotation(segmentation, area: float, bbox: list, keypoints: np.ndarray, *, crowd: int = 0) -> dict:
    return {
        "segmentation": segmentation,
        "area": area,
        "bbox": [float(value) for value in bbox],
        "iscrowd": crowd,
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "keypoints": [int(value) if i % 3 == 2 else round(value, 2) for i, value in enumerate(keypoints.ravel().tolist())],
    }


def _keypoints(scene: Scene, number: int, rng: np.random.Generator, *, unlabeled: bool) -> np.ndarray:
    """float64 (17, 3): x, y, v. Outside the image v = 0; annotators also leave out many hidden joints and a few visible ones."""
    height, width = scene.owner.shape
    placed = scene.figures[number]
    points, seen = placed.joints(), placed.visible(scene.owner, number)
    inside = ((np.rint(points) >= 0) & (np.rint(points) <= (width - 1, height - 1))).all(1)
    face = np.array([joint.endswith(("nose", "eye", "ear")) for joint in JOINTS])
    labeled = rng.random(len(JOINTS)) < np.where(seen, 0.98, np.where(face, 0.15, 0.7))
    labeled &= inside & (not unlabeled)
    return np.column_stack([points, 1 + seen]) * labeled[:, None]


def _polygons(mask: np.ndarray) -> list[list[float]]:
    """The outlines of a mask, uint8 (H, W) of 0 and 1, in COCO's corner convention."""
    # Widened by one pixel to the right and below, contours through pixel centers are those around the pixels' edges.
    wide = cv2.dilate(cv2.copyMakeBorder(mask, 0, 1, 0, 1, cv2.BORDER_CONSTANT), np.ones((2, 2), np.uint8), anchor=(1, 1))
    contours, _ = cv2.findContours(wide, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [cv2.approxPolyDP(contour, 0.7, True) for contour in contours]
    return [outline.ravel().astype(float).tolist() for outline in outlines if len(outline) >= 3 and cv2.contourArea(outline) > 2]


def run_lengths(mask: np.ndarray) -> list[int]:
    """COCO's uncompressed RLE of a mask (H, W) of 0 and 1: lengths of runs down the columns, beginning with zeros."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths
