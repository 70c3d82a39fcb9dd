"""Checkpoint -> trained network, and tensors -> MindSpore parameters. Imports mindspore only when it is used."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import convert
from pipeline.wording import counted, printable
from trainer.networks.config import STRIDE_PX, NetworkConfig, Precision
from trainer.run.checkpoint import AVERAGE, NETWORK, CheckpointInfo, Tensors, read_path

if TYPE_CHECKING:
    import mindspore as ms

MAX_NAMES = 3  # tensor names in an error message


class LoadedNetwork:
    """A trained network with everything needed to use it.

    skeleton: meaning of its fields. insize: side of the training crops in pixels. stride_px: pixels per cell.
    config: configuration of the run, flat. info: the whole description. network: the cell, for export.
    notes: lines that the command reports to its user.
    """

    def __init__(self, path: Path, *, average: bool = True, precision: Precision = "O0") -> None:
        from trainer.networks import inference  # imports mindspore, which reading a description does not need

        self.path, self.info, tensors, faults = read_path(path)
        self.notes = [f"skipped {fault}" for fault in faults]
        self.skeleton = Skeleton.from_dict(self.info.skeleton, f"checkpoint {self.path}: skeleton")
        self.insize: int = self.info.targets["insize"]
        self.stride_px: int = self.info.targets["stride_px"]
        self.config = self.info.config
        config = convert(self.info.network, NetworkConfig, f"checkpoint {self.path}: network")
        self._refuse_other_pixels(config)
        refuse_other_sizes(self.path, self.info, config, tensors)
        self.network = inference.build(config, self.skeleton)
        weights = averaged(tensors) if average else tensors
        if weights is not tensors:
            self.notes.append(f"{self.path}: using the averaged weights")
        load_tensors(self.network.parameters_dict(), weights, prefix=NETWORK, source=self.path)
        self.network.set_precision(precision)
        self._last_stage = inference.LastStage(self.network)

    def _refuse_other_pixels(self, config: NetworkConfig) -> None:
        """Raise UserError if the file describes its pixels, for other programs, in another way than its network computes them."""
        computed = json.loads(json.dumps(config.normalization))
        for name, value in self.info.normalization.items():
            if name in computed and value != computed[name]:
                raise UserError(
                    f"checkpoint {self.path}: normalization: {name} is {value}, but its network has {computed[name]}; the file "
                    "was edited; use another checkpoint"
                )

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the fields of the last stage.

        images: uint8 RGB (B, H, W, 3), H and W multiples of the stride.
        Returns float32 heatmaps (B, J + 1, H / stride, W / stride) and PAFs (B, 2 L, H / stride, W / stride).
        """
        is_rgb = images.ndim == 4 and images.dtype == np.uint8 and images.shape[3] == 3
        if not is_rgb or any(side % self.stride_px for side in images.shape[1:3]):
            raise ValueError(
                f"images must be uint8 (B, H, W, 3), H and W multiples of {self.stride_px}, got {images.dtype} {images.shape}"
            )
        return self._last_stage.fields(images)


def load_network(path: Path, *, average: bool = True, precision: Precision = "O0") -> LoadedNetwork:
    """Load the network of a checkpoint file, or of the newest complete checkpoint of a run folder.

    Uses the averages of the weights if the checkpoint has them (--ema-decay of `train`), unless `average` is False.
    precision: see `Network.set_precision`. The fields are float32 in every precision.
    Raises UserError with path and cause for anything that is not a complete checkpoint.
    """
    return LoadedNetwork(path, average=average, precision=precision)


def refuse_other_sizes(path: Path, info: CheckpointInfo, config: NetworkConfig, tensors: Tensors) -> None:
    """Raise UserError, before the network takes memory, unless the file holds at least as many weights as it needs."""
    if info.targets["stride_px"] != STRIDE_PX:
        raise UserError(
            f"checkpoint {path}: targets: stride_px must be {STRIDE_PX}, got {info.targets['stride_px']}; use another checkpoint"
        )
    num_weights = sum(tensor.size for name, tensor in tensors.items() if name.startswith(NETWORK))
    if num_weights < config.min_weights:
        raise UserError(
            f"checkpoint {path}: network: needs at least {counted(config.min_weights, 'weight')}, the file has "
            f"{num_weights:,}; use another checkpoint"
        )


def averaged(tensors: Tensors) -> Tensors:
    """Return the tensors with the averages in place of weights and batch statistics; the same dict if it has none."""
    averages = {NETWORK + name.removeprefix(AVERAGE): tensor for name, tensor in tensors.items() if name.startswith(AVERAGE)}
    return {**tensors, **averages} if averages else tensors


def load_tensors(parameters: Mapping[str, "ms.Parameter"], tensors: Tensors, *, prefix: str, source: Path) -> None:
    """Assign the tensors whose names start with `prefix` to MindSpore parameters, whose names lack it.

    Raises UserError with the file and the tensors that are missing, unknown or of another shape; nothing is loaded then.
    """
    import mindspore as ms

    for name, tensor in match_tensors(parameters, tensors, prefix=prefix, source=source).items():
        # Not set_data, which does not reach a graph that is already compiled.
        ms.ops.assign(parameters[name], ms.Tensor(tensor))


def match_tensors(parameters: Mapping[str, "ms.Parameter"], tensors: Tensors, *, prefix: str, source: Path) -> Tensors:
    """Return the tensors whose names start with `prefix` by the names of the parameters. Raises UserError as `load_tensors` does."""
    selected = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    for problem, names in (
        ("lacks", parameters.keys() - selected.keys()),
        ("has unknown", selected.keys() - parameters.keys()),
    ):
        if names:
            raise UserError(f"{source}: {problem} {_listed(names)}; it belongs to another network")
    for name, tensor in selected.items():
        if tensor.shape != parameters[name].shape:
            raise UserError(
                f"{source}: {name} has shape {tensor.shape}, this network needs {parameters[name].shape}; "
                "the file belongs to another network or skeleton"
            )
        if tensor.dtype.name != str(parameters[name].dtype).lower():
            raise UserError(f"{source}: {name} is {tensor.dtype}, expected {parameters[name].dtype}; use another file")
    return selected


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    rest = len(ordered) - MAX_NAMES
    return printable(", ".join(ordered[:MAX_NAMES])) + (f" and {rest} more" if rest > 0 else "")
