"""A network for inference: what its last stages found, for images of any size."""

import mindspore as ms
import numpy as np
from mindspore import nn

from pipeline.skeleton import Skeleton
from trainer.networks.config import NetworkConfig
from trainer.networks.network import Network, last_fields


def build(config: NetworkConfig, skeleton: Skeleton) -> Network:
    """A network whose fields are those of `skeleton`."""
    return Network(config, skeleton.num_heatmaps, skeleton.num_pafs)


class LastStage(nn.Cell):
    """uint8 RGB (B, H, W, 3) -> the last heatmaps and PAFs. Compiled once, not anew for every size."""

    def __init__(self, network: Network) -> None:
        super().__init__(auto_prefix=False)
        self.network = network.set_train(False)
        self.set_inputs(ms.Tensor(shape=[None, None, None, 3], dtype=ms.uint8))

    @ms.jit
    def construct(self, images):
        return last_fields(self.network(images))

    def fields(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The same for numpy arrays."""
        heatmaps, pafs = self(ms.Tensor(images))
        return heatmaps.asnumpy(), pafs.asnumpy()
