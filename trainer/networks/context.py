"""Coarser levels of a residual backbone: more depth, and a view of the whole person, for little computation.

After U-Net (Ronneberger et al., MICCAI 2015) and the stacked hourglass (Newell et al., ECCV 2016): each level halves the resolution, and
its result is added to the level above.
"""

import mindspore as ms
from mindspore import nn, ops

from trainer.networks.layers import normalized, residual_layers

NUM_BLOCKS = 2  # residual blocks on the way down, at each level


class Upsample(nn.Cell):
    """Sub-pixel upsampling (Shi et al., CVPR 2016): float32 (B, 4 C, h, w) -> (B, C, 2 h, 2 w)."""

    def __init__(self) -> None:
        super().__init__()
        self.rearrange = ops.DepthToSpace(2)

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return self.rearrange(x)


class Context(nn.Cell):
    """x -> ReLU(x + f(x)), where f works at half the resolution and below: float32 (B, C, h, w).

    f is a convolution of stride 2, residual blocks, the next level and another block if there is one, and `Upsample`. Its last
    gamma starts at 0, so that f is zero at first, as in `Shortcut`. levels: channels at 1/2, 1/4, … of the resolution of x.
    """

    def __init__(self, channels: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        inner, deeper = levels[0], levels[1:]
        cells: list[nn.Cell] = [*normalized(channels, inner, 3, stride=2), nn.ReLU()]
        cells += residual_layers(inner, [(inner, 3)] * (2 * NUM_BLOCKS))
        if deeper:
            cells += context_layers(inner, deeper)
        self.down = nn.SequentialCell(cells)
        self.expand = nn.SequentialCell(normalized(inner, 4 * channels, 1, gamma="zeros"))
        self.upsample = Upsample()
        self.relu = nn.ReLU()

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        y = self.upsample(self.expand(self.down(x)))
        # The sides of y are even, so they may exceed those of x by 1.
        return self.relu(x + y[:, :, : x.shape[2], : x.shape[3]])


def context_layers(channels: int, levels: tuple[int, ...]) -> list[nn.Cell]:
    """Return the coarser levels, and a residual block that blends them with the features."""
    return [Context(channels, levels), *residual_layers(channels, [(channels, 3)] * 2)]
