"""Estimate of the memory that training takes on a CPU, computed from the layers before training starts."""

import contextlib
from pathlib import Path

import psutil

from pipeline.errors import UserError
from trainer.networks.network import Network, convolutions

# Fitted to the peak memory that `python -m trainer bench-step` reports for the presets, see tests/trainer/test_memory.py.
_PROCESS_BYTES = 0.93e9
_COPIES_OF_WEIGHTS = 6  # weights, two moments, gradients scaled and unscaled, workspace
_FLOAT_BYTES = 4


def estimate_bytes(network: Network, *, insize: int, batch_size: int, num_threads: int, accumulate_steps: int = 1) -> int:
    """Return the estimated peak memory of a training step on images of insize x insize pixels."""
    copies = _COPIES_OF_WEIGHTS + (accumulate_steps > 1)  # the sums of gradients
    num_weights = sum(parameter.size for parameter in network.trainable_params())
    layers_bytes = sum(
        layer.training_bytes(batch_size=batch_size, num_cells=side * side, num_threads=num_threads)
        for layer, side in convolutions(network, insize)
    )
    return int(_PROCESS_BYTES + _FLOAT_BYTES * copies * num_weights + layers_bytes)


def available_bytes(limit: Path = Path("/sys/fs/cgroup/memory.max"), used: Path = Path("/sys/fs/cgroup/memory.current")) -> int:
    """Return the memory that this process can still allocate on this machine, or in its container if that has a limit."""
    available = psutil.virtual_memory().available
    with contextlib.suppress(OSError, ValueError):  # without a limit the files are missing or contain "max"
        available = min(available, int(limit.read_text(encoding="utf-8")) - int(used.read_text(encoding="utf-8")))
    return available


def largest_batch_size(network: Network, *, insize: int, num_threads: int, max_bytes: float, below: int) -> int:
    """Return the largest batch size less than `below` whose estimate is at most `max_bytes`; 0 if not even 1 fits."""
    fits, too_large = 0, below
    while too_large - fits > 1:
        middle = (fits + too_large) // 2
        needed = estimate_bytes(network, insize=insize, batch_size=middle, num_threads=num_threads)
        fits, too_large = (middle, too_large) if needed <= max_bytes else (fits, middle)
    return fits


def check(
    network: Network, *, insize: int, batch_size: int, num_threads: int, accumulate_steps: int = 1, num_processes: int = 1
) -> None:
    """Raise UserError, naming the largest batch size that fits, if the processes of this host need more memory than it has."""
    needed = num_processes * estimate_bytes(
        network, insize=insize, batch_size=batch_size, num_threads=num_threads, accumulate_steps=accumulate_steps
    )
    available = available_bytes() + num_processes * psutil.Process().memory_info().rss
    if needed <= available:
        return
    largest = largest_batch_size(
        network, insize=insize, num_threads=num_threads, max_bytes=available / num_processes, below=batch_size
    )
    together = f" in {num_processes} processes" if num_processes > 1 else ""
    smaller = "--preset small or records with a smaller --insize"
    equal = next((size for size in range(largest, 0, -1) if batch_size % size == 0), 1)
    advice = (
        f"--batch-size {equal} --accumulate-steps {accumulate_steps * batch_size // equal} computes the same batch in parts; the "
        f"largest that fits is --batch-size {largest}; or use {smaller}"
        if largest
        else f"not even --batch-size 1 fits; use {smaller}"
    )
    raise UserError(
        f"batch_size {batch_size} at insize {insize}{together} needs about {needed / 1e9:.1f} GB of memory on a CPU, but only "
        f"{available / 1e9:.1f} GB are available: {advice} (--no-check-memory skips this check)"
    )
