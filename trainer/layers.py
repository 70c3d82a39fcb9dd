"""Layers that the architectures share. Weights are zero until `trainer.network.initialise`."""

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops.operations.array_ops import Col2Im, Im2Col

Widths = list[tuple[int, int]]
"""Convolutions one behind the other: (channels, kernel size) of each."""


class Convolution(nn.Conv2d):
    """A convolution that can be computed as one of 1x1: the same function, on CPUs faster and with less memory.

    For k x k, MindSpore makes oneDNN copy the input k * k times, and every layer keeps the scratch that this takes. Unfolded,
    only the columns of the kernel are copies of the input (k of them, moved sideways, as input channels of the 1x1); its rows
    are output channels, which are moved up or down and added.
    """

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        size, margin = self.kernel_size[0], self.padding
        self.size, self.unfolded = size, False
        self.to_columns = Im2Col((1, size), 1, 1, (0, margin))
        self.add_rows = Col2Im([size, 1], [1, 1], [margin, 0], [1, 1])
        self.pointwise = ops.Conv2D(size * self.out_channels, 1)
        self.shape_of = ops.TensorShape()
        self.split, self.join = ops.Split(1, size), ops.Concat(1)

    @property
    def can_unfold(self) -> bool:
        """Whether it is of stride 1, not dilated and over all channels. Nothing is gained for 1x1."""
        return self.size > 1 and self.stride[0] == self.dilation[0] == self.group == 1

    def construct(self, x):
        y = self.by_pointwise(x) if self.unfolded else self.conv2d(x, self.weight)
        return self.bias_add(y, self.bias) if self.has_bias else y

    def by_pointwise(self, x):
        """float32 (B, in, H, W) -> (B, out, H, W)."""
        batch, channels, height, width = x.shape
        columns = self.to_columns(x).reshape((batch, channels * self.size, height, width))
        y = self.pointwise(columns, self.pointwise_weight())
        y = y.reshape((batch, self.out_channels, self.size, height * width))
        return self.add_rows(y, ops.cast(self.shape_of(x)[2:], ms.int32))

    def pointwise_weight(self):
        """(out, in, rows, columns) -> (out * rows, in * columns, 1, 1); rows backwards, as `add_rows` adds them."""
        weight = ops.transpose(self.weight, (0, 2, 1, 3)).reshape((self.out_channels, self.size, -1))
        backwards = ()
        for row in self.split(weight):  # several times as fast as ops.flip
            backwards = (row, *backwards)
        return self.join(backwards).reshape((self.out_channels * self.size, -1, 1, 1))


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


def normalised(
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
    """A convolution and the batch normalisation (Ioffe and Szegedy, ICML 2015) that takes the place of its bias."""
    layer = convolution(
        in_channels, out_channels, kernel_size, stride=stride, dilation=dilation, groups=groups, has_bias=has_bias
    )
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


def residual_layers(in_channels: int, widths: Widths) -> list[nn.Cell]:
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
