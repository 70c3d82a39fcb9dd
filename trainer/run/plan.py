"""What a training is going to do, told before its first step: steps, schedule, parameters, memory, disk and time."""

import datetime
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trainer.config import OptimConfig
from trainer.run.checkpoint import SUFFIX
from trainer.run.log import format_rate, read_log

if TYPE_CHECKING:
    from trainer.loop.optimizer import LearningRates

NUM_TIMED = 20  # log lines, the newest, whose median speed is the one to expect


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that is known before the first step."""

    num_samples: int
    """Of an epoch."""
    num_variants: int
    insize: int
    batch_size: int
    """Of one rank."""
    num_ranks: int
    steps_per_epoch: int
    steps_done: int
    steps_left: int
    rates: "tuple[tuple[int, LearningRates], ...]"
    """Steps at which the schedule breaks, and the learning rates from each on."""
    schedule: str
    """Its name: between the break points "steps" is constant."""
    parameters: dict[str, int]
    """Of each learning-rate group."""
    memory_bytes: int | None
    """Estimate of the peak on a CPU; None on other devices."""
    available_bytes: int
    checkpoint_bytes: int
    keep_checkpoint_max: int
    kept_bytes: int
    """Of the checkpoints that are there already and will be replaced."""
    free_bytes: int
    """On the disk of the run folder."""
    imgs_per_sec: float | None
    """Of the run that is continued, None where nothing is known."""
    most_imgs_per_sec: float | None
    """What the arithmetic allows on a CPU; None on other devices."""

    @property
    def num_checkpoints(self) -> int:
        """Checkpoints on the disk at the worst moment: the oldest goes when the newest is there."""
        return self.keep_checkpoint_max + 1

    @property
    def disk_bytes(self) -> int:
        """What the checkpoints will take more than they take now."""
        return max(self.num_checkpoints * self.checkpoint_bytes - self.kept_bytes, 0)

    def lines(self) -> Iterator[str]:
        """The plan for people."""
        together = self.num_ranks * self.batch_size
        yield (
            f"samples     {self.num_samples:,} an epoch, {self.insize} x {self.insize} px, "
            f"{self.num_variants} variant{'s' * (self.num_variants != 1)}"
        )
        yield f"batch       {self.num_ranks} rank{'s' * (self.num_ranks != 1)} x {self.batch_size} = {together} samples a step"
        done = f"{self.steps_done:,} done, " if self.steps_done else ""
        yield (
            f"steps       {self.steps_per_epoch:,} an epoch; {done}{self.steps_left:,} to go, "
            f"to step {self.steps_done + self.steps_left:,}"
        )
        yield f"schedule    {self.schedule}"
        for step, rates in self.rates:
            values = ", ".join(f"{name}lr {format_rate(value)}" for name, value in rates._asdict().items())
            yield f"            from step {step:>9,}: {values}"
        groups = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        yield f"parameters  {sum(self.parameters.values()) / 1e6:.2f} M ({groups})"
        if self.memory_bytes is None:
            yield "memory      not estimated for this device"
        else:
            yield f"memory      about {self.memory_bytes / 1e9:.1f} GB, {self.available_bytes / 1e9:.1f} GB available"
        yield (
            f"disk        {self.checkpoint_bytes / 1e6:,.1f} MB a checkpoint; keeps {self.keep_checkpoint_max}, at most "
            f"{self.num_checkpoints} at a time: {self.disk_bytes / 1e9:.2f} GB more, {self.free_bytes / 1e9:.2f} GB free"
        )
        if self.disk_bytes > self.free_bytes:
            yield "            WARNING: not enough; lower --keep-checkpoint-max, or give an --out on another disk"
        yield f"time        {self._time()}"

    def _time(self) -> str:
        if self.imgs_per_sec is not None:
            return f"{self._duration(self.imgs_per_sec)} at {self.imgs_per_sec:.2f} imgs/sec, this run's speed so far"
        if self.most_imgs_per_sec is not None:
            return (
                f"more than {self._duration(self.most_imgs_per_sec)} (if the network were one matrix product: "
                f"{self.most_imgs_per_sec:.2f} imgs/sec); log lines give the ETA"
            )
        return "not known before the first log line, which gives it as ETA"

    def _duration(self, imgs_per_sec: float) -> datetime.timedelta:
        return datetime.timedelta(seconds=round(self.steps_left * self.num_ranks * self.batch_size / imgs_per_sec))


def break_points(config: OptimConfig, total_steps: int) -> list[int]:
    """Steps below `total_steps` at which the schedule changes its course, from 0 on; for a cosine also half and last step."""
    points = {0, config.lr_warmup_steps, config.freeze_backbone_steps}
    points |= set(config.lr_steps) if config.lr_schedule == "steps" else {total_steps // 2, total_steps - 1}
    return sorted(step for step in points if 0 <= step < max(total_steps, 1))


def most_imgs_per_sec(multiplications: int) -> float:
    """Samples a second if this CPU did the arithmetic of training as fast as a matrix product, which is timed.

    multiplications: of one image forward. Each comes with an addition, and training does three times as much: forward, gradients
    of the layers' inputs, gradients of the weights.
    """
    matrix = np.ones((1024, 1024), np.float32)
    seconds = []
    for _ in range(4):
        start_s = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start_s)
    return 2 * len(matrix) ** 3 / min(seconds) / (3 * 2 * multiplications)


def past_speed(folder: Path) -> float | None:
    """Images a second that the newest lines of RUN/log.jsonl tell, their median; None where there are none."""
    speeds = [entry["imgs_per_sec"] for entry in read_log(folder)[-NUM_TIMED:] if entry.get("imgs_per_sec")]
    return statistics.median(speeds) if speeds else None


def kept_bytes(folder: Path) -> int:
    """What the checkpoints in a run folder take; 0 where there is none."""
    return sum(path.stat().st_size for path in Path(folder).glob(f"*{SUFFIX}"))


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder that need not exist yet."""
    folder = Path(folder).resolve()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
