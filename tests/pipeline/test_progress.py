"""Progress in log files: whole lines, nothing for short work, and the rate of this run only."""

import ast
import re
import time
from pathlib import Path

import pytest

from pipeline.runtime import progress
from pipeline.runtime.progress import progress_bar

ROOT = Path(__file__).parents[2]


@pytest.fixture
def interval(monkeypatch) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.05)


def test_short_work_prints_nothing(capsys):
    assert list(progress_bar(range(3), desc="build", unit="sample")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_a_log_file_gets_whole_lines(capsys, interval):
    for _ in progress_bar(range(8), desc="build", unit="sample"):
        time.sleep(0.02)
    text = capsys.readouterr().err
    lines = text.splitlines()
    assert len(lines) >= 2 and all(line.startswith("build: ") for line in lines), text
    assert "\r" not in text and text.endswith("\n") and "8/8" in lines[-1]


def test_units_of_an_earlier_run_count_as_done_but_not_as_fast(capsys, interval):
    with progress_bar(desc="train", unit="step", total=1_000_010, initial=1_000_000) as bar:
        for _ in range(10):
            time.sleep(0.01)
            bar.update()
    last = capsys.readouterr().err.splitlines()[-1]
    assert "1000010/1000010" in last and float(re.search(r"([\d.]+)step/s", last)[1]) < 200


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    list(progress_bar(range(3), desc="build", unit="sample"))
    assert "\r" in capsys.readouterr().err


def test_a_clock_that_is_set_back_stops_neither_lines_nor_rates(capsys, interval, monkeypatch):
    """NTP or an administrator may set the clock of the wall while a job runs."""
    moments = iter(range(10_000_000, 0, -7200))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(moments)))
    with progress_bar(total=8, desc="build", unit="sample") as bar:
        for _ in range(8):
            time.sleep(0.02)
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2 and "8/8" in lines[-1]
    assert 20 < float(re.search(r"([\d.]+)sample/s", lines[-1])[1]) <= 50


# Functions of the clock of the wall, and where they serve to date something.
WALL = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "st_mtime", "st_ctime", "getmtime"}
_STAMPS = ("trainer/run/log.py", "trainer/run/validations.py", "evaluator/jobs/outcome.py", "evaluator/jobs/watch.py")
DATES = {name: {"datetime.now"} for name in _STAMPS}


def test_only_monotonic_clocks_measure():
    found = {}
    for stage in ("pipeline", "trainer", "evaluator", "data_cards"):
        for path in (ROOT / stage).rglob("*.py"):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            used = {".".join(name.split(".")[-2:]) for name in used} | {name.split(".")[-1] for name in used}
            used |= {
                f"time.{a.name}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == "time" for a in n.names
            }
            if used & WALL:
                found[str(path.relative_to(ROOT))] = used & WALL
    assert found == DATES
