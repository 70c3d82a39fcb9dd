"""Identities of the people of an annotation file's videos, and their scores."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evaluator.decoding import People
from evaluator.metrics.mot import require_identities, score_identities
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.tracker import Tracker
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton
from pipeline.wording import counted

Identities = dict[int, np.ndarray]
"""By image id: the identity of each of its people, int64 (N,), -1 for those without one. Unique in the whole file."""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Identities of the people of videos, and their scores.

    figures: those of `evaluator.metrics.mot`, by name of the video and of all of them ("all"). ms_per_frame: time of tracking.
    """

    identities: Identities
    figures: dict[str, dict[str, float]]
    ms_per_frame: float = 0.0

    def summary(self) -> str:
        """Return the figures of all videos as one line, formatted as a dict."""
        shown = {name: round(value, 4) if name in ("MOTA", "IDF1") else int(value) for name, value in self.figures["all"].items()}
        return f"identities, over {counted(len(self.figures) - 1, 'video')}: {shown}"


def require_videos(document: CocoFile) -> None:
    """Raise UserError unless identities in the videos of a file can be scored. Call it before the work starts."""
    document.frames()
    require_identities(document)


def follow(document: CocoFile, found: Mapping[int, People], skeleton: Skeleton, config: TrackConfig) -> Tracks:
    """Follow people through videos and score their identities. Raises UserError as `track` and `score_identities` do."""
    start = time.perf_counter()
    identities = track(document, found, skeleton, config)
    milliseconds = 1000 * (time.perf_counter() - start) / max(len(identities), 1)
    figures = score_identities(document, found, identities, skeleton)
    return Tracks(identities=identities, figures=figures, ms_per_frame=milliseconds)


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
