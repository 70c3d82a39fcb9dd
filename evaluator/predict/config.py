"""Options of the command `predict`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

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
    """Image files, video files, and folders of images and videos."""
    checkpoint: Path
    """Checkpoint file, or run folder, whose newest checkpoint is used."""
    out: Path
    """Folder for results.json, images.json, prediction.json, config.yaml and the drawings (for a video, an annotated video); absent or empty."""
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
