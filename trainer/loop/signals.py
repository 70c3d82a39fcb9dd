"""Signals during training: finish the step and save; while compiling, exit immediately; in `launch`, pass them on."""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from pipeline.runtime.interrupts import STOPPING, handled


@contextmanager
def collected_signals() -> Iterator[list[signal.Signals]]:
    """Append the signals to the yielded list instead of stopping."""
    arrived: list[signal.Signals] = []
    with handled(lambda number, _frame: arrived.append(signal.Signals(number))):
        yield arrived


@contextmanager
def noted_signals(*, quiet: bool) -> Iterator[list[signal.Signals]]:
    """Append the first signal of each kind to the yielded list; the second stops the process. Prints a line unless `quiet`."""
    arrived: list[signal.Signals] = []
    usual = {number: signal.getsignal(number) for number in STOPPING}

    def note(number: int, _frame: FrameType | None) -> None:
        received = signal.Signals(number)
        arrived.append(received)
        if not quiet:
            print(f"{received.name}: finishing this step, then saving", flush=True)
        signal.signal(number, usual[received])

    with handled(note):
        yield arrived


def immediate_signals() -> AbstractContextManager[None]:
    """Let signals end the process immediately.

    While a step compiles, which takes long, Python runs no signal handlers, and there is nothing to save.
    """
    return handled(signal.SIG_DFL)
