"""COCO-WholeBody: COCO's keypoint files with feet, face and hands in further fields of each annotation.

From data_format.md of https://github.com/jin-s13/COCO-WholeBody: keypoints (17), foot_kpts (6), face_kpts (68), lefthand_kpts (21),
righthand_kpts (21), each x, y, v; foot_valid, face_valid, lefthand_valid, righthand_valid. A part that is not valid is unlabeled. The
order of the 133 keypoints is that of its evaluation: body, feet, face, left hand, right hand.

Flags: of the body, as in COCO. Of the other parts, "v > 0 means that the keypoint is reliable", and v may be a fraction: fractions and 1
-> 1, 2 -> 2, 0 -> 0.
"""

from pipeline.datasets.formats.coco_like import PersonEntry, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Request, Source

PARTS = {"foot": 6, "face": 68, "lefthand": 21, "righthand": 21}


def read(request: Request, faults: Faults) -> Source:
    """Read COCO-WholeBody."""
    return read_coco([request.source], request, faults, keypoints_of=_keypoints)


def _keypoints(entry: PersonEntry) -> list[float] | None:
    if entry.keypoints is None:
        return None
    values = list(entry.keypoints)
    for part, num_joints in PARTS.items():
        own = getattr(entry, f"{part}_kpts")
        values += own if own and getattr(entry, f"{part}_valid") else [0.0] * 3 * num_joints
    return values
