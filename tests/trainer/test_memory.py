"""The memory estimate, against what `python -m trainer bench-step --only step` measured (VmHWM, 2 threads)."""

import functools

import pytest

from trainer.commands.bench_step import BenchStepConfig
from trainer.loop import memory
from trainer.networks.config import NetworkConfig
from trainer.networks.network import Network


@functools.cache
def make(preset: str, unfold: bool) -> Network:
    network = Network(NetworkConfig(**BenchStepConfig.PRESETS[preset]), 19, 38)
    if unfold:
        unfold(network)
    return network


@pytest.mark.parametrize(
    ("preset", "batch_size", "insize", "unfold", "resident_gb"),
    [
        ("openpose", 1, 368, False, 9.82),
        ("openpose", 2, 368, False, 13.96),
        ("openpose", 1, 368, True, 4.96),
        ("openpose", 2, 368, True, 5.94),
        ("openpose", 4, 368, True, 7.81),
        ("openpose-2019", 1, 368, True, 4.10),
        ("openpose-2019", 2, 368, True, 5.25),
        ("lightweight", 1, 368, False, 1.42),
        ("lightweight", 8, 368, False, 3.45),
        ("small", 8, 368, False, 1.59),
        ("small", 8, 184, False, 1.11),
    ],
)
def test_it_is_at_most_15_percent_above_what_was_measured_and_hardly_below(preset, batch_size, insize, unfold, resident_gb):
    estimate = memory.estimate_bytes(make(preset, unfold), insize=insize, batch_size=batch_size, num_threads=2) / 1e9
    assert 0.97 * resident_gb <= estimate <= 1.15 * resident_gb
