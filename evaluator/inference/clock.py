"""Where the time of an evaluation goes."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

NETWORK = "network"


class Clock:
    """Measures the seconds of each part of the work and the throughput.

    Start-up and compilation are excluded: the rate counts from the first finished images, and the overhead from the end of the
    network's first call. Parts run in parallel, so that their seconds may add up to more than the elapsed time.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        self._first_call_end: float | None = None
        self.first_call_s = 0.0
        self._first_done: float | None = None
        self._num_done = 0

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part. Thread-safe."""
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            with self._lock:
                self.seconds[part] += end - start
                if part == NETWORK and self._first_call_end is None:
                    self._first_call_end, self.first_call_s = end, end - start

    def count(self, num_images: int) -> None:
        """Count finished images. The first ones only start the clock."""
        if self._first_done is None:
            self._first_done = time.perf_counter()
        else:
            self._num_done += num_images

    def rate(self) -> float | None:
        """Images per second since the first finished images; None if no others are finished."""
        if self._first_done is None or not self._num_done:
            return None
        return self._num_done / (time.perf_counter() - self._first_done)

    def overhead_share(self) -> float | None:
        """Share of the time since the network's first call in which the network is idle; None if there was only one call."""
        computed = self.seconds.get(NETWORK, 0.0) - self.first_call_s
        if self._first_call_end is None or not computed:
            return None
        return 1 - computed / (time.perf_counter() - self._first_call_end)

    def figures(self) -> dict[str, float]:
        """All measurements, for metrics.json."""
        rate, overhead = self.rate(), self.overhead_share()
        figures = {f"{part}_s": round(spent, 3) for part, spent in self.seconds.items()}
        if rate is not None:
            figures["images_per_s"] = round(rate, 4)
        if overhead is not None:
            figures["overhead_share"] = round(overhead, 4)
        return figures

    def line(self) -> str:
        """All measurements in one line to print; empty if there are none."""
        rate, overhead = self.rate(), self.overhead_share()
        if rate is None:
            return ""
        speed = f"{rate:.1f} images/s including scoring, excluding start-up"
        if overhead is None:
            return speed
        return f"{speed}; network idle {overhead:.1%} of the time (first call took {self.first_call_s:.1f} s, excluded)"
