"""Checkpoints: everything a run needs to continue, and everything the evaluator needs to know, in one file.

The file is safetensors (https://github.com/huggingface/safetensors): weights under "network.", their averages, where
there are any, under "ema.", what the optimizer and the loss scale remember under "optimizer." and "loss_scale.", and in its
metadata the `CheckpointInfo` as JSON and a CRC32 of all of it. It appears whole or not at all.
"""

import dataclasses
import json
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from pipeline.cli import flatten
from pipeline.errors import UserError
from pipeline.files import atomic_file
from pipeline.skeleton import Skeleton
from trainer.networks.config import NetworkConfig

FORMAT = "openpose-mindspore checkpoint"
FORMAT_VERSION = 2
SUFFIX = ".safetensors"
NETWORK, OPTIMIZER, AVERAGE, SCALER = "network.", "optimizer.", "ema.", "loss_scale."

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """All of a checkpoint but its tensors. `position` counts the samples of the epoch that have been seen, over all ranks."""

    step: int
    epoch: int
    position: int
    seed: int
    loss_scale: float
    config: dict[str, Any]
    """Configuration of the run, flat, by option name."""
    network: dict[str, Any]
    """Fields of its NetworkConfig."""
    skeleton: dict[str, Any]
    targets: dict[str, Any]
    """Fields of the records' TargetConfig: insize, stride_px, heatmap_sigma_px, paf_half_width_px."""
    normalization: dict[str, Any]
    """mean and std of RGB, 0..255. Applied inside the network; written down for other readers."""
    records_digest: str
    """Digest of the record set's manifest."""
    skipped: int = 0
    """How many of the steps a dynamic loss scale left out."""


def save_checkpoint(path: Path, info: CheckpointInfo, tensors: Tensors) -> None:
    """Write a checkpoint: whole, or not at all."""
    path = Path(path)
    text = json.dumps(dataclasses.asdict(info))
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    metadata = {"format": FORMAT, "version": str(FORMAT_VERSION), "info": text, "crc32": str(_crc32(text, tensors))}
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, metadata)


def read_info(path: Path) -> CheckpointInfo:
    """The description alone, without reading or checking the tensors. Raises UserError naming the path and the cause."""
    return _open(path)[0]


def read_checkpoint(path: Path) -> tuple[CheckpointInfo, Tensors]:
    """A whole checkpoint, checked against its CRC32. Raises UserError naming the path and the cause."""
    info, metadata = _open(path)
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint {path}: cannot be read ({error}); use another checkpoint") from error
    if str(_crc32(metadata["info"], tensors)) != metadata.get("crc32"):
        raise UserError(f"checkpoint {path}: damaged, its contents do not match its CRC32; use another checkpoint")
    return info, tensors


def _open(path: Path) -> tuple[CheckpointInfo, dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except OSError as error:
        raise UserError(f"checkpoint {path}: {error.strerror or 'no such file'}") from error
    except SafetensorError as error:
        raise UserError(
            f"checkpoint {path}: truncated, damaged or not a checkpoint of this trainer ({error}); use another checkpoint"
        ) from error
    if metadata.get("format") != FORMAT or metadata.get("version") != str(FORMAT_VERSION):
        found = f"{metadata.get('format', 'unknown format')} {metadata.get('version', '')}".strip()
        raise UserError(f"checkpoint {path}: is {found}, expected {FORMAT} {FORMAT_VERSION}")
    try:
        info = json.loads(metadata["info"])
        info["network"] = flatten(NetworkConfig()) | info["network"]  # fields that were not there when it was written
        return CheckpointInfo(**info), metadata
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"checkpoint {path}: damaged description ({error}); use another checkpoint") from error


def _crc32(text: str, tensors: Tensors) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        crc = zlib.crc32(f"{name} {tensors[name].dtype} {tensors[name].shape}".encode(), crc)
        crc = zlib.crc32(tensors[name], crc)
    return crc


def checkpoint_faults(folder: Path) -> list[str]:
    """What is wrong with each checkpoint of a run folder that cannot be read whole."""
    faults = []
    for path in sorted(Path(folder).glob(f"*{SUFFIX}")):
        try:
            read_checkpoint(path)
        except UserError as error:
            faults.append(str(error))
    return faults


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run folder, newest (most steps) first, by what stands in them; unreadable files are left out."""
    found = []
    for path in Path(folder).glob(f"*{SUFFIX}"):
        try:
            found.append((read_info(path).step, path))
        except UserError:
            continue
    return [path for _, path in sorted(found, reverse=True)]


def _header_fault(path: Path) -> str | None:
    try:
        read_info(path)
    except UserError as error:
        return str(error)
    return None


def read_newest(folder: Path) -> tuple[Path, CheckpointInfo, Tensors, list[str]] | None:
    """The newest checkpoint of a run folder that is whole, and the faults of newer ones; None if the folder has none."""
    faults = [_header_fault(path) for path in sorted(Path(folder).glob(f"*{SUFFIX}"))]
    faults = [fault for fault in faults if fault]
    for path in list_checkpoints(folder):
        try:
            return path, *read_checkpoint(path), faults
        except UserError as error:
            faults.append(str(error))
    return None


def prune_checkpoints(folder: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints of a run folder."""
    for path in list_checkpoints(folder)[keep:]:
        path.unlink()


