"""The command `train`: records in, checkpoints and a log out. Continues exactly where it was stopped."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import mindspore as ms
import numpy as np

from pipeline.cli import save_config
from pipeline.errors import Terminated, UserError
from pipeline.files import locked, remove_unfinished, write_atomic
from trainer.commands.plot import CURVES, SCHEDULE, draw_curves, draw_schedule
from trainer.config import TrainConfig
from trainer.data.jitter import Jitter
from trainer.data.order import BLANK
from trainer.data.stream import Batch, Stream
from trainer.device import choose_device, num_cores
from trainer.distributed.world import World, beat, join, local_device_id, local_size
from trainer.loop import memory
from trainer.loop.optimizer import LearningRates, learning_rates
from trainer.loop.signals import noted_signals, signals_at_once
from trainer.loop.state import Progress, State
from trainer.loop.step import make_step, scaler_state
from trainer.networks.cpu_convolution import unfold
from trainer.networks.network import count_multiplications, count_parameters
from trainer.run.checkpoint import list_checkpoints
from trainer.run.events import EventWriter, require_tensorboard
from trainer.run.log import Report, cut_log
from trainer.run.pictures import Pictures
from trainer.run.plan import Plan, break_points, free_bytes, kept_bytes, most_imgs_per_sec, past_speed

CONFIG, LOCK = "config.yaml", "train.lock"


def run(config: TrainConfig) -> int:
    """The command `train`, of one process or of one of several. Raises UserError for what the user can mend."""
    device = choose_device(config.device_target, local_device_id(config.device_id), unfolds=config.unfolds)
    world = join()
    stream = Stream(
        config.records,
        batch_size=config.batch_size,
        seed=config.seed,
        rank=world.rank,
        world=world.size,
        num_parallel_workers=config.num_parallel_workers,
        check_hashes=config.check_hashes,
        jitter=config.jitter,
    )
    if config.tensorboard:
        require_tensorboard()
    if config.dry_run:
        _refuse_foreign(config.out, resume=config.resume)
        training = Training(config, stream, world, device)
        if world.leads:
            print("\n".join(training.plan().lines()))
        training.check_memory()
        return 0
    with _claimed(config.out, resume=config.resume) if world.leads else nullcontext():
        training = Training(config, stream, world, device)
        training.check_memory()
        if world.leads:
            save_config(config, config.out / CONFIG)
        stopped_by = training.run()
        if world.leads and not stopped_by:
            _draw(config.out / CURVES, lambda: draw_curves([config.out]))
    if stopped_by == signal.SIGTERM:
        raise Terminated
    if stopped_by == signal.SIGINT:
        raise KeyboardInterrupt
    return 0


def _draw(path: Path, draw: Callable[[], bytes]) -> None:
    """Write a picture, or say why there is none: whatever is wrong with drawing, no training ends by it."""
    try:
        write_atomic(path, draw())
    except Exception as error:
        print(f"{path.name} was not drawn: {error!r}", flush=True)


def _refuse_foreign(out: Path, *, resume: bool) -> None:
    """Raises UserError unless `out` is absent, empty, or a run to be resumed."""
    if out.exists() and any(path.name != LOCK for path in out.iterdir()):
        if not resume:
            what = "continue that run" if list_checkpoints(out) else "there is no checkpoint in it: start there"
            raise UserError(f"{out}: not empty; {what} with --resume, or give another --out")
        if not (out / CONFIG).exists():
            raise UserError(f"{out}: not a run of this trainer (there is no {CONFIG}); give another --out")


@contextmanager
def _claimed(out: Path, *, resume: bool) -> Iterator[None]:
    """Own the run folder while training. A folder that did not get anything is removed again."""
    fresh = not out.exists()
    _refuse_foreign(out, resume=resume)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out / LOCK, f"{out}: another training run is writing there"):
            remove_unfinished(out)
            yield
    finally:
        if fresh and not any(out.iterdir()):
            out.rmdir()


def steps_left(progress: Progress, config: TrainConfig, stream: Stream) -> int:
    """Steps until max_epoch or max_steps, whichever comes first."""
    in_epoch = -(-(stream.num_samples - progress.position) // (stream.batch_size * stream.world))
    left = in_epoch + (config.max_epoch - progress.epoch - 1) * stream.steps_per_epoch
    if config.max_steps is not None:
        left = min(left, config.max_steps - progress.step)
    return max(left, 0)


class Training:
    """One run: its state, the compiled step, the stream and the report."""

    def __init__(self, config: TrainConfig, stream: Stream, world: World, device: str) -> None:
        self.config, self.stream, self.world, self.device = config, stream, world, device
        self.state = State(config, stream.manifest, world)
        self.unfolds = device == "CPU" and config.unfolds
        if self.unfolds:
            unfold(self.state.network)
        self.jitter = Jitter(config.jitter, stream.format.skeleton)
        self.step = make_step(self.state.network, self.state.optimizer, self.state.scaler, world)
        self.compiled = False
        self.total_steps = self.state.progress.step + steps_left(self.state.progress, config, stream)
        self.events: EventWriter | None = None
        self.pictures: Pictures | None = None
        self.report = Report(config.out, num_stages=config.network.num_stages, restored=self.state.restored, writes=world.leads)

    def run(self) -> signal.Signals | None:
        """Train to the end, or until a signal arrives here or at another process of the world; saves at either.

        Returns the signal: SIGTERM where it was another's.
        """
        config, progress, world = self.config, self.state.progress, self.world
        if world.leads:
            self._begin()
        batches = self.stream.batches(progress.epoch, progress.position)
        saved_step, stopping = progress.step, False
        with noted_signals(quiet=not world.leads) as arrived:
            # Alone a signal counts at once; several must agree first, so it counts with the next step.
            while not (stopping or (arrived and world.size == 1)) and (left := steps_left(progress, config, self.stream)):
                stopping = self._one_step(batches, asked_to_stop=bool(arrived))
                if progress.step % config.log_interval == 0 or left == 1:
                    self._log(left - 1)
                if self.pictures is not None and progress.step % config.picture_interval == 0:
                    self._draw_pictures(self.pictures)
                if progress.step % config.ckpt_interval == 0:
                    self.state.save(self.report.tensors())
                    saved_step = progress.step
            if progress.step != saved_step:
                self.state.save(self.report.tensors())
            world.meet()  # nobody leaves before the checkpoint is written
        batches.close()
        if self.events is not None:
            self.events.close()
        if world.leads:
            print(
                f"{config.out}: saved after step {progress.step:,}, {progress.position:,} samples into epoch {progress.epoch}; {self.report.summary()}",
                flush=True,
            )
        return arrived[0] if arrived else signal.SIGTERM if stopping else None

    def check_memory(self) -> None:
        """Raises UserError where the training would not fit the memory of a CPU, unless the user wants to try."""
        if self.device == "CPU" and self.config.check_memory:
            memory.check(self.state.network, **self._sizes(), num_processes=local_size())

    def plan(self) -> Plan:
        """What is going to be done; looks at the run folder, and changes nothing."""
        config, progress, stream = self.config, self.state.progress, self.stream
        optimizer = self.state.optimizer
        groups = (self.state.network.parameters_dict(), optimizer.state(), optimizer.averages(), scaler_state(self.state.scaler))
        return Plan(
            num_samples=stream.num_samples, num_variants=stream.manifest.num_variants, insize=stream.format.targets.insize,
            batch_size=config.batch_size, num_ranks=self.world.size, steps_per_epoch=stream.steps_per_epoch,
            steps_done=progress.step, steps_left=self.total_steps - progress.step,
            rates=tuple((step, self._rates(step)) for step in break_points(config.optim, self.total_steps)),
            schedule=config.optim.lr_schedule, parameters=count_parameters(self.state.network),
            memory_bytes=memory.estimate_bytes(self.state.network, **self._sizes()) if self.device == "CPU" else None,
            available_bytes=memory.available_bytes(), checkpoint_bytes=sum(p.nbytes for group in groups for p in group.values()),
            keep_checkpoint_max=config.keep_checkpoint_max, kept_bytes=kept_bytes(config.out), free_bytes=free_bytes(config.out),
            imgs_per_sec=past_speed(config.out) if progress.step else None,
            most_imgs_per_sec=self._most_imgs_per_sec() if self.device == "CPU" else None,
        )  # fmt: skip

    def _most_imgs_per_sec(self) -> float:
        return most_imgs_per_sec(count_multiplications(self.state.network, self.stream.format.targets.insize))

    def _sizes(self) -> dict[str, int]:
        """What memory depends on, beside the network."""
        return {"insize": self.stream.format.targets.insize, "batch_size": self.config.batch_size, "num_threads": num_cores()}

    def _begin(self) -> None:
        """Print the plan, and open what is written beside the checkpoints."""
        config, step = self.config, self.state.progress.step
        cut_log(config.out, step)
        print("\n".join(self.plan().lines()), flush=True)
        points = break_points(config.optim, self.total_steps)
        _draw(config.out / SCHEDULE, lambda: draw_schedule(self._rates, self.total_steps, points))
        if config.tensorboard:
            self.events = EventWriter(config.out, step)
        if config.picture_interval:
            self.pictures = Pictures(config.out, config.records, self.stream.manifest, config.network, unfolds=self.unfolds)
        print(
            "compiling the first step" if self.total_steps > step else "nothing to do: raise --max-steps or --max-epoch",
            flush=True,
        )

    def _draw_pictures(self, pictures: Pictures) -> None:
        step = self.state.progress.step
        with self.report.paused():
            _draw(pictures.path(step), lambda: pictures.draw(self.state.network, step))

    def _one_step(self, batches: Iterator[Batch], *, asked_to_stop: bool) -> bool:
        """One step of all processes. Returns whether one of them was asked to stop."""
        asked_s = time.perf_counter()
        batch = next(batches)
        waited_s = time.perf_counter() - asked_s
        progress = self.state.progress
        beat(progress.step + 1)
        samples = self.jitter(batch.images, batch.heatmaps, batch.pafs, batch.mask, batch.changes)
        rates, stop = np.array(self._rates(progress.step), np.float32), np.float32(asked_to_stop)
        dynamic = self.config.optim.dynamic_loss_scale
        statistics = self.state.statistics() if dynamic else {}
        with nullcontext() if self.compiled else signals_at_once():
            losses, finite, stopping, norm = self.step(*samples, ms.Tensor(rates), ms.Tensor(stop))
        self.compiled = True
        seen = batch.position - (progress.position if batch.epoch == progress.epoch else 0)  # by all processes
        if finite:
            self.report.add(losses.asnumpy(), num_samples=seen, waited_s=waited_s, gradient_norm=float(norm.asnumpy()))
        else:
            self._not_finite(batch)
            self.state.put_back(statistics)
        progress.step += 1
        finished = batch.position == self.stream.num_samples
        progress.epoch, progress.position = (batch.epoch + 1, 0) if finished else (batch.epoch, batch.position)
        return bool(stopping)

    def _not_finite(self, batch: Batch) -> None:
        """A step was not taken: counted under a dynamic loss scale that can still fall, else the end, with the images at fault."""
        progress, state = self.state.progress, self.state
        where = f" of rank {self.world.rank}, or of another" if self.world.size > 1 else ""
        what = f"step {progress.step + 1}: the loss or its gradients are not finite (images {batch.image_ids[batch.image_ids != BLANK].tolist()}{where})"
        if not self.config.optim.dynamic_loss_scale or (scale := float(state.scaler.scale_value.asnumpy())) <= 1:
            newest = next(iter(list_checkpoints(self.config.out)), None)
            then = f"continue from {newest} with --resume" if newest else "begin anew: there is no checkpoint yet"
            raise UserError(f"{what}; that step was not taken. Lower --lr and {then}")
        progress.skipped += 1
        if self.world.leads:
            print(f"{what}; left out, {progress.skipped} so far, loss scale now {scale:g}", flush=True)

    def _rates(self, step: int) -> LearningRates:
        return learning_rates(step, self.config.optim, total_steps=self.total_steps, num_processes=self.world.size)

    def _log(self, left: int) -> None:
        progress = self.state.progress
        if not self.report.num_steps:  # all were left out
            return
        entry = self.report.log(
            step=progress.step,
            epoch=progress.epoch - (progress.position == 0),  # the one that the last batch was of
            steps_left=left,
            rates=self._rates(progress.step - 1),
            skipped=progress.skipped,
        )
        if self.events is not None:
            self.events.add(entry)
