"""A training step between its launch and the reading of its result."""

from dataclasses import dataclass

import mindspore as ms

from trainer.data.stream import Batch


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A step whose result has not been read: its number from 1, packed result, batch (which the device may still read), samples of
    all processes."""

    number: int
    packed: ms.Tensor
    batch: Batch
    num_samples: int
