"""Named stages of a computation. Code announces them with `timed("stage")`; a benchmark passes a timer, everything else passes nothing.

This way benchmarks time the code that runs in production, not a copy of it.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Timed = Callable[[str], AbstractContextManager[None]]


def untimed(stage: str) -> AbstractContextManager[None]:
    """Time nothing."""
    return nullcontext()


class StageTimes:
    """CPU seconds of this process by stage: `seconds`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the CPU time of the block to `stage`."""
        start = time.process_time()
        try:
            yield
        finally:
            self.seconds[stage] += time.process_time() - start
