"""What a run says of itself: log lines for people, the same as JSON lines, and the summary."""

import datetime
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.files import write_atomic

if TYPE_CHECKING:  # it loads mindspore, which reading a log does not need
    from trainer.loop.optimizer import LearningRates

LOG = "log.jsonl"
RATES = ("vgglr", "baselr", "stagelr")
LOSS_SUM, NUM_STEPS, NORMS = "report.loss_sum", "report.num_steps", "report.gradient_norms"


def format_rate(rate: float) -> str:
    """A learning rate in the log's form: 0.0, 2.5e-05, 1e-04."""
    if rate == 0:
        return "0.0"
    mantissa, exponent = f"{rate:.6e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{exponent}"


def format_line(entry: dict) -> str:
    """The log line of an entry of log.jsonl."""
    eta = datetime.timedelta(seconds=round(entry["eta_s"]))
    rates = ",".join(f"{name}={format_rate(entry[name])}" for name in RATES)
    left_out = f", {entry['skipped']} steps left out" if entry["skipped"] else ""
    return (
        f"epoch[{entry['epoch']}], iter[{entry['step']}], loss[{entry['loss']:.4f}], {entry['imgs_per_sec']:.2f} imgs/sec, "
        f"{rates}, data wait {entry['data_wait']:.1%}, ETA {eta}{left_out}"
    )


def scalars(entry: dict) -> dict[str, float]:
    """The curves of an entry of log.jsonl: its numbers by a name such as "loss/all", "loss/stage1_paf" or "lr/vgg".

    Stages count from 1. What the entry does not have is left out.
    """
    values = {"loss/all": entry["loss"]}
    for number, losses in enumerate(entry["stage_losses"], start=1):
        values |= {f"loss/stage{number}_{branch}": loss for branch, loss in zip(("heatmap", "paf"), losses, strict=True)}
    values |= {f"lr/{name.removesuffix('lr')}": entry[name] for name in RATES}
    values |= {name: entry.get(name) for name in ("imgs_per_sec", "data_wait", "gradient_norm")}
    return {name: value for name, value in values.items() if value is not None}


def read_log(folder: Path) -> list[dict]:
    """The entries of RUN/log.jsonl, without a last line that a kill cut short; none where there is no such file."""
    path = Path(folder) / LOG
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if _step_of(line) is not None]


class Meter:
    """Steps, samples, seconds and seconds spent waiting for data, since it was made."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._started_s = clock, clock()
        self.num_steps, self.num_samples, self.waited_s = 0, 0, 0.0

    def add(self, num_samples: int, waited_s: float) -> None:
        self.num_steps += 1
        self.num_samples += num_samples
        self.waited_s += waited_s

    def leave_out(self, seconds: float) -> None:
        """Count that much less time."""
        self._started_s += seconds

    @property
    def elapsed_s(self) -> float:
        return max(self._clock() - self._started_s, 1e-9)

    def rates(self) -> dict[str, float]:
        """Samples a second, and the share of the time that went into waiting for data."""
        return {"imgs_per_sec": self.num_samples / self.elapsed_s, "data_wait": self.waited_s / self.elapsed_s}


class Report:
    """Collects what the steps yield; `log` writes the line of those since the last one, to stdout and to RUN/log.jsonl.

    Their number, the sum of their losses, float64 (S, 2), and the sum and number of their gradient norms, float64 (2,), are kept in
    checkpoints (`tensors`, given back as `restored`), so that a line is the same whether its interval was interrupted or not. The first step of a process compiles and is left out
    of the speed. Of several processes that train together one `writes`; the others only count.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_stages: int,
        restored: dict[str, np.ndarray],
        writes: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.path, self._writes, self._clock = Path(folder) / LOG, writes, clock
        self._loss_sum = restored.get(LOSS_SUM, np.zeros((num_stages, 2)))
        self._num_steps = int(restored.get(NUM_STEPS, 0))
        self._norms = restored.get(NORMS, np.zeros(2))
        self.loss: float | None = None
        self._compiled = False
        self._interval, self._total = Meter(clock), Meter(clock)

    def add(self, losses: np.ndarray, *, num_samples: int, waited_s: float, gradient_norm: float | None = None) -> None:
        """One step: its losses float32 (S, 2), its samples, how long it waited for them, and the norm of its gradients if known."""
        self._loss_sum = self._loss_sum + losses
        self._num_steps += 1
        if gradient_norm is not None:
            self._norms = self._norms + np.array([gradient_norm, 1.0])
        self._interval.add(num_samples, waited_s)
        self._total.add(num_samples, waited_s)
        if not self._compiled:
            self._compile_s, self._compiled = self._total.elapsed_s, True
            self._interval, self._total = Meter(self._clock), Meter(self._clock)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What is done meanwhile does not count in speed, waiting and ETA."""
        started_s = self._clock()
        yield
        for meter in (self._interval, self._total):
            meter.leave_out(self._clock() - started_s)

    @property
    def num_steps(self) -> int:
        """Steps since the last line."""
        return self._num_steps

    def log(self, *, step: int, epoch: int, steps_left: int, rates: "LearningRates", skipped: int = 0) -> dict:
        """Write the line of the steps since the last one; `step` are done, `skipped` of them left out. Returns the entry.

        gradient_norm is the mean of those that are known, null if none is. A loss of exactly 0 is written as null: its stage does
        not give those fields.
        """
        means = self._loss_sum / self._num_steps
        self.loss = float(means.sum())
        per_step_s = self._total.elapsed_s / self._total.num_steps if self._total.num_steps else self._compile_s
        entry = {
            "epoch": epoch,
            "step": step,
            "loss": self.loss,
            **self._interval.rates(),
            **{f"{name}lr": rate for name, rate in rates._asdict().items()},
            "eta_s": steps_left * per_step_s,
            "gradient_norm": self._norms[0] / self._norms[1] if self._norms[1] else None,
            "skipped": skipped,
            "stage_losses": [[loss or None for loss in stage] for stage in means.tolist()],
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        if self._writes:
            print(format_line(entry), flush=True)
            with open(self.path, "a") as file:
                file.write(json.dumps(entry) + "\n")
        self._loss_sum, self._num_steps, self._norms = np.zeros_like(self._loss_sum), 0, np.zeros(2)
        self._interval = Meter(self._clock)
        return entry

    def tensors(self) -> dict[str, np.ndarray]:
        """What a checkpoint must hold for the next line."""
        return {LOSS_SUM: self._loss_sum, NUM_STEPS: np.array(self._num_steps), NORMS: self._norms}

    def summary(self) -> str:
        """One line on the whole of this process."""
        speed = self._total.rates()
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return f"{loss}{speed['imgs_per_sec']:.2f} imgs/sec, data wait {speed['data_wait']:.1%}"


def cut_log(folder: Path, step: int) -> None:
    """Take the lines of later steps out of RUN/log.jsonl: a run that continues from `step` writes them again."""
    path = Path(folder) / LOG
    if not path.exists():
        return
    kept = [line for line in path.read_text().splitlines() if (number := _step_of(line)) is not None and number <= step]
    write_atomic(path, "".join(line + "\n" for line in kept))


def _step_of(line: str) -> int | None:
    """The step of a line of log.jsonl; None for a line that a kill cut short."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return None
