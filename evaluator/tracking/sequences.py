"""Identities of the people of an annotation file's videos."""

from collections.abc import Mapping

import numpy as np

from evaluator.decoding import People
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.tracker import Tracker
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton

Identities = dict[int, np.ndarray]
"""By image id: the identity of each of its people, int64 (N,), -1 for those without one. Unique in the whole file."""


def track(document: CocoFile, found: Mapping[int, People], skeleton: Skeleton, config: TrackConfig) -> Identities:
    """Follow the people that were found in the images of each video. Images that are not in `found` show nobody.

    Raises UserError as `CocoFile.frames` does.
    """
    identities: Identities = {}
    num_identities = 0
    for video_id, images in document.frames().items():
        numbers = [image.frame_id or 0 for image in images]
        step = float(np.median(np.diff(numbers))) if len(numbers) > 1 else 1.0  # annotations of every second frame, for example
        tracker = Tracker(skeleton, document.videos[video_id].fps / step, config)
        largest = 0
        for image in images:
            own = tracker.update(found.get(image.id) or _nobody(skeleton))
            largest = max(largest, int(own.max(initial=0)))
            identities[image.id] = np.where(own > 0, own + num_identities, own)
        num_identities += largest
    return identities


def _nobody(skeleton: Skeleton) -> People:
    return People(keypoints=np.zeros((0, skeleton.num_joints, 3), np.float32), scores=np.zeros(0, np.float32))
