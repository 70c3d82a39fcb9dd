"""Options of the augmentation. Imports nothing heavy."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How training crops are taken from an image."""

    augment: Literal["reference", "none"] = "reference"
    """reference: random crops, as the options below set them. none: crops at the scale of evaluation, variant v centered on
    person v."""
    min_scale: float = 0.5
    """Smallest scale factor of the image."""
    max_scale: float = 2.0
    """Largest scale factor of the image."""
    min_person_px: float = 64.0
    """Choose scales that keep the box diagonal of the smallest person above this, within min_scale and max_scale."""
    max_person_px: float = 512.0
    """Choose scales that keep the box diagonal of the largest person below this, within min_scale and max_scale."""
    person_share: float = 0.0
    """If above 0, min_scale and max_scale apply to the person at the center instead of the image: at scale 1, the person's box
    takes this share of the crop's side (CMU's target_dist). min_person_px and max_person_px are then ignored."""
    rotation_sd_degrees: float = 40 / 3
    """Standard deviation of the rotation, which is normally distributed."""
    rotation_range_degrees: float = 0.0
    """If above 0, the rotation is uniform between minus and plus this angle instead of normal."""
    center_jitter_px: float = 40.0
    """Largest offset in x and y, in pixels of the crop, between the center of the crop and the person it is centered on."""
    mirror_probability: float = 0.5
    """Probability that a crop is mirrored."""
    color_probability: float = 0.5
    """Probability that the colors of a crop are shifted."""
    hsv_shift: tuple[int, int, int] = (10, 40, 30)
    """Largest shift of hue (in units of 2 degrees), saturation and value (of 255)."""

    def __post_init__(self) -> None:
        if not 0.01 <= self.min_scale <= self.max_scale <= 100:
            raise ValueError(
                f"min_scale must be in [0.01, max_scale], max_scale at most 100, got {self.min_scale} and {self.max_scale}"
            )
        if not 0 < self.min_person_px <= self.max_person_px:
            raise ValueError(f"min_person_px must be in (0, max_person_px], got {self.min_person_px} and {self.max_person_px}")
        for name in ("mirror_probability", "color_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("person_share", "rotation_sd_degrees", "rotation_range_degrees", "center_jitter_px"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if not all(0 <= shift <= 127 for shift in self.hsv_shift):
            raise ValueError(f"hsv_shift must be three numbers from 0 to 127, got {self.hsv_shift}")
