"""How much memory training takes on a CPU, estimated from the layers before anything is computed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil
from mindspore import nn

from pipeline.cli import UserError
from trainer.network import Network

# Fitted to the resident memory of ten runs from 0.9 to 14 GB (shapes from `small` to `openpose`, batch 1 to 16, 1 and 2
# threads); the estimate was 3 to 8 % above each.
_PROCESS_BYTES = 0.7e9
_COPIES_OF_WEIGHTS = 6  # weights, two moments, gradients scaled and unscaled, workspace
_COPIES_OF_ACTIVATIONS = 2.1  # before and after the ReLU
_FLOAT_BYTES = 4


def estimate_bytes(network: Network, *, insize: int, batch_size: int, num_threads: int) -> int:
    """Peak memory of a training step on images of insize x insize pixels.

    Most of it is scratch: oneDNN unfolds the input of a convolution (kernel^2 copies of it) for every thread that works on an
    image of its own, and every layer keeps its scratch between steps.
    """
    activations = unfolded = 0
    for layer, side in _convolutions(network, insize):
        kernel = layer.kernel_size[0]
        activations += layer.out_channels * side * side
        unfolded += layer.in_channels * side * side * kernel * kernel if kernel > 1 else 0
    weights = sum(p.size for p in network.trainable_params())
    floats = _COPIES_OF_WEIGHTS * weights + _COPIES_OF_ACTIVATIONS * batch_size * activations
    floats += (1 + min(batch_size, num_threads)) * unfolded
    return int(_PROCESS_BYTES + _FLOAT_BYTES * floats)


def _convolutions(network: Network, insize: int) -> Iterator[tuple[nn.Conv2d, int]]:
    """Each convolution and the side of its output."""
    side = insize
    for part in (network.trunk, network.cpm, network.stages):
        for _, layer in part.cells_and_names():
            if isinstance(layer, nn.MaxPool2d):
                side //= 2
            elif isinstance(layer, nn.Conv2d):
                side //= layer.stride[0]
                yield layer, side


def available_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max"), used: Path = Path("/sys/fs/cgroup/memory.current")) -> int:
    """Memory that this process can still get: of the machine, and of its container if that has a limit."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no such limit: the files are absent or say "max"
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available


def check(network: Network, *, insize: int, batch_size: int, num_threads: int) -> None:
    """Raise UserError where the estimate is above what this process holds and can still get."""
    needed = estimate_bytes(network, insize=insize, batch_size=batch_size, num_threads=num_threads)
    there = available_bytes() + psutil.Process().memory_info().rss
    if needed > there:
        raise UserError(
            f"batch_size {batch_size} at insize {insize} needs about {needed / 1e9:.1f} GB of memory on a CPU, "
            f"{there / 1e9:.1f} GB are available; use a smaller --batch-size, --preset small or records of a smaller --insize "
            "(--no-check-memory tries all the same)"
        )
