"""Options of validation while training. Imports nothing heavy."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ValidateConfig:
    """Validation while training: AP on images that the network is not trained on, the best checkpoint, and early stopping."""

    validate_annotations: Path | None = None
    """COCO keypoint annotation file of images that the network is not trained on. Training pauses for `python -m evaluator run`, which
    computes the AP of each checkpoint; OUT/best.safetensors is the checkpoint with the highest AP. Default: no validation."""
    validate_images: Path | None = None
    """Folder of the images of validate_annotations."""
    validate_interval: int = 0
    """Number of steps between validations; each of them also writes a checkpoint. The last step always validates. 0: validate every
    checkpoint."""
    validate_max_images: int | None = None
    """Validate on a random subset of this many images, the same subset every time."""
    validate_insize: int | None = None
    """Length in pixels to which the shorter side of each image is resized, as --insize of `python -m evaluator run`. Default: the side
    of the training crops."""
    validate_device_target: Literal["CPU", "Ascend"] = "CPU"
    """Device that validates. Training keeps its Ascend devices while it waits, so use the CPU, or a device that no rank trains on."""
    validate_device_id: int = 0
    """Index of the Ascend device that validates."""
    patience: int = 0
    """Early stopping: end the run after this many validations in a row without a higher AP, counted from the first AP above 0. 0: off."""

    def __post_init__(self) -> None:
        for name in ("validate_interval", "validate_device_id", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.validate_max_images is not None and self.validate_max_images < 1:
            raise ValueError(f"validate_max_images must be at least 1, got {self.validate_max_images}")
        if self.validate_insize is not None and not 32 <= self.validate_insize <= 4096:
            raise ValueError(f"validate_insize must be from 32 to 4096 pixels, got {self.validate_insize}")
        if self.validate_device_id and self.validate_device_target != "Ascend":
            raise ValueError(f"validate_device_id {self.validate_device_id} needs --validate-device-target Ascend")
        if (self.validate_annotations is None) != (self.validate_images is None):
            raise ValueError("validate_annotations and validate_images need each other; give both, or neither")
        if self.validate_annotations is None and any(getattr(self, option.name) != option.default for option in fields(self)):
            raise ValueError(
                "patience and the validate_ options need the data; give --validate-annotations and --validate-images, or remove them"
            )
