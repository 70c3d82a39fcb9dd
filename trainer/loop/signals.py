"""SIGINT and SIGTERM during training: finish the step and save; while compiling, exit immediately; in `launch`, pass them on."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> Iterator[None]:
    """Install a handler for both signals within a block."""
    previous = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def collected_signals() -> Iterator[list[signal.Signals]]:
    """Append the signals to the yielded list instead of stopping."""
    arrived: list[signal.Signals] = []
    with _handled(lambda number, _frame: arrived.append(signal.Signals(number))):
        yield arrived


@contextmanager
def noted_signals(*, quiet: bool) -> Iterator[list[signal.Signals]]:
    """Append the first signal of each kind to the yielded list; the second stops the process. Prints a line unless `quiet`.

    MindSpore turns SIGINT into SIGTERM while it computes, so Ctrl-C often arrives as SIGTERM.
    """
    arrived: list[signal.Signals] = []
    usual = {number: signal.getsignal(number) for number in STOPPING}

    def note(number: int, _frame: FrameType | None) -> None:
        received = signal.Signals(number)
        arrived.append(received)
        if not quiet:
            print(f"{received.name}: finishing this step, then saving", flush=True)
        signal.signal(number, usual[received])

    with _handled(note):
        yield arrived


@contextmanager
def immediate_signals() -> Iterator[None]:
    """Let signals end the process immediately.

    While a step compiles, which takes long, Python runs no signal handlers, and there is nothing to save.
    """
    with _handled(signal.SIG_DFL):
        yield
