"""Everything that a run carries from step to step: where it begins, what a checkpoint of it holds, how it continues."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops

from pipeline.cli import flatten
from pipeline.errors import UserError
from pipeline.records.manifest import Manifest
from pipeline.skeleton import Skeleton
from trainer.config import TrainConfig
from trainer.distributed.world import World
from trainer.loop.optimizer import Optimizer
from trainer.loop.step import make_scaler, scaler_state
from trainer.networks.inference import build
from trainer.networks.network import IMAGENET_MEAN, IMAGENET_STD, Network, initialize, running_averages
from trainer.run import checkpoint
from trainer.run.checkpoint import AVERAGE, NETWORK, OPTIMIZER, SCALER, CheckpointInfo, Tensors
from trainer.weights.vgg19 import read_vgg


@dataclass
class Progress:
    """Where a run stands: steps done, and the epoch and the position in it at which the next batch begins.

    skipped: how many of the steps a dynamic loss scale left out.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    skipped: int = 0


class State:
    """Network, optimizer and progress.

    Begins with the newest whole checkpoint in --out if the run is resumed, else with pretrained or new weights.
    Raises UserError, naming the file, for weights that are not of this network, skeleton or run.
    """

    def __init__(self, config: TrainConfig, manifest: Manifest, world: World | None = None) -> None:
        self.config, self.manifest, self.world = config, manifest, world or World()
        self.skeleton = manifest.format.skeleton
        self.network = build(config.network, self.skeleton)
        self.network.set_precision(config.precision)
        self.optimizer = Optimizer(self.network, config.optim)
        self.scaler = make_scaler(config.optim)
        self.progress = Progress()
        self.restored: Tensors = {}
        self._average_statistics = statistics_averaging(self.network, self.optimizer, self.world)
        newest = checkpoint.read_newest(config.out) if config.resume else None
        if newest is None:
            if config.resume and (faults := checkpoint.checkpoint_faults(config.out)):
                raise UserError(
                    f"{config.out}: none of its checkpoints can be read ({'; '.join(faults)}); restore one, or give another --out"
                )
            self._begin()
        else:
            self._continue(*newest)

    def _begin(self) -> None:
        config = self.config
        initialize(self.network, np.random.default_rng(config.seed))
        if config.vgg_path is not None:
            arrays = {f"backbone.{name}": array for name, array in read_vgg(config.vgg_path).items()}
            checkpoint.load_tensors(self.network.backbone.parameters_dict(), arrays, prefix="", source=config.vgg_path)
            print(f"backbone from {config.vgg_path}")
        if config.pretrained_model_path is not None:
            path, info, tensors = checkpoint.read_path(config.pretrained_model_path)
            _refuse_other_skeleton(path, info, self.skeleton)
            weights = checkpoint.averaged(tensors)
            checkpoint.load_tensors(self.network.parameters_dict(), weights, prefix=NETWORK, source=path)
            print(f"{'weights' if weights is tensors else 'averages of the weights'} from {path}")
        elif config.optim.freeze_backbone_steps and config.vgg_path is None:
            steps = config.optim.freeze_backbone_steps
            print(
                f"warning: the backbone has random weights and does not learn in the first {steps:,} steps: give --vgg-path, or "
                "--freeze-backbone-steps 0"
            )
        self.optimizer.begin_averages()

    def _continue(self, path: Path, info: CheckpointInfo, tensors: Tensors, faults: list[str]) -> None:
        for fault in faults:
            print(f"passed over: {fault}")
        _refuse_other_run(path, info, self._info())
        checkpoint.load_tensors(self.network.parameters_dict(), tensors, prefix=NETWORK, source=path)
        checkpoint.load_tensors(self.optimizer.state(), tensors, prefix=OPTIMIZER, source=path)
        for prefix, parameters in ((AVERAGE, self.optimizer.averages()), (SCALER, scaler_state(self.scaler))):
            if any(name.startswith(prefix) for name in tensors):
                if parameters:
                    checkpoint.load_tensors(parameters, tensors, prefix=prefix, source=path)
            elif prefix == AVERAGE:  # they begin here
                self.optimizer.begin_averages()
        self.progress = Progress(info.step, info.epoch, info.position, info.skipped)
        self.restored = tensors
        print(f"continuing from {path}")
        if changed := _changes(info.config, flatten(self.config)):
            print(f"other options than then: {', '.join(changed)}")

    def statistics(self) -> dict[str, np.ndarray]:
        """The running averages of batch normalization, which a forward pass changes, by name."""
        return {p.name: p.asnumpy().copy() for p in running_averages(self.network)}

    def put_back(self, statistics: dict[str, np.ndarray]) -> None:
        """Undo what a forward pass did to them."""
        for p in running_averages(self.network):
            ops.assign(p, ms.Tensor(statistics[p.name]))

    def save(self, extra: Tensors) -> None:
        """Write a checkpoint of this moment and `extra` into --out, and remove the oldest ones.

        `extra` comes back in `restored`. All processes of the world call it, and its leader writes. Raises UserError for weights
        that are not finite.
        """
        self._average_statistics()
        if not self.world.leads:
            return
        weights = {NETWORK + name: p.asnumpy() for name, p in self.network.parameters_dict().items()}
        if bad := [name for name, array in weights.items() if not np.isfinite(array).all()]:
            raise UserError(
                f"step {self.progress.step}: {bad[0]} is not finite; the last good checkpoint is in {self.config.out}"
            )
        remembered = {
            prefix + name: p.asnumpy()
            for prefix, parameters in (
                (OPTIMIZER, self.optimizer.state()),
                (AVERAGE, self.optimizer.averages()),
                (SCALER, scaler_state(self.scaler)),
            )
            for name, p in parameters.items()
        }
        path = self.config.out / f"step-{self.progress.step:08d}{checkpoint.SUFFIX}"
        checkpoint.save_checkpoint(path, self._info(), {**weights, **remembered, **extra})
        checkpoint.prune_checkpoints(self.config.out, self.config.keep_checkpoint_max)

    def _info(self) -> CheckpointInfo:
        return CheckpointInfo(
            **dataclasses.asdict(self.progress),
            seed=self.config.seed,
            loss_scale=self.config.optim.loss_scale,
            config=flatten(self.config),
            network=flatten(self.config.network),
            skeleton=self.skeleton.to_dict(),
            targets=dataclasses.asdict(self.manifest.format.targets),
            normalization={"mean": IMAGENET_MEAN, "std": IMAGENET_STD},
            records_digest=self.manifest.digest,
        )


