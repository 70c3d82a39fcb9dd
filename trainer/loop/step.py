"""One training step as one compiled graph: forward pass, loss, gradients, check, update."""

from collections.abc import Callable

import mindspore as ms
from mindspore import amp, ops

from trainer.distributed.world import World
from trainer.loop.config import MAX_LOSS_SCALE, OptimConfig
from trainer.loop.loss import stage_losses
from trainer.loop.optimizer import Optimizer
from trainer.networks.network import Network

LOSS_SCALE_WINDOW = 1_000  # finite steps after which a dynamic loss scale doubles

Step = Callable[..., tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]]
"""Arguments and results: see `make_step`."""


def _square_sum(gradient: ms.Tensor) -> ms.Tensor:
    return ops.square(gradient).sum()


def _scaled(factor: ms.Tensor, gradient: ms.Tensor) -> ms.Tensor:
    return gradient * factor


def make_scaler(config: OptimConfig) -> amp.LossScaler:
    """Return the loss scale of a run. A dynamic one has parameters, which checkpoints contain (`scaler_state`)."""
    if config.dynamic_loss_scale:
        return amp.DynamicLossScaler(config.loss_scale, 2, LOSS_SCALE_WINDOW)
    return amp.StaticLossScaler(config.loss_scale)


def scaler_state(scaler: amp.LossScaler) -> dict[str, ms.Parameter]:
    """Return the state of a loss scale, by name; empty for a static one."""
    return {"scale": scaler.scale_value, "good_steps": scaler.counter} if isinstance(scaler, amp.DynamicLossScaler) else {}


def make_step(network: Network, optimizer: Optimizer, scaler: amp.LossScaler, world: World | None = None) -> Step:
    """Return the compiled step: (images, heatmaps, pafs, mask, rates, stop) -> losses, finite, stopping, gradient norm.

    images: uint8 (B, H, W, 3). heatmaps, pafs, mask: as in `stage_losses`. rates: float32 (3,), the `LearningRates`.
    stop: float32 (), 1 if this process was asked to stop. losses: float32 (S, 2); their sum is minimized.
    gradient norm: over all weights, before clipping.

    If a loss or gradient is not finite, the weights stay unchanged. The loss alone does not tell: on a CPU, ReLU and max pooling
    turn NaN into a number. With several processes, each passes its part of the batch; losses and gradients are means over all
    processes, and all agree on `finite` and `stopping`, so that they continue, or stop, after the same step. Compiles at the
    first call, and again for each new shape.
    """
    world = world or World()
    mean, total = world.averaging(), world.summing()
    network.set_train()
    clip_norm, dynamic = optimizer.config.clip_norm, isinstance(scaler, amp.DynamicLossScaler)

    def scaled_loss(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        losses = stage_losses(network(images), heatmaps, pafs, mask)
        return scaler.scale(losses.sum()), losses

    gradients_of = ms.value_and_grad(scaled_loss, None, optimizer.weights, has_aux=True)

    add, each, is_distributed = ops.AddN(), ops.HyperMap(), world.size > 1  # compiles faster than a loop over gradients

    @ms.jit
    def step(
        images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, rates: ms.Tensor, stop: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor, ms.Tensor, ms.Tensor]:
        (_, losses), gradients = gradients_of(images, heatmaps, pafs, mask)
        losses = mean(losses)
        gradients = scaler.unscale(gradients)
        if is_distributed:
            gradients = each(mean, gradients)
        norm = ops.sqrt(add(each(_square_sum, gradients)))
        finite = amp.all_finite((losses, norm))  # sums: not finite if any term is not
        stopping = total(stop) > 0
        if finite:
            if clip_norm:
                gradients = each(ops.partial(_scaled, ops.minimum(clip_norm / (norm + 1e-12), 1.0)), gradients)
            losses = ops.depend(losses, optimizer(gradients, rates))
        if dynamic:
            losses = ops.depend(losses, scaler.adjust(finite))
            ops.assign(scaler.scale_value, ops.minimum(scaler.scale_value, MAX_LOSS_SCALE))
        return losses, finite, stopping, norm

    return step
