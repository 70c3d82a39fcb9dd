"""Options of the command `export`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evaluator.inference.decoder_options import DecodeOptions
from evaluator.options import Decoding, Device, require_batch_size
from trainer.device import DeviceConfig
from trainer.networks.config import Precision

MAX_SIDE_PX = 8192


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Export the network of a checkpoint to a file that other engines run.

    The exported network takes uint8 RGB images (B, H, W, 3), normalizes them, and returns the last stage's heatmaps
    (B, J + 1, H / stride, W / stride) and PAFs (B, 2 L, H / stride, W / stride). Before the file is written to --out, it is
    run and compared with the checkpoint in float32 on a CPU (AIR is not compared).

    The metadata describes skeleton, stride, input size, normalization and the decoder settings given here: inside an ONNX file,
    and in a .json file beside a MINDIR or AIR file.

    Example: python -m evaluator export --checkpoint runs/first --format ONNX --out openpose.onnx
    """

    checkpoint: Path
    """Checkpoint file, or run folder, whose newest checkpoint is used."""
    format: Literal["MINDIR", "ONNX", "AIR"]
    """MINDIR for MindSpore and MindSpore Lite, ONNX for other engines. AIR is deprecated by MindSpore and needs an Ascend device; use
    MINDIR instead."""
    out: Path
    """File to write; must not exist."""
    raw_weights: bool = False
    """Use the raw weights even if the checkpoint also holds their moving averages (--ema-decay of the training run)."""
    height: int | None = None
    """Fixed input height in pixels, a multiple of the stride. Default: any height."""
    width: int | None = None
    """Fixed input width in pixels, a multiple of the stride. Default: any width."""
    batch_size: int | None = None
    """Fixed number of images per input. Default: any number."""
    precision: Precision = "O0"
    """Precision of the exported network: O0 float32, O2 float16 except for batch normalization, O3 float16."""
    quantize: Literal["none", "float16", "int8"] = "none"
    """ONNX: convert the exported network to smaller numbers. float16 halves the file; int8 needs --calibration-images. --precision is
    the arithmetic of MindSpore before that."""
    calibration_images: Path | None = None
    """Folder of images, like those that the network will see, from which the ranges of the int8 numbers are measured."""
    num_calibration_images: int = 64
    """Number of calibration images to use, spread over the folder."""
    device: Device = field(default_factory=DeviceConfig)
    decoding: Decoding = field(default_factory=DecodeOptions)

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if getattr(self, name) is not None and not 1 <= getattr(self, name) <= MAX_SIDE_PX:
                raise ValueError(f"{name} must be from 1 to {MAX_SIDE_PX}, got {getattr(self, name)}")
        require_batch_size(self.batch_size)
        if self.quantize != "none" and (self.format != "ONNX" or self.precision != "O0"):
            raise ValueError("quantize works only with --format ONNX and --precision O0")
        if (self.quantize == "int8") != (self.calibration_images is not None):
            raise ValueError("--quantize int8 needs --calibration-images, and nothing else takes them")
        if self.num_calibration_images < 1:
            raise ValueError(f"num_calibration_images must be at least 1, got {self.num_calibration_images}")
        if self.format == "AIR" and None in self.shape:
            raise ValueError("AIR needs a fixed input size: give --height, --width and --batch-size")

    @property
    def shape(self) -> tuple[int | None, int | None, int | None, int]:
        """Shape of the input; None for a dimension of any size."""
        return self.batch_size, self.height, self.width, 3

    def filled_shape(self, default: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Shape of an input, with `default` (B, H, W) for dimensions of any size."""
        return self.batch_size or default[0], self.height or default[1], self.width or default[2], 3
