"""Progress in log files: whole lines, nothing for short work, and the rate of this run only."""

import re
import time

import pytest

from pipeline import progress
from pipeline.progress import progress_bar


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
