"""The command `info`: print what a checkpoint contains. Imports no mindspore."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from pipeline.cli import flatten, parse
from pipeline.errors import UserError
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton
from pipeline.storage.files import file_facts, write_json
from pipeline.wording import counted, printable
from trainer.config import TrainConfig
from trainer.networks.config import RUNNING_AVERAGES
from trainer.run.checkpoint import (
    AVERAGE,
    NETWORK,
    OPTIMIZER,
    SCALER,
    CheckpointInfo,
    Tensors,
    read_checkpoint,
    read_info,
)
from trainer.run.history import history_of, lineage_lines
from trainer.run.layout import CHECKPOINT_SUFFIX, checkpoint_files
from trainer.run.validations import best_of

AVERAGES_TITLE = "averaged weights (--ema-decay), which the evaluator uses"
GROUPS = {"backbone": "backbone.", "neck": "neck.", "stages": "stages."}


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Print what a checkpoint contains, and verify its checksum.

    Prints progress, network and settings, skeleton, targets, number of parameters, and optimizer state. For a run folder: a
    table of all checkpoints, then the newest complete one. * marks settings that differ from the preset. The exit code is 1 if
    a checkpoint is damaged.

    Example: python -m trainer info runs/first

    One file: python -m trainer info runs/first/step-00005000.safetensors
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint file or run folder."""
    json: Path | None = None
    """Also write the description of the checkpoint, or of the newest complete one of a folder, to this file."""


def run(config: InfoConfig) -> int:
    """Run the command `info`. Raises UserError for a path that is not a checkpoint and contains none."""
    path = config.checkpoint
    if path.is_dir():
        return _run_folder(path, config.json)
    info, (tensors, fault) = read_info(path), _read_or_fault(path)
    print("\n".join(map(printable, describe(path, info, tensors, fault))))
    if config.json is not None:
        write_json(config.json, document(path, info, tensors, fault))
    return 1 if fault else 0


def _run_folder(folder: Path, json: Path | None) -> int:
    """Print a table of the checkpoints of a folder, their faults, and the newest complete one."""
    files = checkpoint_files(folder)
    if not files:
        raise UserError(f"checkpoint {folder}: no *{CHECKPOINT_SUFFIX} file in this folder; give a run folder or a file")
    rows, faults = [], []
    newest: tuple[Path, CheckpointInfo, Tensors] | None = None
    for file in progress_bar(files, desc="checking", unit="file"):
        tensors, fault = _read_or_fault(file)
        if fault:
            faults.append(fault)
        try:
            info = read_info(file)
        except UserError:
            rows.append((-1, f"{file.name:<32}{'-':>10}{'-':>7}{'-':>10}{_megabytes(file):>12}  DAMAGED"))
            continue
        state = "DAMAGED" if fault else "ok"
        line = f"{file.name:<32}{info.step:>10,}{info.epoch:>7,}{info.position:>10,}{_megabytes(file):>12}  {state}"
        rows.append((info.step, line))
        if tensors is not None and (newest is None or info.step >= newest[1].step):  # after best.safetensors
            newest = file, info, tensors
    print(f"{'file':<32}{'step':>10}{'epoch':>7}{'position':>10}{'size':>12}  checksum")
    print("\n".join(printable(line) for _, line in sorted(rows, reverse=True)))
    if faults:
        print("\n" + "\n".join(map(printable, faults)))
    if newest is not None:
        print("\n" + "\n".join(map(printable, describe(*newest, fault=None))))
    if json is not None:
        if newest is None:
            raise UserError(f"checkpoint {folder}: no complete checkpoint in this folder; {json} is not written")
        write_json(json, document(*newest, fault=None))
    return 1 if faults else 0


def document(path: Path, info: CheckpointInfo, tensors: Tensors | None, fault: str | None) -> dict[str, Any]:
    """Return what --json writes: the file, its fault, the fields of `CheckpointInfo`, and the size of each group of weights."""
    network = {name.removeprefix(NETWORK): tensor for name, tensor in (tensors or {}).items() if name.startswith(NETWORK)}
    sizes = {
        group: sum(t.size for name, t in network.items() if name.startswith(prefix) and not name.endswith(RUNNING_AVERAGES))
        for group, prefix in GROUPS.items()
    }
    about = {**dataclasses.asdict(info), "history": [dataclasses.asdict(run) for run in history_of(info)]}
    return {"file": str(path), **file_facts(path), "fault": fault, "parameters": sizes if tensors else None, "checkpoint": about}


