"""One training step as one compiled graph: forward pass, loss, gradients, check, update."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import amp, ops

from trainer.distributed.world import World
from trainer.loop.config import MAX_LOSS_SCALE, OptimConfig
from trainer.loop.loss import stage_losses
from trainer.loop.optimizer import Optimizer
from trainer.loop.reduction import locally_finite, make_reduction
from trainer.networks.network import Network, running_averages

LOSS_SCALE_WINDOW = 1_000  # finite steps after which a dynamic loss scale doubles

Step = Callable[..., ms.Tensor]
"""Arguments and results: see `make_step`."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """Result of one step, the same in all processes.

    losses: float32 (S, 2); their sum is minimized. gradient_norm: over all weights, before clipping. finite: whether the weights
    were updated. stopping: whether any process was asked to stop. loss_scale: for the next step.
    """

    losses: np.ndarray
    gradient_norm: float
    finite: bool
    stopping: bool
    loss_scale: float

    @classmethod
    def read(cls, packed: ms.Tensor) -> "StepResult":
        """Wait until the step is done and unpack its tensor."""
        values = packed.asnumpy()
        norm, finite, stopping, loss_scale = values[-4:].tolist()
        return cls(
            losses=values[:-4].reshape(-1, 2),
            gradient_norm=norm,
            finite=finite > 0,
            stopping=stopping > 0,
            loss_scale=loss_scale,
        )


def _square_sum(gradient: ms.Tensor) -> ms.Tensor:
    return ops.square(gradient).sum()


def _scaled(factor: ms.Tensor, gradient: ms.Tensor) -> ms.Tensor:
    """Return gradient * factor; 0 if the factor is 0, even where the gradient is not finite."""
    return ops.MulNoNan()(gradient, factor)


def _copy(one: ms.Tensor, parameter: ms.Parameter) -> ms.Tensor:
    return parameter * one  # another tensor: an update of the parameter does not change it


def _put_back(finite: ms.Tensor, parameter: ms.Parameter, before: ms.Tensor) -> ms.Tensor:
    return ops.assign(parameter, ops.select(finite, parameter, before))


def make_scaler(config: OptimConfig) -> amp.LossScaler:
    """Return the loss scale of a run. A dynamic one has parameters, which checkpoints contain (`scaler_state`)."""
    if config.dynamic_loss_scale:
        return amp.DynamicLossScaler(config.loss_scale, 2, LOSS_SCALE_WINDOW)
    return amp.StaticLossScaler(config.loss_scale)


def scaler_state(scaler: amp.LossScaler) -> dict[str, ms.Parameter]:
    """Return the state of a loss scale, by name; empty for a static one."""
    return {"scale": scaler.scale_value, "good_steps": scaler.counter} if isinstance(scaler, amp.DynamicLossScaler) else {}


def saturates() -> bool:
    """Return whether the device turns infinity into the largest number: Ascend 910A does, 910B if the user asks for it."""
    if ms.get_context("device_target") != "Ascend":
        return False
    return os.environ.get("MS_ASCEND_CHECK_OVERFLOW_MODE") == "SATURATION_MODE" or amp._ascend_910a_target()


def _make_gradients(network: Network, optimizer: Optimizer, scaler: amp.LossScaler) -> Callable[..., Any]:
    """Return a function for the compiled step: (images, heatmaps, pafs, mask) -> (scaled loss, losses), gradients."""

    def scaled_loss(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        losses = stage_losses(network(images), heatmaps, pafs, mask)
        return scaler.scale(losses.sum()), losses

    return ms.value_and_grad(scaled_loss, None, optimizer.weights, has_aux=True)


def make_step(network: Network, optimizer: Optimizer, scaler: amp.LossScaler, world: World | None = None) -> Step:
    """Return the compiled step: (images, heatmaps, pafs, mask, rates, stop) -> packed result, for `StepResult.read`.

    images: uint8 (B, H, W, 3). heatmaps, pafs, mask: as in `stage_losses`. rates: float32 (3,), the `LearningRates`.
    stop: float32 (), 1 if this process was asked to stop. The result is one tensor, float32 (2 S + 4,): the host reads it once,
    and later than it launches the step.

    If a loss or gradient is not finite, weights, optimizer, averages and batch normalization stay unchanged. (The loss alone does
    not show it: on a CPU, ReLU and max pooling turn NaN into a number.) The graph has no branch for this, because a branch would
    make the device wait for the host. With several processes, losses and gradients are means over all parts of the batch, and all
    processes agree on `finite` and `stopping`. Compiles at the first call, and again for each new shape.
    """
    world = world or World()
    network.set_train()
    clip_norm, dynamic = optimizer.config.clip_norm, isinstance(scaler, amp.DynamicLossScaler)

    gradients_of = _make_gradients(network, optimizer, scaler)
    statistics = ms.ParameterTuple(running_averages(network))
    has_statistics, clears_status, is_distributed = len(statistics) > 0, saturates(), world.size > 1
    reduce, share = make_reduction(world, optimizer.weights), 1.0 / world.size
    add, each, one = ops.AddN(), ops.HyperMap(), ms.Tensor(1.0, ms.float32)  # compiles faster than a loop over gradients

    @ms.jit
    def step(
        images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, rates: ms.Tensor, stop: ms.Tensor
    ) -> ms.Tensor:
        before = ()
        if has_statistics:
            before = each(ops.partial(_copy, one), statistics)
            images = ops.depend(images, before)
        if clears_status:
            images = ops.depend(images, ops.NPUClearFloatStatusV2()(ops.zeros((8,), ms.int32)))
        (_, losses), gradients = gradients_of(images, heatmaps, pafs, mask)
        unscale = scaler.unscale(one) * share
        if is_distributed:
            losses, all_finite, stopping, gradients = reduce(losses, stop, gradients)
            norm = ops.sqrt(add(each(_square_sum, gradients))) * unscale
            finite = ops.logical_and(all_finite > 0, ops.isfinite(losses.sum() + norm))
        else:
            norm, stopping = ops.sqrt(add(each(_square_sum, gradients))) * unscale, stop
            finite = locally_finite((losses, norm))  # sums: not finite if any term is not
        factor = unscale
        if clip_norm:
            factor = factor * ops.minimum(clip_norm / (norm + 1e-12), 1.0)
        factor = ops.select(finite, factor, ops.zeros_like(factor))
        gradients = each(ops.partial(_scaled, factor), gradients)
        if has_statistics:  # before their own averages follow them
            gradients = ops.depend(gradients, each(ops.partial(_put_back, finite), statistics, before))
        losses = ops.depend(losses, optimizer(gradients, rates, finite))
        scale = one
        if dynamic:
            losses = ops.depend(losses, scaler.adjust(finite))
            scale = ops.minimum(scaler.scale_value, MAX_LOSS_SCALE)
            ops.assign(scaler.scale_value, scale)
        else:
            scale = scaler.scale(one)
        return ops.concat((losses.reshape((-1,)), ops.stack((norm, ops.cast(finite, ms.float32), stopping, scale))))

    return step
