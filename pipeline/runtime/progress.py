"""Progress with rate and remaining time: a bar on a terminal, a line every 30 seconds in a log file. Imports only tqdm."""

import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, Any

from tqdm import tqdm

LINE_INTERVAL_S = 30.0


class _Bar(tqdm):
    """Measures with a clock that nobody sets, and looks at it at every update."""

    monitor_interval = 0  # the thread of tqdm would compare with the other clock

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, miniters=1, **options)
        self._time = time.monotonic
        self.start_t = self.last_print_t = self._time()


class _Lines(_Bar):
    """Prints lines instead of moving the cursor, for log files and job schedulers."""

    @staticmethod
    def status_printer(file: IO[str]) -> Callable[[str], None]:
        def write_line(text: str) -> None:
            if text.strip():
                file.write(text.rstrip() + "\n")
                file.flush()

        return write_line

    def close(self) -> None:
        """Print the last line. The base class would add an empty one."""
        with self.get_lock():
            if not self.disable and self.last_print_t >= self.start_t + self.delay:
                self.refresh()
            self.sp = None
            super().close()


def progress_bar(iterable: Iterable | None = None, *, desc: str, unit: str, total: int | None = None, initial: int = 0) -> tqdm:
    """Iterate over `iterable`, or use as a context manager and call `update(n)`. `initial` units were done by an earlier run.

    Work that ends within one interval prints nothing if stderr is not a terminal.
    """
    options: dict[str, Any] = {"desc": desc, "unit": unit, "total": total, "initial": initial}
    if sys.stderr is not None and sys.stderr.isatty():
        return _Bar(iterable, **options, leave=False)
    interval_s = LINE_INTERVAL_S
    return _Lines(iterable, **options, mininterval=interval_s, maxinterval=interval_s, delay=interval_s, ncols=100, ascii=True)
