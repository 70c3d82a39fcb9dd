"""CMU's foot keypoints of COCO: person_keypoints_{train,val}2017_foot_v1.json.

From OpenPose's BODY_25 documentation (https://github.com/CMU-Perceptual-Computing-Lab/openpose): COCO's format with 23 keypoints, COCO's
17, then left big toe, left small toe, left heel, and the same on the right; v as in COCO. Annotations with COCO's 17 keypoints alone
have unlabeled feet. Everything else is as in COCO.
"""

from pipeline.datasets.formats.coco_like import PersonEntry, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Request, Source

NUM_BODY, NUM_FEET = 17, 6


def read(request: Request, faults: Faults) -> Source:
    """Read CMU's foot annotations."""
    return read_coco([request.source], request, faults, keypoints_of=_keypoints)


def _keypoints(entry: PersonEntry) -> list[float] | None:
    values = entry.keypoints
    return values + [0.0] * 3 * NUM_FEET if values is not None and len(values) == 3 * NUM_BODY else values
