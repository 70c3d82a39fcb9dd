"""What SIGINT and SIGTERM do to a training: noted while it works, passed on by `launch`, at once where nothing can be lost."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def _handled(handler: Callable | signal.Handlers) -> Iterator[None]:
    """Give both signals that handler for a while."""
    previous = {number: signal.signal(number, handler) for number in STOPPING}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def collected_signals() -> Iterator[list[signal.Signals]]:
    """Collect the signals in the list that is given, instead of stopping."""
    arrived: list[signal.Signals] = []
    with _handled(lambda number, _frame: arrived.append(signal.Signals(number))):
        yield arrived


@contextmanager
def noted_signals(*, quiet: bool) -> Iterator[list[signal.Signals]]:
    """The same, but the second of a kind stops as usual. Says so unless `quiet`.

    (While MindSpore computes, it turns SIGINT into SIGTERM; so Ctrl-C mostly arrives as that.)
    """
    arrived: list[signal.Signals] = []
    usual = {number: signal.getsignal(number) for number in STOPPING}

    def note(number, _frame):
        arrived.append(signal.Signals(number))
        if not quiet:
            print(f"{arrived[-1].name}: finishing this step, then saving", flush=True)
        signal.signal(number, usual[number])

    with _handled(note):
        yield arrived


@contextmanager
def signals_at_once() -> Iterator[None]:
    """Signals end the process: while a step compiles, which takes long, Python hears of none, and there is nothing to save."""
    with _handled(signal.SIG_DFL):
        yield
