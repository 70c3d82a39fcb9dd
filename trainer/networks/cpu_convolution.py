"""A convolution that a CPU can compute faster and with less memory. `unfold` switches it on for a whole network.

For a k x k kernel, MindSpore makes oneDNN copy the input k * k times, and every layer keeps this scratch memory between steps.
An unfolded convolution is a 1x1 convolution instead, with the same weights, results and gradients:

- The k columns of the kernel become input channels: the input is copied k times, each copy shifted horizontally.
- The k rows of the kernel become output channels, which are shifted vertically and added.

Until it is unfolded, the layer is an ordinary `nn.Conv2d`. `NetworkConfig.unfolds` decides whether unfolding
pays off for a network.
"""

from typing import Any

import mindspore as ms
from mindspore import nn, ops
from mindspore.ops.operations.array_ops import Col2Im, Im2Col

# Fitted to the peak memory that `python -m trainer bench-step` reports for the presets, see tests/trainer/test_memory.py.
_FLOAT_BYTES = 4
_COPIES_OF_OUTPUT = 2.1  # before and after the ReLU
_COPIES_OF_NORMALIZED_OUTPUT = 2.5  # also between convolution and batch normalization
_COPIES_OF_UNFOLDED_OUTPUT = 1.4
_UNFOLDED_COMPILER_BYTES = 12e6  # the extra operators, while the graph is compiled


class Convolution(nn.Conv2d):
    """A square convolution with padding that can be unfolded: float32 (B, in, H, W) -> (B, out, H', W')."""

    def __init__(self, *args: Any, **options: Any) -> None:
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
        """Whether the layer has stride 1, no dilation and one group. A 1x1 convolution has nothing to unfold."""
        return self.size > 1 and self.stride[0] == self.dilation[0] == self.group == 1

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        y = self.by_pointwise(x) if self.unfolded else self.conv2d(x, self.weight)
        return self.bias_add(y, self.bias) if self.has_bias else y

    def by_pointwise(self, x: ms.Tensor) -> ms.Tensor:
        """The unfolded convolution without bias: float32 (B, in, H, W) -> (B, out, H, W)."""
        batch, channels, height, width = x.shape
        columns = self.to_columns(x).reshape((batch, channels * self.size, height, width))
        y = self.pointwise(columns, self.pointwise_weight())
        y = y.reshape((batch, self.out_channels, self.size, height * width))
        return self.add_rows(y, ops.cast(self.shape_of(x)[2:], ms.int32))

    def pointwise_weight(self) -> ms.Tensor:
        """The weight as (out * rows, in * columns, 1, 1), rows in reverse because `add_rows` adds them in that order."""
        weight = ops.transpose(self.weight, (0, 2, 1, 3)).reshape((self.out_channels, self.size, -1))
        backwards: tuple[ms.Tensor, ...] = ()
        for row in self.split(weight):  # several times faster than ops.flip
            backwards = (row, *backwards)
        return self.join(backwards).reshape((self.out_channels * self.size, -1, 1, 1))

    def training_bytes(self, *, batch_size: int, num_cells: int, num_threads: int) -> float:
        """Estimate of the memory that a CPU needs for the layer in training, without its weights. num_cells: H' * W'."""
        if self.unfolded:
            columns, rows = (self.size * channels * num_cells for channels in (self.in_channels, self.out_channels))
            outputs = _COPIES_OF_UNFOLDED_OUTPUT * self.out_channels * num_cells
            return _UNFOLDED_COMPILER_BYTES + _FLOAT_BYTES * (rows + batch_size * (columns + outputs))
        copies = _COPIES_OF_OUTPUT if self.has_bias else _COPIES_OF_NORMALIZED_OUTPUT
        floats = copies * batch_size * self.out_channels * num_cells
        if self.size > 1:  # oneDNN's copies of the input, one set for each thread that works on an image
            floats += (1 + min(batch_size, num_threads)) * self.in_channels // self.group * self.size**2 * num_cells
        return _FLOAT_BYTES * floats


def unfold(network: nn.Cell) -> None:
    """Unfold every convolution of a network that allows it. Call it before the network is compiled."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, Convolution):
            cell.unfolded = cell.can_unfold
