"""Identities of the people of an annotation file's videos, and their scores."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.scores import ScoreMap
from evaluator.metrics.mot import require_identities, score_identities
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.tracker import Tracker
from pipeline.datasets.coco import CocoFile, Image
from pipeline.images import UnreadableImage, read_image
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.wording import counted

Identities = dict[int, np.ndarray]
"""By image id: the identity of each of its people, int64 (N,), -1 for those without one. Unique in the whole file."""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Identities of the people of videos, and their scores.

    people: those of each image, by image id, with the joints that the decoder mixed up exchanged. figures: those of
    `evaluator.metrics.mot`, by name of the video and of all of them ("all"). cues: what tells people apart. ms_per_frame: time of
    tracking, without reading images.
    """

    identities: Identities
    figures: dict[str, dict[str, float]]
    people: dict[int, People] = field(default_factory=dict)
    cues: str = ""
    ms_per_frame: float = 0.0

    def summary(self) -> str:
        """Return the figures of all videos as one line, formatted as a dict."""
        shown = {name: round(value, 4) if name in ("MOTA", "IDF1") else int(value) for name, value in self.figures["all"].items()}
        return f"identities {self.cues}, over {counted(len(self.figures) - 1, 'video')}: {shown}"


def cues(config: TrackConfig, images: Path | None) -> str:
    """Return what tells people apart, for the user. images: folder of the images."""
    if not config.appearance:
        return "by motion alone"
    return "by motion and clothes" if images else "by motion alone (the clothes need --images)"


def require_videos(document: CocoFile) -> None:
    """Raise UserError unless identities in the videos of a file can be scored. Call it before the work starts."""
    document.frames()
    require_identities(document)


def follow(
    document: CocoFile,
    found: Mapping[int, People],
    skeleton: Skeleton,
    config: TrackConfig,
    images: Path | None = None,
    to_scores: ScoreMap | None = None,
) -> Tracks:
    """Follow people through videos and score their identities.

    images: folder of the images; without it, or for an image that cannot be read, people differ by motion and pose only. to_scores: see
    `Tracker`. Raises UserError as `CocoFile.frames` and `score_identities` do.
    """
    tracks = track(document, found, skeleton, config, images, to_scores)
    figures = score_identities(document, tracks.people, tracks.identities, skeleton)
    return replace(tracks, figures=figures)


def track(
    document: CocoFile,
    found: Mapping[int, People],
    skeleton: Skeleton,
    config: TrackConfig,
    folder: Path | None = None,
    to_scores: ScoreMap | None = None,
) -> Tracks:
    """Follow people as `follow` does, without scoring. Images that are not in `found` show nobody."""
    folder = folder if config.appearance else None
    identities: Identities = {}
    people: dict[int, People] = {}
    num_identities, seconds = 0, 0.0
    with progress_bar(total=len(document.images), desc="following people", unit="image") as progress:
        for video_id, images in document.frames().items():
            numbers = [image.frame_id or 0 for image in images]
            step = (
                float(np.median(np.diff(numbers))) if len(numbers) > 1 else 1.0
            )  # annotations of every second frame, for example
            tracker = Tracker(skeleton, document.videos[video_id].fps / step, config, to_scores)
            largest = 0
            for image in images:
                own_people = found.get(image.id) or _nobody(skeleton)
                pixels = _read(folder, image) if folder and len(own_people) else None
                start = time.perf_counter()
                own = tracker.update(own_people, image=pixels)
                seconds += time.perf_counter() - start
                people[image.id] = People(keypoints=tracker.keypoints, scores=own_people.scores)
                largest = max(largest, int(own.max(initial=0)))
                identities[image.id] = np.where(own > 0, own + num_identities, own)
                progress.update()
            num_identities += largest
    milliseconds = 1000 * seconds / max(len(identities), 1)
    return Tracks(identities=identities, figures={}, people=people, cues=cues(config, folder), ms_per_frame=milliseconds)


def _read(folder: Path, image: Image) -> np.ndarray | None:
    try:
        return read_image(folder / image.file_name, image.size_wh)
    except UnreadableImage:
        return None


def _nobody(skeleton: Skeleton) -> People:
    return People(keypoints=np.zeros((0, skeleton.num_joints, 3), np.float32), scores=np.zeros(0, np.float32))