def describe(path: Path, info: CheckpointInfo, tensors: Tensors | None, fault: str | None) -> Iterator[str]:
    """Yield lines about one checkpoint. `tensors` is None if they cannot be read, for the reason `fault`."""
    yield f"{path}: {_megabytes(path)}, checksum (CRC32) {'WRONG' if fault else 'ok'}"
    if fault:
        yield f"  {fault}"
    scale = (tensors or {}).get(SCALER + "scale")
    loss_scale = f"loss scale {info.loss_scale:g}" + (
        f" at the start, now {scale.item():g}" if scale is not None and scale.size == 1 else ""
    )
    yield f"step {info.step:,}, epoch {info.epoch:,}, {counted(info.position, 'sample')} into the epoch"
    yield f"seed {info.seed}, {loss_scale}"
    if info.skipped:
        yield f"{counted(info.skipped, 'step')} skipped: loss or gradients were not finite"
    if (best := best_of(info.validations)) is not None:
        yield f"{counted(len(info.validations), 'validation')} before, highest AP {best.figures['AP']:.4f} at step {best.step:,}"
    skeleton = Skeleton.from_dict(info.skeleton, f"checkpoint {path}: skeleton")
    yield ""
    yield f"skeleton {skeleton.name}: {skeleton.num_joints} joints, {skeleton.num_limbs} limbs"
    yield f"  {', '.join(skeleton.joints)}"
    yield f"targets: {_fields(info.targets)}"
    yield f"normalization: {_fields(info.normalization)}"
    if lines := list(lineage_lines(info)):
        yield "lineage:"
        yield from (f"  {line}" for line in lines)
    if info.calibration:
        yield f"scores calibrated on {printable(str(info.calibration.get('num_images', 'unknown')))} images"
    if info.tuning:
        yield f"decoder tuned on {printable(str(info.tuning.get('num_images', 'unknown')))} images"
    yield from _settings("network", info.network, info.config)
    yield from _settings("settings", {k: v for k, v in info.config.items() if k not in info.network}, info.config)
    if tensors is not None:
        yield from _parameters(tensors)
        yield from _other_tensors(tensors)


def preset_settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings, flat, of the preset that a run used; empty for a preset that this version does not have."""
    preset = config.get("preset")
    if not isinstance(preset, str) or preset not in TrainConfig.PRESETS:
        return {}
    words = ["--preset", preset, "--records", "records", "--out", "out"]
    paths = {name: config.get(name) for name in ("records", "out")}
    return flatten(parse(TrainConfig, words, prog="python -m trainer train")) | paths


def _settings(title: str, values: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    """Yield one line per setting; * marks those that differ from the preset."""
    preset = preset_settings(config)
    yield ""
    yield f"{title} (* differs from preset {config.get('preset', 'unknown')}):"
    for name, value in values.items():
        differs = name in preset and preset[name] != value
        suffix = f"  (preset: {_value(preset[name])})" if differs else ""
        yield f"  {'*' if differs else ' '} {name}: {_value(value)}{suffix}"


def _parameters(tensors: Tensors) -> Iterator[str]:
    """Yield the sizes of the learning-rate groups and of batch normalization's running averages."""
    network = {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}
    trained = {name: tensor for name, tensor in network.items() if not name.endswith(RUNNING_AVERAGES)}
    yield ""
    yield f"parameters: {_sizes(list(trained.values()))}"
    for group, prefix in GROUPS.items():
        yield f"  {group}: {_sizes([tensor for name, tensor in trained.items() if name.startswith(prefix)])}"
    if averages := [tensor for name, tensor in network.items() if name.endswith(RUNNING_AVERAGES)]:
        yield f"  running averages of batch normalization: {_sizes(averages)}"


def _other_tensors(tensors: Tensors) -> Iterator[str]:
    """Yield the tensors outside the network by kind: averages, state of the optimizer and loss scale, log interval."""
    names = [name.removeprefix(NETWORK) for name in tensors if name.startswith(NETWORK)]
    kinds: dict[str, list[np.ndarray]] = {}
    for name, tensor in tensors.items():
        if name.startswith(NETWORK):
            continue
        if name.startswith(AVERAGE):
            kind = AVERAGES_TITLE
        else:
            # The name of a moment ends with that of its parameter; the kind is the part before.
            parameter = next((own for own in names if name.endswith(f".{own}")), None)
            kind = name.removesuffix(f".{parameter}") if parameter else name
        kinds.setdefault(kind, []).append(tensor)
    if kinds:
        yield ""
        yield "optimizer state and other tensors:"
    for kind, group in kinds.items():
        value = f" = {group[0].item():g}" if kind in tensors and group[0].size == 1 else f": {_sizes(group)}"
        yield f"  {kind.removeprefix(OPTIMIZER)}{value}"


def _sizes(tensors: list[np.ndarray]) -> str:
    return f"{counted(sum(tensor.size for tensor in tensors), 'number')} in {counted(len(tensors), 'tensor')}"


def _read_or_fault(path: Path) -> tuple[Tensors | None, str | None]:
    """Return the tensors of a checkpoint, or the reason why it cannot be used."""
    try:
        return read_checkpoint(path)[1], None
    except UserError as error:
        return None, str(error)


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.2f} MB"


def _fields(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple, np.ndarray)):
        return " ".join(map(_value, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
