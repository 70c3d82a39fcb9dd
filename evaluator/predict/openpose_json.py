"""People in the form of OpenPose's `--write_json`, which many tools read.

https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md: one file an image, version 1.3;
`pose_keypoints_2d` is x, y in pixels and confidence of each joint, 0, 0, 0 where it was not found. The joints of `coco18` are
OpenPose's COCO model's, in its order; another skeleton's stand in its own.
"""

import json
from pathlib import Path
from typing import Any

from evaluator.decoding.decode import People

VERSION = 1.3
NOT_LOOKED_FOR = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
                  "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")  # fmt: skip


def layout(people: People) -> dict[str, Any]:
    """People in pixels -> the document of one image, best first. person_id -1: nobody is followed through a video."""
    return {
        "version": VERSION,
        "people": [
            {
                "person_id": [-1],
                "pose_keypoints_2d": [round(value, 4) for value in person.ravel().tolist()],
                **{name: [] for name in NOT_LOOKED_FOR},
            }
            for person in people.keypoints
        ],
    }


def write(folder: Path, name: str, frame: int | None, people: People) -> None:
    """The file of an image, or of a frame of a video, named as OpenPose does: NAME_keypoints.json, NAME_000000000012_keypoints.json."""
    stem = name if frame is None else f"{name}_{frame:012d}"
    (folder / f"{stem}_keypoints.json").write_text(json.dumps(layout(people)))
