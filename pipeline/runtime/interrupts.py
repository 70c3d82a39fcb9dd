"""Signals that stop a command: SIGINT (Ctrl-C), SIGTERM, and SIGHUP, which arrives when the terminal is closed.

MindSpore installs its own handler of SIGINT at every execution of a graph; it turns SIGINT into SIGTERM. Therefore no handler
receives SIGINT here: all threads block it, and one thread waits for it and calls Python's handler in the main thread. New threads
and processes inherit that SIGINT is blocked. Programs in other languages that do not unblock it cannot be interrupted.
"""

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import NoReturn

from pipeline.errors import Terminated

_UNIX = hasattr(signal, "pthread_sigmask")  # Windows has neither SIGHUP nor masks of signals
STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if _UNIX else []))
STOPPED = frozenset(code for number in STOPPING for code in (128 + number, -number))
"""Exit codes of a process that a signal stopped, as `subprocess` reports them."""

Handler = Callable[[int, FrameType | None], object] | signal.Handlers


@contextmanager
def handled(handler: Handler, numbers: tuple[signal.Signals, ...] = STOPPING) -> Iterator[None]:
    """Install a handler within a block. Signals that the caller ignores, as `nohup` ignores SIGHUP, stay ignored."""
    previous = {number: signal.getsignal(number) for number in numbers}
    caught = {number: before for number, before in previous.items() if before not in (signal.SIG_IGN, None)}
    for number in caught:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in caught.items():
            signal.signal(number, before)


@contextmanager
def raised_signals() -> Iterator[None]:
    """Within a block, raise signals in the main thread: SIGINT as KeyboardInterrupt, the others as Terminated."""
    with handled(_raise_terminated, STOPPING[1:]), _delivered_interrupts() if _UNIX else nullcontext():
        yield


def _raise_terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated(number=signal.Signals(number))


@contextmanager
def _delivered_interrupts() -> Iterator[None]:
    """Within a block, call Python's handler of SIGINT even if a library has replaced it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
            try:
                yield
            finally:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # also discards one that arrived while it was blocked
        else:
            with handled(lambda *_: None, (signal.SIGURG,)), _waiting_thread():
                yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _waiting_thread() -> Iterator[None]:
    ended, main = threading.Event(), threading.get_ident()

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they must reach the main thread
        while signal.sigwait({signal.SIGINT}) and not ended.is_set():
            if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
                os._exit(128 + signal.SIGINT)
            _thread.interrupt_main(signal.SIGINT)
            signal.pthread_kill(main, signal.SIGURG)  # ends a system call for which the main thread waits

    thread = threading.Thread(target=wait, name="SIGINT", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        signal.pthread_kill(thread.ident or 0, signal.SIGINT)
        thread.join()
