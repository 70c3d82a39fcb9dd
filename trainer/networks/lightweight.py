"""The network of Osokin, "Real-time 2D Multi-Person Pose Estimation on CPU: Lightweight OpenPose", ICPRAM 2019.

Where the paper leaves details open (ELU, biases), this follows the author's code
(github.com/Daniil-Osokin/lightweight-human-pose-estimation.pytorch, models/with_mobilenet.py).
"""

import itertools

import mindspore as ms
from mindspore import nn

from trainer.networks.config import NetworkConfig
from trainer.networks.layers import convolution, normalized, plain_layers

# Backbone layers, counted from 0, that halve the resolution; and the layer (conv5_1) that is dilated instead of strided, so that
# the output keeps stride 8.
HALVING_LAYERS = (0, 2, 4)
DILATED_LAYER = 7
NUM_BLOCKS = 5


def separable(in_channels: int, out_channels: int, *, stride: int = 1, dilation: int = 1) -> list[nn.Cell]:
    """Return a depthwise separable convolution (MobileNet, Howard et al., 2017, figure 3): 3x3 depthwise, then 1x1."""
    return [
        *normalized(in_channels, in_channels, 3, stride=stride, dilation=dilation, groups=in_channels), nn.ReLU(),
        *normalized(in_channels, out_channels, 1), nn.ReLU(),
    ]  # fmt: skip


def separable_elu(channels: int) -> list[nn.Cell]:
    """Return a depthwise separable convolution with ELU (Clevert et al., ICLR 2016) and without normalization."""
    return [
        convolution(channels, channels, 3, groups=channels, has_bias=False), nn.ELU(),
        convolution(channels, channels, 1, has_bias=False), nn.ELU(),
    ]  # fmt: skip


class Backbone(nn.Cell):
    """MobileNet v1 up to conv5_5: float32 (B, 3, H, W) -> (B, C, H/8, W/8)."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Cell] = [*normalized(3, channels[0], 3, stride=2), nn.ReLU()]
        for number, (before, after) in enumerate(itertools.pairwise(channels), start=1):
            stride, dilation = 2 if number in HALVING_LAYERS else 1, 2 if number == DILATED_LAYER else 1
            layers += separable(before, after, stride=stride, dilation=dilation)
        self.layers = nn.SequentialCell(layers)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.layers(x)


class Neck(nn.Cell):
    """The CPM layers conv4_3 and conv4_4, which reduce the channels of the backbone."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.align = nn.SequentialCell(plain_layers(in_channels, [(channels, 1)]))
        self.residual = nn.SequentialCell([cell for _ in range(3) for cell in separable_elu(channels)])
        self.layers = nn.SequentialCell(plain_layers(channels, [(channels, 3)]))

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.align(x)
        return self.layers(x + self.residual(x))


class Block(nn.Cell):
    """Convolutions of 1x1, 3x3 and dilated 3x3 that replace a 7x7 one, with a shortcut over the last two (figure 4)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.first = nn.SequentialCell(plain_layers(in_channels, [(channels, 1)]))
        self.residual = nn.SequentialCell(
            [
                *normalized(channels, channels, 3, has_bias=True), nn.ReLU(),
                *normalized(channels, channels, 3, dilation=2, has_bias=True), nn.ReLU(),
            ]
        )  # fmt: skip

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        x = self.first(x)
        return x + self.residual(x)


class Stage(nn.Cell):
    """Shared layers, then two 1x1 convolutions each for heatmaps (B, num_heatmaps, h, w) and PAFs (B, num_pafs, h, w)."""

    def __init__(self, shared: list[nn.Cell], channels: int, hidden_channels: int, num_heatmaps: int, num_pafs: int) -> None:
        super().__init__()
        self.shared = nn.SequentialCell(shared)
        self.heatmaps, self.pafs = (
            nn.SequentialCell([*plain_layers(channels, [(hidden_channels, 1)]), convolution(hidden_channels, num_fields, 1)])
            for num_fields in (num_heatmaps, num_pafs)
        )

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        x = self.shared(x)
        return self.heatmaps(x), self.pafs(x)


def backbone(config: NetworkConfig) -> nn.Cell:
    """Return the MobileNet backbone."""
    return Backbone(config.backbone_channels)


def neck(config: NetworkConfig) -> nn.Cell:
    """Return the CPM layers."""
    (channels,) = config.neck_channels
    return Neck(config.backbone_channels[-1], channels)


def stages(config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> list[nn.Cell]:
    """Return the first stage, of plain convolutions, and the refinement stages, of blocks."""
    features = config.neck_channels[-1]
    first, later = config.first_channels, config.stage_channels
    shared = plain_layers(features, [(first, 3)] * 3)
    cells = [Stage(shared, first, config.stage1_hidden_channels, num_heatmaps, num_pafs)]
    for _ in range(config.num_stages - 1):
        blocks = [Block(features + num_heatmaps + num_pafs, later), *(Block(later, later) for _ in range(NUM_BLOCKS - 1))]
        cells.append(Stage(blocks, later, config.later_hidden_channels, num_heatmaps, num_pafs))
    return cells
