"""Training: it learns, says what it does, continues exactly, and refuses with a message. Starts processes: about a minute."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from trainer_data import TINY_OPTIONS, make_records

from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.skeletons import COCO18
from trainer import device
from trainer.__main__ import COMMANDS
from trainer.data.jitter import Jitter
from trainer.loop import memory
from trainer.run import checkpoint
from trainer.run.log import Report, cut_log, format_rate


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
    """A run of 9 steps that nothing interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    assert train(records, run, "--max-steps", "9") == 0
    return run


GOLDEN = [0.1359, 0.1046, 0.0243, 0.1526, 0.0923]
LINE = re.compile(
    r"epoch\[\d+\], iter\[\d+\], loss\[\d+\.\d{4}\], \d+\.\d\d imgs/sec, "
    r"vgglr=\S+,baselr=\S+,stagelr=\S+, data wait \d+\.\d%, ETA \d+:\d\d:\d\d"
)


def test_it_learns_and_logs_in_the_references_form(records, tmp_path, capsys):
    assert train(records, tmp_path / "run", "--max-epoch", "8", "--lr", "0.01") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch[")]
    log = log_of(tmp_path / "run")
    assert lines and len(lines) == len(log) and all(LINE.fullmatch(line) for line in lines), lines
    assert log[-1]["loss"] < 0.5 * log[0]["loss"]
    assert log[-1]["epoch"] == 7 and log[-1]["eta_s"] == 0
    for entry in log:
        assert entry["loss"] == pytest.approx(np.sum(entry["stage_losses"])) and np.shape(entry["stage_losses"]) == (2, 2)
        assert entry["stagelr"] == entry["vgglr"] > 0 and 0 <= entry["data_wait"] <= 1


def test_the_run_folder_is_complete_and_its_checkpoint_loads_with_nothing_else(whole_run):
    assert {p.name for p in whole_run.iterdir()} == {
        *("config.yaml", "log.jsonl", "step-00000009.safetensors"),
        *("schedule.png", "curves.png"),
    }
    loaded = checkpoint.load_network(whole_run)
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


def test_the_first_five_losses_are_those_of_ever(records, tmp_path):
    """Golden numbers of data, augmentation, targets, network, loss and optimizer together: what changes them must say so."""
    assert (
        train(records, tmp_path / "run", "--max-steps", "5", "--log-interval", "1", "--lr", "0.01", "--lr-warmup-steps", "0") == 0
    )
    assert [entry["loss"] for entry in log_of(tmp_path / "run")] == pytest.approx(GOLDEN, rel=0.01)


def test_a_run_in_parts_is_byte_for_byte_the_run_in_one(records, whole_run, tmp_path):
    run = tmp_path / "run"
    for steps in (2, 6, 9):
        assert train(records, run, "--max-steps", str(steps), "--resume") == 0
    assert_same_run(run, whole_run)


def test_the_running_averages_of_batch_norm_continue_too(records, tmp_path):
    more = [*RESIDUAL, *JITTER, "--ema-decay", "0.5"]
    assert train(records, tmp_path / "whole", "--max-steps", "6", *more) == 0
    for steps in (2, 6):
        assert train(records, tmp_path / "run", "--max-steps", str(steps), "--resume", *more) == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    tensors = checkpoint.read_newest(tmp_path / "run")[2]
    name = "backbone.layers.1.moving_mean"
    now, average = (tensors[f"{prefix}.{name}"] for prefix in ("network", "ema"))
    assert np.abs(now).min() > 0 and np.abs(average).min() > 0 and not np.array_equal(now, average)
    loaded = checkpoint.load_network(tmp_path / "run").network.parameters_dict()
    np.testing.assert_array_equal(loaded[name].asnumpy(), average)


def test_jitter_changes_what_is_learnt(records, whole_run, tmp_path):
    assert train(records, tmp_path / "run", "--max-steps", "2", *JITTER) == 0
    assert log_of(tmp_path / "run")[0]["loss"] != log_of(whole_run)[0]["loss"]


@pytest.mark.parametrize("level", ["O2", "O3"])
def test_half_precision_learns_the_same_in_fewer_digits(records, tmp_path, level):
    more = ["--max-steps", "4", *RESIDUAL]
    assert train(records, tmp_path / "full", *more) == 0
    assert train(records, tmp_path / "half", *more, "--precision", level) == 0
    full, half = ([entry["loss"] for entry in log_of(tmp_path / name)] for name in ("full", "half"))
    assert half == pytest.approx(full, rel=0.02) and half != full
    tensors = checkpoint.read_newest(tmp_path / "half")[2]
    assert {str(tensor.dtype) for name, tensor in tensors.items() if name.startswith("network.")} == {"float32"}


class Poisoned:
    """Puts a NaN into a cell of the mask of one batch."""

    def __init__(self, jitter, number: int) -> None:
        self.jitter, self.number, self.seen = jitter, number, 0

    def __call__(self, *arrays):
        *samples, mask = self.jitter(*arrays)
        self.seen += 1
        mask = mask.asnumpy().astype(np.float32)  # all batches, so that the step is compiled once
        if self.seen == self.number:
            mask[1, 2, 3] = np.nan
        return *samples, ms.Tensor(mask)


@pytest.mark.parametrize("dynamic", [True, False])
def test_a_nan_in_a_batch(records, tmp_path, capsys, monkeypatch, dynamic):
    """Left out and counted, or the end by name; the weights never see it."""
    monkeypatch.setattr("trainer.loop.train.Jitter", lambda *arguments: Poisoned(Jitter(*arguments), 2))
    more = ["--max-steps", "4", "--ckpt-interval", "1", "--log-interval", "1", "--dynamic-loss-scale" if dynamic else "--mirror"]
    assert train(records, tmp_path / "run", *more) == (0 if dynamic else 1)
    said = capsys.readouterr()
    _, info, tensors, _ = checkpoint.read_newest(tmp_path / "run")
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert re.search(r"step 2: the loss or its gradients are not finite \(images \[\d+(, \d+){3}\]", "".join(said))
    steps = [(entry["step"], entry["skipped"]) for entry in log_of(tmp_path / "run")]
    if dynamic:
        assert (info.step, info.skipped) == (4, 1) and steps == [(1, 0), (3, 1), (4, 1)]
        assert main("trainer", "", COMMANDS, ["info", str(tmp_path / "run")]) == 0
        told = capsys.readouterr().out
        assert "1 of the steps were left out" in told and "loss scale 16384 at the start, 8192 now" in told
    else:
        assert info.step == 1 and "step-00000001.safetensors with --resume" in said.err and steps == [(1, 0)]


def test_a_stop_while_compiling_ends_at_once_and_loses_nothing(records, whole_run, tmp_path):
    process = start(records, tmp_path / "run", "--max-steps", "9", "--ckpt-interval", "9")
    while "compiling" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGTERM, 143) and "Traceback" not in errors
    assert train(records, tmp_path / "run", "--max-steps", "9", "--resume") == 0
    assert_same_run(tmp_path / "run", whole_run)


