"""The state of a training run: how it starts, what its checkpoints hold, and how it continues from one."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import ops

from pipeline.cli import flatten
from pipeline.errors import UserError
from pipeline.records.manifest import Manifest
from pipeline.records.provenance import read_provenance
from trainer.config import TrainConfig
from trainer.data.weights import epoch_size, source_weights
from trainer.distributed.world import World
from trainer.loop.initial import set_initial_weights
from trainer.loop.optimizer import Optimizer
from trainer.loop.step import make_scaler, scaler_state
from trainer.networks.inference import build
from trainer.networks.network import Network, running_averages
from trainer.run import checkpoint
from trainer.run.checkpoint import AVERAGE, NETWORK, OPTIMIZER, SCALER, CheckpointInfo, FoundCheckpoint, Tensors
from trainer.run.history import TrainingRun
from trainer.run.layout import checkpoint_path
from trainer.run.load import load_tensors
from trainer.run.validations import Validation
from trainer.weights.transfer import LayerTransfer

FREE_OPTIONS = {"out", "records", "resume", "max_steps", "max_epoch", "profile"}  # not worth a note if they change on resuming


@dataclass
class Progress:
    """Steps done so far, and epoch and position at which the next batch starts."""

    step: int = 0
    epoch: int = 0
    position: int = 0
    """Samples of the epoch that all ranks together have seen."""
    skipped: int = 0
    """Number of steps that a dynamic loss scale skipped."""


class State:
    """Network, optimizer, loss scale and progress.

    Continues from the newest complete checkpoint in --out if the run is resumed; otherwise starts with pretrained or random
    weights. Raises UserError, naming the file, for weights of another network, skeleton or run.

    manifest: of the record set with the variants that the run started with; more may have been added since.
    notes: lines that the command reports to its user.
    origin, backbone_origin: where imported weights that the run started with come from, see `CheckpointInfo`.
    earlier: the training runs of the weights that the run started with. records: those of this run; None if this process writes
    no checkpoints.
    transfer: what each layer took from a checkpoint of another network; empty if the run is resumed.
    validations: of this run so far. newest: the checkpoint that the run continued from or wrote last.
    log_tensors: open log interval of the checkpoint, for `TrainingLog`; empty for a new run.
    """

    def __init__(self, config: TrainConfig, manifest: Manifest, world: World | None = None) -> None:
        self.config, self.manifest, self.world = config, manifest, world or World()
        self.skeleton = manifest.format.skeleton
        self.network = build(config.network, self.skeleton)
        self.network.set_precision(config.precision)
        self.network.freeze(config.freeze)
        self.optimizer = Optimizer(self.network, config.optim)
        self.scaler = make_scaler(config.optim)
        self.progress = Progress()
        self.notes: list[str] = []
        self.origin: dict[str, str] = {}
        self.transfer: list[LayerTransfer] = []
        self.backbone_origin: dict[str, str] = {}
        self.earlier: tuple[TrainingRun, ...] = ()
        self.records = read_provenance(config.records, manifest) if self.world.leads else None
        self.log_tensors: Tensors = {}
        self.validations: list[Validation] = []
        self.newest: Path | None = None
        self._average_statistics = statistics_averaging(self.network, self.optimizer, self.world)
        newest = checkpoint.read_newest(config.out) if config.resume else None
        if newest is not None:
            self._continue(newest)
            return
        if config.resume and (faults := checkpoint.checkpoint_faults(config.out)):
            raise UserError(
                f"{config.out}: none of its checkpoints can be read ({'; '.join(faults)}); restore one, or choose another --out"
            )
        if config.resume:
            self.notes.append(f"{config.out}: no checkpoint; training starts at step 0")
        start = set_initial_weights(self.network, config, self.skeleton)
        self.notes += start.notes
        self.origin, self.backbone_origin, self.earlier = start.origin, start.backbone_origin, start.earlier
        self.transfer = start.transfer
        self.optimizer.start_averages()

    def _continue(self, found: FoundCheckpoint) -> None:
        """Load a checkpoint of this run. Of its tensors only those of the log are kept: the others are in the parameters now."""
        path, info, tensors, faults = found
        self.notes += [f"skipped {fault}" for fault in faults]
        before = self.manifest.as_before(info.records_digest)
        if before is not None and before.num_variants < self.manifest.num_variants:
            self.notes.append(
                f"the records have {self.manifest.num_variants} variants now; this run continues with the first "
                f"{before.num_variants}, with which it started"
            )
            self.manifest = before
        _refuse_other_run(path, info, self._info())
        num_samples = epoch_size(self.manifest, source_weights(self.manifest, self.config.chosen_weights))
        if info.position > num_samples:
            raise UserError(f"checkpoint {path}: position is {info.position}, an epoch has {num_samples} samples")
        load_tensors(self.network.parameters_dict(), tensors, prefix=NETWORK, source=path)
        load_tensors(self.optimizer.state(), tensors, prefix=OPTIMIZER, source=path)
        for prefix, parameters in ((AVERAGE, self.optimizer.averages()), (SCALER, scaler_state(self.scaler))):
            if any(name.startswith(prefix) for name in tensors):
                if parameters:
                    load_tensors(parameters, tensors, prefix=prefix, source=path)
            elif prefix == AVERAGE:  # --ema-decay is new
                self.optimizer.start_averages()
        self.progress = Progress(info.step, info.epoch, info.position, info.skipped)
        self.origin, self.backbone_origin, self.earlier = info.origin, info.backbone_origin, info.history[:-1]
        self.validations, self.newest = [*info.validations], path
        in_parameters = (NETWORK, OPTIMIZER, AVERAGE, SCALER)
        self.log_tensors = {name: tensor.copy() for name, tensor in tensors.items() if not name.startswith(in_parameters)}
        self.notes.append(f"resuming from {path}")
        if changed := _changed_options(info.config, flatten(self.config)):
            self.notes.append(f"options changed since then: {', '.join(changed)}")

    def save(self, log_tensors: Tensors) -> None:
        """Write a checkpoint into --out and delete the oldest ones.

        All processes of the world call it; the first one writes. Raises UserError for weights that are not finite.
        """
        self._average_statistics()
        if not self.world.leads:
            return
        weights = {NETWORK + name: p.asnumpy() for name, p in self.network.parameters_dict().items()}
        if bad := [name for name, array in weights.items() if not np.isfinite(array).all()]:
            raise UserError(
                f"step {self.progress.step}: {bad[0]} is not finite; lower --lr and resume from the last checkpoint in "
                f"{self.config.out}"
            )
        memory = {
            prefix + name: p.asnumpy()
            for prefix, parameters in (
                (OPTIMIZER, self.optimizer.state()),
                (AVERAGE, self.optimizer.averages()),
                (SCALER, scaler_state(self.scaler)),
            )
            for name, p in parameters.items()
        }
        path = checkpoint_path(self.config.out, self.progress.step)
        checkpoint.save_checkpoint(path, self._info(), {**weights, **memory, **log_tensors})
        self.newest = path
        checkpoint.prune_checkpoints(self.config.out, self.config.keep_checkpoint_max)

    def _info(self) -> CheckpointInfo:
        run = TrainingRun(
            preset=self.config.preset, steps=self.progress.step, epochs=self.progress.epoch,
            records_digest=self.manifest.digest, records=self.records,
        )  # fmt: skip
        return CheckpointInfo(
            **dataclasses.asdict(self.progress),
            seed=self.config.seed,
            loss_scale=self.config.optim.loss_scale,
            config=flatten(self.config),
            network=flatten(self.config.network),
            skeleton=self.skeleton.to_dict(),
            targets=dataclasses.asdict(self.manifest.format.targets),
            normalization=self.config.network.normalization,
            records_digest=self.manifest.digest,
            origin=self.origin,
            backbone_origin=self.backbone_origin,
            history=(*self.earlier, run),
            validations=tuple(self.validations),
        )


def statistics_averaging(network: Network, optimizer: Optimizer, world: World) -> Callable[[], object]:
    """Return a function that averages batch normalization's running averages, and their own averages, over all processes.

    Each process sees other parts of the batches. Training does not read these values, so it may be called at any time.
    """
    local = running_averages(network)
    averages = optimizer.averages()
    statistics = (*local, *(averages[p.name] for p in local if p.name in averages))
    if world.size == 1 or not statistics:
        return lambda: None
    mean = world.averaging()

    @ms.jit
    def average() -> bool:
        for parameter in statistics:
            ops.assign(parameter, mean(parameter))
        return True

    return average


def _changed_options(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the options that differ from those of a checkpoint's run, as text."""
    changed = []
    for name in sorted((before.keys() & now.keys()) - FREE_OPTIONS):
        old, new = json.loads(json.dumps([before[name], now[name]], default=str))
        if old != new:
            changed.append(f"{name} {new} (was {old})")
    return changed


def _refuse_other_run(path: Path, before: CheckpointInfo, now: CheckpointInfo) -> None:
    """Raise UserError unless network, records, seed and optimizer are those of the run; everything else may change."""
    for name in ("network", "records_digest", "seed"):
        old, new = getattr(before, name), getattr(now, name)
        if old != new:
            changed = "; ".join(_changed_options(old, new)) if isinstance(old, dict) else f"{new} (was {old})"
            raise UserError(
                f"checkpoint {path}: the run was started with another {name.replace('_', ' ')}: {changed}; use the original "
                "options, or choose another --out"
            )
    for name, default in (("optimizer", "adam"), ("freeze", []), ("source_weights", [])):
        old, new = (_option(info, name, default) for info in (before, now))
        if old != new:
            raise UserError(
                f"checkpoint {path}: the run was started with --{name.replace('_', '-')} {old or 'off'}, now {new or 'off'}; use the original option, "
                "or choose another --out"
            )


def _option(info: CheckpointInfo, name: str, default: Any) -> str:
    """Return an option of a run as it is written on the command line."""
    value = info.config.get(name, default)
    return value if isinstance(value, str) else " ".join(sorted(map(str, value)))
