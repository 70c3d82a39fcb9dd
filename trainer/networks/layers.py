"""Layers that the architectures share. Weights are zero until `trainer.networks.network.initialize` is called."""

import mindspore as ms
from mindspore import nn

from trainer.networks.cpu_convolution import Convolution

Widths = list[tuple[int, int]]
"""A chain of convolutions: output channels and kernel size of each."""


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
    """Return a convolution with "same" padding: the output size is the input size divided by the stride."""
    return Convolution(
        in_channels, out_channels, kernel_size, stride, pad_mode="pad", padding=dilation * (kernel_size // 2),
        dilation=dilation, group=groups, has_bias=has_bias, weight_init="zeros", bias_init="zeros",
    )  # fmt: skip


def plain_layers(in_channels: int, widths: Widths) -> list[nn.Cell]:
    """Return a chain of convolutions with bias, each followed by ReLU (Cao et al., CVPR 2017)."""
    channels = (in_channels, *(channels for channels, _ in widths))
    return [
        cell
        for before, (after, kernel_size) in zip(channels, widths, strict=False)
        for cell in (convolution(before, after, kernel_size), nn.ReLU())
    ]


def normalized(
    in_channels: int, out_channels: int, kernel_size: int, *, has_bias: bool = False, gamma: str = "ones", **shape: int
) -> list[nn.Cell]:
    """Return a convolution and its batch normalization (Ioffe and Szegedy, ICML 2015), which replaces the bias.

    shape: `stride`, `dilation` and `groups` of `convolution`.
    """
    layer = convolution(in_channels, out_channels, kernel_size, has_bias=has_bias, **shape)
    return [layer, nn.BatchNorm2d(out_channels, gamma_init=gamma)]


class Shortcut(nn.Cell):
    """A residual block of two convolutions (He et al., CVPR 2016, figure 2): x -> ReLU(x + f(x)).

    The gamma of the last normalization starts at 0, so that f is zero at first and a new network behaves like a shallow one
    (Goyal et al., 2017, section 5.1).
    """

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        first, second = normalized(channels, channels, kernel_size), normalized(channels, channels, kernel_size, gamma="zeros")
        self.layers = nn.SequentialCell([*first, nn.ReLU(), *second])
        self.relu = nn.ReLU()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.relu(x + self.layers(x))


def residual_layers(in_channels: int, widths: Widths) -> list[nn.Cell]:
    """Return `plain_layers` with batch normalization, and a `Shortcut` wherever two equal convolutions keep the channels."""
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
