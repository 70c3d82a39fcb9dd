"""The entries of a COCO keypoint file: images, annotations, videos and licenses, as `coco` checks and gives them."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from pipeline.datasets.boxes import Box
from pipeline.datasets.segmentation import Coordinate, Polygons, Rle, Segmentation
from pipeline.storage.documents import Id

MAX_SIDE_PX = 65_535  # limit of the JPEG format
MAX_PATH = 4_096

LicenseId = Annotated[int, Meta(ge=-(2**31), lt=2**31)]  # int32 in the rows of a record set
Side = Annotated[int, Meta(ge=1, le=MAX_SIDE_PX)]


@dataclass(frozen=True, kw_only=True)
class Image:
    """An entry of the list `images`: an image of `width` x `height` pixels. Of a video: also the video, and the number of the frame.

    crowdIndex: how much the people overlap, from 0 to 1, in CrowdPose's files.
    """

    id: Id
    file_name: Annotated[str, Meta(min_length=1, max_length=MAX_PATH)]
    width: Side
    height: Side
    license: LicenseId | None = None
    video_id: Id | None = None
    frame_id: Id | None = None
    crowdIndex: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file_name)
        if path.is_absolute() or ".." in PurePosixPath(self.file_name.replace("\\", "/")).parts or "\0" in self.file_name:
            raise ValueError(f"file_name must be a path inside the image folder, got {self.file_name[:100]!r}")

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """An entry of the list `annotations`: a person, or a crowd (`iscrowd`).

    keypoints: float64 (S, 3), x and y in pixels, v in {0, 1, 2}; 0, 0, 0 = unlabeled. bbox: x, y, width, height in pixels.
    area: area of the segmentation in square pixels. segmentation: None if the file has none. Where the file has no bbox or area,
    they are those of `pipeline.datasets.boxes`. track_id: who it is, in a file of videos. head_box: as bbox, of the head, which
    `convert` keeps of MPII and PoseTrack. num_keypoints: as the file states it; CrowdPose's leaves out guessed heads and necks.
    """

    image_id: int
    iscrowd: bool
    area: float
    bbox: Box
    keypoints: np.ndarray
    segmentation: Segmentation | None
    track_id: int | None = None
    head_box: Box | None = None
    num_keypoints: int | None = None

    @property
    def labeled(self) -> np.ndarray:
        """bool (S,): which keypoints are labeled (v > 0)."""
        return self.keypoints[:, 2] > 0

    @property
    def is_labeled_person(self) -> bool:
        """Whether this is a person, not a crowd, with at least one labeled keypoint."""
        return not self.iscrowd and bool(self.labeled.any())


class Video(msgspec.Struct):
    """An entry of the list `videos`."""

    id: Id
    name: str | None = None
    fps: Annotated[float, Meta(ge=0.1, le=1000)] = 25.0


class License(msgspec.Struct):
    """An entry of the list `licenses`."""

    id: LicenseId
    name: str | None = None
    url: str | None = None


class AnnotationEntry(msgspec.Struct):
    """An entry of the list `annotations` as the file holds it."""

    image_id: int
    area: Annotated[float, Meta(ge=0, le=MAX_SIDE_PX**2)] | None = None
    bbox: Annotated[list[Coordinate], Meta(min_length=4, max_length=4)] | None = None
    iscrowd: bool | Annotated[int, Meta(ge=0, le=1)] = 0
    keypoints: list[Coordinate] | None = None
    segmentation: Polygons | Rle | None = None
    track_id: Any = None  # of a file without `videos`, anything
    instance_id: Any = None
    head_box: tuple[Coordinate, Coordinate, Coordinate, Coordinate] | None = None
    num_keypoints: Any = None  # the keypoints say it; of files in which they do not, an integer
