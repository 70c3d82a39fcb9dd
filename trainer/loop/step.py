"""One training step as one compiled graph: fields, loss, gradients, check, update."""

from collections.abc import Callable

import mindspore as ms
from mindspore import amp, ops

from trainer.config import MAX_LOSS_SCALE, OptimConfig
from trainer.distributed.world import World
from trainer.loop.loss import stage_losses
from trainer.loop.optimizer import Optimizer
from trainer.networks.network import Network

LOSS_SCALE_WINDOW = 1_000  # good steps after which a dynamic loss scale doubles


def _square_sum(gradient):
    return ops.square(gradient).sum()


def _scaled(factor, gradient):
    return gradient * factor


def make_scaler(config: OptimConfig) -> amp.LossScaler:
    """The loss scale of a run; a dynamic one has parameters, which belong into checkpoints (`scaler_state`)."""
    if config.dynamic_loss_scale:
        return amp.DynamicLossScaler(config.loss_scale, 2, LOSS_SCALE_WINDOW)
    return amp.StaticLossScaler(config.loss_scale)


def scaler_state(scaler: amp.LossScaler) -> dict[str, ms.Parameter]:
    """What a loss scale remembers, by name."""
    return {"scale": scaler.scale_value, "good_steps": scaler.counter} if isinstance(scaler, amp.DynamicLossScaler) else {}


def make_step(network: Network, optimizer: Optimizer, scaler: amp.LossScaler, world: World | None = None) -> Callable:
    """The compiled step: (images, heatmaps, pafs, mask, rates, stop) -> losses float32 (S, 2), finite, stopping, gradient norm.

    The arguments are those of `stage_losses`, images uint8 (B, H, W, 3), rates float32 (3,), the `LearningRates`, and stop
    float32 (), 1 where this process was asked to stop. What is minimized is the sum of the losses. Where a loss or gradient is not
    finite the weights are left as they are. (Asking the loss is not enough: on a CPU ReLU and max pooling turn NaN into a
    number.) The gradient norm is over all weights, before it is clipped. Compiles at the first call, and once more for every new
    shape.

    In a world of several processes each gives its part of the batch; losses and gradients are their means, and if the numbers of one
    are not finite, or one is asked to stop, all hear of it: they go on, or stop, after the same step.
    """
    world = world or World()
    mean, total = world.averaging(), world.summing()
    network.set_train()
    clip_norm, dynamic = optimizer.config.clip_norm, isinstance(scaler, amp.DynamicLossScaler)

    def scaled_loss(images, heatmaps, pafs, mask):
        losses = stage_losses(network(images), heatmaps, pafs, mask)
        return scaler.scale(losses.sum()), losses

    gradients_of = ms.value_and_grad(scaled_loss, None, optimizer.weights, has_aux=True)

    add, each, together = ops.AddN(), ops.HyperMap(), world.size > 1  # a loop over gradients takes long to compile

    @ms.jit
    def step(images, heatmaps, pafs, mask, rates, stop):
        (_, losses), gradients = gradients_of(images, heatmaps, pafs, mask)
        losses = mean(losses)
        gradients = scaler.unscale(gradients)
        if together:
            gradients = each(mean, gradients)
        norm = ops.sqrt(add(each(_square_sum, gradients)))
        finite = amp.all_finite((losses, norm))  # a sum of something that is not finite is not finite: these speak for all
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
