"""How much memory training takes on a CPU, estimated from the layers before anything is computed."""

import contextlib
from pathlib import Path

import psutil

from pipeline.errors import UserError
from trainer.networks.network import Network, convolutions

# Fitted to the peak memory of `bench-step` for the four presets, see `tests/test_memory.py`.
_PROCESS_BYTES = 0.93e9
_COMPILED_BYTES = 12e6  # of each unfolded convolution: its operators while the graph is compiled
_COPIES_OF_WEIGHTS = 6  # weights, two moments, gradients scaled and unscaled, workspace
_COPIES_OF_OUTPUTS = 2.1  # before and after the ReLU
_COPIES_OF_NORMALIZED = 2.5  # and after the batch normalization between them
_COPIES_OF_UNFOLDED = 1.4
_FLOAT_BYTES = 4


def estimate_bytes(network: Network, *, insize: int, batch_size: int, num_threads: int) -> int:
    """Peak memory of a training step on images of insize x insize pixels.

    Of a convolution that is not unfolded (`cpu_convolution.unfold`), most of it is scratch: oneDNN copies the input kernel^2 times for
    every thread that works on an image of its own, and every layer keeps its scratch between steps.
    """
    floats, unfolded = _COPIES_OF_WEIGHTS * sum(p.size for p in network.trainable_params()), 0
    for layer, side in convolutions(network, insize):
        cells = side * side
        if layer.unfolded:
            unfolded += 1
            columns, rows = (layer.size * channels * cells for channels in (layer.in_channels, layer.out_channels))
            floats += rows + batch_size * (columns + _COPIES_OF_UNFOLDED * layer.out_channels * cells)
            continue
        copies = _COPIES_OF_OUTPUTS if layer.has_bias else _COPIES_OF_NORMALIZED
        floats += copies * batch_size * layer.out_channels * cells
        if layer.size > 1:
            floats += (1 + min(batch_size, num_threads)) * layer.in_channels // layer.group * layer.size**2 * cells
    return int(_PROCESS_BYTES + _COMPILED_BYTES * unfolded + _FLOAT_BYTES * floats)


def available_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max"), used: Path = Path("/sys/fs/cgroup/memory.current")) -> int:
    """Memory that this process can still get: of the machine, and of its container if that has a limit."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # no such limit: the files are absent or say "max"
        available = min(available, int(limit.read_text()) - int(used.read_text()))
    return available


def check(network: Network, *, insize: int, batch_size: int, num_threads: int, num_processes: int = 1) -> None:
    """Raise UserError where the estimate for the processes of this host is above what they hold and can still get."""
    needed = num_processes * estimate_bytes(network, insize=insize, batch_size=batch_size, num_threads=num_threads)
    there = available_bytes() + num_processes * psutil.Process().memory_info().rss
    if needed > there:
        together = f" in {num_processes} processes" if num_processes > 1 else ""
        raise UserError(
            f"batch_size {batch_size} at insize {insize}{together} needs about {needed / 1e9:.1f} GB of memory on a CPU, "
            f"{there / 1e9:.1f} GB are available; use a smaller --batch-size, --preset small or records of a smaller --insize "
            "(--no-check-memory tries all the same)"
        )
