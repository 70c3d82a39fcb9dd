"""Processes end with the one that started them, however that ends."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import joblib
import pytest
from kill_jobs import commands, killed

from pipeline.runtime.processes import local_workers, run_process, start_process

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return commands(tmp_path_factory.mktemp("inputs"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["synthesize", "build", "verify", "watch", "bench-step", "quickstart"])
def test_no_process_outlives_a_killed_command(prepared, tmp_path, name):
    """tests/studies/leftover_campaign.py kills every command at ten moments; test_launch_faults.py kills launchers."""
    num_others, left = killed(prepared[name], tmp_path / "out", random.Random(name), started=True)
    assert num_others and not left


def test_a_process_receives_sigterm_when_its_parent_is_killed(tmp_path):
    """Also if the parent is killed before the process has started up."""
    inner = "import pathlib, signal, sys, time; signal.signal(15, lambda *_: (pathlib.Path('ended').touch(), sys.exit())); print('ready', flush=True); time.sleep(60)"
    outer = f"import sys, time; from pipeline.runtime.processes import start_process; start_process([sys.executable, '-c', {inner!r}]); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", outer],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None and parent.stdout.readline() == "ready\n"
    parent.kill()
    parent.communicate(timeout=30)  # its child has the same stdout
    assert (tmp_path / "ended").exists()


def test_a_process_whose_parent_has_ended_already_ends_at_once():
    code = "from pipeline.runtime.processes import end_with_parent; end_with_parent(1 << 30); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize(
    ("code", "stopped"), [("sys.exit(3)", False), ("sys.exit(143)", True), ("os.kill(os.getpid(), 2)", True)]
)
def test_the_exit_code_of_a_command_is_returned_unless_a_signal_stopped_it(code, stopped):
    command = [sys.executable, "-c", f"import os, signal, sys; signal.signal(2, signal.SIG_DFL); {code}"]
    if stopped:
        with pytest.raises(KeyboardInterrupt):
            run_process(command)
    else:
        assert run_process(command) == 3


def test_what_a_command_writes_to_stderr_is_heard_and_passed_on(capfd):
    lines = []
    code = "import sys; sys.stderr.buffer.write(b'one\\n\\xff two\\n'); print('out'); sys.exit(1)"
    assert run_process([sys.executable, "-c", code], lines.append) == 1
    assert lines == ["one", "\ufffd two"]
    assert capfd.readouterr() == ("out\n", "one\n\ufffd two\n")


def test_a_command_that_is_stopped_stops_the_one_that_it_runs_and_waits(tmp_path):
    inner = "import pathlib, signal, sys, time; signal.signal(15, lambda *_: (time.sleep(0.3), pathlib.Path('saved').touch(), sys.exit(143))); print('ready', flush=True); time.sleep(60)"
    outer = f"import sys; from pipeline.runtime.processes import run_process; from pipeline.cli import guarded, leave; leave(guarded('prog', lambda: run_process([sys.executable, '-c', {inner!r}])))"
    process = start_process(
        [sys.executable, "-c", outer], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143 and (tmp_path / "saved").exists()


def test_workers_start_and_return_results():
    with local_workers():
        started_s = time.monotonic()
        pids = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(4))
    assert os.getpid() not in pids and time.monotonic() - started_s < 60
