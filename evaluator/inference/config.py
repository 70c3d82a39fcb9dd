"""Options of inference, shared by several commands. Imports nothing heavy."""

from dataclasses import dataclass

from trainer.networks.config import Precision


@dataclass(frozen=True, kw_only=True)
class InferConfig:
    """Input size, test-time augmentation, weights and precision."""

    insize: int | None = None
    """Length in pixels to which the shorter side of each image is resized. Default: the side of the training crops."""
    scales: tuple[float, ...] = (1.0,)
    """Multi-scale testing: run the network at these multiples of insize and average the fields. CMU uses 0.5 1 1.5 2."""
    mirror: bool = False
    """Flip testing: also run the network on the mirrored image and average the fields. Takes twice the time."""
    raw_weights: bool = False
    """Use the raw weights even if the checkpoint also holds their moving averages (--ema-decay of the training run)."""
    precision: Precision = "O0"
    """Precision of the network: O0 float32, O2 float16 except for batch normalization, O3 float16. O2 and O3 are not faster on a
    CPU."""
    size_step_px: int = 64
    """Pad the longer side so that it exceeds the shorter one by a multiple of this. Larger steps mean fewer input sizes."""

    def __post_init__(self) -> None:
        if self.insize is not None and not 32 <= self.insize <= 4096:
            raise ValueError(f"insize must be from 32 to 4096 pixels, got {self.insize}")
        if not self.scales or len(set(self.scales)) != len(self.scales) or not all(0.1 <= s <= 8 for s in self.scales):
            raise ValueError(f"scales must be distinct numbers from 0.1 to 8, got {self.scales}")
        if not 1 <= self.size_step_px <= 4096:
            raise ValueError(f"size_step_px must be from 1 to 4096, got {self.size_step_px}")
