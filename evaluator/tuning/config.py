"""Options of the command `tune`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from evaluator.inference.config import InferConfig
from evaluator.options import BatchSize, Device, Inference, MaxImages, Unreadable, require_batch_size
from pipeline.tolerance import Tolerance
from trainer.device import DeviceConfig

MIN_FOLDS, MAX_FOLDS = 2, 20


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """Find the settings of the decoder with which a checkpoint has the highest AP, and keep them in a new checkpoint.

    Decodes the fields of every image with many settings, chooses the best ones, and states the gain to expect on other images:
    AP when the settings for each part of the images are chosen on the other parts (cross-validation). `run`, `predict`, `watch`,
    `live` and `export` then use the settings; their options override them. Use images that the network was not trained on, and
    that you will not report figures on. Calibrate after tuning: other settings give other scores.

    Example: python -m evaluator tune --checkpoint runs/first --annotations person_keypoints_val2017.json --images val2017 --out tuned.safetensors
    """

    checkpoint: Path
    """Checkpoint file, or run folder, whose newest checkpoint is used."""
    annotations: Path
    """COCO keypoint annotation file."""
    images: Path
    """Folder of the images."""
    out: Path
    """Checkpoint file to write, with the suffix .safetensors, outside of the run folder; must not exist."""
    max_images: MaxImages = 500
    folds: int = 5
    """Number of parts of the cross-validation."""
    json: Path | None = None
    """Also write what was found to this file: every setting with its AP, the chosen one, and the expected AP."""
    batch_size: BatchSize = None
    tolerance: Unreadable = field(default_factory=Tolerance)
    device: Device = field(default_factory=DeviceConfig)
    inference: Inference = field(default_factory=InferConfig)

    def __post_init__(self) -> None:
        if not MIN_FOLDS <= self.folds <= MAX_FOLDS:
            raise ValueError(f"folds must be from {MIN_FOLDS} to {MAX_FOLDS}, got {self.folds}")
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {self.max_images}")
        require_batch_size(self.batch_size)
