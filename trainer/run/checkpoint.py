"""Checkpoints: one file with everything that a run needs to continue and that the evaluator needs to know.

The file is safetensors (https://github.com/huggingface/safetensors). Prefixes of its tensors: "network." for weights, "ema."
for their averages (with --ema-decay), "optimizer." and "loss_scale." for the state of both, "log." for the open log interval.
Its metadata holds the `CheckpointInfo` as JSON and a CRC32 of everything. The file is complete or absent.
"""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from pipeline.cli import flatten
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Count, Finite, convert, parse_json
from pipeline.storage.files import atomic_file
from pipeline.wording import printable
from trainer.networks.config import NetworkConfig
from trainer.run.history import TrainingRun
from trainer.run.layout import BEST, CHECKPOINT_SUFFIX, checkpoint_files
from trainer.run.validations import Validation

FORMAT = "openpose-mindspore checkpoint"
FORMAT_VERSION = 2
NETWORK, OPTIMIZER, AVERAGE, SCALER = "network.", "optimizer.", "ema.", "loss_scale."

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """Everything in a checkpoint but its tensors."""

    step: Count
    epoch: Count
    position: Count
    """Samples of the epoch that all ranks together have seen."""
    seed: Count
    loss_scale: Finite
    config: dict[str, Any]
    """Configuration of the run, flat, by option name."""
    network: dict[str, Any]
    """Fields of NetworkConfig."""
    skeleton: dict[str, Any]
    targets: dict[str, Any]
    """Fields of the record set's TargetConfig: insize, stride_px, heatmap_sigma_px, paf_half_width_px."""
    normalization: dict[str, Any]
    """Channel order that the first layer sees, mean and standard deviation of RGB in 0..255. The network applies them itself;
    stored for other readers."""
    records_digest: str
    """Digest in the record set's manifest."""
    skipped: Count = 0
    """Number of steps that a dynamic loss scale skipped."""
    origin: dict[str, str] = field(default_factory=dict)
    """Where imported weights come from (source, url, license, published, file, sha256), also after further training; empty if all
    weights were trained here."""
    backbone_origin: dict[str, str] = field(default_factory=dict)
    """The same for a backbone that a run started with (--backbone-path)."""
    history: tuple[TrainingRun, ...] = ()
    """Training runs, the oldest first: those of --pretrained-model-path, then this one. Read it with `history_of`."""
    calibration: dict[str, Any] = field(default_factory=dict)
    """Map from raw scores to probabilities, written by `python -m evaluator calibrate`, which defines it; empty after training."""
    tuning: dict[str, Any] = field(default_factory=dict)
    """Settings of the decoder, written by `python -m evaluator tune`, which defines them; empty after training."""
    validations: tuple[Validation, ...] = ()
    """Validations of this run before this checkpoint (--validate-annotations), by step; its own is in the log."""


class FoundCheckpoint(NamedTuple):
    """A checkpoint that was read completely, and the faults of newer ones in its folder that cannot be read."""

    path: Path
    info: CheckpointInfo
    tensors: Tensors
    faults: list[str]


def save_checkpoint(
    path: Path,
    info: CheckpointInfo,
    tensors: Mapping[str, np.ndarray | np.generic],
    *,
    then: str = "continue with --resume",
) -> None:
    """Write a checkpoint; the file is complete or absent.

    Raises UserError if it cannot be written, or its folder is gone. then: what the user does after removing the cause.
    """
    path = Path(path)
    text = json.dumps(dataclasses.asdict(info))
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "info": text, "crc32": str(_crc32(text, arrays))}
    try:
        with atomic_file(path, creates_folder=False) as temporary:
            save_file(arrays, temporary, metadata)
    except (OSError, SafetensorError) as error:
        if not path.parent.is_dir():
            raise UserError(
                f"checkpoint {path}: cannot be written: the folder {path.parent} was deleted or renamed; restore it, then {then}"
            ) from error
        raise UserError(f"checkpoint {path}: cannot be written ({error}); fix the cause, then {then}") from error


def read_info(path: Path) -> CheckpointInfo:
    """Return the description of a checkpoint without reading its tensors. Raises UserError with path and cause."""
    return _open(path)[0]


