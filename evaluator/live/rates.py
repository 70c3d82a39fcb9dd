"""Rates and latencies of the last seconds."""

import threading
import time
from collections import deque

import numpy as np

WINDOW_S = 2.0
SHORTEST_S = 0.5  # after a shorter time, the rate is a lower bound


class Rate:
    """Events per second, and the median and largest of the values that come with them, over the last `WINDOW_S` seconds.

    It falls to 0 when events cease. Times are those of `time.monotonic()`. Threads may share it.
    """

    def __init__(self) -> None:
        self._start_s: float | None = None
        self._events: deque[tuple[float, float]] = deque()
        self._lock = threading.Lock()

    def add(self, now_s: float, value: float = 0.0) -> None:
        """Note an event."""
        with self._lock:
            self._start_s = now_s if self._start_s is None else self._start_s
            self._events.append((now_s, value))
            self._forget(now_s)

    def per_s(self, now_s: float | None = None) -> float:
        """Return the number of events per second."""
        now_s = time.monotonic() if now_s is None else now_s
        with self._lock:
            self._forget(now_s)
            if self._start_s is None or self._start_s <= now_s - WINDOW_S:
                return len(self._events) / WINDOW_S
            return (len(self._events) - 1) / max(now_s - self._start_s, SHORTEST_S)

    def median_and_largest(self, now_s: float | None = None) -> tuple[float, float] | None:
        """Return the median and the largest value, None if there are none."""
        with self._lock:
            self._forget(time.monotonic() if now_s is None else now_s)
            values = [value for _, value in self._events]
        return (float(np.median(values)), max(values)) if values else None

    def _forget(self, now_s: float) -> None:
        while self._events and self._events[0][0] <= now_s - WINDOW_S:
            self._events.popleft()
