"""One training run in one process: state, compiled step, stream and log, from the first step to the last checkpoint."""

import signal
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import mindspore as ms
import numpy as np

from pipeline.errors import UserError
from trainer.config import TrainConfig
from trainer.data.jitter import Jitter, Tensors, device_tensor
from trainer.data.order import BLANK
from trainer.data.stream import Batch, Stream
from trainer.distributed.world import Heart, World, local_size
from trainer.loop import memory
from trainer.loop.launched import Launched
from trainer.loop.optimizer import learning_rates
from trainer.loop.outputs import Outputs
from trainer.loop.planning import make_plan, memory_sizes, steps_left
from trainer.loop.profiling import Profiling
from trainer.loop.signals import immediate_signals, noted_signals
from trainer.loop.state import State
from trainer.loop.step import StepResult, make_step
from trainer.loop.timeline import Timeline
from trainer.loop.validator import Decision, Validator
from trainer.networks.cpu_convolution import unfold
from trainer.run.checkpoint import list_checkpoints
from trainer.run.log import TrainingLog
from trainer.run.plan import Plan


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
        self.saved_step = self.state.progress.step
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
        validates = config.validate.validate_annotations is not None
        self.validator = Validator(config, self.state, world, self.heart) if validates else None
        self.log = TrainingLog(
            config.out, num_stages=config.network.num_stages, restored=self.state.log_tensors, writes=world.leads
        )

    def check_memory(self) -> None:
        """Raise UserError if the run does not fit into the memory of a CPU, unless --no-check-memory is given."""
        if self.device == "CPU" and self.config.check_memory:
            memory.check(self.state.network, **memory_sizes(self.config, self.stream), num_processes=local_size())

    def plan(self) -> Plan:
        """Return the plan of the run."""
        plan = make_plan(self.config, self.state, self.stream, self.world, device=self.device, total_steps=self.total_steps)
        return plan if self.validator is None else replace(plan, validation=self.validator.plan())

    def run(self) -> signal.Signals | None:
        """Train until the end, or until a signal arrives in any process of the world, and save a checkpoint.

        Returns the signal; SIGTERM if another process received it.
        """
        config, progress, world = self.config, self.state.progress, self.world
        outputs = Outputs(self)
        with noted_signals(quiet=not world.leads) as arrived:
            decision = self._resume_validation(outputs, arrived)
            if world.leads and decision == "continue":
                is_done = self.total_steps <= progress.step
                print("nothing to do; raise --max-steps or --max-epoch" if is_done else "compiling the first step", flush=True)
            batches = self.stream.batches(progress.epoch, progress.position, partial(self._inputs, progress.step))
            while decision == "continue" and (left := steps_left(progress, config, self.stream)):
                decision = self._advance(batches, outputs, arrived, left - 1)
            if self._read(wait_for_last=True):
                decision = "stopped"
            self.profiling.close(progress.step)
            if progress.step != self.saved_step:
                self._save()
            world.meet()  # no process leaves before the checkpoint is written
        batches.close()
        outputs.close()
        if world.leads:
            where = f"step {progress.step:,} (epoch {progress.epoch}, sample {progress.position:,})"
            summary = f"saved at {where}; {self.log.summary()}" if self.num_launched else f"unchanged at {where}"
            print(f"{config.out}: {summary}", flush=True)
        return arrived[0] if arrived else signal.SIGTERM if decision == "stopped" else None

    def _advance(self, batches: Iterator[Batch], outputs: Outputs, arrived: list[signal.Signals], left: int) -> Decision:
        """Launch a step, and do what is due after it. left: number of steps until the end after this one."""
        progress = self.state.progress
        # A single process stops at once; several must agree first, which they do within the next two steps.
        if arrived and self.world.size == 1:
            return "stopped"
        with self._left_out():
            self.profiling.begin(progress.step + 1)
        self._launch(batches, asked_to_stop=bool(arrived))
        reports = self._reports(left)
        is_first_or_last = not left or self.num_launched <= 2 or self.profiling.is_border(progress.step)
        # All processes read their results at the same steps, so that they see "stopped" after the same step.
        is_stopped = self._read(wait_for_last=bool(reports) or is_first_or_last)
        with self._left_out():
            self.profiling.end(progress.step)
        if "log" in reports or not left:
            self._write_log(outputs, left)
        if "picture" in reports:
            with self._left_out():
                outputs.draw()
        if "checkpoint" in reports:
            self._save()
        if is_stopped:
            return "stopped"
        return self._validate(arrived, left) if "validation" in reports else "continue"

    def _save(self) -> None:
        self.state.save(self.log.tensors())
        self.saved_step = self.state.progress.step

    def _resume_validation(self, outputs: Outputs, arrived: list[signal.Signals]) -> Decision:
        """Repeat the validation of a run that was stopped during it, and decide whether the run had ended already."""
        if self.validator is None:
            return "continue"
        self.validator.report = outputs.add
        decision = self._validate(arrived, self.total_steps - self.state.progress.step)
        self.validator.restore_best()
        return decision

    def _validate(self, arrived: list[signal.Signals], left: int) -> Decision:
        assert self.validator is not None, "only runs with one validate"
        with self._left_out():
            return self.validator.run(arrived, left)

    def _reports(self, left: int) -> set[str]:
        """Return what is due after the current step: log, checkpoint, picture, validation. left: number of steps until the end."""
        config = self.config
        intervals = {"log": config.log_interval, "checkpoint": config.ckpt_interval, "picture": config.picture_interval}
        due = {name for name, interval in intervals.items() if interval and self.state.progress.step % interval == 0}
        if self.validator is not None and self.validator.is_due(left):
            due |= {"checkpoint", "validation"}
        return due

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

    def _write_log(self, outputs: Outputs, left: int) -> None:
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
        outputs.add(entry)

    @contextmanager
    def _left_out(self) -> Iterator[None]:
        """Leave the time of this context out of speed and idle times. A context that takes long must find all results read."""
        started_s = time.perf_counter()
        with self.log.paused():
            yield
        self.timeline.leave_out(time.perf_counter() - started_s)
