"""Options of the command `predict`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluator.decoding.scores import SelectConfig
from evaluator.inference.config import InferConfig
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.options import BatchSize, Decoding, Device, Inference, Select, Tracking, Unreadable, require_batch_size
from evaluator.tracking.config import TRACK_OPTIONS, TrackConfig, require_track
from pipeline.tolerance import Tolerance
from trainer.device import DeviceConfig


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Which frames of videos are read, and what is done with them."""

    frames: str = ":"
    """START:END: read only these frames of videos, counted from 0, without END. Either may be left out."""
    step: int = 1
    """Read only every n-th frame of videos."""
    rotate: Literal[0, 90, 180, 270] = 0
    """Turn the frames of videos clockwise by this angle, in addition to the rotation that a file states."""
    speed: float = 1.0
    """Playback speed of annotated videos: 0.5 plays them in slow motion."""
    track: bool = True
    """Follow people from frame to frame: every person of a video has the same number in all frames."""
    smooth: bool = False
    """Smooth the keypoints in videos over time (One-Euro filter). Needs --track."""

    def __post_init__(self) -> None:
        _ = self.range
        if not 1 <= self.step <= 10_000:
            raise ValueError(f"step must be from 1 to 10000, got {self.step}")
        if not 0.1 <= self.speed <= 10:
            raise ValueError(f"speed must be from 0.1 to 10, got {self.speed}")
        require_track(self.smooth, self.track)

    @property
    def range(self) -> tuple[int, int | None]:
        """First frame, and the one after the last; None for all."""
        start, colon, end = self.frames.partition(":")
        numbers = [int(text) if text.isdecimal() and len(text) < 12 else None for text in (start or "0", end or "0")]
        first, last = numbers
        if not colon or first is None or last is None or (end and last <= first):
            raise ValueError(f"frames must be START:END, with START below END, such as 100:200 or 100:, got {self.frames!r}")
        return first, last if end else None


@dataclass(frozen=True, kw_only=True)
class DrawConfig:
    """What drawings show."""

    background: Literal["image", "black", "white"] = "image"
    """What people are drawn on."""
    thickness_px: int | None = None
    """Thickness of the limbs in pixels. Default: 1/110 of the shorter side of the image."""
    draw_ids: bool = True
    """Write the number of every person in videos."""
    joint_names: bool = False
    """Write the names of the joints."""
    blur_faces: bool = False
    """Make the faces of all people, also of those who are not drawn, unrecognizable."""

    def __post_init__(self) -> None:
        if self.thickness_px is not None and not 1 <= self.thickness_px <= 200:
            raise ValueError(f"thickness_px must be from 1 to 200, got {self.thickness_px}")


Video = Annotated[VideoConfig, tyro.conf.arg(name="")]
Drawing = Annotated[DrawConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Find people in images and videos, draw them, and write them to one JSON file in COCO's results format.

    Example: python -m evaluator predict --checkpoint runs/first --out found holiday.jpg more_pictures/ dance.mp4

    To continue a run that was stopped or killed, repeat the command. Until the run is complete, the people that it has found are in
    OUT.unfinished, or in OUT if that folder existed before.
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, video files, folders (with the folders in them), patterns such as "2024/**/*.jpg", @LIST for a file with one
    name per line, and - for names on stdin."""
    checkpoint: Path
    """Checkpoint file, run folder, whose newest checkpoint is used, or exported network (.onnx), which needs no MindSpore."""
    out: Path
    """Folder for results.json, images.json, prediction.json, config.yaml and the drawings (for a video, an annotated video); absent or empty."""
    skip_existing: bool = False
    """Add to a finished --out the files that it does not list, such as new ones in a folder. All other options must be the same."""
    openpose_json: bool = False
    """Also write one file per image or video frame to OUT/openpose, in the format of OpenPose's --write_json."""
    coco_video: bool = False
    """Also write OUT/videos.json: the people in videos as COCO annotations with `videos`, `frame_id` and `track_id`."""
    table: Literal["csv", "parquet"] | None = None
    """Also write OUT/people.csv or OUT/people.parquet: one row per person and image, with joints and angles."""
    batch_size: BatchSize = None
    tolerance: Unreadable = field(default_factory=Tolerance)
    device: Device = field(default_factory=DeviceConfig)
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeOptions)
    select: Select = field(default_factory=SelectConfig)
    video: Video = field(default_factory=VideoConfig)
    tracking: Tracking = field(default_factory=TrackConfig)
    drawing: Drawing = field(default_factory=DrawConfig)

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images must be at least one file or folder, got none")
        if not self.video.track and self.tracking != TrackConfig():
            raise ValueError(f"{TRACK_OPTIONS} need --track")
        require_batch_size(self.batch_size)


@dataclass(frozen=True, kw_only=True)
class BenchPredictConfig:
    """Measure `predict` with MindSpore and with ONNX Runtime: images per second, and the time in which the network waits.

    Draws images of people, 640 x 480 pixels, and runs `predict` on them: read, resize, network, decode, draw, encode, write. The
    weights of a preset are random, which does not change the time of the network. Its fields are replaced by the true ones, so
    that there are people to decode and to draw.

    Example: python -m evaluator bench-predict --presets small openpose
    """

    presets: tuple[Literal["openpose", "openpose-2019", "lightweight", "small"], ...] = ("small",)
    """Networks to measure."""
    insize: int = 368
    """Length in pixels to which the shorter side of each image is resized."""
    num_images: int = 96
    """Number of images."""
    repeats: int = 2
    """Number of times that all images are processed with each engine, in turn. The fastest time counts."""

    def __post_init__(self) -> None:
        for name, least in (("num_images", 2), ("repeats", 1), ("insize", 32)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if not self.presets:
            raise ValueError("presets must be at least one network, got none")
