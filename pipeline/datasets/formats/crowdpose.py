"""CrowdPose: crowdpose_{train,val,trainval,test}.json.

From https://github.com/Jeff-sjtu/CrowdPose (crowdpose-api/annotations, crowdposetools/cocoeval.py): COCO's format with 14 keypoints, v as
in COCO; `images` with `crowdIndex`, which is kept, because the metrics group images by it; bbox and iscrowd, neither area nor
segmentation. `num_keypoints` does not count head and neck, which are guessed for people at a distance: if it is 0, the official
evaluation ignores the person, so that the person is read without keypoints.
"""

import dataclasses

from pipeline.datasets.formats.coco_like import PersonEntry, read_coco
from pipeline.datasets.formats.faults import Faults
from pipeline.datasets.formats.people import Request, Source
from pipeline.wording import counted


def read(request: Request, faults: Faults) -> Source:
    """Read CrowdPose."""
    guessed = 0

    def keypoints_of(entry: PersonEntry) -> list[float] | None:
        nonlocal guessed
        if entry.num_keypoints == 0 and entry.keypoints is not None:
            guessed += any(v > 0 for v in entry.keypoints[2::3])
            return None
        return entry.keypoints

    source = read_coco([request.source], request, faults, keypoints_of=keypoints_of)
    note = f"{counted(guessed, 'annotation')} with num_keypoints 0 read without their head and neck, as in CrowdPose's evaluation"
    return dataclasses.replace(source, notes=(note,) if guessed else ())
