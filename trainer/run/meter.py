"""Speed of training, and the share of time in which the device waits."""

from collections.abc import Callable


class Meter:
    """Counts steps, samples and seconds, and the seconds in which the device waited for data or for the host."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._started_s = clock, clock()
        self.num_steps, self.num_samples, self.waited_s, self.host_wait_s = 0, 0, 0.0, 0.0

    def add(self, num_samples: int, waited_s: float, host_wait_s: float = 0.0) -> None:
        """Count one step."""
        self.num_steps += 1
        self.num_samples += num_samples
        self.waited_s += waited_s
        self.host_wait_s += host_wait_s

    def leave_out(self, seconds: float) -> None:
        """Subtract time that went into something else."""
        self._started_s += seconds

    @property
    def elapsed_s(self) -> float:
        """Seconds since the meter was created, always above 0."""
        return max(self._clock() - self._started_s, 1e-9)

    def rates(self) -> dict[str, float]:
        """Return samples per second, and the shares of time in which the device waited for data and for the host."""
        elapsed_s = self.elapsed_s
        return {
            "imgs_per_sec": self.num_samples / elapsed_s,
            "data_wait": min(self.waited_s / elapsed_s, 1.0),
            "host_wait": min(self.host_wait_s / elapsed_s, 1.0),
        }
