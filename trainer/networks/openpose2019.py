"""The network of Cao et al., "OpenPose", TPAMI 2019 (sections 3.2 and 3.3): PAF stages followed by heatmap stages.

Channels, PReLU and the order of concatenation follow the published BODY_25 model
(github.com/CMU-Perceptual-Computing-Lab/openpose, models/pose/body_25/pose_deploy.prototxt).
"""

import itertools

import mindspore as ms
from mindspore import nn, ops

from trainer.networks.config import NetworkConfig
from trainer.networks.layers import convolution
from trainer.networks.openpose import Backbone

NUM_BLOCKS = 5
CONVOLUTIONS_OF_A_BLOCK = 3


def activated(in_channels: int, out_channels: int, kernel_size: int) -> nn.SequentialCell:
    """Return a convolution and a PReLU with one slope per channel (He et al., ICCV 2015)."""
    return nn.SequentialCell([convolution(in_channels, out_channels, kernel_size), nn.PReLU(out_channels)])


class Block(nn.Cell):
    """Three 3x3 convolutions that replace a 7x7 one, outputs concatenated: (B, C, h, w) -> (B, 3 * channels, h, w)."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        before = (in_channels, *(channels,) * (CONVOLUTIONS_OF_A_BLOCK - 1))
        self.layers = nn.CellList([activated(count, channels, 3) for count in before])

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        outputs: tuple[ms.Tensor, ...] = ()
        for layer in self.layers:
            x = layer(x)
            outputs += (x,)
        return ops.cat(outputs, axis=1)


def branch(in_channels: int, channels: int, hidden_channels: int, num_fields: int) -> nn.SequentialCell:
    """Return the layers from features and previous fields to new fields: five blocks and two 1x1 convolutions."""
    wide = CONVOLUTIONS_OF_A_BLOCK * channels
    blocks = [Block(in_channels, channels), *(Block(wide, channels) for _ in range(NUM_BLOCKS - 1))]
    return nn.SequentialCell([*blocks, activated(wide, hidden_channels, 1), convolution(hidden_channels, num_fields, 1)])


class PafStage(nn.Cell):
    """A stage that predicts only PAFs (B, num_pafs, h, w)."""

    def __init__(self, pafs: nn.Cell) -> None:
        super().__init__()
        self.pafs = pafs

    def construct(self, x: ms.Tensor) -> tuple[None, ms.Tensor]:
        return None, self.pafs(x)


class HeatmapStage(nn.Cell):
    """A stage that predicts only heatmaps (B, num_heatmaps, h, w)."""

    def __init__(self, heatmaps: nn.Cell) -> None:
        super().__init__()
        self.heatmaps = heatmaps

    def construct(self, x: ms.Tensor) -> tuple[ms.Tensor, None]:
        return self.heatmaps(x), None


def backbone(config: NetworkConfig) -> nn.Cell:
    """Return VGG19 without its last ReLU. A PReLU replaces it in `neck`, so that the backbone matches a VGG19 checkpoint."""
    return Backbone(config.backbone_channels, last_relu=False)


def neck(config: NetworkConfig) -> nn.Cell:
    """Return the CPM layers, preceded by the PReLU of the last backbone layer."""
    channels = (config.backbone_channels[-1], *config.neck_channels)
    layers = [activated(before, after, 3) for before, after in itertools.pairwise(channels)]
    return nn.SequentialCell([nn.PReLU(channels[0]), *layers])


def stages(config: NetworkConfig, num_heatmaps: int, num_pafs: int) -> list[nn.Cell]:
    """Return `num_paf_stages` PAF stages, then the heatmap stages. Heatmap stages see the last PAFs."""
    features = config.neck_channels[-1]

    def make(known: int, num_fields: int, *, first: bool) -> nn.Cell:
        channels, hidden = (
            (config.first_channels, config.stage1_hidden_channels)
            if first
            else (config.stage_channels, config.later_hidden_channels)
        )
        return branch(features + known, channels, hidden, num_fields)

    num_heatmap_stages = config.num_stages - config.num_paf_stages
    return [
        *(PafStage(make(num_pafs if i else 0, num_pafs, first=not i)) for i in range(config.num_paf_stages)),
        *(
            HeatmapStage(make(num_pafs + (num_heatmaps if i else 0), num_heatmaps, first=not i))
            for i in range(num_heatmap_stages)
        ),
    ]
