"""One training step as one compiled graph: fields, loss, gradients, check, update."""

from collections.abc import Callable

import mindspore as ms
from mindspore import amp, ops

from trainer.loss import stage_losses
from trainer.network import Network
from trainer.optim import Adam


def make_step(network: Network, adam: Adam, loss_scale: float) -> Callable:
    """The compiled step: (images, heatmaps, pafs, mask, rates) -> losses float32 (S, 2), finite bool.

    The arguments are those of `stage_losses`, images uint8 (B, H, W, 3), and rates float32 (3,), the `LearningRates`.
    What is minimised is the sum of the losses. Where a loss or gradient is not finite the weights are left as they are. (Asking
    the loss is not enough: on a CPU ReLU and max pooling turn NaN into a number.) Compiles at the first call, and once
    more for every new shape.
    """
    network.set_train()
    scaler = amp.StaticLossScaler(loss_scale)

    def scaled_loss(images, heatmaps, pafs, mask):
        losses = stage_losses(network(images), heatmaps, pafs, mask)
        return scaler.scale(losses.sum()), losses

    gradients_of = ms.value_and_grad(scaled_loss, None, adam.weights, has_aux=True)

    @ms.jit
    def step(images, heatmaps, pafs, mask, rates):
        (_, losses), gradients = gradients_of(images, heatmaps, pafs, mask)
        gradients = scaler.unscale(gradients)
        finite = amp.all_finite((losses, *gradients))
        if finite:
            losses = ops.depend(losses, adam(gradients, rates))
        return losses, finite

    return step
