"""Layers that the architectures share. Weights are zero until `trainer.networks.network.initialize`."""

from mindspore import nn

from trainer.networks.cpu_convolution import Convolution

Widths = list[tuple[int, int]]
"""Convolutions one behind the other: (channels, kernel size) of each."""


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    has_bias: bool = True,
) -> Convolution:
    """A convolution padded so that only its stride makes the picture smaller."""
    return Convolution(
        in_channels, out_channels, kernel_size, stride, pad_mode="pad", padding=dilation * (kernel_size // 2),
        dilation=dilation, group=groups, has_bias=has_bias, weight_init="zeros", bias_init="zeros",
    )  # fmt: skip


def plain_layers(in_channels: int, widths: Widths) -> list[nn.Cell]:
    """Convolutions, each with bias and ReLU, as the first paper has them."""
    channels = (in_channels, *(channels for channels, _ in widths))
    return [
        cell
        for before, (after, kernel_size) in zip(channels, widths, strict=False)
        for cell in (convolution(before, after, kernel_size), nn.ReLU())
    ]


def normalized(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    has_bias: bool = False,
    gamma: str = "ones",
) -> list[nn.Cell]:
    """A convolution and the batch normalization (Ioffe and Szegedy, ICML 2015) that takes the place of its bias."""
    layer = convolution(
        in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, has_bias=has_bias
    )
    return [layer, nn.BatchNorm2d(out_channels, gamma_init=gamma)]


class Shortcut(nn.Cell):
    """Two convolutions and a shortcut over them (He et al., CVPR 2016, figure 2): x -> ReLU(x + f(x)).

    The last normalization begins with gamma 0, so that a new network is a shallow one and deepens as it learns (Goyal et
    al., 2017, section 5.1).
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        first, second = normalized(channels, channels, kernel_size), normalized(channels, channels, kernel_size, gamma="zeros")
        self.layers = nn.SequentialCell([*first, nn.ReLU(), *second])
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.relu(x + self.layers(x))


def residual_layers(in_channels: int, widths: Widths) -> list[nn.Cell]:
    """As `plain_layers`, with batch normalization and a shortcut over every two alike that keep the number of channels."""
    cells: list[nn.Cell] = []
    while widths:
        channels, kernel_size = widths[0]
        if in_channels == channels and widths[:1] == widths[1:2]:
            cells.append(Shortcut(channels, kernel_size))
            widths = widths[2:]
        else:
            cells += [*normalized(in_channels, channels, kernel_size), nn.ReLU()]
            widths = widths[1:]
        in_channels = channels
    return cells
