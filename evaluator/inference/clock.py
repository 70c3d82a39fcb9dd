"""Where the time of an evaluation goes."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

NETWORK = "network"


class Clock:
    """Seconds by part of the work (parts that run beside each other may add up to more than the whole), images, and the rate.

    Neither start nor compilation count: the rate is that from the first images that are done, the network's share that of the
    time after its first call.
    """

    def __init__(self) -> None:
        self.seconds: Counter = Counter()
        self._lock = threading.Lock()
        self._computed_at: float | None = None
        self._first_call_s = 0.0
        self._done_at: float | None = None
        self._num_done = 0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Any thread may."""
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._lock:
                self.seconds[part] += end - start
                if part == NETWORK and self._computed_at is None:
                    self._computed_at, self._first_call_s = end, end - start

    def count(self, num_images: int) -> None:
        """So many images are done."""
        if self._done_at is None:
            self._done_at = time.perf_counter()
        else:
            self._num_done += num_images

    def rate(self) -> float | None:
        """Images a second from the first that were done until now; None where there were no others."""
        return self._num_done / (time.perf_counter() - self._done_at) if self._num_done else None

    def share_beside_network(self) -> float | None:
        """Share of the time since the network's first call in which it did not run; None where there was no other call."""
        computed = self.seconds[NETWORK] - self._first_call_s
        if self._computed_at is None or not computed:
            return None
        return 1 - computed / (time.perf_counter() - self._computed_at)

    def figures(self) -> dict[str, float]:
        """All of it, for metrics.json."""
        figures = {f"{part}_s": round(spent, 3) for part, spent in self.seconds.items()}
        for name, value in (("images_per_s", self.rate()), ("share_beside_network", self.share_beside_network())):
            if value is not None:
                figures[name] = round(value, 4)
        return figures

    def line(self) -> str:
        """All of it, for people; empty where nothing can be said."""
        rate, beside = self.rate(), self.share_beside_network()
        if rate is None:
            return ""
        spent = f"{rate:.1f} images/s with scoring, without the start"
        if beside is None:
            return spent
        return f"{spent}; everything but the network cost {beside:.1%} of the time (its first call, {self._first_call_s:.1f} s, apart)"
