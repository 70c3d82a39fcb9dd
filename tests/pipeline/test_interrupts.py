"""Ctrl-C, SIGTERM and SIGHUP end a command with its own exit code, even if a library replaces the handler of SIGINT."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.runtime.interrupts import handled, raised_signals

ROOT = Path(__file__).parents[2]
# What MindSpore does at every execution of a graph.
REPLACED = "import ctypes; ctypes.CDLL(None).signal(2, ctypes.c_void_p(1));"
SLEEP = "from pipeline.cli import guarded, leave; leave(guarded('prog', lambda: print('ready', flush=True) or time.sleep(60)))"


def started(code: str, **options) -> subprocess.Popen:
    """Start Python and wait until it prints a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal, time;" + code],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **options,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM"), (signal.SIGHUP, 129, "SIGHUP")]
)
def test_a_signal_ends_a_command_with_its_code(number, code, name):
    process = started(SLEEP)
    os.kill(process.pid, number)
    _, message = process.communicate(timeout=60)
    assert (process.returncode, message) == (code, f"prog: stopped by {name}; run the same command again to continue\n")


def test_ctrl_c_works_although_a_library_has_replaced_the_handler():
    process = started(SLEEP.replace("print(", f"exec({REPLACED!r}) or print("))
    os.kill(process.pid, signal.SIGINT)
    assert "stopped by Ctrl-C" in process.communicate(timeout=60)[1] and process.returncode == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_the_caller_ignores_stays_ignored(number):
    """`nohup` ignores SIGHUP, and a shell script ignores SIGINT in the background."""
    replaced = REPLACED.replace("signal(2, ctypes.c_void_p(1))", "signal(2, None)")  # a handler that ends the process
    code = f"signal.signal({int(number)}, signal.SIG_IGN);" + SLEEP.replace("print(", f"exec({replaced!r}) or print(")
    process = started(code.replace("time.sleep(60)", "time.sleep(0.5)"))
    os.kill(process.pid, number)
    assert (process.communicate(timeout=60)[1], process.returncode) == ("", 0)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("delay_s", [0.2, 0.8])
def test_a_signal_during_the_import_of_mindspore_ends_a_command_with_its_code(number, code, delay_s):
    """Its C library turns the exception into an ImportError, and its clean-up crashes."""
    work = "lambda: print('ready', flush=True) or __import__('mindspore') and time.sleep(60)"
    process = started(f"from pipeline.cli import guarded, leave; leave(guarded('prog', {work}))")
    time.sleep(delay_s)
    os.kill(process.pid, number)
    _, message = process.communicate(timeout=60)
    assert process.returncode == code and message.startswith("prog: stopped by") and message.count("\n") == 1


def test_a_child_process_can_be_interrupted_too():
    """It inherits that SIGINT is blocked."""
    inner = "import signal, time;" + SLEEP
    outer = f"import subprocess, sys; from pipeline.runtime.interrupts import raised_signals\nwith raised_signals(): p = subprocess.Popen([sys.executable, '-c', {inner!r}]); time.sleep(0.0)\np.wait(); sys.exit(p.returncode)"
    process = started(outer, preexec_fn=None)
    os.killpg(process.pid, signal.SIGINT)
    assert "prog: stopped by Ctrl-C" in process.communicate(timeout=60)[1]


def test_immediate_means_without_cleanup():
    code = "from pipeline.runtime.interrupts import handled, raised_signals\nwith raised_signals(), handled(signal.SIG_DFL):\n try: print('ready', flush=True); time.sleep(60)\n finally: print('cleaned up')"
    process = started(code)
    os.kill(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "") and process.returncode == 130


def test_everything_is_as_before_after_the_block():
    def state() -> tuple:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)
        return signal.pthread_sigmask(signal.SIG_BLOCK, []), [signal.getsignal(n) for n in numbers], threading.active_count()

    before = state()
    arrived = []
    with raised_signals(), handled(lambda number, _frame: arrived.append(number)):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 0.1)
    assert arrived == [signal.SIGINT, signal.SIGTERM, signal.SIGHUP] and state() == before
