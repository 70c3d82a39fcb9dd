"""One training run in one process: state, compiled step, stream and log, from the first step to the last checkpoint."""

import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import mindspore as ms
import numpy as np

from pipeline.errors import UserError
from pipeline.storage.files import write_json
from pipeline.wording import printable
from trainer.config import TrainConfig
from trainer.data.jitter import Jitter, Tensors, device_tensor
from trainer.data.order import BLANK
from trainer.data.stream import Batch, Stream
from trainer.distributed.world import Heart, World, local_size
from trainer.loop import memory
from trainer.loop.optimizer import break_points, learning_rates
from trainer.loop.planning import make_plan, memory_sizes, steps_left
from trainer.loop.profiling import Profiling
from trainer.loop.signals import immediate_signals, noted_signals
from trainer.loop.state import State
from trainer.loop.step import StepResult, make_step
from trainer.loop.timeline import Timeline
from trainer.networks.cpu_convolution import unfold
from trainer.run.checkpoint import list_checkpoints
from trainer.run.curves import draw_schedule, write_picture
from trainer.run.events import EventWriter
from trainer.run.layout import SCHEDULE, TRANSFER, picture_path
from trainer.run.log import TrainingLog, cut_log
from trainer.run.pictures import Pictures
from trainer.run.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A step whose result has not been read: its number from 1, packed result, batch (which the device may still read), samples of
    all processes."""

    number: int
    packed: ms.Tensor
    batch: Batch
    num_samples: int


class Training:
    """A run that can be planned (`plan`), checked (`check_memory`) and executed (`run`). Creating it writes nothing.

    So that the device never waits for the host, the result of a step is read after the next step was launched; before a log line, a
    picture and a checkpoint, all results are read. `state.progress` counts launched steps; those of its `skipped` steps are read.
    """

    def __init__(self, config: TrainConfig, stream: Stream, world: World, device: str) -> None:
        self.config, self.stream, self.world, self.device = config, stream, world, device
        self.state = State(config, stream.manifest, world)
        stream.manifest = self.state.manifest  # with the variants that the run started with
        self.unfolds = device == "CPU" and config.unfolds
        if self.unfolds:
            unfold(self.state.network)
        self.jitter = Jitter(config.jitter, stream.format.skeleton)
        self.step = make_step(
            self.state.network, self.state.optimizer, self.state.scaler, world,
            num_parts=config.accumulate_steps, jit_level=config.jit_level,
        )  # fmt: skip
        self.go, self.stop = ms.Tensor(0.0, ms.float32), ms.Tensor(1.0, ms.float32)
        self.profiling = Profiling(config.out, config.profiled_steps, device)
        self.timeline = Timeline(is_asynchronous=device != "CPU")
        self.launched: deque[Launched] = deque()
        self.num_launched = 0
        self.total_steps = self.state.progress.step + steps_left(self.state.progress, config, stream)
        self.rates = partial(
            learning_rates,
            config=config.optim,
            total_steps=self.total_steps,
            num_processes=world.size,
            frozen=config.frozen_groups,
        )
        self.heart = Heart()
        self.events: EventWriter | None = None
        self.pictures: Pictures | None = None
        self.log = TrainingLog(
            config.out, num_stages=config.network.num_stages, restored=self.state.log_tensors, writes=world.leads
        )

    def check_memory(self) -> None:
        """Raise UserError if the run does not fit into the memory of a CPU, unless --no-check-memory is given."""
        if self.device == "CPU" and self.config.check_memory:
            memory.check(self.state.network, **memory_sizes(self.config, self.stream), num_processes=local_size())

    def plan(self) -> Plan:
        """Return the plan of the run."""
        return make_plan(self.config, self.state, self.stream, self.world, device=self.device, total_steps=self.total_steps)

    def run(self) -> signal.Signals | None:
        """Train until the end, or until a signal arrives in any process of the world, and save a checkpoint.

        Returns the signal; SIGTERM if another process received it.
        """
        config, progress, world = self.config, self.state.progress, self.world
        if world.leads:
            self._open_outputs()
        batches = self.stream.batches(progress.epoch, progress.position, partial(self._inputs, progress.step))
        saved_step, stopping = progress.step, False
        with noted_signals(quiet=not world.leads) as arrived:
            # A single process stops at once; several must agree first, which they do within the next two steps.
            while not (stopping or (arrived and world.size == 1)) and (left := steps_left(progress, config, self.stream)):
                with self._left_out():
                    self.profiling.begin(progress.step + 1)
                self._launch(batches, asked_to_stop=bool(arrived))
                reports = {name: progress.step % interval == 0 for name, interval in self._intervals().items()}
                is_first_or_last = left == 1 or self.num_launched <= 2 or self.profiling.is_border(progress.step)
                # All processes read their results at the same steps, so that they see `stopping` after the same step.
                stopping = self._read(wait_for_last=any(reports.values()) or is_first_or_last)
                with self._left_out():
                    self.profiling.end(progress.step)
                if reports["log"] or left == 1:
                    self._write_log(left - 1)
                if reports.get("picture") and self.pictures is not None:
                    self._draw(self.pictures)
                if reports["checkpoint"]:
                    self.state.save(self.log.tensors())
                    saved_step = progress.step
            stopping |= self._read(wait_for_last=True)
            self.profiling.close(progress.step)
            if progress.step != saved_step:
                self.state.save(self.log.tensors())
            world.meet()  # no process leaves before the checkpoint is written
        batches.close()
        if self.events is not None:
            self.events.close()
        if world.leads:
            where = f"step {progress.step:,} (epoch {progress.epoch}, sample {progress.position:,})"
            summary = f"saved at {where}; {self.log.summary()}" if self.num_launched else f"unchanged at {where}"
            print(f"{config.out}: {summary}", flush=True)
        return arrived[0] if arrived else signal.SIGTERM if stopping else None

    def _open_outputs(self) -> None:
        """Print the plan, draw the schedule, and open log, events and pictures."""
        config, step = self.config, self.state.progress.step
        for fault in cut_log(config.out, step):
            print(f"warning: {printable(fault)}; line removed", flush=True)
        if self.state.transfer:
            write_json(config.out / TRANSFER, [asdict(entry) for entry in self.state.transfer])
        print("\n".join(self.plan().lines()), flush=True)
        points = break_points(config.optim, self.total_steps)
        write_picture(config.out / SCHEDULE, lambda: draw_schedule(self.rates, self.total_steps, points))
        if config.tensorboard:
            self.events = EventWriter(config.out, step)
        if config.picture_interval:
            self.pictures = Pictures(config.out, config.records, self.stream.manifest, config.network, unfolds=self.unfolds)
        is_done = self.total_steps <= step
        print("nothing to do; raise --max-steps or --max-epoch" if is_done else "compiling the first step", flush=True)

    def _intervals(self) -> dict[str, int]:
        """Return the number of steps between log lines, checkpoints and, if there are any, pictures."""
        config = self.config
        intervals = {"log": config.log_interval, "checkpoint": config.ckpt_interval, "picture": config.picture_interval}
        return {name: interval for name, interval in intervals.items() if interval}

    def _inputs(self, first_step: int, fields: Mapping[str, Any]) -> tuple[list[Tensors], ms.Tensor]:
        """Return the parts of a batch and the learning rates of its step, on the device. Threads of the stream call this."""
        size = self.config.batch_size
        arrays = {name: field for name, field in fields.items() if isinstance(field, np.ndarray)}
        parts = [
            self.jitter.inputs({name: array[first : first + size] for name, array in arrays.items()})
            for first in range(0, size * self.config.accumulate_steps, size)
        ]
        return parts, device_tensor(np.array(self.rates(first_step + fields["number"]), np.float32))

    def _launch(self, batches: Iterator[Batch], *, asked_to_stop: bool) -> None:
        """Launch the next step without waiting for its result."""
        batch = self.timeline.wait_for_data(lambda: next(batches))
        progress = self.state.progress
        self.heart.beat(progress.step + 1)
        started_s = time.perf_counter()
        parts, rates = batch.inputs
        with nullcontext() if self.num_launched else immediate_signals():  # the first step compiles
            packed = self.step([self.jitter(*part) for part in parts], rates, self.stop if asked_to_stop else self.go)
        self.timeline.launch(started_s)
        num_samples = batch.position - (progress.position if batch.epoch == progress.epoch else 0)
        progress.step += 1
        self.num_launched += 1
        is_epoch_done = batch.position == self.stream.num_samples
        progress.epoch, progress.position = (batch.epoch + 1, 0) if is_epoch_done else (batch.epoch, batch.position)
        self.launched.append(Launched(number=progress.step, packed=packed, batch=batch, num_samples=num_samples))

    def _read(self, *, wait_for_last: bool) -> bool:
        """Read the results of all steps but the last, or of all. Returns whether any process was asked to stop."""
        stopping = False
        while len(self.launched) > (0 if wait_for_last else 1):
            step = self.launched.popleft()
            started_s = time.perf_counter()
            result = StepResult.read(step.packed)
            idle = self.timeline.read(started_s)
            stopping |= result.stopping
            if result.finite:
                self.log.add(
                    result.losses,
                    num_samples=step.num_samples,
                    waited_s=idle.data_s,
                    host_wait_s=idle.host_s,
                    gradient_norm=result.gradient_norm,
                )
            else:
                self._skip(step, result.loss_scale)
        return stopping

    def _skip(self, step: Launched, loss_scale: float) -> None:
        """Count a step that was not finite, under a dynamic loss scale that can still fall; otherwise raise UserError."""
        progress, image_ids = self.state.progress, step.batch.image_ids
        rank = f" of rank {self.world.rank}, or images of another rank" if self.world.size > 1 else ""
        images = f"images {image_ids[image_ids != BLANK].tolist()}{rank}"
        problem = f"step {step.number}: the loss or a gradient is not finite ({images})"
        if not self.config.optim.dynamic_loss_scale or loss_scale <= 1:
            newest = next(iter(list_checkpoints(self.config.out)), None)
            remedy = f"resume from {newest} with --resume" if newest else "start again: there is no checkpoint yet"
            raise UserError(f"{problem}; this step did not change the weights. Lower --lr and {remedy}")
        progress.skipped += 1
        if self.world.leads:
            print(f"{problem}; skipped, {progress.skipped} so far, loss scale now {loss_scale:g}", flush=True)

    def _write_log(self, left: int) -> None:
        progress = self.state.progress
        if not self.log.num_steps:  # all were skipped
            return
        entry = self.log.write(
            step=progress.step,
            epoch=progress.epoch - (progress.position == 0),  # epoch of the last batch
            steps_left=left,
            rates=self.rates(progress.step - 1),
            skipped=progress.skipped,
        )
        if self.events is not None:
            self.events.add(entry)

    def _draw(self, pictures: Pictures) -> None:
        step = self.state.progress.step
        with self._left_out():
            write_picture(picture_path(self.config.out, step), lambda: pictures.draw(self.state.network, step))

    @contextmanager
    def _left_out(self) -> Iterator[None]:
        """Leave the time of this context out of speed and idle times. A context that takes long must find all results read."""
        started_s = time.perf_counter()
        with self.log.paused():
            yield
        self.timeline.leave_out(time.perf_counter() - started_s)