def statistics_averaging(network: Network, optimizer: Optimizer, world: World) -> Callable[[], None]:
    """What makes batch normalization's running averages, and the averages of those, equal in all processes, each of which saw its
    own part of the batches.

    Training does not look at them, so it does not matter how often that is done.
    """
    own = running_averages(network)
    averages = optimizer.averages()
    statistics = (*own, *(averages[p.name] for p in own if p.name in averages))
    if world.size == 1 or not statistics:
        return lambda: None
    mean = world.averaging()

    @ms.jit
    def average():
        for parameter in statistics:
            ops.assign(parameter, mean(parameter))
        return True

    return average


def _changes(then: dict, now: dict) -> list[str]:
    """Settings that are not those of a checkpoint's run, but for how far and where it goes."""
    names = sorted((then.keys() & now.keys()) - {"out", "records", "resume", "max_steps", "max_epoch"})
    pairs = {name: json.loads(json.dumps([then[name], now[name]], default=str)) for name in names}
    return [f"{name} {now} (was {before})" for name, (before, now) in pairs.items() if before != now]


def _refuse_other_skeleton(path: Path, info: CheckpointInfo, skeleton: Skeleton) -> None:
    found = Skeleton.from_dict(info.skeleton)
    if found != skeleton:
        raise UserError(
            f"checkpoint {path}: of skeleton {found.name!r}, the records have {skeleton.name!r}; use records of that skeleton"
        )


def _refuse_other_run(path: Path, then: CheckpointInfo, now: CheckpointInfo) -> None:
    """A run continues with the same network, samples, seed and optimizer; everything else may change."""
    for what in ("network", "records_digest", "seed"):
        before, asked = getattr(then, what), getattr(now, what)
        if before != asked:
            raise UserError(
                f"checkpoint {path}: begun with another {what.replace('_', ' ')} ({before}, now {asked}); give "
                "the options that the run was started with, or another --out"
            )
    rules = [info.config.get("optimizer", "adam") for info in (then, now)]
    if rules[0] != rules[1]:
        raise UserError(f"checkpoint {path}: begun with --optimizer {rules[0]}, now {rules[1]}, which remembers other things")
