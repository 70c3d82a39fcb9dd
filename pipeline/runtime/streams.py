"""stdout and stderr that a job outlives: when a terminal, pipe or disk takes no more output, it goes to /dev/null."""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class LastingFile(io.RawIOBase):
    """Writes to an open file, until that fails; from then on, to /dev/null. `failure` is the first error, `number` the file.

    With `raises`, the write that fails raises its error.
    """

    def __init__(self, number: int, *, raises: bool, failure: OSError | None = None) -> None:
        self.number, self.raises, self.failure = number, raises, failure

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the number of the open file."""
        return self.number

    def isatty(self) -> bool:
        """Return whether the file is a terminal."""
        return os.isatty(self.number)

    def write(self, data: Any) -> int:
        """Write all bytes and return their number."""
        written = 0
        while written < len(data):
            try:
                written += os.write(self.number, data[written:])
            except BlockingIOError:  # another program made the terminal or pipe non-blocking
                select.select([], [self.number], [])
            except OSError as error:
                self.failure = self.failure or error
                _discard(self.number)
                if self.raises:
                    raise
        return written


def _discard(number: int) -> None:
    """Redirect an open file to /dev/null, also for child processes and libraries in other languages."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


@contextmanager
def lasting_streams(*, raises: bool) -> Iterator[LastingFile]:
    """Let sys.stdout and sys.stderr outlive their readers within a block; yield the file below stdout.

    raises: whether `print` to a stdout that has failed raises OSError. Characters that an encoding lacks are printed as escapes.
    A stream that is not that of the process, as in tests, stays as it is.
    """
    for number in range(3):  # a file that is opened later must not take the place of a closed one
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    before = sys.stdout, sys.stderr
    closed = OSError(errno.EBADF, "closed") if sys.stdout is None else None
    out, err = LastingFile(1, raises=raises, failure=closed), LastingFile(2, raises=False)
    sys.stdout, sys.stderr = _replaced(sys.stdout, out), _replaced(sys.stderr, err)
    try:
        yield out
    finally:
        out.raises = False
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _replaced(stream: TextIO | None, file: LastingFile) -> TextIO:
    """Return a text stream with the encoding and buffering of `stream` that writes to `file`."""
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(file), encoding="utf-8", errors="backslashreplace")
    if type(stream) is not io.TextIOWrapper or stream.fileno() != file.number:
        return stream
    stream.flush()
    buffer: Any = file if stream.write_through else io.BufferedWriter(file)  # as Python does with -u
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
