"""One training step as one compiled graph: fields, loss, gradients, check, update."""

from collections.abc import Callable

import mindspore as ms
from mindspore import amp, ops

from trainer.loss import stage_losses
from trainer.network import Network
from trainer.optim import Adam
from trainer.world import World


def make_step(network: Network, adam: Adam, loss_scale: float, world: World | None = None) -> Callable:
    """The compiled step: (images, heatmaps, pafs, mask, rates, stop) -> losses float32 (S, 2), finite bool, stopping bool.

    The arguments are those of `stage_losses`, images uint8 (B, H, W, 3), rates float32 (3,), the `LearningRates`, and stop
    float32 (), 1 where this process was asked to stop. What is minimised is the sum of the losses. Where a loss or gradient is not
    finite the weights are left as they are. (Asking the loss is not enough: on a CPU ReLU and max pooling turn NaN into a
    number.) Compiles at the first call, and once more for every new shape.

    In a world of several processes each gives its part of the batch; losses and gradients are their means, and if the numbers of one
    are not finite, or one is asked to stop, all hear of it: they go on, or stop, after the same step.
    """
    world = world or World()
    mean, total = world.averaging(), world.summing()
    network.set_train()
    scaler = amp.StaticLossScaler(loss_scale)

    def scaled_loss(images, heatmaps, pafs, mask):
        losses = stage_losses(network(images), heatmaps, pafs, mask)
        return scaler.scale(losses.sum()), losses

    gradients_of = ms.value_and_grad(scaled_loss, None, adam.weights, has_aux=True)

    @ms.jit
    def step(images, heatmaps, pafs, mask, rates, stop):
        (_, losses), gradients = gradients_of(images, heatmaps, pafs, mask)
        losses = mean(losses)
        # The sum of something that is not finite is not finite either: one check after it speaks for all.
        gradients = [mean(gradient) for gradient in scaler.unscale(gradients)]
        finite = amp.all_finite((losses, *gradients))
        stopping = total(stop) > 0
        if finite:
            losses = ops.depend(losses, adam(gradients, rates))
        return losses, finite, stopping

    return step
