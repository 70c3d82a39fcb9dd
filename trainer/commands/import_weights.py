"""The command `import`: published weights of other projects -> a checkpoint, or a file with a backbone."""

import dataclasses
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from pipeline.cli import as_options, flatten
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig
from pipeline.storage.files import atomic_file
from pipeline.wording import counted, printable
from trainer.commands.config import ImportConfig
from trainer.config import TrainConfig
from trainer.networks.config import RUNNING_AVERAGES, NetworkConfig
from trainer.networks.network import Network
from trainer.run.checkpoint import NETWORK, CheckpointInfo, save_checkpoint
from trainer.run.load import match_tensors
from trainer.weights import layouts
from trainer.weights.formats import read_weights
from trainer.weights.layouts.conversion import Imported, ImportedBackbone
from trainer.weights.origin import BACKBONE_FORMAT, origin_of

MAX_NAMES = 3


def run(config: ImportConfig) -> int:
    """Run the command `import`. Raises UserError, naming the file, if it cannot be converted, and if --out exists."""
    if config.out.is_dir() or (config.out.exists() and not config.overwrite):
        raise UserError(f"{config.out}: exists; choose another --out" + ("" if config.out.is_dir() else ", or pass --overwrite"))
    file = read_weights(config.file)
    try:
        imported = layouts.convert(file.tensors, None if config.source == "auto" else config.source)
    except UserError as error:
        raise UserError(f"{config.file}: {error}") from error
    source = imported.source
    print(f"{config.file}: {file.format} file, {counted(len(file.tensors), 'tensor')}: {source.name}")
    del file
    origin = origin_of(config.file, source)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(imported, Imported):
        lines = _save_network(config, imported, origin)
    else:
        lines = _save_backbone(config, imported, origin)
    if imported.unused:
        first = ", ".join(printable(name) for name in imported.unused[:MAX_NAMES])
        print(f"not used: {counted(len(imported.unused), 'tensor')}, such as {first}")
    print(f"source: {source.url}")
    print(f"license: {source.license}")
    print(f"published accuracy, not measured here: {source.published}")
    print(f"wrote {config.out}")
    print("\n".join(lines))
    return 0


def _save_network(config: ImportConfig, imported: Imported, origin: dict[str, str]) -> list[str]:
    """Write a checkpoint at step 0; return lines that say what to do with it."""
    network, skeleton = imported.network, imported.skeleton
    _check(config.file, imported)
    info = CheckpointInfo(
        step=0, epoch=0, position=0, seed=0, loss_scale=1.0, config={"preset": network.architecture}, network=flatten(network),
        skeleton=skeleton.to_dict(), targets=dataclasses.asdict(TargetConfig()), normalization=network.normalization,
        records_digest="", origin=origin,
    )  # fmt: skip
    tensors = {NETWORK + name: tensor for name, tensor in imported.tensors.items()}
    save_checkpoint(config.out, info, tensors, then="run the command again")
    num_weights = sum(tensor.size for name, tensor in imported.tensors.items() if not name.endswith(RUNNING_AVERAGES))
    print(f"network: {network.architecture}, {counted(network.num_stages, 'stage')}, {counted(num_weights, 'weight')}")
    print(f"pixels: {network.channel_order}, mean {_numbers(network.pixel_mean)}, std {_numbers(network.pixel_std)}")
    print(f"skeleton: {skeleton.name}, {skeleton.num_joints} joints, {skeleton.num_limbs} limbs")
    return [
        f"find people: python -m evaluator predict --checkpoint {config.out} --out found photo.jpg",
        f"train further: python -m trainer train --preset {network.architecture} --pretrained-model-path {config.out} "
        f"{' '.join(_network_options(network))} --records records --out runs/further",
    ]


def _save_backbone(config: ImportConfig, imported: ImportedBackbone, origin: dict[str, str]) -> list[str]:
    """Write the tensors of a backbone; return lines that say what to do with them."""
    with atomic_file(config.out) as temporary:
        tensors = {f"backbone.{name}": tensor for name, tensor in imported.tensors.items()}
        save_file(tensors, temporary, {"format": BACKBONE_FORMAT, **origin})
    preset = imported.architectures[0]
    return [f"use it: python -m trainer train --preset {preset} --backbone-path {config.out} --records records --out runs/first"]


def _check(path: Path, imported: Imported) -> None:
    """Raise UserError unless the tensors are those of the network, before the network takes more memory than they do."""
    num_weights = sum(tensor.size for tensor in imported.tensors.values())
    if num_weights < imported.network.min_weights:
        raise UserError(
            f"{path}: {imported.network.architecture} of these widths needs at least "
            f"{counted(imported.network.min_weights, 'weight')}, the file has {num_weights:,}; its tensors do not fit each other"
        )
    network = Network(imported.network, imported.skeleton.num_heatmaps, imported.skeleton.num_pafs)
    match_tensors(network.parameters_dict(), imported.tensors, prefix="", source=path)


def _network_options(network: NetworkConfig) -> list[str]:
    """Return the options of `train` that differ from the preset of the network's architecture."""
    fields = NetworkConfig.__dataclass_fields__
    options: dict[str, Any] = {k: v for k, v in TrainConfig.PRESETS[network.architecture].items() if k in fields}
    preset = flatten(NetworkConfig(**options))
    return as_options({name: value for name, value in flatten(network).items() if value != preset[name]})


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)
