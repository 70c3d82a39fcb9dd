"""Sums over all processes within the compiled step: gradients in a few large buckets, losses and flags in one small tensor."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import amp, ops

from trainer.distributed.world import World

NUM_BUCKETS = 7  # with the sum of losses and flags, 8 collectives per step

Reduce = Callable[..., tuple[ms.Tensor, ms.Tensor, ms.Tensor, Sequence[ms.Tensor]]]
"""Arguments and results: see `make_reduction`."""


def bucket_ranges(sizes: Sequence[int], num_buckets: int = NUM_BUCKETS) -> list[tuple[int, int]]:
    """Divide consecutive tensors of these sizes into at most `num_buckets` ranges (first, end) of similar total size."""
    ends = np.cumsum(sizes)
    targets = ends[-1] * np.arange(1, num_buckets + 1) / num_buckets
    cuts = sorted({0, len(sizes), *(np.searchsorted(ends, targets - 0.5) + 1).tolist()})
    return list(pairwise(cuts))


def locally_finite(values: tuple[ms.Tensor, ...]) -> ms.Tensor:
    """Return whether all values of this process are finite, bool (). In a compiled graph.

    On an Ascend device in saturation mode, where infinity becomes the largest number and NaN becomes 0, it reads the overflow
    status of the device instead.
    """
    return amp.all_finite(values)


def _flat(gradient: ms.Tensor) -> ms.Tensor:
    return gradient.reshape((-1,))


def _part(bucket: ms.Tensor, begin: int, gradient: ms.Tensor) -> ms.Tensor:
    return ops.slice(bucket, (begin,), (gradient.size,)).reshape(gradient.shape)


def make_reduction(world: World, weights: Sequence[ms.Parameter]) -> Reduce:
    """Return a function for the compiled step: (losses, overflow, stop, gradients) -> losses, finite, stopping, gradients.

    losses: float32 (S, 2), and gradients, one per weight: returned as the sums over all processes. overflow: float32 (), above 0
    if the device reported an overflow in this process. stop: float32 (), 1 if this process was asked to stop. finite: float32 (),
    1 if losses and gradients are finite in all processes and no device reported an overflow. Each process checks its own part
    before the sum, because a device in saturation mode does not pass on NaN.
    stopping: float32 (), 1 if any process was asked to stop. All processes receive the same results.
    """
    summed = world.summing()
    sizes = [int(np.prod(p.shape)) for p in weights]
    ranges, each = bucket_ranges(sizes), ops.HyperMap()  # the graph compiler allows no long loops
    begins = tuple(sum(sizes[first:i]) for first, end in ranges for i in range(first, end))

    def split(buckets: tuple[ms.Tensor, ...], gradients: Sequence[ms.Tensor]) -> Sequence[ms.Tensor]:
        parts: Any = ()
        for k in range(len(ranges)):
            first, end = ranges[k]
            parts += each(ops.partial(_part, buckets[k]), begins[first:end], gradients[first:end])
        return parts

    def reduce(
        losses: ms.Tensor, overflow: ms.Tensor, stop: ms.Tensor, gradients: Sequence[ms.Tensor]
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, Sequence[ms.Tensor]]:
        flat = each(_flat, gradients)
        buckets: Any = ()
        for first, end in ranges:
            buckets += (ops.concat(flat[first:end]),)
        bad = 1.0 - ops.cast(locally_finite((losses, *buckets)), ms.float32) + overflow
        packed = summed(ops.concat((losses.reshape((-1,)), ops.stack((bad, stop)))))
        # After the check, which on some devices reads a status that a sum could change; and in one order in all processes.
        totals, previous = (), packed  # type: Any, ms.Tensor
        for bucket in buckets:
            previous = summed(ops.depend(bucket, previous))
            totals += (previous,)
        finite, stopping = (ops.cast(flag, ms.float32) for flag in (packed[-2] == 0, packed[-1] > 0))
        return packed[:-2].reshape(losses.shape), finite, stopping, split(totals, gradients)

    return reduce
