"""`bench-step`: measures any network without records, for the number of fields of any skeleton."""

import json
from dataclasses import replace

import mindspore as ms
import pytest
import yaml
from pipeline_data import PUPPET
from trainer_data import TINY, TINY_OPTIONS

from pipeline.cli import main
from pipeline.skeleton import Skeleton
from trainer.__main__ import COMMANDS
from trainer.commands.bench_step import PARTS, BenchStepConfig, Measurement, random_batch, table
from trainer.networks.network import Network, count_parameters

OPTIONS = ["bench-step", *TINY_OPTIONS, "--insize", "32", "--num-steps", "1", "--device-target", "CPU"]


def test_it_measures_a_network_without_records(capsys, monkeypatch):
    monkeypatch.setattr(ms.runtime, "max_memory_allocated", lambda: 3_000_000_000)
    monkeypatch.setattr(ms.runtime, "max_memory_reserved", lambda: 4_000_000_000)
    assert main("trainer", "", COMMANDS, [*OPTIONS, "--only", "forward"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["seconds"] > 0 and measured["peak_bytes"] > 1e8
    assert (measured["allocated_bytes"], measured["reserved_bytes"]) == (3_000_000_000, 4_000_000_000)
    assert measured["parameters"] == sum(count_parameters(Network(TINY, 19, 38)).values())


def test_the_skeleton_sets_the_number_of_heatmaps_and_pafs(tmp_path, capsys):
    path = tmp_path / "puppet.yaml"
    path.write_text(yaml.safe_dump(PUPPET))
    puppet = Skeleton.from_dict(PUPPET)
    _, heatmaps, pafs, *_ = random_batch(BenchStepConfig(skeleton=path, insize=32, batch_size=2))
    assert heatmaps.shape == (2, puppet.num_heatmaps, 4, 4) and pafs.shape == (2, puppet.num_pafs, 4, 4)
    assert main("trainer", "", COMMANDS, [*OPTIONS, "--only", "forward", "--skeleton", str(path)]) == 0
    expected = Network(TINY, puppet.num_heatmaps, puppet.num_pafs)
    assert json.loads(capsys.readouterr().out)["parameters"] == sum(count_parameters(expected).values())


def test_the_side_must_be_a_multiple_of_the_stride(capsys):
    with pytest.raises(SystemExit, match="2"):
        main("trainer", "", COMMANDS, [*OPTIONS, "--insize", "33"])
    assert "multiple of 8" in capsys.readouterr().err


def test_the_table_shows_speed_shares_memory_and_arithmetic():
    step = Measurement(
        device="CPU", num_threads=2, seconds=4.0, cpu_s=6.0, compile_s=20.0, peak_bytes=4_100_000_000,
        estimated_bytes=4_500_000_000, parameters=1_000_000, multiplications=2_000_000_000,
    )  # fmt: skip
    measured = {part: replace(step, seconds=seconds) for part, seconds in zip(PARTS, (1.0, 3.5, 4.0), strict=True)}
    text = "\n".join(table(BenchStepConfig(batch_size=2), measured))
    assert "4.00 s/step, 0.50 img/s" in text and "forward 25%, backward 62%, optimizer 12%" in text
    assert "peak memory 4.10 GB (estimate: 4.50 GB)" in text and "2.00 GMACs per image" in text and " 6 GFLOPS" in text


def test_the_table_of_an_accelerator_shows_its_memory():
    step = Measurement(
        device="Ascend", num_threads=2, seconds=0.1, cpu_s=0.1, compile_s=20.0, peak_bytes=1_500_000_000,
        allocated_bytes=9_100_000_000, reserved_bytes=10_000_000_000, estimated_bytes=1, parameters=1, multiplications=1,
    )  # fmt: skip
    text = "\n".join(table(BenchStepConfig(), dict.fromkeys(PARTS, step)))
    assert "peak memory of the device 9.10 GB used by tensors, 10.00 GB reserved; of the host 1.50 GB" in text
    assert "estimate" not in text
