"""The network: pixels -> backbone -> features -> stages, each of which gives heatmaps, PAFs or both."""

from collections.abc import Iterator

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from trainer.networks import lightweight, openpose, openpose2019
from trainer.networks.config import NetworkConfig

# What torchvision and the MindSpore model zoo normalize RGB by, for pixels in 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

# Each module has backbone(config), neck(config) and stages(config, num_heatmaps, num_pafs).
ARCHITECTURES = {"openpose": openpose, "openpose-2019": openpose2019, "lightweight": lightweight}

Fields = tuple[ms.Tensor | None, ms.Tensor | None]
"""Heatmaps and PAFs of a stage, None for those that it does not give."""


class Network(nn.Cell):
    """uint8 RGB images (B, H, W, 3), H and W multiples of 8 -> for each stage float32 heatmaps and PAFs (B, C, H/8, W/8).

    Every stage sees the features and the newest heatmaps and PAFs of the stages before it.
    """

    def __init__(self, config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> None:
        super().__init__()
        architecture = ARCHITECTURES[config.architecture]
        self.backbone = architecture.backbone(config)
        self.neck = architecture.neck(config)
        self.stages = nn.CellList(architecture.stages(config, num_heatmaps, num_pafs))
        self.mean = ms.Tensor(np.array(IMAGENET_MEAN, np.float32))
        self.inverse_std = ms.Tensor((1 / np.array(IMAGENET_STD)).astype(np.float32))

    def construct(self, images) -> tuple[Fields, ...]:
        x = (ops.cast(images, ms.float32) - self.mean) * self.inverse_std
        features = self.neck(self.backbone(ops.transpose(x, (0, 3, 1, 2))))
        outputs = ()
        seen = (features,)
        for stage in self.stages:
            outputs += (stage(ops.cat(seen, axis=1) if len(seen) > 1 else features),)
            seen = (features,)
            for fields in last_fields(outputs):
                if fields is not None:
                    seen += (fields,)
        return outputs

    def set_precision(self, level: str) -> None:
        """Compute in float16 from level O2 on, batch normalization only at O3; call it before the network is compiled.

        Pixels are normalized in float32, and the weights stay float32.
        """
        if level == "O0":
            return
        for part in (self.backbone, self.neck, self.stages):
            part.to_float(ms.float16)
        for _, cell in self.cells_and_names():
            if level == "O2" and isinstance(cell, nn.BatchNorm2d):
                cell.to_float(ms.float32)

    def parameter_groups(self) -> dict[str, list[ms.Parameter]]:
        """Parameters by the learning rate that they follow: "vgg" (backbone), "base" (layers between backbone and stages), "stage"."""
        cells = {"vgg": self.backbone, "base": self.neck, "stage": self.stages}
        return {name: list(cell.trainable_params()) for name, cell in cells.items()}


def last_fields(outputs: tuple[Fields, ...]) -> Fields:
    """Of what the stages give, the newest heatmaps and the newest PAFs: after the last stage, what the network found."""
    heatmaps, pafs = outputs[0]
    for later_heatmaps, later_pafs in outputs[1:]:
        heatmaps = heatmaps if later_heatmaps is None else later_heatmaps
        pafs = pafs if later_pafs is None else later_pafs
    return heatmaps, pafs


def running_averages(network: Network) -> list[ms.Parameter]:
    """Its parameters that no gradient moves: what batch normalization keeps of the batches."""
    trained = {id(p) for p in network.trainable_params()}
    return [p for p in network.get_parameters() if id(p) not in trained]


def initialize(network: Network, rng: np.random.Generator) -> None:
    """Weights for training from nothing: He normal (He et al., ICCV 2015) before a ReLU, sd 0.01 for the fields, biases 0."""
    branches = [getattr(stage, name) for stage in network.stages for name in ("heatmaps", "pafs") if hasattr(stage, name)]
    outputs = {id(branch[-1].weight) for branch in branches}
    for parameter in network.trainable_params():
        if parameter.ndim == 1:
            continue
        fan_in = int(np.prod(parameter.shape[1:]))
        sd = 0.01 if id(parameter) in outputs else np.sqrt(2 / fan_in)
        values = rng.standard_normal(parameter.shape, np.float32) * np.float32(sd)
        parameter.set_data(ms.Tensor(values))


def count_parameters(network: Network) -> dict[str, int]:
    """Number of weights and biases of each learning-rate group."""
    return {name: sum(p.size for p in group) for name, group in network.parameter_groups().items()}


def convolutions(network: Network, insize: int) -> Iterator[tuple[nn.Conv2d, int]]:
    """Each convolution and the side of its output in cells, for images of insize x insize pixels."""
    side = insize
    for part in (network.backbone, network.neck, network.stages):
        for _, layer in part.cells_and_names():
            if isinstance(layer, nn.MaxPool2d):
                side //= 2
            elif isinstance(layer, nn.Conv2d):
                side //= layer.stride[0]
                yield layer, side


def count_multiplications(network: Network, insize: int) -> int:
    """Multiplications (each with an addition) of the convolutions for one image: half of what some call FLOPs."""
    return sum(layer.weight.size * side * side for layer, side in convolutions(network, insize))
