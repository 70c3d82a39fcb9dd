"""Options of the command `predict`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import SelectConfig
from evaluator.inference.config import InferConfig
from evaluator.options import BatchSize, Decoding, Device, Inference, Select, Unreadable, require_batch_size
from pipeline.tolerance import Tolerance
from trainer.device import DeviceConfig


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
    batch_size: BatchSize = None
    tolerance: Unreadable = field(default_factory=Tolerance)
    device: Device = field(default_factory=DeviceConfig)
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)
    select: Select = field(default_factory=SelectConfig)

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images must be at least one file or folder, got none")
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
