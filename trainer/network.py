"""The network: a VGG trunk and stages that refine heatmaps and PAFs (Cao et al., CVPR 2017, figure 3 and section 2.2)."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from trainer.config import NUM_HALVINGS, NetworkConfig

# What torchvision and the MindSpore model zoo normalise RGB by, for pixels in 0..255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)

Fields = tuple[ms.Tensor | None, ms.Tensor | None]
"""Heatmaps and PAFs of a stage, None for those that it does not give."""


def convolution(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, has_bias: bool = True) -> nn.Conv2d:
    """A convolution padded so that only its stride makes the picture smaller. Weights are zero until `initialise`."""
    return nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, pad_mode="pad", padding=kernel_size // 2,
        has_bias=has_bias, weight_init="zeros", bias_init="zeros",
    )  # fmt: skip


def plain_layers(in_channels: int, widths: list[tuple[int, int]]) -> list[nn.Cell]:
    """Convolutions of `widths` = (channels, kernel size), each with bias and ReLU, as the paper has them."""
    channels = (in_channels, *(channels for channels, _ in widths))
    return [
        cell
        for before, (after, kernel_size) in zip(channels, widths, strict=False)
        for cell in (convolution(before, after, kernel_size), nn.ReLU())
    ]


def normalised(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, gamma: str = "ones") -> list[nn.Cell]:
    """A convolution and the batch normalisation (Ioffe and Szegedy, ICML 2015) that takes the place of its bias."""
    layer = convolution(in_channels, out_channels, kernel_size, stride=stride, has_bias=False)
    return [layer, nn.BatchNorm2d(out_channels, gamma_init=gamma)]


class Shortcut(nn.Cell):
    """Two convolutions and a shortcut over them (He et al., CVPR 2016, figure 2): x -> ReLU(x + f(x)).

    The last normalisation begins with gamma 0, so that a new network is a shallow one and deepens as it learns (Goyal et
    al., 2017, section 5.1).
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        first, second = normalised(channels, channels, kernel_size), normalised(channels, channels, kernel_size, gamma="zeros")
        self.layers = nn.SequentialCell([*first, nn.ReLU(), *second])
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(x + self.layers(x))


def residual_layers(in_channels: int, widths: list[tuple[int, int]]) -> list[nn.Cell]:
    """As `plain_layers`, with batch normalisation and a shortcut over every two alike that keep the number of channels."""
    cells: list[nn.Cell] = []
    while widths:
        channels, kernel_size = widths[0]
        if in_channels == channels and widths[:1] == widths[1:2]:
            cells.append(Shortcut(channels, kernel_size))
            widths = widths[2:]
        else:
            cells += [*normalised(in_channels, channels, kernel_size), nn.ReLU()]
            widths = widths[1:]
        in_channels = channels
    return cells


class Trunk(nn.Cell):
    """float32 (B, 3, H, W) -> (B, C, H/8, W/8): the first ten convolutions of VGG19 with its first three poolings.

    A residual trunk has three convolutions of stride 2 and shortcuts over the others instead.
    """

    POOL_AFTER = (2, 4, 8)

    def __init__(self, channels: tuple[int, ...], *, residual: bool = False) -> None:
        super().__init__()
        layers: list[nn.Cell] = []
        if residual:
            for before, after in zip((3, *channels), channels[:NUM_HALVINGS], strict=False):
                layers += [*normalised(before, after, 3, stride=2), nn.ReLU()]
            layers += residual_layers(channels[NUM_HALVINGS - 1], [(count, 3) for count in channels[NUM_HALVINGS:]])
        else:
            for number, (before, after) in enumerate(zip((3, *channels), channels, strict=False), start=1):
                layers += plain_layers(before, [(after, 3)])
                if number in self.POOL_AFTER:
                    layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.layers = nn.SequentialCell(layers)

    def construct(self, x):
        return self.layers(x)


class Stage(nn.Cell):
    """Two branches over the same features: heatmaps (B, num_heatmaps, h, w) and PAFs (B, num_pafs, h, w)."""

    def __init__(
        self, in_channels: int, widths: list[tuple[int, int]], num_heatmaps: int, num_pafs: int, *, residual: bool
    ) -> None:
        super().__init__()
        layers = residual_layers if residual else plain_layers
        last = widths[-1][0]
        self.heatmaps = nn.SequentialCell([*layers(in_channels, widths), convolution(last, num_heatmaps, 1)])
        self.pafs = nn.SequentialCell([*layers(in_channels, widths), convolution(last, num_pafs, 1)])

    def construct(self, x):
        return self.heatmaps(x), self.pafs(x)


class Network(nn.Cell):
    """uint8 RGB images (B, H, W, 3), H and W multiples of 8 -> for each stage float32 heatmaps and PAFs (B, C, H/8, W/8)."""

    def __init__(self, config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> None:
        super().__init__()
        residual = config.residual
        layers = residual_layers if residual else plain_layers
        self.trunk = Trunk(config.trunk_channels, residual=residual)
        self.cpm = nn.SequentialCell(layers(config.trunk_channels[-1], [(channels, 3) for channels in config.cpm_channels]))
        features = config.cpm_channels[-1]
        first = [(config.stage_channels, 3)] * 3 + [(config.stage1_hidden_channels, 1)]
        later = [(config.stage_channels, config.kernel_size)] * 5 + [(config.stage_channels, 1)]
        stages = [Stage(features, first, num_heatmaps, num_pafs, residual=residual)]
        for _ in range(config.num_stages - 1):
            stages.append(Stage(features + num_heatmaps + num_pafs, later, num_heatmaps, num_pafs, residual=residual))
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


def last_fields(outputs: tuple[Fields, ...]) -> tuple[ms.Tensor, ms.Tensor]:
    """Of what all stages give, the newest heatmaps and the newest PAFs: what the network found."""
    heatmaps, pafs = outputs[0]
    for later_heatmaps, later_pafs in outputs[1:]:
        heatmaps = heatmaps if later_heatmaps is None else later_heatmaps
        pafs = pafs if later_pafs is None else later_pafs
    return heatmaps, pafs


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
