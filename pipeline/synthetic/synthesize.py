"""The command `synthesize`: write a COCO-format data set of drawn people.

Image i is a pure function of (seed, i), and clip i as well: the files do not depend on the number of processes.

The annotations of clips have the fields of a COCO file and those of PoseTrack21 and CocoVID (MMTracking): `videos` with `id`, `name`
and `fps`; `video_id` and `frame_id`, from 0, of an image; `track_id` and, the same number, `instance_id` of an annotation.
"""

import contextlib
import json
from pathlib import Path
from typing import Any

import cv2
import joblib
import numpy as np

from pipeline.runtime.processes import local_workers, num_workers
from pipeline.runtime.progress import progress_bar
from pipeline.storage.folders import new_folder
from pipeline.synthetic.annotations import CocoEntry, annotate, annotate_person
from pipeline.synthetic.clips import Clip
from pipeline.synthetic.config import MAX_FRAMES, MAX_IMAGES, SynthesizeConfig
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
    count, unit = (config.clips.num_clips, "clip") if config.video else (config.num_images, "image")
    write = _write_clip if config.video else _write_image
    with new_folder(config.out, last="annotations") as folder:
        (folder / config.image_folder).mkdir()
        (folder / "annotations").mkdir()
        ids = range(FIRST_IDS[config.split], FIRST_IDS[config.split] + count)
        jobs = (joblib.delayed(write)(config, folder / config.image_folder, number) for number in ids)
        num_processes = num_workers(config.jobs, len(ids), unit)
        with local_workers(), contextlib.closing(joblib.Parallel(n_jobs=num_processes, return_as="generator")(jobs)) as work:
            # Closing it stops the workers before the unfinished folder is deleted.
            parts = list(progress_bar(work, total=len(ids), desc="drawing", unit=unit))
        images, annotations = ([entry for part in parts for entry in part[place]] for place in (0, 1))
        document = _document(config, images, annotations)
        if config.video:
            document["videos"] = [{"id": number, "name": f"{number:06d}", "fps": config.clips.fps} for number in ids]
        path = folder / "annotations" / f"person_keypoints_{config.image_folder}.json"
        path.write_text(json.dumps(document))
    num_people = sum(annotation["num_keypoints"] > 0 for annotation in annotations)
    where = f"{counted(count, 'clip')}, " if config.video else ""
    print(f"{config.out}: {where}{counted(len(images), 'image')}, {counted(num_people, 'person')} with keypoints")


def _document(config: SynthesizeConfig, images: list[CocoEntry], annotations: list[CocoEntry]) -> dict[str, Any]:
    return {
        "info": {
            "description": f"Synthetic people, seed {config.seed}",
            **{"url": "", "version": "1.0", "year": int(config.year), "contributor": "", "date_created": f"{config.year}/01/01"},
        },
        "licenses": [{"url": url, "id": i, "name": name} for i, (name, url) in enumerate(LICENSES, 1)],
        "images": images,
        "annotations": annotations,
        "categories": [
            {
                **{"supercategory": "person", "id": 1, "name": "person", "keypoints": list(JOINTS)},
                "skeleton": [[JOINTS.index(a) + 1, JOINTS.index(b) + 1] for a, b in _COCO_LIMBS],
            }
        ],
    }


def _write_image(config: SynthesizeConfig, folder: Path, image_id: int) -> tuple[list[CocoEntry], list[CocoEntry]]:
    """Draw and write one image; return its entry and its annotations."""
    rng = np.random.default_rng([config.seed, image_id])
    scene = make_scene(rng, config.height, config.width, config.scene)
    annotations = annotate(scene, rng)
    picture = photograph(scene.image, rng)
    image = _image(config, folder, image_id, config.file_name(image_id), picture) | _license(config, rng)
    for k, annotation in enumerate(annotations):
        annotation |= {"id": image_id * MAX_PEOPLE + k, "image_id": image_id, "category_id": 1}
    return [image], annotations


def _write_clip(config: SynthesizeConfig, folder: Path, number: int) -> tuple[list[CocoEntry], list[CocoEntry]]:
    """Draw and write the frames of one clip; return their entries and their annotations."""
    (folder / config.frame_name(number, 0)).parent.mkdir()
    about = _license(config, np.random.default_rng([config.seed, number]))
    images, annotations = [], []
    for frame, scene in enumerate(Clip(config, number).frames()):
        image_id = number * MAX_FRAMES + frame
        image = _image(config, folder, image_id, config.frame_name(number, frame), scene.image)
        images.append({**image, **about, "video_id": number, "frame_id": frame})
        for person in range(len(scene.figures)):
            if entry := annotate_person(scene, person, None):
                track_id = number * MAX_PEOPLE + person
                ids = {"id": image_id * MAX_PEOPLE + person, "image_id": image_id, "category_id": 1, "video_id": number}
                annotations.append({**entry, **ids, "track_id": track_id, "instance_id": track_id})
    return images, annotations


def _image(config: SynthesizeConfig, folder: Path, image_id: int, name: str, picture: np.ndarray) -> CocoEntry:
    """Write an image file and return its entry."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, config.jpeg_quality]
    (folder / name).write_bytes(cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), quality)[1].tobytes())
    return {"id": image_id, "file_name": name, "width": config.width, "height": config.height}


def _license(config: SynthesizeConfig, rng: np.random.Generator) -> CocoEntry:
    number = int(rng.integers(len(LICENSES))) + 1
    return {"license": number, "date_captured": f"{config.year}-01-01 00:00:00", "coco_url": ""}
