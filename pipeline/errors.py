"""The exceptions that end a command with a message instead of a traceback."""

import errno
import signal

_ADVICE = {
    errno.ENOENT: "check the path",
    errno.EISDIR: "a file is expected there; move the folder away, or choose another path",
    errno.ENOTDIR: "a part of the path is a file; check the path",
    errno.EEXIST: "move it away, or choose another path",
    errno.EACCES: "change its permissions, or choose another path",
    errno.EPERM: "change its permissions, or choose another path",
    errno.EROFS: "choose a path that can be written",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOSPC: "free space, then run the command again",
    errno.EDQUOT: "free space, then run the command again",
    errno.EMFILE: "raise `ulimit -n`",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network file system",
}


class UserError(Exception):
    """An error that the user can fix. The text says what is wrong, where, and what to do; the exit code is 1."""


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. Not an `Exception`, so that no handler along the way swallows it.

    The text says how to continue, if that takes more than the same command again.
    """

    def __init__(self, advice: str = "", number: signal.Signals = signal.SIGTERM) -> None:
        super().__init__(advice)
        self.number = number


def explained(error: OSError) -> str:
    """Return the message of an error of the operating system: path, reason, and what to do."""
    if error.filename is None or error.errno is None:
        return str(error)
    path = error.filename.decode(errors="replace") if isinstance(error.filename, bytes) else error.filename
    return "; ".join(filter(None, [f"{path}: {error.strerror}", _ADVICE.get(error.errno)]))


def stop_error(number: signal.Signals, advice: str) -> BaseException:
    """Return the exception of a command that stopped in order after this signal."""
    return KeyboardInterrupt(advice) if number == signal.SIGINT else Terminated(advice, number)
