"""Options of the augmentation on the device. Imports nothing heavy."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class JitterConfig:
    """Augmentation on the device. It differs in every epoch, so that a few stored variants go a long way."""

    mirror: bool = False
    """Mirror each sample with probability 0.5."""
    color_jitter: float = 0.0
    """Multiply brightness, contrast and saturation of each sample by random factors in [1 - color_jitter, 1 + color_jitter],
    for example 0.3. 0: off."""

    def __post_init__(self) -> None:
        if not 0 <= self.color_jitter <= 1:
            raise ValueError(f"color_jitter must be in [0, 1], got {self.color_jitter}")