def test_averages_and_a_dynamic_loss_scale_continue_too_and_the_evaluator_takes_the_averages(records, tmp_path):
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
        loaded = checkpoint.load_network(tmp_path / "whole", average=average).network.parameters_dict()[name].asnumpy()
        np.testing.assert_array_equal(loaded, whole[prefix + name])


def test_steps_that_are_not_finite_are_left_out_and_counted_under_a_dynamic_loss_scale(records, tmp_path, capsys):
    # The first step throws the weights so far off that nothing behind it is finite; batch normalization's averages stay clean.
    options = ("--dynamic-loss-scale", "--lr", "1e38", "--log-interval", "1", *RESIDUAL)
    assert train(records, tmp_path / "run", "--max-steps", "4", *options) == 0
    _, info, tensors, _ = checkpoint.read_newest(tmp_path / "run")
    assert info.skipped == 3 and capsys.readouterr().out.count("left out, ") == 3
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert [entry["step"] for entry in log_of(tmp_path / "run")] == [1]
    # Where the scale cannot fall any more the run ends.
    assert train(records, tmp_path / "end", "--max-steps", "9", *options, "--loss-scale", "4") == 1
    assert "step 3: the loss or its gradients are not finite (images [" in capsys.readouterr().err


def test_another_optimizer_is_another_run(records, whole_run, tmp_path, capsys):
    shutil.copytree(whole_run, tmp_path / "run")
    assert train(records, tmp_path / "run", "--resume", "--optimizer", "momentum", "--max-steps", "10") == 1
    assert "begun with --optimizer adam, now momentum" in capsys.readouterr().err


