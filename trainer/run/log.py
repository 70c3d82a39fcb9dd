"""The log of a training run: lines on the terminal, the same entries in RUN/log.jsonl, and a summary at the end."""

import datetime
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Required, TypedDict

import numpy as np
from msgspec import Meta

from pipeline.errors import UserError
from pipeline.storage.documents import Count, Finite, convert, parse_json, read_bytes
from pipeline.storage.files import append, write_atomic
from pipeline.wording import counted
from trainer.run.formatting import format_rates
from trainer.run.layout import LOG
from trainer.run.meter import Meter

if TYPE_CHECKING:  # imports mindspore, which reading a log does not need
    from trainer.loop.optimizer import LearningRates

RATES = {"vgglr": "lr/backbone", "baselr": "lr/neck", "stagelr": "lr/stages"}
"""Keys of the learning rates, named as in the reference and ordered as `LearningRates`, and the names of their curves."""
MAX_LOG_BYTES = 1 << 30
MAX_ETA_S = 1 << 40
VALIDATION = "validation/"  # begin of the names of curves
LOSS_SUM, NUM_STEPS, NORMS = "log.loss_sum", "log.num_steps", "log.gradient_norms"

Entry = dict[str, Any]
"""One line of log.jsonl."""


def format_line(entry: Entry) -> str:
    """Return the terminal line of an entry of log.jsonl."""
    eta = datetime.timedelta(seconds=min(round(entry["eta_s"]), MAX_ETA_S))
    rates = format_rates({name: entry[name] for name in RATES})
    host = f", host {entry['host_wait']:.1%}" if "host_wait" in entry else ""
    skipped = f", {counted(entry['skipped'], 'step')} skipped" if entry["skipped"] else ""
    return (
        f"epoch[{entry['epoch']}], iter[{entry['step']}], loss[{entry['loss']:.4f}], {entry['imgs_per_sec']:.2f} imgs/sec, "
        f"{rates}, data wait {entry['data_wait']:.1%}{host}, ETA {eta}{skipped}"
    )


def scalars(entry: Entry) -> dict[str, float]:
    """Return the numbers of an entry by the name of their curve, such as "loss/all", "loss/stage1_paf", "lr/backbone" or
    "validation/AP.5".

    Stages count from 1. Values that the entry lacks are left out.
    """
    if "validation" in entry:  # -1: no person has the size that the metric covers
        return {VALIDATION + _tag(name): value for name, value in entry["validation"].items() if value >= 0}
    values = {"loss/all": entry["loss"]}
    for number, losses in enumerate(entry["stage_losses"], start=1):
        values |= {f"loss/stage{number}_{branch}": loss for branch, loss in zip(("heatmap", "paf"), losses, strict=True)}
    values |= {curve: entry[key] for key, curve in RATES.items()}
    values |= {name: entry.get(name) for name in ("imgs_per_sec", "data_wait", "host_wait", "gradient_norm")}
    return {name: value for name, value in values.items() if value is not None}


def _tag(metric: str) -> str:
    """Return the name of a metric, such as "AP (M)", without characters that TensorBoard replaces: "AP_M"."""
    return metric.replace(" (", "_").replace(")", "").replace(" ", "")


def read_log(folder: Path) -> list[Entry]:
    """Return the entries of RUN/log.jsonl without damaged lines (see `log_faults`); empty if there is no such file."""
    return [entry for _, entry in _read(folder)[0]]


def log_faults(folder: Path) -> list[str]:
    """Return what is wrong with each damaged line of RUN/log.jsonl. An incomplete last line, of a killed process, is none."""
    return _read(folder)[1]


