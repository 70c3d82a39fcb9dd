"""A compiled step of a small network, for one process or for two of which the other is simulated."""

from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import ops
from trainer_data import TINY

from trainer.distributed.world import World
from trainer.loop.config import OptimConfig
from trainer.loop.optimizer import Optimizer
from trainer.loop.step import StepResult, make_scaler, make_step
from trainer.networks.config import NetworkConfig
from trainer.networks.network import Network, initialize

RESIDUAL = NetworkConfig(
    backbone_channels=(4,) * 5, neck_channels=(4, 4), num_stages=2, stage_channels=4, stage1_hidden_channels=4, kernel_size=3,
    residual=True,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Twins(World):
    """Two processes, the other of which has the same batch, and the given flags."""

    size: int = 2
    other_is_bad: float = 0.0
    other_stops: float = 0.0

    def summing(self):
        num_flags = 2 * TINY.num_stages + 2
        others = ms.Tensor([self.other_is_bad, self.other_stops], ms.float32)

        def total(tensor):
            if tensor.shape == (num_flags,):
                return tensor + ops.concat((tensor[:-2], others))
            return tensor + tensor

        return total


def batch() -> list[ms.Tensor]:
    """Return two images, heatmaps, PAFs and masks for a network with 3 heatmaps and 4 PAF channels."""
    images = np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3)).astype(np.uint8)
    fields = np.full((2, 3, 2, 3), 200, np.uint8), np.full((2, 4, 2, 3), -90, np.int8)
    return list(map(ms.Tensor, (images, *fields, np.zeros((2, 2, 3), np.uint8), np.ones((2, 7), np.uint8))))


class Run:
    """A network, its optimizer and its step."""

    def __init__(self, config: NetworkConfig, world: World, num_parts: int = 1, **options) -> None:
        optim = OptimConfig(loss_scale=1024.0, dynamic_loss_scale=True, ema_decay=0.5, weight_decay=0.1, **options)
        self.network = Network(config, 3, 4)
        initialize(self.network, np.random.default_rng(0))
        self.optimizer = Optimizer(self.network, optim)
        self.optimizer.start_averages()
        self.step = make_step(self.network, self.optimizer, make_scaler(optim), world, num_parts=num_parts)

    def take(self, stop: float = 0.0, parts: list | None = None) -> StepResult:
        return StepResult.read(self.step(parts or [batch()], ms.Tensor([1e-2] * 3, ms.float32), ms.Tensor(stop, ms.float32)))

    def values(self) -> dict[str, np.ndarray]:
        averages = {f"average of {name}": p for name, p in self.optimizer.averages().items()}
        parameters = self.network.parameters_dict() | self.optimizer.state() | averages
        return {name: p.asnumpy().copy() for name, p in parameters.items()}
