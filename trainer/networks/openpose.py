"""The network of Cao et al., CVPR 2017 (figure 3): a VGG19 backbone and stages that refine heatmaps and PAFs in two branches."""

import mindspore as ms
from mindspore import nn

from trainer.networks.config import NUM_HALVINGS, NetworkConfig
from trainer.networks.context import context_layers
from trainer.networks.layers import Widths, convolution, normalized, plain_layers, residual_layers


class Backbone(nn.Cell):
    """The first ten convolutions and three poolings of VGG19: float32 (B, 3, H, W) -> (B, C, H/8, W/8).

    A residual backbone has three convolutions of stride 2 followed by residual blocks instead, and coarser levels if `context`
    lists their channels.
    """

    POOL_AFTER = (2, 4, 8)

    def __init__(
        self, channels: tuple[int, ...], *, residual: bool = False, context: tuple[int, ...] = (), last_relu: bool = True
    ) -> None:
        super().__init__()
        layers: list[nn.Cell] = []
        if residual:
            for before, after in zip((3, *channels), channels[:NUM_HALVINGS], strict=False):
                layers += [*normalized(before, after, 3, stride=2), nn.ReLU()]
            layers += residual_layers(channels[NUM_HALVINGS - 1], [(count, 3) for count in channels[NUM_HALVINGS:]])
            if context:
                layers += context_layers(channels[-1], context)
        else:
            for number, (before, after) in enumerate(zip((3, *channels), channels, strict=False), start=1):
                layers += plain_layers(before, [(after, 3)])
                if number in self.POOL_AFTER:
                    layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        self.layers = nn.SequentialCell(layers if last_relu else layers[:-1])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.layers(x)


class Stage(nn.Cell):
    """Two branches with the same input: heatmaps (B, num_heatmaps, h, w) and PAFs (B, num_pafs, h, w)."""

    def __init__(self, in_channels: int, widths: Widths, num_heatmaps: int, num_pafs: int, *, residual: bool) -> None:
        super().__init__()
        layers = residual_layers if residual else plain_layers
        last = widths[-1][0]
        self.heatmaps = nn.SequentialCell([*layers(in_channels, widths), convolution(last, num_heatmaps, 1)])
        self.pafs = nn.SequentialCell([*layers(in_channels, widths), convolution(last, num_pafs, 1)])

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        return self.heatmaps(x), self.pafs(x)


def backbone(config: NetworkConfig) -> nn.Cell:
    """Return the backbone: VGG19 or, with `residual`, a residual network."""
    return Backbone(config.backbone_channels, residual=config.residual, context=config.context_channels)


def neck(config: NetworkConfig) -> nn.Cell:
    """Return the CPM layers, which reduce the channels of the backbone."""
    layers = residual_layers if config.residual else plain_layers
    return nn.SequentialCell(layers(config.backbone_channels[-1], [(channels, 3) for channels in config.neck_channels]))


def stages(config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> list[nn.Cell]:
    """Return the stages. Each later stage also sees the heatmaps and PAFs of the stage before it."""
    features, both = config.neck_channels[-1], num_heatmaps + num_pafs
    first = [(config.first_channels, 3)] * 3 + [(config.stage1_hidden_channels, 1)]
    later = [(config.stage_channels, config.kernel_size)] * 5 + [(config.later_hidden_channels, 1)]
    return [
        Stage(
            features + (both if number else 0),
            later if number else first,
            num_heatmaps,
            num_pafs,
            residual=config.residual,
        )
        for number in range(config.num_stages)
    ]
