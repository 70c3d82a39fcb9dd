"""People in the format of OpenPose's `--write_json`, which many tools read.

https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md: one file per image, version 1.3;
`pose_keypoints_2d` is x, y in pixels and the confidence of each keypoint, 0, 0, 0 for keypoints that were not found. `coco18` has
the keypoints of OpenPose's COCO model, in the same order; other skeletons keep their own order.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.predict.names import FRAME_DIGITS

VERSION = 1.3
EMPTY = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pose_keypoints_3d",
         "face_keypoints_3d", "hand_left_keypoints_3d", "hand_right_keypoints_3d")  # fmt: skip


def to_document(keypoints: np.ndarray, identities: Sequence[int | None]) -> dict[str, Any]:
    """Return the JSON document of one image.

    keypoints: float32 (P, J, 3), x and y in pixels and the confidence. identities: `person_id` of each person; it is -1 for None, as
    in OpenPose for people who are not tracked.
    """
    return {
        "version": VERSION,
        "people": [
            {
                "person_id": [-1 if identity is None else identity],
                "pose_keypoints_2d": [round(value, 4) for value in person.ravel().tolist()],
                **{name: [] for name in EMPTY},
            }
            for person, identity in zip(keypoints, identities, strict=True)
        ],
    }


def write(folder: Path, name: str, frame: int | None, document: str) -> str:
    """Write the file of an image or video frame, named as OpenPose does, and return its name below `folder`.

    name: may begin with folders. The names are NAME_keypoints.json and, for frame 12, NAME_000000000012_keypoints.json.
    """
    stem = name if frame is None else f"{name}_{frame:0{FRAME_DIGITS}d}"
    file = folder / f"{stem}_keypoints.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(document)
    return file.relative_to(folder).as_posix()