def test_weights_of_vgg19_are_refused_for_another_backbone(records, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train(records, tmp_path / "run", "--residual", "--vgg-path", str(tmp_path / "vgg19.ckpt"))
    assert "vgg_path needs the backbone of VGG19" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def start(records, out, *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "trainer", *options(records, out, "--resume", "--ckpt-interval", "2", *more)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("sent", "codes"),
    [(signal.SIGTERM, {143}), (signal.SIGINT, {130, 143}), (signal.SIGKILL, {-signal.SIGKILL})],
    ids=["term", "int", "kill"],
)
def test_a_stopped_run_continues_to_the_same_end(records, tmp_path, sent, codes):
    run = tmp_path / "run"
    process = start(records, run, "--max-steps", "100000")
    while not process.stdout.readline().startswith("epoch[1], iter[4]"):
        assert process.poll() is None, process.stderr.read()
    process.send_signal(sent)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in codes and "Traceback" not in errors
    stopped = checkpoint.read_newest(run)[1].step
    assert stopped >= 2
    end = ["--max-steps", str(stopped + 5)]
    process = start(records, run, *end)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert train(records, tmp_path / "whole", *end) == 0
    assert_same_run(run, tmp_path / "whole")


def test_a_damaged_newest_checkpoint_is_passed_over(records, whole_run, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(records, run, "--max-steps", "6", "--ckpt-interval", "2", "--keep-checkpoint-max", "2") == 0
    paths = checkpoint.list_checkpoints(run)
    assert [path.name for path in paths] == ["step-00000006.safetensors", "step-00000004.safetensors"]
    content = bytearray(paths[0].read_bytes())
    content[-5] ^= 1
    paths[0].write_bytes(content)
    assert train(records, run, "--max-steps", "9", "--resume") == 0
    out = capsys.readouterr().out
    assert "passed over" in out and "step-00000006" in out and f"continuing from {paths[1]}" in out
    assert_same_run(run, whole_run)


def test_a_run_of_damaged_checkpoints_alone_is_not_begun_anew(records, whole_run, tmp_path, capsys):
    run = shutil.copytree(whole_run, tmp_path / "run")
    checkpoint.list_checkpoints(run)[0].write_text("gone")
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert train(records, run, "--max-steps", "12", "--resume") == 1
    error = capsys.readouterr().err
    assert "none of its checkpoints can be read" in error and "step-00000009.safetensors" in error
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_options_that_change_on_resuming_are_told(records, whole_run, tmp_path, capsys):
    run = shutil.copytree(whole_run, tmp_path / "run")
    capsys.readouterr()
    assert train(records, run, "--max-steps", "9", "--resume", "--lr", "0.5", "--mirror") == 0
    out = capsys.readouterr().out
    assert "other options than then: lr 0.5 (was 0.008), mirror True (was False)" in out and "nothing to do" in out
    assert train(records, run, "--max-steps", "9", "--resume", "--lr", "0.5", "--mirror") == 0


def test_what_would_be_another_run_is_refused(records, whole_run, tmp_path, capsys):
    def refused(*more: str) -> str:
        assert train(records, run, *more) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    run = whole_run
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    assert "--resume" in refused()
    assert "another seed (0, now 1)" in refused("--resume", "--seed", "1")
    assert "another network" in refused("--resume", "--stage-channels", "5")
    assert before == {p.name: p.read_bytes() for p in run.iterdir()}, "a refusal changes nothing"
    run = tmp_path / "foreign"
    run.mkdir()
    (run / "thesis.txt").write_text("")
    assert "not a run" in refused("--resume")
    run = tmp_path / "new"
    assert "no such file" in refused("--vgg-path", str(tmp_path / "absent"))
    assert "absent" in refused("--pretrained-model-path", str(tmp_path / "absent"))
    assert "this network needs" in refused("--pretrained-model-path", str(whole_run), "--stage-channels", "5")
    assert not run.exists(), "nothing half-made stays"


def test_pretrained_weights_begin_the_run_and_another_skeleton_does_not(records, whole_run, tmp_path, capsys):
    assert train(records, tmp_path / "run", "--max-steps", "1", "--lr", "1e-30", "--load-pretrain", str(whole_run)) == 0
    trained, begun = (checkpoint.read_newest(folder)[2] for folder in (whole_run, tmp_path / "run"))
    for name in trained:
        if name.startswith(checkpoint.NETWORK):
            np.testing.assert_array_equal(trained[name], begun[name])
    _, info, tensors = checkpoint.read_path(whole_run)
    other = checkpoint.CheckpointInfo(**{**vars(info), "skeleton": {**info.skeleton, "name": "dog"}})
    checkpoint.save_checkpoint(tmp_path / "dog.safetensors", other, tensors)
    assert train(records, tmp_path / "new", "--load-pretrain", str(tmp_path / "dog.safetensors")) == 1
    assert "skeleton 'dog'" in capsys.readouterr().err


def test_losses_that_are_not_finite_stop_the_run_by_name_of_the_step(records, tmp_path, capsys):
    assert train(records, tmp_path / "run", "--lr", "1e20", "--lr-warmup-steps", "0") == 1
    error = capsys.readouterr().err
    assert re.search(r"step \d+: .*not finite", error) and "Traceback" not in error
    assert not checkpoint.list_checkpoints(tmp_path / "run")


def test_damaged_records_are_named(records, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "records")
    (tmp_path / "records" / "shards" / "v001-s00000" / "part.mindrecord").unlink()
    assert train(tmp_path / "records", tmp_path / "run") == 1
    assert "v001-s00000" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_what_does_not_fit_memory_says_so_before_it_begins(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda: 1_000_000)
    assert train(records, tmp_path / "run", "--batch-size", "400000") == 1
    error = capsys.readouterr().err
    assert "needs about" in error and "--batch-size" in error and "--no-check-memory" in error
    assert not (tmp_path / "run").exists()


def test_a_containers_limit_counts(tmp_path):
    (tmp_path / "max").write_text("3000\n")
    (tmp_path / "current").write_text("1000\n")
    assert memory.available_bytes(tmp_path / "max", tmp_path / "current") == 2000
    (tmp_path / "max").write_text("max\n")
    assert memory.available_bytes(tmp_path / "max", tmp_path / "current") > 1e6


@pytest.mark.parametrize(
    ("rate", "text"), [(0, "0.0"), (2.5e-5, "2.5e-05"), (1e-4, "1e-04"), (1.25e-3, "1.25e-03"), (1.0, "1e+00")]
)
def test_rates_are_written_as_the_reference_writes_them(rate, text):
    assert format_rate(rate) == text


def test_speed_and_waiting_leave_compilation_out(tmp_path, capsys):
    now = [0.0]
    report = Report(tmp_path, num_stages=1, restored={}, clock=lambda: now[0])
    from trainer.loop.optimizer import LearningRates

    for seconds, waited in ((30, 5), (2, 0.5), (2, 0.0)):
        now[0] += seconds
        report.add(np.array([[0.25, 0.75]], np.float32), num_samples=8, waited_s=waited)
    report.log(step=3, epoch=0, steps_left=10, rates=LearningRates(0.0, 2.5e-5, 1e-4))
    line = "epoch[0], iter[3], loss[1.0000], 4.00 imgs/sec, vgglr=0.0,baselr=2.5e-05,stagelr=1e-04, data wait 12.5%, ETA 0:00:20"
    assert capsys.readouterr().out.strip() == line


def test_the_log_is_cut_where_the_run_continues(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 2}\n{"step": 4}\n{"step": 6}\n{"ste')
    cut_log(tmp_path, 4)
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 2}\n{"step": 4}\n'


def test_avx512_is_left_to_the_user_and_otherwise_kept_from_onednn():
    for environment, flags, expected in (
        ({}, "fpu avx2 avx512f avx512bw", "AVX2"),
        ({}, "fpu avx2", None),
        ({device.INSTRUCTION_SET_VARIABLE: "AVX"}, "avx512f", "AVX"),
    ):
        before = dict(environment)
        device.limit_instruction_set(environment, flags)
        assert environment.get(device.INSTRUCTION_SET_VARIABLE) == expected
        device.limit_instruction_set(environment, flags)  # in a process that this one started
        device.lift_limit(environment)
        assert environment == before


@pytest.mark.skipif(Path("/dev/davinci_manager").exists(), reason="this machine has an Ascend")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="--device-target Ascend"):
        device.choose_device("Ascend")
    assert device.choose_device("CPU") == "CPU"
