"""Training learns, logs, resumes exactly, and refuses bad input with a message. Starts processes; takes about a minute."""

import gc
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from trainer_data import TINY_OPTIONS, make_records

from pipeline.cli import main, parse
from pipeline.errors import UserError
from pipeline.records.manifest import read_manifest
from pipeline.skeletons import COCO18
from pipeline.storage.files import TEMPORARY
from trainer.__main__ import COMMANDS
from trainer.config import TrainConfig
from trainer.data.jitter import Jitter
from trainer.loop import memory
from trainer.loop.state import State
from trainer.run import checkpoint
from trainer.run.formatting import format_rate, format_rates
from trainer.run.load import load_network
from trainer.run.log import LOSS_SUM, NORMS, NUM_STEPS, TrainingLog, cut_log, log_faults, read_log


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


RESIDUAL = ["--residual", *["--backbone-channels", "4", "4", "4", "4", "4", "--neck-channels", "4", "4"]]
JITTER = ["--mirror", "--color-jitter", "0.3"]


def options(records, out, *more: str) -> list[str]:
    words = f"train --preset small --records {records} --out {out} --batch-size 4 --log-interval 2 --device-target CPU".split()
    return [*words, "--lr-schedule", "steps", *TINY_OPTIONS, *more]


def train(records, out, *more: str) -> int:
    return main("trainer", "", COMMANDS, options(records, out, *more))


