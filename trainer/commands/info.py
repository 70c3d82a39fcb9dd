"""The command `info`: all that a checkpoint holds, for people. Loads no mindspore."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from pipeline.cli import flatten, parse
from pipeline.errors import UserError
from pipeline.progress import progress_bar
from pipeline.skeleton import Skeleton
from trainer.config import TrainConfig
from trainer.run.checkpoint import (
    AVERAGE,
    NETWORK,
    OPTIMIZER,
    SCALER,
    SUFFIX,
    CheckpointInfo,
    Tensors,
    read_checkpoint,
    read_info,
)

EMA = "averages of the weights (--ema-decay), which evaluation takes"
GROUPS = {"vgg (backbone)": "backbone.", "base (neck)": "neck.", "stage": "stages."}
RUNNING_AVERAGES = (".moving_mean", ".moving_variance")  # of batch normalization: nothing that an optimizer learns


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Tell all that a checkpoint holds: where its run stood, network and settings, skeleton, targets, parameters, optimizer state,
    and whether its checksum is right.

    Of a run folder: a table of all its checkpoints, then the newest whole one. Settings marked with * differ from those of the
    preset. The exit code is 1 if one is damaged.

    Example: python -m trainer info runs/first

    One file: python -m trainer info runs/first/step-00005000.safetensors
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Checkpoint file or run folder."""


def run(config: InfoConfig) -> int:
    """The command `info`. Raises UserError for a path that is no checkpoint and holds none."""
    path = config.checkpoint
    if not path.is_dir():
        info, (tensors, fault) = read_info(path), _whole(path)
        print("\n".join(describe(path, info, tensors, fault)))
        return 1 if fault else 0
    files = sorted(path.glob(f"*{SUFFIX}"))
    if not files:
        raise UserError(f"checkpoint {path}: this folder has no checkpoint (*{SUFFIX}); give a run folder or a file")
    rows, faults, newest = [], [], None
    for file in progress_bar(files, desc="checking", unit="file"):
        tensors, fault = _whole(file)
        if fault:
            faults.append(fault)
        try:
            info = read_info(file)
        except UserError:
            rows.append((-1, f"{file.name:<32}{'-':>10}{'-':>7}{'-':>10}{_megabytes(file):>12}  DAMAGED"))
            continue
        state = "DAMAGED" if fault else "good"
        line = f"{file.name:<32}{info.step:>10,}{info.epoch:>7,}{info.position:>10,}{_megabytes(file):>12}  {state}"
        rows.append((info.step, line))
        if not fault and (newest is None or info.step > newest[1].step):
            newest = file, info, tensors
    print(f"{'file':<32}{'step':>10}{'epoch':>7}{'position':>10}{'size':>12}  checksum")
    print("\n".join(line for _, line in sorted(rows, reverse=True)))
    if faults:
        print("\n" + "\n".join(faults))
    if newest is not None:
        print("\n" + "\n".join(describe(*newest, fault=None)))
    return 1 if faults else 0


def describe(path: Path, info: CheckpointInfo, tensors: Tensors | None, fault: str | None) -> Iterator[str]:
    """Lines about one checkpoint; `tensors` is None where they cannot be trusted, for the reason `fault`."""
    yield f"{path}: {_megabytes(path)}, checksum (CRC32) {'NOT good' if fault else 'good'}"
    if fault:
        yield f"  {fault}"
    now = (tensors or {}).get(SCALER + "scale")
    loss_scale = f"loss scale {info.loss_scale:g}" + (f" at the start, {now.item():g} now" if now is not None else "")
    yield f"step {info.step:,}, epoch {info.epoch:,} at sample {info.position:,} of it; seed {info.seed}; {loss_scale}"
    if info.skipped:
        yield f"{info.skipped:,} of the steps were left out, because their numbers were not finite"
    skeleton = Skeleton.from_dict(info.skeleton)
    yield ""
    yield f"skeleton {skeleton.name}: {skeleton.num_joints} joints, {skeleton.num_limbs} limbs"
    yield f"  {', '.join(skeleton.joints)}"
    yield f"targets: {_fields(info.targets)}"
    yield f"normalization: {_fields(info.normalization)}"
    yield f"records: {info.config.get('records', 'unknown')}, digest {info.records_digest}"
    yield from _settings("network", info.network, info.config)
    yield from _settings("settings", {k: v for k, v in info.config.items() if k not in info.network}, info.config)
    if tensors is not None:
        yield from _parameters(tensors)
        yield from _remembered(tensors)


def preset_settings(config: dict[str, Any]) -> dict[str, Any]:
    """The settings, flat, that the preset of a run gives where no option says otherwise; empty for a preset unknown to this version."""
    preset = config.get("preset")
    if preset not in TrainConfig.PRESETS:
        return {}
    words = ["--preset", preset, "--records", str(config.get("records", "")), "--out", str(config.get("out", ""))]
    return flatten(parse(TrainConfig, words, prog="python -m trainer train"))


def _settings(title: str, values: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    """One line each; * marks those that differ from the preset's."""
    usual = preset_settings(config)
    yield ""
    yield f"{title} (* differs from preset {config.get('preset', 'unknown')}):"
    for name, value in values.items():
        differs = name in usual and usual[name] != value
        yield f"  {'*' if differs else ' '} {name}: {_value(value)}" + (f"  (preset: {_value(usual[name])})" if differs else "")


def _parameters(tensors: Tensors) -> Iterator[str]:
    """Weights and biases of each learning-rate group, and batch normalization's running averages."""
    own = {name.removeprefix(NETWORK): tensor for name, tensor in tensors.items() if name.startswith(NETWORK)}
    learned = {name: tensor for name, tensor in own.items() if not name.endswith(RUNNING_AVERAGES)}
    yield ""
    yield f"parameters: {sum(tensor.size for tensor in learned.values()):,} in {len(learned)} tensors"
    for group, prefix in GROUPS.items():
        sizes = [tensor.size for name, tensor in learned.items() if name.startswith(prefix)]
        yield f"  {group}: {sum(sizes):,} in {len(sizes)} tensors"
    if averages := [tensor.size for name, tensor in own.items() if name.endswith(RUNNING_AVERAGES)]:
        yield f"  running averages of batch normalization: {sum(averages):,} in {len(averages)} tensors"


def _remembered(tensors: Tensors) -> Iterator[str]:
    """What is neither network nor description: averages, the optimizer's memory by kind, and what the report carries."""
    names = [name.removeprefix(NETWORK) for name in tensors if name.startswith(NETWORK)]
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for name, tensor in tensors.items():
        if name.startswith(NETWORK):
            continue
        if name.startswith(AVERAGE):
            counts[EMA] += 1
            sizes[EMA] += tensor.size
            continue
        # A moment is named after its parameter: the kind is what stands before.
        of = next((own for own in names if name.endswith(f".{own}")), None)
        kind = name.removesuffix(f".{of}") if of else name
        counts[kind] += 1
        sizes[kind] += tensor.size
    yield ""
    yield "optimizer state and the rest:"
    for kind in counts:
        tensor = tensors.get(kind)
        if tensor is not None and tensor.size == 1:
            what = f" = {tensor.item():g}"
        else:
            what = f": {sizes[kind]:,} numbers in {counts[kind]} tensor{'s' * (counts[kind] != 1)}"
        yield f"  {kind.removeprefix(OPTIMIZER)}{what}"


def _whole(path: Path) -> tuple[Tensors | None, str | None]:
    """The tensors of a checkpoint, or the reason why it cannot be used."""
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
