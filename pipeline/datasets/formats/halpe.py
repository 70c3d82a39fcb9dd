"""Halpe full-body: COCO's format with 136 keypoints, of which the 26 of the body are kept.

From the README and vis.py of https://github.com/Fang-Haoshu/Halpe-FullBody: 26 body keypoints (COCO's 17, head, neck, hip, and six of the
feet), then 68 of the face and 21 of each hand; v as in COCO, and fractions, which become 1. The field `categories` lists no keypoints.
Files with the 26 body keypoints alone are read, too.
"""

from pipeline.datasets.formats.coco_like import PersonEntry, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Request, Source

NUM_BODY, NUM_ALL = 26, 136


def read(request: Request, faults: Faults) -> Source:
    """Read Halpe."""
    return read_coco([request.source], request, faults, keypoints_of=_keypoints)


def _keypoints(entry: PersonEntry) -> list[float] | None:
    values = entry.keypoints
    return values[: 3 * NUM_BODY] if values is not None and len(values) == 3 * NUM_ALL else values
