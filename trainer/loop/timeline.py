"""When the device had nothing to do, and whether it waited for data or for the host. Works also if the device is asynchronous."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

NUM_RECENT = 512  # steps over which the duration of a step on the device is estimated
WAIT_S = 0.5e-3  # reading a result that is ready takes less


@dataclass(frozen=True, kw_only=True)
class Idle:
    """Seconds for which the device was idle before a step, waiting for data and waiting for the host."""

    data_s: float
    host_s: float


class Timeline:
    """Reconstructs when the device was busy from the times that the host sees.

    A step starts when it is launched or when the step before it ends, whichever comes later. The host knows exactly when a step
    ended only if it waited for the result. Otherwise the step ended at its start plus the shortest recent duration (start to
    result read), or earlier. A device is idle from the end of a step to the launch of the next one; the part of this time in
    which the host waited for the stream counts as waiting for data, and the rest as waiting for the host.

    Call for each step `wait_for_data` around the request of its batch, `launch` around its launch, and `read` around the reading
    of the oldest result. `is_asynchronous`: whether a launch returns before the step is done; a CPU's does not.
    """

    def __init__(self, *, is_asynchronous: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._is_asynchronous, self._clock = is_asynchronous, clock
        self._durations: deque[float] = deque(maxlen=NUM_RECENT)
        self._launched: deque[tuple[float, float, tuple[float, float]]] = deque()  # called, returned, wait for its data
        self._waited = (0.0, 0.0)
        self._free_s: float | None = None  # when the device finished the last step that was read

    def wait_for_data(self, get: Callable[[], T]) -> T:
        """Call `get`, which returns the next batch."""
        started_s = self._clock()
        batch = get()
        self._waited = (started_s, self._clock())
        return batch

    def launch(self, started_s: float) -> None:
        """Note that the next step was launched, by a call that began at `started_s` and returned now."""
        self._launched.append((started_s, self._clock(), self._waited))

    def read(self, started_s: float) -> Idle:
        """Note that the oldest result was read, by a call that began at `started_s` and returned now.

        Returns how long the device was idle before that step. The first step has none.
        """
        called_s, returned_s, waited = self._launched.popleft()
        idle = self._idle(called_s, waited)
        start_s = called_s if self._free_s is None else max(called_s, self._free_s)
        if not self._is_asynchronous:
            self._free_s = returned_s
            return idle
        read_s = self._clock()
        self._durations.append(read_s - start_s)
        had_to_wait = read_s - started_s > WAIT_S
        self._free_s = read_s if had_to_wait else min(read_s, start_s + min(self._durations))
        return idle

    def leave_out(self, seconds: float) -> None:
        """Leave out time, just passed, in which the run did something else. No step may be unread."""
        if self._free_s is not None:
            self._free_s += seconds

    def _idle(self, called_s: float, waited: tuple[float, float]) -> Idle:
        if self._free_s is None:
            return Idle(data_s=0.0, host_s=0.0)
        idle_s = max(called_s - self._free_s, 0.0)
        data_s = min(max(waited[1] - max(waited[0], self._free_s), 0.0), idle_s)
        return Idle(data_s=data_s, host_s=idle_s - data_s)
