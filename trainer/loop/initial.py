"""Weights with which a run starts: random ones, a backbone trained on ImageNet, or what fits of another checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path

import mindspore as ms
import numpy as np

from pipeline.cli import as_options
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import convert
from trainer.config import TrainConfig
from trainer.networks.channels import layers
from trainer.networks.config import NetworkConfig
from trainer.networks.inference import build
from trainer.networks.network import Network, initialize
from trainer.run.checkpoint import NETWORK, CheckpointInfo, Tensors, read_path
from trainer.run.history import TrainingRun, history_of
from trainer.run.load import averaged, load_tensors, match_tensors, refuse_other_sizes
from trainer.weights.backbone import read_backbone
from trainer.weights.origin import origin_of
from trainer.weights.transfer import LayerTransfer, summary, transfer


@dataclass
class Start:
    """How a run starts. notes: lines that the command reports. origin, backbone_origin: of imported weights, see `CheckpointInfo`.

    earlier: the training runs of the weights. transfer: what each layer took from the checkpoint of --pretrained-model-path.
    """

    notes: list[str] = field(default_factory=list)
    origin: dict[str, str] = field(default_factory=dict)
    backbone_origin: dict[str, str] = field(default_factory=dict)
    earlier: tuple[TrainingRun, ...] = ()
    transfer: list[LayerTransfer] = field(default_factory=list)


def set_initial_weights(network: Network, config: TrainConfig, skeleton: Skeleton) -> Start:
    """Set the weights with which a run starts. Raises UserError, naming the file, for weights that do not fit the network."""
    start = Start()
    initialize(network, np.random.default_rng(config.seed))
    backbone_path = config.backbone_path or config.vgg_path
    if backbone_path is not None:
        _load_backbone(network, config, backbone_path, start)
    if config.pretrained_model_path is not None:
        _load_pretrained(network, config, skeleton, config.pretrained_model_path, start)
    frozen = [part for part in config.freeze if part != "backbone" or backbone_path is None]
    if config.pretrained_model_path is None:
        _warn_of_random_weights(config, frozen, has_backbone=backbone_path is not None, notes=start.notes)
    return start


def _warn_of_random_weights(config: TrainConfig, frozen: list[str], *, has_backbone: bool, notes: list[str]) -> None:
    if frozen:
        notes.append(
            f"warning: {', '.join(frozen)} {'has' if len(frozen) == 1 else 'have'} random weights and will not be trained; use "
            "--pretrained-model-path, or remove --freeze"
        )
    elif config.optim.freeze_backbone_steps and not has_backbone:
        steps = config.optim.freeze_backbone_steps
        notes.append(
            f"warning: the backbone has random weights and is frozen for the first {steps:,} steps; use --backbone-path, or "
            "--freeze-backbone-steps 0"
        )
    elif config.preset == "lightweight" and not has_backbone and config.optim.lr == config.PRESETS["lightweight"]["lr"]:
        notes.append(
            "warning: the learning rate of preset lightweight is for ImageNet weights of MobileNet; use --backbone-path, or "
            "raise --lr"
        )


def _load_backbone(network: Network, config: TrainConfig, path: Path, start: Start) -> None:
    option = "--vgg-path" if config.backbone_path is None else "--backbone-path"
    backbone = read_backbone(path, config.network.architecture, option)
    arrays = {f"backbone.{name}": array for name, array in backbone.tensors.items()}
    load_tensors(network.backbone.parameters_dict(), arrays, prefix="", source=path)
    start.backbone_origin = origin_of(path, backbone.source)
    start.notes.append(f"backbone loaded from {path} ({backbone.source.name})")


def _load_pretrained(network: Network, config: TrainConfig, skeleton: Skeleton, path: Path, start: Start) -> None:
    path, info, tensors, faults = read_path(path)
    start.notes += [f"skipped {fault}" for fault in faults]
    start.origin, start.backbone_origin, start.earlier = info.origin, info.backbone_origin, history_of(info)
    found: NetworkConfig = convert(info.network, NetworkConfig, f"checkpoint {path}: network")
    _refuse_other_pixels(path, found, config.network)
    weights = averaged(tensors)
    kind = "weights" if weights is tensors else "averaged weights"
    old_skeleton = Skeleton.from_dict(info.skeleton, f"checkpoint {path}: skeleton")
    if (found, old_skeleton) == (config.network, skeleton):
        load_tensors(network.parameters_dict(), weights, prefix=NETWORK, source=path)
        start.notes.append(f"{kind} loaded from {path}: all layers taken")
        return
    _refuse_other_architecture(path, found, config.network)
    refuse_other_sizes(path, info, found, tensors)
    start.transfer = _transfer(network, config, skeleton, (found, old_skeleton), weights, path)
    start.notes += [f"{kind} transferred from {path}, {_differences(info, found, old_skeleton, config.network, skeleton)}:"]
    start.notes += summary(start.transfer)


def _transfer(
    network: Network,
    config: TrainConfig,
    skeleton: Skeleton,
    other: tuple[NetworkConfig, Skeleton],
    weights: Tensors,
    path: Path,
) -> list[LayerTransfer]:
    """Set what fits of another network's weights; return what each layer took."""
    other_network = build(*other)
    old = match_tensors(other_network.parameters_dict(), weights, prefix=NETWORK, source=path)
    old_layers = layers(other_network, *other)
    if config.network.architecture != other[0].architecture:
        old_layers = {name: layer for name, layer in old_layers.items() if name.startswith("backbone.")}
    initial = {name: parameter.asnumpy() for name, parameter in network.parameters_dict().items()}
    result, report = transfer(old, old_layers, initial, layers(network, config.network, skeleton))
    for name, parameter in network.parameters_dict().items():
        ms.ops.assign(parameter, ms.Tensor(result[name]))
    return report


def _differences(info: CheckpointInfo, old: NetworkConfig, old_skeleton: Skeleton, new: NetworkConfig, skeleton: Skeleton) -> str:
    """Return what differs between the networks, as text."""
    changes = [f"step {info.step:,}"]
    if old_skeleton != skeleton:
        changes.append(f"skeleton {old_skeleton.name} to {skeleton.name}")
    for name in NetworkConfig.__dataclass_fields__:
        before, now = getattr(old, name), getattr(new, name)
        if before != now:
            changes.append(f"{name.replace('_', ' ')} {before} to {now}")
    return ", ".join(changes)


def _refuse_other_architecture(path: Path, old: NetworkConfig, new: NetworkConfig) -> None:
    if (old.architecture, old.residual) != (new.architecture, new.residual) and not (
        old.has_vgg_backbone and new.has_vgg_backbone
    ):
        raise UserError(
            f"checkpoint {path}: nothing fits: its network is {_kind(old)}, this one is {_kind(new)}; use a checkpoint of the same "
            "architecture, or choose its --preset"
        )


def _kind(config: NetworkConfig) -> str:
    return f"{config.architecture}{' with a residual backbone' if config.residual else ''}"


def _refuse_other_pixels(path: Path, found: NetworkConfig, network: NetworkConfig) -> None:
    """Raise UserError unless the weights expect the pixels that the network computes."""
    if found.normalization != network.normalization:
        names = ("channel_order", "pixel_mean", "pixel_std")
        options = " ".join(as_options({name: getattr(found, name) for name in names}))
        raise UserError(f"checkpoint {path}: its network normalizes pixels in another way; add the options {options}")