def read_checkpoint(path: Path) -> tuple[CheckpointInfo, Tensors]:
    """Read a checkpoint and check its CRC32. Raises UserError with path and cause."""
    info, metadata = _open(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:  # KeyError: a type that NumPy lacks
        raise UserError(f"checkpoint {path}: cannot be read ({printable(str(error))}); use another checkpoint") from error
    if str(_crc32(metadata["info"], tensors)) != metadata.get("crc32"):
        raise UserError(f"checkpoint {path}: damaged, CRC32 does not match; use another checkpoint")
    return info, tensors


def _open(path: Path) -> tuple[CheckpointInfo, dict[str, str]]:
    path = Path(path)
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise UserError(f"checkpoint {path}: is a pipe, socket or device, not a file")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror or 'no such file'}") from error
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {path}: truncated, damaged or not a checkpoint of this trainer ({printable(str(error))}); use another checkpoint"
        ) from error
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"checkpoint {path}: not a checkpoint of this trainer; use a file or a run folder that `python -m trainer train` wrote"
        )
    if metadata.get("version") != str(FORMAT_VERSION):
        version = printable(str(metadata.get("version"))[:20])
        raise UserError(
            f"checkpoint {path}: format version is {version}, expected {FORMAT_VERSION}; use a checkpoint of this version"
        )
    try:
        return _parse_info(metadata.get("info", ""), f"checkpoint {path}"), metadata
    except UserError as error:
        raise UserError(f"{error}; use another checkpoint") from error


def _parse_info(text: str, where: str) -> CheckpointInfo:
    """Parse and check a description. Raises UserError, which begins with `where`, naming the field."""
    fields = parse_json(text.encode(), f"{where}: damaged description", dict[str, Any], allow_nan=True)
    info: CheckpointInfo = convert(fields, CheckpointInfo, where)
    if unknown := sorted(info.network.keys() - NetworkConfig.__dataclass_fields__.keys()):
        raise UserError(f"{where}: network: this version has no option {printable(unknown[0][:60])!r}")
    network: NetworkConfig = convert(info.network, NetworkConfig, f"{where}: network")
    Skeleton.from_dict(info.skeleton, f"{where}: skeleton")
    convert(dict.fromkeys(("insize", "stride_px")) | info.targets, TargetConfig, f"{where}: targets")
    convert(info.normalization, dict[str, list[Finite] | Literal["rgb", "bgr"]], f"{where}: normalization")
    # Fields that were added after the checkpoint was written have their defaults.
    return dataclasses.replace(info, network=flatten(network))


def _crc32(text: str, tensors: Tensors) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode(), crc)
        crc = zlib.crc32(tensors[name].data, crc)
    return crc


def checkpoint_faults(folder: Path) -> list[str]:
    """Return what is wrong with each checkpoint of a run folder that cannot be read completely."""
    faults = []
    for path in checkpoint_files(folder):
        try:
            read_checkpoint(path)
        except UserError as error:
            faults.append(str(error))
    return faults


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, newest (by the step they contain) first, without unreadable files."""
    return _by_step(folder)[0]


def read_newest(folder: Path) -> FoundCheckpoint | None:
    """Read the newest complete checkpoint of a run folder; None if it has none."""
    paths, faults = _by_step(folder)
    for path in paths:
        try:
            return FoundCheckpoint(path, *read_checkpoint(path), faults)
        except UserError as error:
            faults.append(str(error))
    return None


def _by_step(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the checkpoints with a readable description, newest first, and the faults of the others."""
    found, faults = [], []
    for path in checkpoint_files(folder):
        try:
            found.append((read_info(path).step, path))
        except UserError as error:
            faults.append(str(error))
    return [path for _, path in sorted(found, reverse=True)], faults


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints of a run folder. The best one is kept in addition."""
    for path in [path for path in list_checkpoints(folder) if path.name != BEST][keep:]:
        path.unlink()


def read_path(path: Path) -> FoundCheckpoint:
    """Read a checkpoint file, or the newest complete one of a run folder. Raises UserError if there is none."""
    path = Path(path)
    if not path.is_dir():
        return FoundCheckpoint(path, *read_checkpoint(path), [])
    newest = read_newest(path)
    if newest is None:
        faults = "; ".join(checkpoint_faults(path)) or f"no *{CHECKPOINT_SUFFIX} file"
        raise UserError(f"checkpoint {path}: no complete checkpoint in this folder ({faults}); give a run folder or a file")
    return newest
