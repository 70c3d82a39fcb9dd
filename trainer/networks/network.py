"""The network: normalization, backbone, neck, and stages that each predict heatmaps, PAFs or both."""

from collections.abc import Iterable, Iterator

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from trainer.networks import lightweight, openpose, openpose2019
from trainer.networks.config import RUNNING_AVERAGES, NetworkConfig
from trainer.networks.context import Context, Upsample
from trainer.networks.cpu_convolution import Convolution

BGR = (2, 1, 0)  # channels of an RGB image in the order blue, green, red

# Each module has backbone(config), neck(config) and stages(config, num_heatmaps, num_pafs).
ARCHITECTURES = {"openpose": openpose, "openpose-2019": openpose2019, "lightweight": lightweight}

Fields = tuple[ms.Tensor | None, ms.Tensor | None]
"""Heatmaps and PAFs of a stage; None for a branch that the stage does not have."""


class Network(nn.Cell):
    """Pose network: uint8 RGB images (B, H, W, 3) -> float32 heatmaps and PAFs (B, C, H/8, W/8) of every stage.

    H and W must be multiples of 8. The pixels are normalized as the configuration says. Every stage sees the features and the latest heatmaps and PAFs of the stages before it.
    """

    def __init__(self, config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> None:
        super().__init__()
        architecture = ARCHITECTURES[config.architecture]
        self.backbone = architecture.backbone(config)
        self.neck = architecture.neck(config)
        self.stages = nn.CellList(architecture.stages(config, num_heatmaps, num_pafs))
        self.mean = ms.Tensor(np.array(config.pixel_mean, np.float32))
        self.inverse_std = ms.Tensor((1 / np.array(config.pixel_std)).astype(np.float32))
        self.reorders = config.channel_order == "bgr"
        self.channels = ms.Tensor(np.array(BGR, np.int32))
        self.frozen: tuple[str, ...] = ()

    def construct(self, images: ms.Tensor) -> tuple[Fields, ...]:
        x = (ops.cast(images, ms.float32) - self.mean) * self.inverse_std
        x = ops.transpose(x, (0, 3, 1, 2))
        if self.reorders:
            x = ops.gather(x, self.channels, 1)
        features = self.neck(self.backbone(x))
        outputs: tuple[Fields, ...] = ()
        seen: tuple[ms.Tensor, ...] = (features,)
        for stage in self.stages:
            outputs += (stage(ops.cat(seen, axis=1) if len(seen) > 1 else features),)
            seen = (features,)
            for fields in last_fields(outputs):
                if fields is not None:
                    seen += (fields,)
        return outputs

    def set_precision(self, level: str) -> None:
        """Set the precision of the computation: O0 float32, O2 float16 except for batch normalization, O3 float16.

        Normalization of the pixels and weights stay float32. Call it before the network is compiled.
        """
        if level == "O0":
            return
        for part in (self.backbone, self.neck, self.stages):
            part.to_float(ms.float16)
        for _, cell in self.cells_and_names():
            if level == "O2" and isinstance(cell, nn.BatchNorm2d):
                cell.to_float(ms.float32)

    def freeze(self, parts: Iterable[str]) -> None:
        """Leave these parts as they are: backbone, neck, stages, or stages:N for the first N stages.

        Their batch normalization uses its running averages also in training. Call it before the network is compiled.
        """
        self.frozen = tuple(parts)
        for cell in self._frozen_cells():
            for parameter in cell.trainable_params():
                parameter.requires_grad = False

    def set_train(self, mode: bool = True) -> "Network":
        """Switch batch normalization to the statistics of the batch, except in frozen parts, or to its running averages."""
        super().set_train(mode)
        for cell in self._frozen_cells():
            cell.set_train(False)
        return self

    def _frozen_cells(self) -> Iterator[nn.Cell]:
        for name in self.frozen:
            part, _, count = name.partition(":")
            # A slice of a CellList would rename its parameters.
            yield from list(self.stages)[: int(count)] if count else (getattr(self, part),)

    def parameter_groups(self) -> dict[str, list[ms.Parameter]]:
        """Return the trainable parameters, without frozen ones, of each part that has its own learning rate."""
        cells = {"backbone": self.backbone, "neck": self.neck, "stages": self.stages}
        return {name: list(cell.trainable_params()) for name, cell in cells.items()}


def last_fields(outputs: tuple[Fields, ...]) -> Fields:
    """Return the latest heatmaps and the latest PAFs of the stages: the prediction of the network."""
    heatmaps, pafs = outputs[0]
    for later_heatmaps, later_pafs in outputs[1:]:
        heatmaps = heatmaps if later_heatmaps is None else later_heatmaps
        pafs = pafs if later_pafs is None else later_pafs
    return heatmaps, pafs


def running_averages(network: Network) -> list[ms.Parameter]:
    """Return the running averages of batch normalization, which are not trained."""
    return [p for p in network.get_parameters() if p.name.endswith(RUNNING_AVERAGES)]


def initialize(network: Network, rng: np.random.Generator) -> None:
    """Set random weights: He normal (He et al., ICCV 2015), sd 0.01 for the layers that output fields, biases 0."""
    branches = [getattr(stage, name) for stage in network.stages for name in ("heatmaps", "pafs") if hasattr(stage, name)]
    outputs = {id(branch[-1].weight) for branch in branches}
    for parameter in network.get_parameters():
        if parameter.ndim == 1:
            continue
        fan_in = int(np.prod(parameter.shape[1:]))
        sd = 0.01 if id(parameter) in outputs else np.sqrt(2 / fan_in)
        values = rng.standard_normal(parameter.shape, np.float32) * np.float32(sd)
        parameter.set_data(ms.Tensor(values))


def count_parameters(network: Network) -> dict[str, int]:
    """Return the number of weights and biases of each parameter group, without frozen ones."""
    return {name: sum(p.size for p in group) for name, group in network.parameter_groups().items()}


def convolutions(network: Network, insize: int) -> Iterator[tuple[Convolution, int]]:
    """Yield each convolution and the side of its output in cells, for images of insize x insize pixels."""
    side = insize
    above: list[int] = []  # sides of the maps to which coarser levels are added
    for part in (network.backbone, network.neck, network.stages):
        for _, layer in part.cells_and_names():
            if isinstance(layer, nn.MaxPool2d):
                side //= 2
            elif isinstance(layer, Context):
                above.append(side)
            elif isinstance(layer, Upsample):
                side = above.pop()
            elif isinstance(layer, Convolution):
                side = -(-side // layer.stride[0])
                yield layer, side


def count_multiplications(network: Network, insize: int) -> int:
    """Return the multiply-accumulate operations of the convolutions for one image (1 MAC = 2 FLOPs)."""
    return sum(layer.weight.size * side * side for layer, side in convolutions(network, insize))
