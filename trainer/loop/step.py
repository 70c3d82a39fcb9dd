"""One training step in compiled graphs: forward pass, loss, gradients, check, update."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import amp, ops
from mindspore.ops.auto_generate import NPUClearFloatStatusV2

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

    losses: float32 (S, 2); their sum is minimized. gradient_norm: over all weights, before --clip-norm. finite: whether the
    weights were updated. stopping: whether any process was asked to stop. loss_scale: for the next step.
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


def make_step(
    network: Network,
    optimizer: Optimizer,
    scaler: amp.LossScaler,
    world: World | None = None,
    *,
    num_parts: int = 1,
    jit_level: str = "O0",
) -> Step:
    """Return the step: (parts, rates, stop) -> packed result, for `StepResult.read`.

    parts: `num_parts` parts of the batch, each with images, heatmaps, PAFs, mask and `labeled` of equal sizes: uint8 (B, H, W, 3), the
    others as in `stage_losses`. rates: float32 (3,), the `LearningRates`. stop: float32 (), 1 if this process was asked to stop. The
    result is one tensor, float32 (2 S + 4,): the host reads it once, and later than it launches the step.

    If a loss or gradient is not finite, weights, optimizer, averages and batch normalization stay unchanged. (The loss alone does
    not show it: on a CPU, ReLU and max pooling turn NaN into a number.) The graphs have no branch for this, because a branch would
    make the device wait for the host. With several processes, losses and gradients are means over all parts of the batch, and all
    processes agree on `finite` and `stopping`. Compiles at the first call, and again for each new shape.

    One part is one graph. Several parts are a graph that adds gradients, which runs once per part, and a graph for the update; the
    memory is that of one part and of the sums.
    """
    network.set_train()
    gradients_of = _make_gradients(network, optimizer, scaler)
    update = _make_update(network, optimizer, scaler, world or World(), num_parts)
    if num_parts > 1:
        return _make_accumulating_step(gradients_of, update, optimizer, len(network.stages), jit_level)

    @ms.jit(jit_level=jit_level)
    def step(
        images: ms.Tensor,
        heatmaps: ms.Tensor,
        pafs: ms.Tensor,
        mask: ms.Tensor,
        labeled: ms.Tensor,
        rates: ms.Tensor,
        stop: ms.Tensor,
    ) -> ms.Tensor:
        losses, overflow, gradients = gradients_of(images, heatmaps, pafs, mask, labeled)
        return update(losses, overflow, gradients, rates, stop)

    return lambda parts, rates, stop: step(*parts[0], rates, stop)


def _make_accumulating_step(
    gradients_of: Callable[..., Any], update: Callable[..., ms.Tensor], optimizer: Optimizer, num_stages: int, jit_level: str
) -> Step:
    """Return the step of several parts, see `make_step`."""
    sums = optimizer.weights.clone(prefix="sum", init="zeros")
    losses_sum = ms.Parameter(ms.Tensor(np.zeros((num_stages, 2), np.float32)), name="sum.losses")
    overflow_sum = ms.Parameter(ms.Tensor(0.0, ms.float32), name="sum.overflow")
    each = ops.HyperMap()

    @ms.jit(jit_level=jit_level)
    def add(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, labeled: ms.Tensor) -> ms.Tensor:
        losses, overflow, gradients = gradients_of(images, heatmaps, pafs, mask, labeled)
        added = ops.assign_add(overflow_sum, overflow), each(_add, sums, gradients)
        return ops.depend(ops.assign_add(losses_sum, losses), added)

    @ms.jit(jit_level=jit_level)
    def finish(rates: ms.Tensor, stop: ms.Tensor) -> ms.Tensor:
        packed = update(losses_sum, overflow_sum, sums, rates, stop)
        cleared = each(_clear, sums), _clear(losses_sum), _clear(overflow_sum)
        return ops.depend(packed, cleared)

    def step(parts: Sequence[Sequence[ms.Tensor]], rates: ms.Tensor, stop: ms.Tensor) -> ms.Tensor:
        for part in parts:
            add(*part)
        return finish(rates, stop)

    return step


def _make_gradients(network: Network, optimizer: Optimizer, scaler: amp.LossScaler) -> Callable[..., Any]:
    """Return a function for compiled code: (images, heatmaps, pafs, mask, labeled) -> losses, overflow, gradients.

    losses: float32 (S, 2). gradients: one per weight, of the scaled loss. overflow: float32 (), 1 if the device reports an
    overflow in saturation mode, where the values do not show it; 0 on other devices, where they do.
    """
    clears_status, clear_status = saturates(), NPUClearFloatStatusV2()
    positive_weight = optimizer.config.positive_weight

    def scaled_loss(
        images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, labeled: ms.Tensor
    ) -> tuple[ms.Tensor, ms.Tensor]:
        losses = stage_losses(network(images), heatmaps, pafs, mask, labeled, positive_weight)
        return scaler.scale(losses.sum()), losses

    value_and_gradients = ms.value_and_grad(scaled_loss, None, optimizer.weights, has_aux=True)

    def gradients_of(images: ms.Tensor, heatmaps: ms.Tensor, pafs: ms.Tensor, mask: ms.Tensor, labeled: ms.Tensor) -> tuple:
        if clears_status:
            images = ops.depend(images, clear_status(ops.zeros((8,), ms.int32)))
        (_, losses), gradients = value_and_gradients(images, heatmaps, pafs, mask, labeled)
        overflow = ms.Tensor(0.0, ms.float32)
        if clears_status:
            overflow = 1.0 - ops.cast(locally_finite((losses, *gradients)), ms.float32)
        return losses, overflow, gradients

    return gradients_of


def _make_update(
    network: Network, optimizer: Optimizer, scaler: amp.LossScaler, world: World, num_parts: int
) -> Callable[..., ms.Tensor]:
    """Return a function for compiled code: (losses, overflow, gradients, rates, stop) -> packed result.

    losses, overflow and gradients are those of `_make_gradients`, summed over the parts of this process.
    """
    clip_norm, clip_tensor_norm = optimizer.config.clip_norm, optimizer.config.clip_tensor_norm
    dynamic, is_distributed = isinstance(scaler, amp.DynamicLossScaler), world.size > 1
    statistics = ms.ParameterTuple(running_averages(network))
    has_statistics = len(statistics) > 0
    kept = statistics.clone(prefix="kept", init="same") if has_statistics else ()  # as of the last finite step
    reduce, share = make_reduction(world, optimizer.weights), 1.0 / (world.size * num_parts)
    add, each, one = ops.AddN(), ops.HyperMap(), ms.Tensor(1.0, ms.float32)  # compiles faster than a loop over gradients

    def update(
        losses: ms.Tensor, overflow: ms.Tensor, gradients: Sequence[ms.Tensor], rates: ms.Tensor, stop: ms.Tensor
    ) -> ms.Tensor:
        unscale = scaler.unscale(one) * share
        if clip_tensor_norm:  # of the mean over the parts of this process
            gradients = each(ops.partial(_clipped, scaler.scale(one * (clip_tensor_norm * num_parts))), gradients)
        if is_distributed:
            losses, all_finite, stopping, gradients = reduce(losses, overflow, stop, gradients)
            norm = ops.sqrt(add(each(_square_sum, gradients))) * unscale
            finite = ops.logical_and(all_finite > 0, ops.isfinite(losses.sum() + norm))
        else:
            norm, stopping = ops.sqrt(add(each(_square_sum, gradients))) * unscale, stop
            # Sums: not finite if any term is not.
            finite = ops.logical_and(locally_finite((losses, norm)), overflow == 0)
        losses = losses * share
        factor = unscale
        if clip_norm:
            factor = factor * ops.minimum(clip_norm / (norm + 1e-12), 1.0)
        factor = ops.select(finite, factor, ops.zeros_like(factor))
        gradients = each(ops.partial(_scaled, factor), gradients)
        if has_statistics:  # before their own averages follow them
            gradients = ops.depend(gradients, each(ops.partial(_keep, finite), statistics, kept))
        losses = ops.depend(losses, optimizer(gradients, rates, finite))
        scale = one
        if dynamic:
            losses = ops.depend(losses, scaler.adjust(finite))
            scale = ops.minimum(scaler.scale_value, MAX_LOSS_SCALE)
            ops.assign(scaler.scale_value, scale)
        else:
            scale = scaler.scale(one)
        return ops.concat((losses.reshape((-1,)), ops.stack((norm, ops.cast(finite, ms.float32), stopping, scale))))

    return update


def _square_sum(gradient: ms.Tensor) -> ms.Tensor:
    return ops.square(gradient).sum()


def _scaled(factor: ms.Tensor, gradient: ms.Tensor) -> ms.Tensor:
    """Return gradient * factor; 0 if the factor is 0, even where the gradient is not finite."""
    return ops.MulNoNan()(gradient, factor)


def _clipped(limit: ms.Tensor, gradient: ms.Tensor) -> ms.Tensor:
    """Return a gradient with a norm of at most `limit`; not finite if the gradient is not."""
    return gradient * ops.minimum(limit / (ops.sqrt(_square_sum(gradient)) + 1e-12), 1.0)


def _add(total: ms.Parameter, gradient: ms.Tensor) -> ms.Tensor:
    return ops.assign_add(total, gradient)


def _clear(total: ms.Parameter) -> ms.Tensor:
    return ops.assign(total, ops.zeros_like(total))


def _keep(finite: ms.Tensor, statistic: ms.Parameter, kept: ms.Parameter) -> ms.Tensor:
    """Keep a running average if the step is finite, or put back the one of the last finite step."""
    value = ops.select(finite, statistic, kept)
    return ops.depend(ops.assign(statistic, value), ops.assign(kept, value))
