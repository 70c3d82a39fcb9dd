"""Processes that end with their parent, however it ends: by an error, by a signal, or by SIGKILL.

Linux sends the parent-death signal (`man 2 PR_SET_PDEATHSIG`) when the thread that started a process ends, so start processes in
the main thread, or in a thread that lives as long as they do.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any

from pipeline.runtime.interrupts import STOPPED
from pipeline.wording import counted, printable

_PR_SET_PDEATHSIG = 1
_LISTEN_S = 5.0  # for what a process has written before it ended


def end_with_parent(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Let the calling process receive the signal `number` when its parent, the process `parent`, ends.

    Exits at once if the parent has ended already.
    """
    _following(parent, number)()


def _following(parent: int, number: signal.Signals) -> Callable[[], None]:
    """Return what a new process calls. Everything is loaded beforehand, because it may run between fork and exec."""
    prctl = ctypes.CDLL(None).prctl

    def follow() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:  # it ended in between
            os._exit(1)

    return follow


def start_process(command: Sequence[str], **options: Any) -> subprocess.Popen:
    """Start a process that receives SIGTERM when this one ends. options: those of subprocess.Popen."""
    return subprocess.Popen(command, preexec_fn=_following(os.getpid(), signal.SIGTERM), **options)


def run_process(command: Sequence[str], hear: Callable[[str], object] | None = None) -> int:
    """Run another command of this project and return its exit code. What stops this process stops that one, and waits for it.

    hear: called, in another thread, with each line that it writes to stderr, which this process passes on.
    Raises KeyboardInterrupt if a signal stopped only the other one.
    """
    with running(command, hear) as process:
        code = process.wait()
    if code in STOPPED:
        raise KeyboardInterrupt
    return code


@contextmanager
def running(command: Sequence[str], hear: Callable[[str], object] | None = None, **options: Any) -> Iterator[subprocess.Popen]:
    """Start another command of this project; at the end of the block it receives SIGTERM if it still runs, and has ended.

    hear: as in `run_process`. options: those of subprocess.Popen.
    """
    process = start_process(command, stderr=None if hear is None else subprocess.PIPE, **options)
    listener = threading.Thread(target=_pass_on, args=(process.stderr, hear), daemon=True)
    try:
        listener.start()
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
        listener.join(_LISTEN_S)


def failure(code: int, said: str) -> str:
    """Return why a command of this project failed: with an exit code other than 0, after the line `said` on stderr."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"  # SIGKILL: by a user, or because memory ran out
    return printable(said.partition("error: ")[2]) or f"exit code {code}"


def _pass_on(lines: IO[bytes] | None, hear: Callable[[str], object] | None) -> None:
    for line in lines or ():
        text = line.decode(errors="replace")
        sys.stderr.write(text)
        if hear is not None:
            hear(text.rstrip())


def local_workers() -> AbstractContextManager[Any]:
    """Select worker processes on this machine for `joblib.Parallel` that is created inside the `with` block.

    They end with this process.
    """
    import joblib

    return joblib.parallel_config("loky", initializer=end_with_parent, initargs=(os.getpid(),))


def num_workers(jobs: int, num_tasks: int, task: str) -> int:
    """Return the number of worker processes to start on this machine for --jobs: at most one per core and one per task.

    Prints a line if `jobs` asks for more. task: what a worker does at a time, for that line, such as "shard".
    """
    import joblib

    most = max(1, min(joblib.cpu_count(), num_tasks))
    if jobs > most:
        print(
            f"--jobs {jobs}: {counted(most, 'worker')} for {counted(num_tasks, task)} and {counted(joblib.cpu_count(), 'core')}"
        )
    return most if jobs == -1 else min(jobs, most)
