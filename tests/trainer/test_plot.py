"""Curves of a run: all values of the log, drawn into a complete picture."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.cli import main
from pipeline.errors import UserError
from trainer.__main__ import COMMANDS
from trainer.loop.optimizer import LearningRates
from trainer.run.curves import draw_schedule, read_curves
from trainer.run.log import RATES as RATE_NAMES
from trainer.run.log import TrainingLog, format_line, scalars

ROOT = Path(__file__).parents[2]
RATES = LearningRates(0.0, 2.5e-5, 1e-4)


def make_run(folder: Path, lines: int = 4, norm: float | None = 2.0) -> Path:
    folder.mkdir()
    now = [0.0]
    log = TrainingLog(folder, num_stages=2, clock=lambda: now[0])
    for step in range(1, lines + 1):
        now[0] += 1
        losses = np.array([[1 / step, 2 / step], [3 / step, 0]], np.float32)
        log.add(losses, num_samples=8, waited_s=0.25, gradient_norm=norm)
        log.write(step=step, epoch=0, steps_left=9, rates=RATES)
    return folder


def plot(*words) -> int:
    return main("trainer", "", COMMANDS, ["plot", *map(str, words)])


def read_picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_each_stage_and_branch_has_a_curve(tmp_path):
    curves = read_curves(make_run(tmp_path / "run"))
    assert set(curves) == {
        *("loss/all", "loss/stage1_heatmap", "loss/stage1_paf", "loss/stage2_heatmap"),  # stage 2 has no PAFs
        *("lr/backbone", "lr/neck", "lr/stages", "imgs_per_sec", "data_wait", "host_wait", "gradient_norm"),
    }
    assert curves["loss/stage1_paf"] == ([1, 2, 3, 4], pytest.approx([2, 1, 2 / 3, 0.5]))
    assert curves["lr/neck"][1] == [2.5e-5] * 4 and curves["gradient_norm"][1] == [2.0] * 4


def test_a_log_without_gradient_norms_has_no_such_curve(tmp_path):
    run = make_run(tmp_path / "run", norm=None)
    entry = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert entry["gradient_norm"] is None and "gradient_norm" not in scalars(entry)
    del entry["gradient_norm"]  # logs of older versions
    assert "gradient_norm" not in scalars(entry)


def test_the_mean_gradient_norm_survives_an_interruption(tmp_path):
    norms, (whole, first, second) = (0.1, 0.7, 12.3, 4.4), (tmp_path / name for name in "abc")
    entries = []
    for folders in ([whole], [first, second]):
        restored = {}
        parts = np.split(np.array(norms), len(folders))
        for folder, part in zip(folders, parts, strict=True):
            folder.mkdir()
            log = TrainingLog(folder, num_stages=1, restored=restored)
            for norm in part:
                log.add(np.ones((1, 2), np.float32), num_samples=1, waited_s=0.0, gradient_norm=float(norm))
            restored = log.tensors()
        entries.append(log.write(step=4, epoch=0, steps_left=0, rates=RATES))
    assert entries[0]["gradient_norm"] == entries[1]["gradient_norm"] == pytest.approx(4.375)
    assert log.tensors()["log.gradient_norms"].tolist() == [0, 0], "the next interval starts at 0"


def test_one_run_and_two_runs_are_drawn(tmp_path, capsys):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", norm=None)
    assert plot(first) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(first / "curves.png")
    both = tmp_path / "new" / "both.png"
    assert plot(first, second, "--out", both) == 0
    assert plot(second) == 0
    with_norm, without = read_picture(first / "curves.png"), read_picture(second / "curves.png")
    assert with_norm.shape[0] > without.shape[0], "only a log with norms has a panel for them"
    assert read_picture(both).shape == with_norm.shape and (read_picture(both) != with_norm).any()
    assert {path.name for path in first.iterdir()} == {"curves.png", "log.jsonl"}, "no temporary file is left"


def test_an_incomplete_last_line_is_ignored(tmp_path):
    run = make_run(tmp_path / "run")
    with open(run / "log.jsonl", "a") as file:
        file.write('{"epoch": 0, "ste')
    assert plot(run) == 0 and len(read_curves(run)["loss/all"][0]) == 4


def test_a_damaged_line_is_named_and_left_out(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    lines = (run / "log.jsonl").read_bytes().split(b"\n")
    (run / "log.jsonl").write_bytes(b"\n".join([lines[0], lines[1][:-9] + b"\xff" + lines[1][-8:], *lines[2:]]))
    assert plot(run) == 0 and len(read_curves(run)["loss/all"][0]) == 3
    assert f"warning: log {run / 'log.jsonl'} line 2: not JSON" in capsys.readouterr().err


def test_the_name_of_a_run_is_no_formula(tmp_path):
    assert plot(make_run(tmp_path / r"a$\frac{$"), make_run(tmp_path / "b$"), "--out", tmp_path / "both.png") == 0


def test_what_a_run_lacks_is_named(tmp_path, capsys):
    damaged = make_run(tmp_path / "damaged", lines=1)
    (damaged / "log.jsonl").write_text('{"step": NaN}\n')
    for folder, message in ((tmp_path / "absent", "no such folder"), (damaged / "log.jsonl", "is a file"), (damaged, "line 1")):
        assert plot(folder) == 1
        assert message in capsys.readouterr().err


def test_a_log_line_of_a_run_without_end_is_written():
    entry = {name: 0.0 for name in ("loss", "imgs_per_sec", "data_wait", *RATE_NAMES)} | {"epoch": 0, "step": 1, "skipped": 0}
    assert "ETA" in format_line({**entry, "eta_s": 1e18})


def test_folders_without_curves_are_refused(tmp_path, capsys):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "log.jsonl").write_text('{"step": 1}\n')
    for folder in (tmp_path, tmp_path / "foreign"):
        assert plot(folder) == 1
        error = capsys.readouterr().err
        assert str(folder) in error and "log.jsonl" in error and "Traceback" not in error
        with pytest.raises(UserError):
            read_curves(folder)
    with pytest.raises(SystemExit, match="2"):
        plot(tmp_path, "--out", "curves.jpg")


def test_the_schedule_is_exact_at_its_break_points():
    evaluated = []
    png = draw_schedule(lambda step: evaluated.append(step) or RATES, total_steps=1_000_000, break_points=[12_345])
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) is not None
    assert {0, 12_344, 12_345, 999_999} <= set(evaluated) and len(evaluated) < 2_100


def test_importing_the_command_loads_neither_matplotlib_nor_mindspore():
    code = "import sys, trainer.commands.plot; sys.exit('matplotlib' in sys.modules or 'mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
