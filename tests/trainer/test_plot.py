"""Curves: those of the log, all of them, as a picture that is whole."""

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
from trainer.commands.plot import draw_schedule, read_curves
from trainer.loop.optimizer import LearningRates
from trainer.run.log import Report, scalars

ROOT = Path(__file__).parents[2]
RATES = LearningRates(0.0, 2.5e-5, 1e-4)


def make_run(folder: Path, lines: int = 4, norm: float | None = 2.0) -> Path:
    folder.mkdir()
    now = [0.0]
    report = Report(folder, num_stages=2, restored={}, clock=lambda: now[0])
    for step in range(1, lines + 1):
        now[0] += 1
        losses = np.array([[1 / step, 2 / step], [3 / step, 0]], np.float32)
        report.add(losses, num_samples=8, waited_s=0.25, gradient_norm=norm)
        report.log(step=step, epoch=0, steps_left=9, rates=RATES)
    return folder


def plot(*words) -> int:
    return main("trainer", "", COMMANDS, ["plot", *map(str, words)])


def read_picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def test_every_stage_and_branch_has_its_curve(tmp_path):
    curves = read_curves(make_run(tmp_path / "run"))
    assert set(curves) == {
        *("loss/all", "loss/stage1_heatmap", "loss/stage1_paf", "loss/stage2_heatmap"),  # the second gives no PAFs
        *("lr/vgg", "lr/base", "lr/stage", "imgs_per_sec", "data_wait", "gradient_norm"),
    }
    assert curves["loss/stage1_paf"] == ([1, 2, 3, 4], pytest.approx([2, 1, 2 / 3, 0.5]))
    assert curves["lr/base"][1] == [2.5e-5] * 4 and curves["gradient_norm"][1] == [2.0] * 4


def test_a_log_without_norms_has_no_curve_of_them(tmp_path):
    run = make_run(tmp_path / "run", norm=None)
    entry = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    assert entry["gradient_norm"] is None and "gradient_norm" not in scalars(entry)
    del entry["gradient_norm"]  # as logs were before there were norms
    assert "gradient_norm" not in scalars(entry)


def test_the_mean_norm_is_the_same_over_an_interruption(tmp_path):
    norms, (whole, first, second) = (0.1, 0.7, 12.3, 4.4), (tmp_path / name for name in "abc")
    entries = []
    for folders in ([whole], [first, second]):
        restored = {}
        parts = np.split(np.array(norms), len(folders))
        for folder, part in zip(folders, parts, strict=True):
            folder.mkdir()
            report = Report(folder, num_stages=1, restored=restored)
            for norm in part:
                report.add(np.ones((1, 2), np.float32), num_samples=1, waited_s=0.0, gradient_norm=float(norm))
            restored = report.tensors()
        entries.append(report.log(step=4, epoch=0, steps_left=0, rates=RATES))
    assert entries[0]["gradient_norm"] == entries[1]["gradient_norm"] == pytest.approx(4.375)
    assert report.tensors()["report.gradient_norms"].tolist() == [0, 0], "the next interval begins anew"


def test_one_run_and_several_are_drawn(tmp_path, capsys):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", norm=None)
    assert plot(first) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(first / "curves.png")
    both = tmp_path / "new" / "both.png"
    assert plot(first, second, "--out", both) == 0
    assert plot(second) == 0
    with_norm, without = read_picture(first / "curves.png"), read_picture(second / "curves.png")
    assert with_norm.shape[0] > without.shape[0], "a panel for the norms only where there are some"
    assert read_picture(both).shape == with_norm.shape and (read_picture(both) != with_norm).any()
    assert {path.name for path in first.iterdir()} == {"curves.png", "log.jsonl"}, "nothing half-made stays"


def test_a_run_that_is_being_written_is_drawn(tmp_path):
    run = make_run(tmp_path / "run")
    with open(run / "log.jsonl", "a") as file:
        file.write('{"epoch": 0, "ste')
    assert plot(run) == 0 and len(read_curves(run)["loss/all"][0]) == 4


def test_what_has_no_curves_is_refused(tmp_path, capsys):
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


def test_the_schedule_is_drawn_and_asks_for_the_break_points():
    asked = []
    png = draw_schedule(lambda step: asked.append(step) or RATES, total_steps=1_000_000, marked=[12_345])
    assert cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR) is not None
    assert {0, 12_344, 12_345, 999_999} <= set(asked) and len(asked) < 2_100


def test_matplotlib_is_loaded_only_to_draw_and_mindspore_never():
    code = "import sys, trainer.commands.plot; sys.exit('matplotlib' in sys.modules or 'mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
