"""The network: a VGG trunk and stages that refine heatmaps and PAFs (Cao et al., CVPR 2017, figure 3 and section 2.2)."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from trainer.config import NetworkConfig

# What torchvision and the MindSpore model zoo normalise RGB by, for pixels in 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

Fields = tuple[ms.Tensor, ms.Tensor]


def conv(in_channels: int, out_channels: int, kernel_size: int, group_channels: int = 0) -> list[nn.Cell]:
    """A convolution that keeps height and width, with bias, and its activation: ReLU, behind a GroupNorm if there are groups.

    Weights are zero until `initialise`.
    """
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, pad_mode="pad", padding=kernel_size // 2,
        has_bias=True, weight_init="zeros", bias_init="zeros",
    )  # fmt: skip
    if group_channels == 0:
        return [layer, nn.ReLU()]
    # Both in one cell, so that the convolutions keep the places, and so the names, that they have in VGG19.
    return [layer, nn.SequentialCell([nn.GroupNorm(out_channels // group_channels, out_channels), nn.ReLU()])]


class Trunk(nn.Cell):
    """The first ten convolutions of VGG19 with its first three poolings: float32 (B, 3, H, W) -> (B, C, H/8, W/8)."""

    POOL_AFTER = (2, 4, 8)

    def __init__(self, channels: tuple[int, ...], group_channels: int = 0) -> None:
        super().__init__()
        layers: list[nn.Cell] = []
        for number, (before, after) in enumerate(zip((3, *channels), channels, strict=False), start=1):
            layers += conv(before, after, 3, group_channels)
            if number in self.POOL_AFTER:
                layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.layers = nn.SequentialCell(layers)

    def construct(self, x):
        return self.layers(x)


class Stage(nn.Cell):
    """Two branches over the same features: heatmaps (B, num_heatmaps, h, w) and PAFs (B, num_pafs, h, w)."""

    def __init__(
        self, in_channels: int, widths: list[tuple[int, int]], num_heatmaps: int, num_pafs: int, group_channels: int
    ) -> None:
        super().__init__()
        self.heatmaps = _branch(in_channels, widths, num_heatmaps, group_channels)
        self.pafs = _branch(in_channels, widths, num_pafs, group_channels)

    def construct(self, x):
        return self.heatmaps(x), self.pafs(x)


def _branch(in_channels: int, widths: list[tuple[int, int]], out_channels: int, group_channels: int) -> nn.SequentialCell:
    """Convolutions of `widths` = (channels, kernel size) with ReLU, and a linear 1x1 to the fields."""
    layers: list[nn.Cell] = []
    for channels, kernel_size in widths:
        layers += conv(in_channels, channels, kernel_size, group_channels)
        in_channels = channels
    return nn.SequentialCell([*layers, conv(in_channels, out_channels, 1)[0]])


class Network(nn.Cell):
    """uint8 RGB images (B, H, W, 3), H and W multiples of 8 -> for each stage float32 heatmaps and PAFs (B, C, H/8, W/8)."""

    def __init__(self, config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> None:
        super().__init__()
        groups = config.group_channels
        self.trunk = Trunk(config.trunk_channels, groups)
        self.cpm = nn.SequentialCell(
            [
                layer
                for before, after in zip((config.trunk_channels[-1], *config.cpm_channels), config.cpm_channels, strict=False)
                for layer in conv(before, after, 3, groups)
            ]
        )
        features = config.cpm_channels[-1]
        first = [(config.stage_channels, 3)] * 3 + [(config.stage1_hidden_channels, 1)]
        later = [(config.stage_channels, config.kernel_size)] * 5 + [(config.stage_channels, 1)]
        stages = [Stage(features, first, num_heatmaps, num_pafs, groups)]
        for _ in range(config.num_stages - 1):
            stages.append(Stage(features + num_heatmaps + num_pafs, later, num_heatmaps, num_pafs, groups))
        self.stages = nn.CellList(stages)
        self.mean = ms.Tensor(np.array(IMAGENET_MEAN, np.float32))
        self.inverse_std = ms.Tensor((1 / np.array(IMAGENET_STD)).astype(np.float32))

    def construct(self, images) -> tuple[Fields, ...]:
        x = (ops.cast(images, ms.float32) - self.mean) * self.inverse_std
        features = self.cpm(self.trunk(ops.transpose(x, (0, 3, 1, 2))))
        outputs = ()
        x = features
        for stage in self.stages:
            heatmaps, pafs = stage(x)
            outputs += ((heatmaps, pafs),)
            x = ops.cat((features, heatmaps, pafs), axis=1)
        return outputs

    def parameter_groups(self) -> dict[str, list[ms.Parameter]]:
        """Parameters by the learning rate that they follow: "vgg" (trunk), "base" (CPM layers), "stage"."""
        cells = {"vgg": self.trunk, "base": self.cpm, "stage": self.stages}
        return {name: list(cell.trainable_params()) for name, cell in cells.items()}


def initialise(network: Network, rng: np.random.Generator) -> None:
    """Weights for training from nothing: He normal (He et al., ICCV 2015) before a ReLU, sd 0.01 for the fields, biases 0."""
    outputs = {id(branch[-1].weight) for stage in network.stages for branch in (stage.heatmaps, stage.pafs)}
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
