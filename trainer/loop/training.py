"""One training run in one process: state, compiled step, stream and log, from the first step to the last checkpoint."""

import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import mindspore as ms
import numpy as np

from pipeline.errors import UserError
from trainer.config import TrainConfig
from trainer.data.jitter import Jitter
from trainer.data.order import BLANK
from trainer.data.stream import Batch, Stream
from trainer.distributed.world import World, beat, local_size
from trainer.loop import memory
from trainer.loop.optimizer import break_points, learning_rates
from trainer.loop.planning import make_plan, memory_sizes, steps_left
from trainer.loop.signals import immediate_signals, noted_signals
from trainer.loop.state import State
from trainer.loop.step import make_step
from trainer.networks.cpu_convolution import unfold
from trainer.run.checkpoint import list_checkpoints
from trainer.run.curves import draw_schedule, write_picture
from trainer.run.events import EventWriter
from trainer.run.layout import SCHEDULE, picture_path
from trainer.run.log import TrainingLog, cut_log
from trainer.run.pictures import Pictures
from trainer.run.plan import Plan


class Training:
    """A run that can be planned (`plan`), checked (`check_memory`) and executed (`run`). Creating it writes nothing."""

    def __init__(self, config: TrainConfig, stream: Stream, world: World, device: str) -> None:
        self.config, self.stream, self.world, self.device = config, stream, world, device
        self.state = State(config, stream.manifest, world)
        self.unfolds = device == "CPU" and config.unfolds
        if self.unfolds:
            unfold(self.state.network)
        self.jitter = Jitter(config.jitter, stream.format.skeleton)
        self.step = make_step(self.state.network, self.state.optimizer, self.state.scaler, world)
        self.is_compiled = False
        self.total_steps = self.state.progress.step + steps_left(self.state.progress, config, stream)
        self.rates = partial(learning_rates, config=config.optim, total_steps=self.total_steps, num_processes=world.size)
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
        batches = self.stream.batches(progress.epoch, progress.position)
        saved_step, stopping = progress.step, False
        with noted_signals(quiet=not world.leads) as arrived:
            # A single process stops at once; several must agree first, which they do within the next step.
            while not (stopping or (arrived and world.size == 1)) and (left := steps_left(progress, config, self.stream)):
                stopping = self._one_step(batches, asked_to_stop=bool(arrived))
                if progress.step % config.log_interval == 0 or left == 1:
                    self._write_log(left - 1)
                if self.pictures is not None and progress.step % config.picture_interval == 0:
                    self._draw(self.pictures)
                if progress.step % config.ckpt_interval == 0:
                    self.state.save(self.log.tensors())
                    saved_step = progress.step
            if progress.step != saved_step:
                self.state.save(self.log.tensors())
            world.meet()  # no process leaves before the checkpoint is written
        batches.close()
        if self.events is not None:
            self.events.close()
        if world.leads:
            where = f"epoch {progress.epoch}, sample {progress.position:,}"
            print(f"{config.out}: saved at step {progress.step:,} ({where}); {self.log.summary()}", flush=True)
        return arrived[0] if arrived else signal.SIGTERM if stopping else None

    def _open_outputs(self) -> None:
        """Print the plan, draw the schedule, and open log, events and pictures."""
        config, step = self.config, self.state.progress.step
        cut_log(config.out, step)
        print("\n".join(self.plan().lines()), flush=True)
        points = break_points(config.optim, self.total_steps)
        write_picture(config.out / SCHEDULE, lambda: draw_schedule(self.rates, self.total_steps, points))
        if config.tensorboard:
            self.events = EventWriter(config.out, step)
        if config.picture_interval:
            self.pictures = Pictures(config.out, config.records, self.stream.manifest, config.network, unfolds=self.unfolds)
        is_done = self.total_steps <= step
        print("nothing to do; raise --max-steps or --max-epoch" if is_done else "compiling the first step", flush=True)

    def _one_step(self, batches: Iterator[Batch], *, asked_to_stop: bool) -> bool:
        """Do one step of all processes. Returns whether any of them was asked to stop."""
        requested_s = time.perf_counter()
        batch = next(batches)
        waited_s = time.perf_counter() - requested_s
        progress = self.state.progress
        beat(progress.step + 1)
        samples = self.jitter(batch.images, batch.heatmaps, batch.pafs, batch.mask, batch.augmentation)
        rates, stop = np.array(self.rates(progress.step), np.float32), np.float32(asked_to_stop)
        statistics = self.state.statistics() if self.config.optim.dynamic_loss_scale else {}
        with nullcontext() if self.is_compiled else immediate_signals():
            losses, finite, stopping, norm = self.step(*samples, ms.Tensor(rates), ms.Tensor(stop))
        self.is_compiled = True
        num_samples = batch.position - (progress.position if batch.epoch == progress.epoch else 0)  # of all processes
        if finite:
            self.log.add(losses.asnumpy(), num_samples=num_samples, waited_s=waited_s, gradient_norm=float(norm.asnumpy()))
        else:
            self._skip_step(batch)
            self.state.restore_statistics(statistics)
        progress.step += 1
        is_epoch_done = batch.position == self.stream.num_samples
        progress.epoch, progress.position = (batch.epoch + 1, 0) if is_epoch_done else (batch.epoch, batch.position)
        return bool(stopping)

    def _skip_step(self, batch: Batch) -> None:
        """Count a step that was not finite, under a dynamic loss scale that can still fall; otherwise raise UserError."""
        progress, state = self.state.progress, self.state
        image_ids = batch.image_ids[batch.image_ids != BLANK].tolist()
        rank = f" of rank {self.world.rank}, or images of another rank" if self.world.size > 1 else ""
        problem = f"step {progress.step + 1}: the loss or a gradient is not finite (images {image_ids}{rank})"
        if not self.config.optim.dynamic_loss_scale or (scale := float(state.scaler.scale_value.asnumpy())) <= 1:
            newest = next(iter(list_checkpoints(self.config.out)), None)
            remedy = f"resume from {newest} with --resume" if newest else "start again: there is no checkpoint yet"
            raise UserError(f"{problem}; this step did not change the weights. Lower --lr and {remedy}")
        progress.skipped += 1
        if self.world.leads:
            print(f"{problem}; skipped, {progress.skipped} so far, loss scale now {scale:g}", flush=True)

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
        with self.log.paused():
            write_picture(picture_path(self.config.out, step), lambda: pictures.draw(self.state.network, step))
