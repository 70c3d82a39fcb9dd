"""The two exceptions that end a command with a message instead of a traceback."""

import signal


class UserError(Exception):
    """An error that the user can fix. The text says what is wrong, where, and what to do; the exit code is 1."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Not an `Exception`, so that no handler along the way swallows it.

    The text says how to continue, if that takes more than the same command again.
    """

    def __init__(self, advice: str = "", number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(advice)
        self.number = number


def stop_error(number: signal.Signals, advice: str) -> BaseException:
    """Return the exception of a command that stopped in order after this signal."""
    return KeyboardInterrupt(advice) if number == signal.SIGINT else Terminated(advice, number)
