"""The interfaces through which the evaluator uses a network."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pipeline.skeleton import Skeleton


class FieldNetwork(Protocol):
    """A network that computes fields, whatever runs it."""

    @property
    def skeleton(self) -> Skeleton:
        """Joints and limbs, in the order of the channels."""

    @property
    def insize(self) -> int:
        """Side of the training crops in pixels."""

    @property
    def stride_px(self) -> int:
        """Input pixels per cell of the fields."""

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return heatmaps (B, J + 1, H / stride, W / stride) and PAFs (B, 2 L, H / stride, W / stride), both float32.

        images: uint8 RGB (B, H, W, 3); H and W are multiples of the stride.
        """


class Progress(Protocol):
    """The point of the training run at which a checkpoint was saved."""

    @property
    def step(self) -> int:
        """Number of training steps done."""

    @property
    def epoch(self) -> int:
        """Current epoch, counted from 0."""

    @property
    def calibration(self) -> dict[str, Any]:
        """The calibration of the scores, see `evaluator.inference.scoring`; empty if there is none."""

    @property
    def tuning(self) -> dict[str, Any]:
        """The settings of the decoder in a checkpoint, see `evaluator.inference.tuned`; empty if there are none."""


class CheckpointNetwork(FieldNetwork, Protocol):
    """A network loaded from a file: `trainer.run.load.LoadedNetwork` or `evaluator.inference.exported.ExportedNetwork`."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def info(self) -> Progress:
        """Step and epoch of the checkpoint."""

    @property
    def notes(self) -> list[str]:
        """Lines to report to the user."""