def read_path(path: Path) -> tuple[Path, CheckpointInfo, Tensors]:
    """A checkpoint file, or the newest whole one of a run folder. Raises UserError where there is none."""
    path = Path(path)
    if not path.is_dir():
        return path, *read_checkpoint(path)
    newest = read_newest(path)
    if newest is None:
        faults = "; ".join(checkpoint_faults(path)) or f"there is no *{SUFFIX}"
        raise UserError(f"checkpoint {path}: this folder has no complete checkpoint ({faults}); give a run folder or a file")
    for fault in newest[3]:
        print(f"passed over: {fault}", file=sys.stderr, flush=True)
    return newest[:3]


class LoadedNetwork:
    """A trained network with all that is needed to use it.

    skeleton: what its fields mean. insize: side of its training crops in pixels. stride_px: pixels per cell.
    average: with the averages of its weights, if it has them (--ema-decay of training).
    config: the configuration of its run, flat. info: the whole description. network: the cell, for export.
    """

    def __init__(self, path: Path, *, average: bool = True) -> None:
        from trainer.networks import inference  # loads mindspore: reading a description does not need it

        self.path, self.info, tensors = read_path(path)
        self.skeleton = Skeleton.from_dict(self.info.skeleton)
        self.insize: int = self.info.targets["insize"]
        self.stride_px: int = self.info.targets["stride_px"]
        self.config = self.info.config
        try:
            config = NetworkConfig(**_tuples(self.info.network))
        except (TypeError, ValueError) as error:
            raise UserError(f"checkpoint {self.path}: its network is not one of this version ({error}); use another") from error
        self.network = inference.build(config, self.skeleton)
        weights = averaged(tensors) if average else tensors
        if weights is not tensors:
            print(f"{self.path}: with the averages of its weights")
        load_tensors(self.network.parameters_dict(), weights, prefix=NETWORK, source=self.path)
        self._infer = inference.LastStage(self.network)

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB (B, H, W, 3), H and W multiples of the stride -> the last stage's fields.

        Returns float32 heatmaps (B, J + 1, H / stride, W / stride) and PAFs (B, 2 L, H / stride, W / stride).
        """
        if (
            images.ndim != 4
            or images.dtype != np.uint8
            or images.shape[3] != 3
            or any(n % self.stride_px for n in images.shape[1:3])
        ):
            raise ValueError(
                f"images must be uint8 (B, H, W, 3), H and W multiples of {self.stride_px}, got {images.dtype} {images.shape}"
            )
        return self._infer.fields(images)


def load_network(path: Path, *, average: bool = True) -> LoadedNetwork:
    """The network of a checkpoint file, or of the newest whole checkpoint of a run folder, ready for `fields`.

    With the averages of its weights, if it has them (--ema-decay of training), unless `average` is False.

    Raises UserError naming the path and the cause for anything that is not a complete checkpoint.
    """
    return LoadedNetwork(path, average=average)


def averaged(tensors: Tensors) -> Tensors:
    """The same with the averages of the weights, and of what batch normalization keeps, in their place, if there are any."""
    averages = {NETWORK + name.removeprefix(AVERAGE): tensor for name, tensor in tensors.items() if name.startswith(AVERAGE)}
    return {**tensors, **averages} if averages else tensors


def load_tensors(parameters: dict, tensors: Tensors, *, prefix: str, source: Path) -> None:
    """Put `tensors` (names with `prefix`) into MindSpore `parameters` (names without): all of them, each of the right shape.

    Raises UserError naming the file and the tensors that are missing, unknown or of another shape; nothing is loaded then.
    """
    import mindspore as ms

    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    for what, names in (("lacks", parameters.keys() - own.keys()), ("has unknown", own.keys() - parameters.keys())):
        if names:
            raise UserError(f"checkpoint {source}: {what} {_few(names)}; it belongs to another network")
    for name, tensor in own.items():
        if tensor.shape != parameters[name].shape:
            raise UserError(
                f"checkpoint {source}: {name} has shape {tensor.shape}, this network needs {parameters[name].shape}; "
                "it belongs to another network or skeleton"
            )
    for name, tensor in own.items():
        # Not set_data: it does not reach a graph that is compiled already.
        ms.ops.assign(parameters[name], ms.Tensor(tensor))


def _few(names) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
