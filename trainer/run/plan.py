"""The plan of a training run, printed before its first step: steps, schedule, parameters, memory, disk and time."""

import datetime
import shutil
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.wording import counted
from trainer.run.formatting import format_rates
from trainer.run.layout import checkpoint_files
from trainer.run.log import read_log

if TYPE_CHECKING:  # imports mindspore
    from trainer.loop.optimizer import LearningRates

FEW_STEPS = 1_000  # below, even the preset `small` has barely begun to learn
NUM_SPEED_LINES = 20  # newest log lines, whose median speed predicts the rest of the run


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything known about a run before its first step."""

    num_samples: int
    """Samples per epoch."""
    num_variants: int
    insize: int
    batch_size: int
    """Samples per step of one rank."""
    num_ranks: int
    steps_per_epoch: int
    steps_done: int
    steps_left: int
    ended_by: str
    """Option that ends the run, with its value: "--max-epoch 60"."""
    rates: "tuple[tuple[int, LearningRates], ...]"
    """Break points of the schedule, with the learning rates from each on."""
    schedule: str
    """Name of the schedule; between break points, "steps" is constant."""
    parameters: dict[str, int]
    """Number of trained parameters in each learning-rate group."""
    num_frozen: int
    """Number of parameters that --freeze excludes from training."""
    memory_bytes: int | None
    """Estimated peak on a CPU; None on other devices."""
    available_bytes: int
    checkpoint_bytes: int
    keep_checkpoint_max: int
    kept_bytes: int
    """Size of the existing checkpoints, which will be replaced."""
    free_bytes: int
    """Free space on the disk of the run folder."""
    imgs_per_sec: float | None
    """Speed of the run that is resumed; None if unknown."""
    validation: str = ""
    """When and on what the run validates; empty: not at all."""

    @property
    def num_checkpoints(self) -> int:
        """Maximum number of checkpoints on disk: the oldest is deleted after the newest is written, the best one never."""
        return self.keep_checkpoint_max + 1 + bool(self.validation)

    @property
    def disk_bytes(self) -> int:
        """Space that checkpoints will need beyond what they use now."""
        return max(self.num_checkpoints * self.checkpoint_bytes - self.kept_bytes, 0)

    def lines(self) -> Iterator[str]:
        """Yield the plan as text."""
        yield (
            f"samples     {self.num_samples:,} per epoch, {self.insize} x {self.insize} px, "
            f"{counted(self.num_variants, 'variant')}"
        )
        batch = counted(self.num_ranks * self.batch_size, "sample")
        yield f"batch       {counted(self.num_ranks, 'rank')} x {self.batch_size} = {batch} per step"
        yield from self._step_lines()
        yield f"schedule    {self.schedule}"
        for step, rates in self.rates:
            yield f"            from step {step:>9,}: {format_rates(rates._asdict(), assign=' ', separator=', ')}"
        groups = ", ".join(f"{name} {count:,}" for name, count in self.parameters.items())
        frozen = f"; {self.num_frozen:,} frozen" if self.num_frozen else ""
        yield f"parameters  {sum(self.parameters.values()) / 1e6:.2f} M ({groups}){frozen}"
        if self.memory_bytes is None:
            yield "memory      not estimated for this device"
        else:
            yield f"memory      about {self.memory_bytes / 1e9:.1f} GB needed, {self.available_bytes / 1e9:.1f} GB available"
        yield from self._disk_lines()
        if self.validation:
            yield f"validation  {self.validation}"
        yield f"time        {self._time()}"

    def _step_lines(self) -> Iterator[str]:
        total = self.steps_done + self.steps_left
        done = f"{self.steps_done:,} done, " if self.steps_done else ""
        end = f"ends at step {total:,}" if self.steps_left else "ended"  # maybe beyond an option that is lower now
        yield f"steps       {self.steps_per_epoch:,} per epoch; {done}{self.steps_left:,} to go; {end} ({self.ended_by})"
        if self.steps_left and total < FEW_STEPS:
            option = self.ended_by.split()[0]
            yield (
                f"            WARNING: {counted(total, 'step')} in total; a network learns little in fewer than "
                f"{FEW_STEPS:,}; raise {option}"
            )

    def _disk_lines(self) -> Iterator[str]:
        yield (
            f"disk        {self.checkpoint_bytes / 1e6:,.1f} MB per checkpoint; keeps {self.keep_checkpoint_max}, at most "
            f"{self.num_checkpoints} at a time: {self.disk_bytes / 1e9:.2f} GB more, {self.free_bytes / 1e9:.2f} GB free"
        )
        if self.disk_bytes > self.free_bytes:
            yield "            WARNING: not enough disk space; lower --keep-checkpoint-max, or choose an --out on another disk"

    def _time(self) -> str:
        if self.imgs_per_sec is None:
            return "unknown until the first log line, which shows the ETA"
        seconds = self.steps_left * self.num_ranks * self.batch_size / self.imgs_per_sec
        duration = datetime.timedelta(seconds=round(seconds))
        return f"{duration} at {self.imgs_per_sec:.2f} imgs/sec, the speed of this run so far"


def past_speed(folder: Path) -> float | None:
    """Return the median of the images per second in the newest lines of RUN/log.jsonl; None if there are none."""
    speeds = [entry["imgs_per_sec"] for entry in read_log(folder) if entry.get("imgs_per_sec")][-NUM_SPEED_LINES:]
    return statistics.median(speeds) if speeds else None


def kept_bytes(folder: Path) -> int:
    """Return the size of all checkpoints in a run folder; 0 if there are none."""
    return sum(path.stat().st_size for path in checkpoint_files(folder))


def free_bytes(folder: Path) -> int:
    """Return the free space on the disk of a folder that need not exist yet."""
    folder = Path(folder).resolve()
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
