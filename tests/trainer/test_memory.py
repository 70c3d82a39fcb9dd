"""The memory estimate, compared with the peak memory (VmHWM, 2 threads) of `python -m trainer bench-step --only step`."""

import functools

import pytest

from pipeline.errors import UserError
from trainer.commands.bench_step import BenchStepConfig
from trainer.loop import memory
from trainer.networks.config import NetworkConfig
from trainer.networks.cpu_convolution import unfold
from trainer.networks.network import Network


@functools.cache
def make(preset: str, unfolded: bool = False) -> Network:
    network = Network(NetworkConfig(**BenchStepConfig.PRESETS[preset]), 19, 38)
    if unfolded:
        unfold(network)
    return network


@pytest.mark.parametrize(
    ("preset", "batch_size", "insize", "unfolded", "resident_gb"),
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
def test_the_estimate_is_between_97_and_115_percent_of_the_measurement(preset, batch_size, insize, unfolded, resident_gb):
    estimate = memory.estimate_bytes(make(preset, unfolded), insize=insize, batch_size=batch_size, num_threads=2) / 1e9
    assert 0.97 * resident_gb <= estimate <= 1.15 * resident_gb


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_batch_that_does_not_fit_is_refused_with_the_largest_one_that_does(num_processes, monkeypatch):
    sizes = {"insize": 368, "num_threads": 2}
    network = make("lightweight")
    own_bytes = num_processes * memory.psutil.Process().memory_info().rss
    # Enough for batch size 8 in every process, and half way to 9.
    needed = [num_processes * memory.estimate_bytes(network, batch_size=size, **sizes) for size in (8, 9)]
    monkeypatch.setattr(memory, "available_bytes", lambda: int(sum(needed) / 2) - own_bytes)
    with pytest.raises(
        UserError,
        match=r"batch_size 80 at insize 368.*: --batch-size 8 --accumulate-steps 10 computes .*largest that fits is --batch-size 8;",
    ):
        memory.check(network, batch_size=80, num_processes=num_processes, **sizes)
    memory.check(network, batch_size=8, num_processes=num_processes, **sizes)


def test_a_network_that_does_not_fit_at_all_is_refused_without_a_batch_size(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: -memory.psutil.Process().memory_info().rss)
    with pytest.raises(UserError, match="not even --batch-size 1 fits; use --preset small"):
        memory.check(make("lightweight"), insize=368, batch_size=80, num_threads=2)


def test_the_limit_of_a_container_counts(tmp_path):
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    limit.write_text("1000000\n")
    used.write_text("400000\n")
    assert memory.available_bytes(limit, used) == 600_000
    limit.write_text("max\n")
    assert memory.available_bytes(limit, used) > 600_000
