"""The command `synthesize`: write a COCO-format data set of drawn people.

Image i is a pure function of (seed, i): the files do not depend on the number of processes.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np

from pipeline.folders import new_folder
from pipeline.processes import local_workers, num_workers
from pipeline.progress import progress_bar
from pipeline.synthetic.annotations import CocoEntry, annotate
from pipeline.synthetic.config import MAX_IMAGES, SynthesizeConfig
from pipeline.synthetic.figure import JOINTS
from pipeline.synthetic.scene import make_scene, photograph
from pipeline.wording import counted

FIRST_IDS = {"train": 1, "val": MAX_IMAGES + 1}  # one seed must give different images in train and val
MAX_PEOPLE = 100  # annotation ids are image_id * MAX_PEOPLE + number
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
# The limbs of the field "skeleton" of COCO's category, in its order.
_COCO_LIMBS = (
    *(("left_ankle", "left_knee"), ("left_knee", "left_hip"), ("right_ankle", "right_knee"), ("right_knee", "right_hip")),
    *(("left_hip", "right_hip"), ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip")),
    *(("left_shoulder", "right_shoulder"), ("left_shoulder", "left_elbow"), ("right_shoulder", "right_elbow")),
    *(("left_elbow", "left_wrist"), ("right_elbow", "right_wrist"), ("left_eye", "right_eye")),
    *(("nose", "left_eye"), ("nose", "right_eye"), ("left_eye", "left_ear"), ("right_eye", "right_ear")),
    *(("left_ear", "left_shoulder"), ("right_ear", "right_shoulder")),
)


def run(config: SynthesizeConfig) -> None:
    """Write the data set. Raises UserError if `out` is not empty."""
    with new_folder(config.out, last="annotations") as folder:
        (folder / config.image_folder).mkdir()
        (folder / "annotations").mkdir()
        ids = range(FIRST_IDS[config.split], FIRST_IDS[config.split] + config.num_images)
        jobs = (joblib.delayed(_write_image)(config, folder / config.image_folder, image_id) for image_id in ids)
        num_processes = num_workers(config.jobs, len(ids), "image")
        with local_workers(), contextlib.closing(joblib.Parallel(n_jobs=num_processes, return_as="generator")(jobs)) as work:
            # Closing it stops the workers before the unfinished folder is deleted.
            entries = list(progress_bar(work, total=len(ids), desc="drawing", unit="image"))
        path = folder / "annotations" / f"person_keypoints_{config.image_folder}.json"
        path.write_text(json.dumps(_document(config, entries)))
    num_people = sum(annotation["num_keypoints"] > 0 for _, annotations in entries for annotation in annotations)
    print(f"{config.out}: {counted(len(entries), 'image')}, {counted(num_people, 'person')} with keypoints")


def _document(config: SynthesizeConfig, entries: list[tuple[CocoEntry, list[CocoEntry]]]) -> dict[str, Any]:
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


def _write_image(config: SynthesizeConfig, folder: Path, image_id: int) -> tuple[CocoEntry, list[CocoEntry]]:
    """Draw and write one image; return its entry and its annotations."""
    rng = np.random.default_rng([config.seed, image_id])
    scene = make_scene(rng, config.height, config.width, config.scene)
    annotations = annotate(scene, rng)
    picture = cv2.cvtColor(photograph(scene.image, rng), cv2.COLOR_RGB2BGR)
    name = config.file_name(image_id)
    (folder / name).write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality])[1].tobytes())
    image: CocoEntry = {"id": image_id, "file_name": name, "width": config.width, "height": config.height}
    image |= {"license": int(rng.integers(len(LICENSES))) + 1, "date_captured": f"{config.year}-01-01 00:00:00", "coco_url": ""}
    for k, annotation in enumerate(annotations):
        annotation |= {"id": image_id * MAX_PEOPLE + k, "image_id": image_id, "category_id": 1}
    return image, annotations
