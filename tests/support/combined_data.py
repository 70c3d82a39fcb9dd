"""A second data set for tests of `build --sources`: the same people, with the joints of a stick figure."""

import json
from pathlib import Path

import numpy as np

# As LSP: the neck is labeled, and COCO does not have the head.
STICK = {
    "name": "stick",
    "joints": ["head", "throat", "left_shoulder", "right_shoulder", "left_wrist", "right_wrist"],
    "limbs": [["head", "throat"], ["throat", "left_shoulder"], ["throat", "right_shoulder"], ["left_wrist", "left_shoulder"], ["right_shoulder", "right_wrist"]],
    "mirror_pairs": [["left_shoulder", "right_shoulder"], ["left_wrist", "right_wrist"]],
    "source_joints": ["head", "throat", "left_shoulder", "right_shoulder", "left_wrist", "right_wrist"],
    "sigmas": [0.08, 0.08, 0.079, 0.079, 0.062, 0.062],
}  # fmt: skip
_STAND_INS = {"head": "nose", "throat": "left_eye"}  # which of COCO's keypoints are labeled as joints that it does not have


def label_stick_figures(annotations: Path) -> None:
    """Reduce a COCO keypoint file to the joints of the stick figure. Some images get another license."""
    document = json.loads(annotations.read_text())
    (category,) = document["categories"]
    columns = [category["keypoints"].index(_STAND_INS.get(joint, joint)) for joint in STICK["joints"]]
    category["keypoints"] = STICK["joints"]
    for annotation in document["annotations"]:
        points = np.array(annotation["keypoints"]).reshape(-1, 3)[columns]
        annotation.update(keypoints=points.ravel().tolist(), num_keypoints=int((points[:, 2] > 0).sum()))
    for image in document["images"][:4]:
        image["license"] = document["licenses"][-1]["id"]
    annotations.write_text(json.dumps(document))