class TrainingLog:
    """Sums up the steps of an interval; `write` prints the interval's line and appends it to RUN/log.jsonl.

    The state of the open interval goes into checkpoints (`tensors`): number of steps, sum of losses float64 (S, 2), sum and
    number of gradient norms float64 (2,). So a line is the same whether or not its interval was interrupted. The first step of a
    process includes compilation and does not count in the speed. Among the processes of a distributed run only one has
    `writes`; the others only count. Raises UserError for a restored state of another shape.
    """

    def __init__(
        self,
        folder: Path,
        *,
        num_stages: int,
        restored: Mapping[str, np.ndarray] | None = None,
        writes: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.path, self._writes, self._clock = Path(folder) / LOG, writes, clock
        restored = restored or {}
        self._loss_sum = _restored(restored, LOSS_SUM, (num_stages, 2))
        self._num_steps = int(_restored(restored, NUM_STEPS, ()))
        self._norms = _restored(restored, NORMS, (2,))
        self.loss: float | None = None
        self._compile_s: float | None = None
        self._interval, self._total = Meter(clock), Meter(clock)

    def add(
        self,
        losses: np.ndarray,
        *,
        num_samples: int,
        waited_s: float,
        host_wait_s: float = 0.0,
        gradient_norm: float | None = None,
    ) -> None:
        """Add one step: its losses float32 (S, 2), samples, and gradient norm if known.

        waited_s, host_wait_s: seconds for which the device was idle, waiting for data and waiting for the host.
        """
        self._loss_sum = self._loss_sum + losses
        self._num_steps += 1
        if gradient_norm is not None:
            self._norms = self._norms + np.array([gradient_norm, 1.0])
        self._interval.add(num_samples, waited_s, host_wait_s)
        self._total.add(num_samples, waited_s, host_wait_s)
        if self._compile_s is None:
            self._compile_s = self._total.elapsed_s
            self._interval, self._total = Meter(self._clock), Meter(self._clock)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time of a block out of speed, data wait and ETA."""
        started_s = self._clock()
        yield
        for meter in (self._interval, self._total):
            meter.leave_out(self._clock() - started_s)

    @property
    def num_steps(self) -> int:
        """Steps since the last line."""
        return self._num_steps

    def write(self, *, step: int, epoch: int, steps_left: int, rates: "LearningRates", skipped: int = 0) -> Entry:
        """Write the line of the steps since the last one and return its entry.

        step: steps done, including `skipped` ones. The entry's gradient_norm is the mean of the known norms, None if there are
        none. A loss of exactly 0 becomes None: its stage does not have that branch.
        """
        means = self._loss_sum / self._num_steps
        self.loss = float(means.sum())
        entry = {
            "epoch": epoch,
            "step": step,
            "loss": self.loss,
            **self._interval.rates(),
            **dict(zip(RATES, rates, strict=True)),
            "eta_s": steps_left * self._seconds_per_step(),
            "gradient_norm": self._norms[0] / self._norms[1] if self._norms[1] else None,
            "skipped": skipped,
            "stage_losses": [[loss or None for loss in stage] for stage in means.tolist()],
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        }
        if self._writes:
            print(format_line(entry), flush=True)
            append(self.path, json.dumps(entry) + "\n")
        self._loss_sum, self._num_steps, self._norms = np.zeros_like(self._loss_sum), 0, np.zeros(2)
        self._interval = Meter(self._clock)
        return entry

    def _seconds_per_step(self) -> float:
        if self._total.num_steps:
            return self._total.elapsed_s / self._total.num_steps
        return self._compile_s or 0.0

    def tensors(self) -> dict[str, np.ndarray]:
        """Return the state of the open interval, for a checkpoint."""
        return {LOSS_SUM: self._loss_sum, NUM_STEPS: np.array(self._num_steps), NORMS: self._norms}

    def summary(self) -> str:
        """Return one line about all steps of this process."""
        speed = self._total.rates()
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        return f"{loss}{speed['imgs_per_sec']:.2f} imgs/sec, data wait {speed['data_wait']:.1%}, host {speed['host_wait']:.1%}"


def _restored(tensors: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return a tensor of the open interval, zeros if the checkpoint has none."""
    tensor = tensors.get(name, np.zeros(shape))
    if tensor.shape != shape or tensor.dtype.kind not in "fiu" or not (np.isfinite(tensor) & (tensor >= 0)).all():
        raise UserError(f"checkpoint: tensor {name} must hold numbers of shape {shape}, 0 or more; use another checkpoint")
    return tensor


def cut_log(folder: Path, step: int) -> list[str]:
    """Remove the lines after `step` from RUN/log.jsonl: a run that continues from there writes them again.

    Removes damaged lines too, and returns what is wrong with each: a log that was damaged does not keep a run from continuing.
    """
    if not (path := Path(folder) / LOG).exists():
        return []
    entries, faults = _read(folder)
    write_atomic(path, b"".join(line + b"\n" for line, entry in entries if entry["step"] <= step))
    return faults


def _read(folder: Path) -> tuple[list[tuple[bytes, Entry]], list[str]]:
    """Return the lines of RUN/log.jsonl with their entries, and the faults of its damaged lines."""
    if not (path := Path(folder) / LOG).exists():
        return [], []
    entries, faults = [], []
    *lines, incomplete = read_bytes(path, "log", MAX_LOG_BYTES).split(b"\n")
    for number, line in enumerate([*lines, *([incomplete] if incomplete else [])], start=1):
        try:
            entry = parse_json(line, f"log {path} line {number}", Entry)
            convert(entry, _Fields, f"log {path} line {number}")
            entries.append((line, entry))
        except UserError as error:
            if number <= len(lines):
                faults.append(str(error))
    return entries, faults


class _Fields(TypedDict, total=False):
    """The types of an entry's values. Logs of other versions may lack some, and have more."""

    step: Required[Count]
    epoch: Annotated[int, Meta(ge=-1, le=2**53)]
    loss: Finite
    imgs_per_sec: Finite
    data_wait: Finite
    host_wait: Finite
    vgglr: Finite
    baselr: Finite
    stagelr: Finite
    gradient_norm: Finite | None
    stage_losses: list[tuple[Finite | None, Finite | None]]
    validation: dict[str, Finite]
    validation_data: str
