"""Check of an exported file: its fields must be those that the checkpoint gives in float32 on a CPU.

The reference never runs on an accelerator, whose convolutions may round to HF32 or float16.
"""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from evaluator.export.config import ExportConfig
from evaluator.inference.exported import OUTPUTS
from pipeline.errors import UserError
from pipeline.runtime.processes import end_with_parent
from trainer.device import DeviceConfig, choose_device

if TYPE_CHECKING:
    from trainer.run.load import LoadedNetwork

# Absolute for fields up to 1, relative to the largest value for larger fields.
TOLERANCE = 1e-4  # float32 against float32
ROUNDED_TOLERANCE = 1e-2  # float16 and HF32 have 10 bits of mantissa: emulated HF32 moves fields by up to 1.7e-3
CHECKED_CELLS = ((1, 5, 7), (2, 4, 3))  # batch, rows, columns of the inputs on which a file with dynamic sizes is compared

Engine = Callable[[np.ndarray], Sequence[np.ndarray]]
"""Runs a network: uint8 images (B, H, W, 3) -> heatmaps, PAFs."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Compares what an engine computes with the checkpoint. `device` is that of this process."""

    network: "LoadedNetwork"
    config: ExportConfig
    device: str

    def require_same(self, engine: Engine, device: str = "CPU") -> None:
        """Raise UserError unless `engine`, which runs on `device`, agrees with the checkpoint on inputs of several sizes."""
        is_exact = device == "CPU" and self.config.precision == "O0" and self.config.quantize == "none"
        tolerance = TOLERANCE if is_exact else ROUNDED_TOLERANCE
        if self.config.quantize == "int8":
            tolerance = np.inf  # that is for the AP on annotated images to say
        inputs, largest = self._inputs(), 0.0
        for images, reference in zip(inputs, self._reference(inputs), strict=True):
            for name, exported, expected in zip(OUTPUTS, engine(images), reference, strict=True):
                if not np.isfinite(expected).all():
                    raise UserError(
                        f"{name} of checkpoint {self.network.path} must be finite, got NaN or infinite values; the network has "
                        "diverged, use another checkpoint"
                    )
                difference = np.abs(exported - expected).max() if exported.shape == expected.shape else np.inf
                difference = float(difference / max(1, np.abs(expected).max()))
                if not difference <= tolerance:
                    raise UserError(
                        f"--format {self.config.format}: {name} of the exported network differ from the checkpoint's by "
                        f"{difference:.2g} on an input of shape {images.shape}, more than {tolerance:g}; nothing was written"
                    )
                largest = max(largest, difference)
        allowed = "any; measure the AP with `run --checkpoint`" if tolerance == np.inf else f"{tolerance:g}"
        print(
            f"compared on the device {device} with the checkpoint in float32 on a CPU: fields differ by at most {largest:.2g} "
            f"(allowed: {allowed})"
        )

    def _inputs(self) -> list[np.ndarray]:
        rng, stride_px = np.random.default_rng(0), self.network.stride_px
        shapes = [
            self.config.filled_shape((batch, rows * stride_px, columns * stride_px)) for batch, rows, columns in CHECKED_CELLS
        ]
        return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]

    def _reference(self, inputs: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
        if self.device == "CPU" and self.config.precision == "O0":
            return [self.network.fields(images) for images in inputs]
        # A process has one device.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, context, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
            try:
                return pool.submit(fields_on_cpu, self.network.path, not self.config.raw_weights, inputs).result()
            except BrokenProcessPool as error:
                raise UserError(
                    f"--format {self.config.format}: the process that computes the reference on the CPU was killed, probably for "
                    "lack of memory; free memory and try again"
                ) from error


def fields_on_cpu(checkpoint: Path, average: bool, inputs: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the float32 fields of a checkpoint for each input, computed on the CPU. Runs in a process of its own."""
    from trainer.run.load import load_network

    choose_device(DeviceConfig(device_target="CPU"))
    network = load_network(checkpoint, average=average)
    return [network.fields(images) for images in inputs]