def log_of(run) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole_run(records, tmp_path_factory):
    """An uninterrupted run of 9 steps."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train(records, run, "--max-steps", "9") == 0
    return run


GOLDEN = [0.1359, 0.1046, 0.0243, 0.1526, 0.0923]
LINE = re.compile(
    r"epoch\[\d+\], iter\[\d+\], loss\[\d+\.\d{4}\], \d+\.\d\d imgs/sec, "
    r"lr=\S+, data wait \d+\.\d%, host \d+\.\d%, ETA \d+:\d\d:\d\d"
)


@pytest.mark.slow
def test_it_learns_and_logs(records, tmp_path, capsys):
    assert train(records, tmp_path / "run", "--max-epoch", "8", "--lr", "0.01") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch[")]
    log = log_of(tmp_path / "run")
    assert lines and len(lines) == len(log) and all(LINE.fullmatch(line) for line in lines), lines
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert log[-1]["epoch"] == 7 and log[-1]["eta_s"] == 0
    for entry in log:
        assert entry["loss"] == pytest.approx(np.sum(entry["stage_losses"])) and np.shape(entry["stage_losses"]) == (2, 2)
        assert entry["stagelr"] == entry["vgglr"] > 0 and 0 <= entry["data_wait"] + entry["host_wait"] <= 1


def test_the_run_folder_is_complete_and_its_checkpoint_loads_without_options(whole_run):
    assert {p.name for p in whole_run.iterdir()} == {
        *("config.yaml", "log.jsonl", "step-00000009.safetensors"),
        *("schedule.png", "curves.png"),
    }
    loaded = load_network(whole_run)
    assert (loaded.skeleton, loaded.insize, loaded.stride_px, loaded.config["preset"]) == (COCO18, 64, 8, "small")
    heatmaps, pafs = loaded.fields(np.zeros((1, 64, 72, 3), np.uint8))
    assert heatmaps.shape == (1, 19, 8, 9) and pafs.shape == (1, 38, 8, 9)


def assert_same_run(run, other):
    first, second = (checkpoint.read_newest(folder) for folder in (run, other))
    assert (first[1].step, first[1].epoch, first[1].position) == (second[1].step, second[1].epoch, second[1].position)
    assert first[2].keys() == second[2].keys()
    for name, tensor in first[2].items():
        assert tensor.tobytes() == second[2][name].tobytes(), name
    keys = ("step", "epoch", "loss", "stage_losses", "vgglr", "baselr", "stagelr")
    assert [[e[k] for k in keys] for e in log_of(run)] == [[e[k] for k in keys] for e in log_of(other)]


def test_golden_losses(records, tmp_path):
    """Data, augmentation, targets, network, loss and optimizer together. A commit that changes them must say so."""
    assert (
        train(records, tmp_path / "run", "--max-steps", "5", "--log-interval", "1", "--lr", "0.01", "--lr-warmup-steps", "0") == 0
    )
    assert [entry["loss"] for entry in log_of(tmp_path / "run")] == pytest.approx(GOLDEN, rel=0.01)


@pytest.mark.long
def test_a_run_in_parts_equals_the_uninterrupted_run_byte_for_byte(records, whole_run, tmp_path):
    run = tmp_path / "run"
    for steps in (2, 6, 9):
        assert train(records, run, "--max-steps", str(steps), "--resume") == 0
    assert_same_run(run, whole_run)


@pytest.mark.long
@pytest.mark.slow
def test_running_averages_of_batch_normalization_resume(records, tmp_path):
    more = [*RESIDUAL, *JITTER, "--ema-decay", "0.5"]
    assert train(records, tmp_path / "whole", "--max-steps", "6", *more) == 0
    for steps in (2, 6):
        assert train(records, tmp_path / "run", "--max-steps", str(steps), "--resume", *more) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    tensors = checkpoint.read_newest(tmp_path / "run")[2]
    name = "backbone.layers.1.moving_mean"
    now, average = (tensors[f"{prefix}.{name}"] for prefix in ("network", "ema"))
    assert np.abs(now).min() > 0 and np.abs(average).min() > 0 and not np.array_equal(now, average)
    loaded = load_network(tmp_path / "run").network.parameters_dict()
    np.testing.assert_array_equal(loaded[name].asnumpy(), average)


def test_resuming_keeps_no_copy_of_the_checkpoint(records, whole_run, monkeypatch):
    """Weights and optimizer state are in the parameters; their NumPy arrays must be freed (630 MB for the preset openpose)."""
    arrays: dict[str, weakref.ref] = {}

    def read_newest(folder):
        found = checkpoint.read_newest(folder)
        arrays.update({name: weakref.ref(tensor) for name, tensor in found.tensors.items()})
        return found

    config = parse(TrainConfig, options(records, whole_run, "--resume")[1:], prog="train")
    monkeypatch.setattr("trainer.loop.state.checkpoint", SimpleNamespace(**{**vars(checkpoint), "read_newest": read_newest}))
    state = State(config, read_manifest(records))
    gc.collect()
    assert state.progress.step == 9 and len(arrays) > 10
    assert [name for name, array in arrays.items() if array() is not None] == []
    assert state.log_tensors.keys() == {"log.loss_sum", "log.num_steps", "log.gradient_norms"}


def test_creating_a_state_prints_nothing(records, whole_run, capsys):
    """The command prints the notes, once, in the first process."""
    config = parse(TrainConfig, options(records, whole_run, "--resume", "--lr", "0.5")[1:], prog="train")
    state = State(config, read_manifest(records))
    assert capsys.readouterr() == ("", "")
    assert state.notes[0].startswith("resuming from") and "lr 0.5 (was 0.008)" in state.notes[1]


@pytest.mark.slow
def test_jitter_changes_the_loss(records, whole_run, tmp_path):
    assert train(records, tmp_path / "run", "--max-steps", "2", *JITTER) == 0
    assert log_of(tmp_path / "run")[0]["loss"] != log_of(whole_run)[0]["loss"]


@pytest.mark.slow
@pytest.mark.long
def test_a_batch_in_parts_trains_the_same_weights_and_resumes_to_the_same_bytes(records, tmp_path):
    more = ["--max-steps", "6", "--lr", "1e-3", *JITTER]
    assert train(records, tmp_path / "whole", *more) == 0
    parts = [*more, "--batch-size", "2", "--accumulate-steps", "2"]
    assert train(records, tmp_path / "parts", *parts) == 0
    for steps in ("3", "6"):
        assert train(records, tmp_path / "stopped", *parts, "--resume", "--max-steps", steps) == 0
    newest = [checkpoint.read_newest(tmp_path / name) for name in ("whole", "parts", "stopped")]
    assert [(found.info.step, found.info.epoch, found.info.position) for found in newest] == [(6, 2, 0)] * 3
    whole, part, stopped = (found.tensors for found in newest)
    for name in whole:
        if name.startswith("network."):
            np.testing.assert_allclose(part[name], whole[name], rtol=1e-3, atol=2e-5, err_msg=name)
            np.testing.assert_array_equal(stopped[name], part[name], err_msg=name)
    losses = [[entry["loss"] for entry in log_of(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_a_profile_contains_the_requested_steps(records, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(records, run, "--max-steps", "5", "--profile", "3:5") == 0
    assert f"profiled steps 3 to 4: {run / 'profile'}" in capsys.readouterr().out
    (trace,) = run.glob("profile/*/ASCEND_PROFILER_OUTPUT/trace_view.json")
    counts = Counter(event["name"] for event in json.loads(trace.read_text()) if "Conv2D-op" in event.get("name", ""))
    assert len(counts) > 10 and set(counts.values()) == {2}


@pytest.mark.parametrize("wrong", ["5", "0:3", "7:7", "a:b", "-1:4"])
def test_a_wrong_range_of_steps_is_refused(wrong):
    with pytest.raises(ValueError, match="profile must be START:END"):
        TrainConfig(records=Path("r"), out=Path("o"), profile=wrong)


def test_a_profile_after_the_last_step_and_endless_steps_are_refused():
    with pytest.raises(ValueError, match="profile must start at most at max_steps = 5"):
        TrainConfig(records=Path("r"), out=Path("o"), profile="6:7", max_steps=5)
    with pytest.raises(ValueError, match="accumulate_steps must be at most 10,000"):
        TrainConfig(records=Path("r"), out=Path("o"), accumulate_steps=10**9)


@pytest.mark.long
@pytest.mark.parametrize("level", ["O2", "O3"])
@pytest.mark.slow
def test_half_precision_has_almost_the_same_losses(records, tmp_path, level):
    more = ["--max-steps", "4", *RESIDUAL]
    assert train(records, tmp_path / "full", *more) == 0
    assert train(records, tmp_path / "half", *more, "--precision", level) == 0
    full, half = ([entry["loss"] for entry in log_of(tmp_path / name)] for name in ("full", "half"))
    assert half == pytest.approx(full, rel=0.02) and half != full
    tensors = checkpoint.read_newest(tmp_path / "half")[2]
    assert {str(tensor.dtype) for name, tensor in tensors.items() if name.startswith("network.")} == {"float32"}


class Poisoned:
    """Puts a NaN into the mask of one batch."""

    def __init__(self, jitter, number: int) -> None:
        self.jitter, self.inputs, self.number, self.num_batches = jitter, jitter.inputs, number, 0

    def __call__(self, *inputs):
        *samples, mask, labeled = self.jitter(*inputs)
        self.num_batches += 1
        mask = mask.asnumpy().astype(np.float32)  # for all batches, so that the step compiles once
        if self.num_batches == self.number:
            mask[1, 2, 3] = np.nan
        return *samples, ms.Tensor(mask), labeled


@pytest.mark.parametrize("dynamic", [True, False])
@pytest.mark.slow
def test_a_nan_in_a_batch_is_skipped_or_ends_the_run(records, tmp_path, capsys, monkeypatch, dynamic):
    """Skipped and counted with a dynamic loss scale, otherwise an error; the weights stay finite."""
    monkeypatch.setattr("trainer.loop.training.Jitter", lambda *arguments: Poisoned(Jitter(*arguments), 2))
    more = ["--max-steps", "4", "--ckpt-interval", "1", "--log-interval", "1", "--dynamic-loss-scale" if dynamic else "--mirror"]
    assert train(records, tmp_path / "run", *more) == (0 if dynamic else 1)
    output = capsys.readouterr()
    _, info, tensors, _ = checkpoint.read_newest(tmp_path / "run")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert re.search(r"step 2: the loss or a gradient is not finite \(images \[\d+(, \d+){3}\]", "".join(output))
    steps = [(entry["step"], entry["skipped"]) for entry in log_of(tmp_path / "run")]
    if dynamic:
        assert (info.step, info.skipped) == (4, 1) and steps == [(1, 0), (3, 1), (4, 1)]
        assert main("trainer", "", COMMANDS, ["info", str(tmp_path / "run")]) == 0
        printed = capsys.readouterr().out
        assert "1 step skipped" in printed and "loss scale 16384 at the start, now 8192" in printed
    else:
        assert info.step == 1 and "step-00000001.safetensors with --resume" in output.err and steps == [(1, 0)]


@pytest.mark.slow
def test_a_signal_while_compiling_ends_the_run_immediately(records, whole_run, tmp_path):
    process = start(records, tmp_path / "run", "--max-steps", "9", "--ckpt-interval", "9")
    while "compiling" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGTERM, 143) and "Traceback" not in errors
    assert train(records, tmp_path / "run", "--max-steps", "9", "--resume") == 0
    assert_same_run(tmp_path / "run", whole_run)


@pytest.mark.long
@pytest.mark.slow
def test_averages_and_a_dynamic_loss_scale_resume_and_averages_are_loaded(records, tmp_path):
    more = [
        "--ema-decay",
        "0.9",
        "--dynamic-loss-scale",
        "--clip-norm",
        "0.1",
        "--optimizer",
        "adamw",
        "--weight-decay",
        "0.01",
        "--loss-scale",
        "64",
    ]
    assert train(records, tmp_path / "whole", "--max-steps", "9", *more) == 0
    for steps in ("4", "9"):
        assert train(records, tmp_path / "parts", "--max-steps", steps, "--resume", *more) == 0
    whole, parts = (checkpoint.read_newest(tmp_path / name)[2] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys() and {"loss_scale.scale", "loss_scale.good_steps"} < whole.keys()
    for name, tensor in whole.items():
        np.testing.assert_array_equal(parts[name], tensor, err_msg=name)
    name = "stages.0.pafs.0.weight"
    assert not np.array_equal(whole[f"ema.{name}"], whole[f"network.{name}"])
    for average, prefix in ((True, "ema."), (False, "network.")):
        loaded = load_network(tmp_path / "whole", average=average).network.parameters_dict()[name].asnumpy()
        np.testing.assert_array_equal(loaded, whole[prefix + name])


@pytest.mark.slow
@pytest.mark.long
def test_a_dynamic_loss_scale_skips_and_counts_steps_that_are_not_finite(records, tmp_path, capsys):
    # After the first step nothing is finite; the running averages of batch normalization must stay finite.
    options = ("--dynamic-loss-scale", "--lr", "1e38", "--log-interval", "1", *RESIDUAL)
    assert train(records, tmp_path / "run", "--max-steps", "4", *options) == 0
    _, info, tensors, _ = checkpoint.read_newest(tmp_path / "run")
    assert info.skipped == 3 and capsys.readouterr().out.count("; skipped, ") == 3
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert [entry["step"] for entry in log_of(tmp_path / "run")] == [1]
    # The run ends when the scale cannot fall any further.
    assert train(records, tmp_path / "end", "--max-steps", "9", *options, "--loss-scale", "4") == 1
    assert "step 3: the loss or a gradient is not finite (images [" in capsys.readouterr().err


def test_resuming_with_another_optimizer_is_refused(records, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run, tmp_path / "run")
    assert train(records, tmp_path / "run", "--resume", "--optimizer", "momentum", "--max-steps", "10") == 1
    assert "started with --optimizer adam, now momentum" in capsys.readouterr().err


def test_vgg19_weights_are_refused_for_another_backbone(records, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train(records, tmp_path / "run", "--residual", "--vgg-path", str(tmp_path / "vgg19.ckpt"))
    assert "vgg_path needs the backbone of VGG19" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def start(records, out, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "trainer", *options(records, out, "--resume", "--ckpt-interval", "2", *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.long),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.long),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
    ids=["closed terminal", "int", "kill"],
)
@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_result(records, tmp_path, sent, code):
    run = tmp_path / "run"
    process = start(records, run, "--max-steps", "100000")
    while not process.stdout.readline().startswith("epoch[1], iter[4]"):
        assert process.poll() is None, process.stderr.read()
    if sent == signal.SIGHUP:
        process.stdout.close()
        process.stderr.close()
        time.sleep(0.5)  # it logs every step
    process.send_signal(sent)
    errors = "" if sent == signal.SIGHUP else process.communicate(timeout=60)[1]
    assert process.wait(60) == code and "Traceback" not in errors
    (run / f"{TEMPORARY}step-00000009.safetensors.0123abcd").write_bytes(b"left by a process that was killed while saving")
    stopped = checkpoint.read_newest(run)[1].step
    assert stopped >= 2
    end = ["--max-steps", str(stopped + 5)]
    process = start(records, run, *end)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert train(records, tmp_path / "whole", *end) == 0
    assert_same_run(run, tmp_path / "whole")
    assert not list(run.glob(f"{TEMPORARY}*"))


@pytest.mark.slow
def test_a_run_folder_deleted_during_training_is_an_error(records, tmp_path):
    process = start(records, tmp_path / "run", "--max-steps", "100000")
    while not process.stdout.readline().startswith("epoch[1], iter[4]"):
        assert process.poll() is None, process.stderr.read()
    (tmp_path / "run").rename(tmp_path / "deleted")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1 and "Traceback" not in errors and "was deleted or renamed" in errors
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.long
def test_a_damaged_newest_checkpoint_is_skipped(records, whole_run, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(records, run, "--max-steps", "6", "--ckpt-interval", "2", "--keep-checkpoint-max", "2") == 0
    paths = checkpoint.list_checkpoints(run)
    assert [path.name for path in paths] == ["step-00000006.safetensors", "step-00000004.safetensors"]
    content = bytearray(paths[0].read_bytes())
    content[-5] ^= 1
    paths[0].write_bytes(content)
    log = (run / "log.jsonl").read_bytes()
    (run / "log.jsonl").write_bytes(log[:-20] + b"\xff" + log[-19:])  # does not keep the run from continuing
    assert train(records, run, "--max-steps", "9", "--resume") == 0
    out = capsys.readouterr().out
    assert f"warning: log {run / 'log.jsonl'} line 3: not JSON" in out
    assert "skipped checkpoint" in out and "step-00000006" in out and f"resuming from {paths[1]}" in out
    assert_same_run(run, whole_run)


def test_a_run_with_only_damaged_checkpoints_is_not_restarted(records, whole_run, tmp_path, capsys):
    run = shutil.copytree(whole_run, tmp_path / "run")
    checkpoint.list_checkpoints(run)[0].write_text("gone")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert train(records, run, "--max-steps", "12", "--resume") == 1
    error = capsys.readouterr().err
    assert "none of its checkpoints can be read" in error and "step-00000009.safetensors" in error
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_options_that_changed_are_listed_on_resuming(records, whole_run, tmp_path, capsys):
    run = shutil.copytree(whole_run, tmp_path / "run")
    capsys.readouterr()
    assert train(records, run, "--max-steps", "9", "--resume", "--lr", "0.5", "--mirror") == 0
    out = capsys.readouterr().out
    assert "options changed since then: lr 0.5 (was 0.008), mirror True (was False)" in out and "nothing to do" in out
    assert out.splitlines()[-1] == f"{run}: unchanged at step 9 (epoch 3, sample 0)"
    assert train(records, run, "--max-steps", "9", "--resume", "--lr", "0.5", "--mirror") == 0


def test_resuming_another_run_is_refused(records, whole_run, tmp_path, capsys):
    def refused(*more: str) -> str:
        assert train(records, run, *more) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    run = whole_run
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    assert "--resume" in refused()
    assert "another seed: 1 (was 0); use the original" in refused("--resume", "--seed", "1")
    assert "another network: stage_channels 5 (was 4); use the original" in refused("--resume", "--stage-channels", "5")
    assert before == {p.name: p.read_bytes() for p in run.iterdir()}, "a refusal changes nothing"
    run = tmp_path / "foreign"
    run.mkdir()
    (run / "thesis.txt").write_text("")
    assert "not a run folder (no config.yaml and no checkpoint)" in refused("--resume")
    shutil.copy(checkpoint.list_checkpoints(whole_run)[0], run)
    assert f"{run}: config.yaml is missing, which every run folder contains; restore it" in refused("--resume")
    run = tmp_path / "new"
    assert "no such file" in refused("--vgg-path", str(tmp_path / "absent")).lower()
    assert "absent" in refused("--pretrained-model-path", str(tmp_path / "absent"))
    assert not run.exists(), "no folder is left"


@pytest.mark.slow
def test_pretrained_weights_start_a_run(records, whole_run, tmp_path, capsys):
    assert train(records, tmp_path / "run", "--max-steps", "1", "--lr", "1e-30", "--load-pretrain", str(whole_run)) == 0
    assert "all layers taken" in capsys.readouterr().out and not (tmp_path / "run" / "transfer.json").exists()
    trained, started = (checkpoint.read_newest(folder)[2] for folder in (whole_run, tmp_path / "run"))
    for name in trained:
        if name.startswith(checkpoint.NETWORK):
            np.testing.assert_array_equal(trained[name], started[name])


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_the_run(records, tmp_path, capsys):
    assert train(records, tmp_path / "run", "--lr", "1e20", "--lr-warmup-steps", "0") == 1
    error = capsys.readouterr().err
    assert re.search(r"step \d+: .*not finite", error) and "Traceback" not in error
    assert not checkpoint.list_checkpoints(tmp_path / "run")


def test_damaged_records_are_named(records, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "records")
    (tmp_path / "records" / "shards" / "v001-s00000" / "part.mindrecord").unlink()
    assert train(tmp_path / "records", tmp_path / "run") == 1
    assert "v001-s00000" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_run_that_does_not_fit_into_memory_is_refused_before_it_starts(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    assert train(records, tmp_path / "run", "--batch-size", "400000") == 1
    error = capsys.readouterr().err
    assert "needs about" in error and "--batch-size" in error and "--no-check-memory" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0.0"), (2.5e-5, "2.5e-05"), (1e-4, "1e-04"), (1.25e-3, "1.25e-03"), (1.0, "1e+00")]
)
def test_rates_are_formatted_as_in_the_reference(rate, text):
    assert format_rate(rate) == text


def test_equal_rates_are_printed_once():
    names = ("vgglr", "baselr", "stagelr")
    assert format_rates(dict(zip(names, (8e-3, 8e-3, 8e-3), strict=True))) == "lr=8e-03"
    assert format_rates(dict(zip(names, (0.0, 2.5e-5, 1e-4), strict=True))) == "vgglr=0.0,baselr=2.5e-05,stagelr=1e-04"


def test_speed_and_data_wait_exclude_compilation(tmp_path, capsys):
    now = [0.0]
    log = TrainingLog(tmp_path, num_stages=1, clock=lambda: now[0])
    from trainer.loop.optimizer import LearningRates

    for seconds, waited in ((30, 5), (2, 0.5), (2, 0.0)):
        now[0] += seconds
        log.add(np.array([[0.25, 0.75]], np.float32), num_samples=8, waited_s=waited, host_wait_s=waited / 2)
    log.write(step=3, epoch=0, steps_left=10, rates=LearningRates(0.0, 2.5e-5, 1e-4))
    line = "epoch[0], iter[3], loss[1.0000], 4.00 imgs/sec, vgglr=0.0,baselr=2.5e-05,stagelr=1e-04, data wait 12.5%, host 6.2%, ETA 0:00:20"
    assert capsys.readouterr().out.strip() == line


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 3\xff}',
        b"\x00" * 500,
        b"[]",
        b'"step"',
        b'{"epoch": 1}',
        b'{"step": "3"}',
        b'{"step": -1}',
        b'{"step": 3, "step": 4}',
        b'{"step": 3, "loss": [1]}',
        b'{"step": 3, "stage_losses": [[1]]}',
        b"[" * 100_000,
    ],
)
def test_the_log_is_cut_where_the_run_resumes_and_damaged_lines_are_named(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step": 2}\n' + line + b'\n{"step": 4}\n{"step": 6}\n{"ste')
    assert [entry["step"] for entry in read_log(tmp_path)] == [2, 4, 6]
    assert log_faults(tmp_path) == cut_log(tmp_path, 4)
    assert path.read_text() == '{"step": 2}\n{"step": 4}\n'
    path.write_bytes(line + b"\n")
    (fault,) = cut_log(tmp_path, 4)
    assert fault.startswith(f"log {path} line 1: ") and fault.isprintable() and path.read_bytes() == b""


@pytest.mark.parametrize("name, tensor", [(LOSS_SUM, np.zeros((3, 2))), (NUM_STEPS, np.array(-1)), (NORMS, np.full(2, np.nan))])
def test_an_open_log_interval_of_another_shape_is_refused(tmp_path, name, tensor):
    with pytest.raises(UserError, match=f"tensor {name} must hold numbers of shape"):
        TrainingLog(tmp_path, num_stages=2, restored={name: tensor})
