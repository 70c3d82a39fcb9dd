"""Inference: the output of the last stages for images of any size."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from pipeline.skeleton import Skeleton
from trainer.networks.config import NetworkConfig
from trainer.networks.network import Network, last_fields


def build(config: NetworkConfig, skeleton: Skeleton) -> Network:
    """Build a network that predicts the heatmaps and PAFs of `skeleton`."""
    return Network(config, skeleton.num_heatmaps, skeleton.num_pafs)


class LastStage(nn.Cell):
    """The final heatmaps and PAFs, float32, of uint8 RGB images (B, H, W, 3). Compiled once for all image sizes."""

    def __init__(self, network: Network) -> None:
        super().__init__(auto_prefix=False)
        self.network = network.set_train(False)
        self.set_inputs(ms.Tensor(shape=[None, None, None, 3], dtype=ms.uint8))

    @ms.jit
    def construct(self, images: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        heatmaps, pafs = last_fields(self.network(images))
        return ops.cast(heatmaps, ms.float32), ops.cast(pafs, ms.float32)

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return heatmaps (B, J + 1, H/8, W/8) and PAFs (B, 2 L, H/8, W/8) as float32 arrays."""
        heatmaps, pafs = self(ms.Tensor(images))
        return heatmaps.asnumpy(), pafs.asnumpy()
