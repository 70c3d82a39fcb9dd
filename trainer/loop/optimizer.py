"""Learning rates as a pure function of the step, and the optimizers Adam, AdamW and momentum."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import mindspore as ms
from mindspore import nn, ops

from trainer.loop.config import OptimConfig
from trainer.networks.network import Network, running_averages

BETA1, BETA2, EPSILON, MOMENTUM = 0.9, 0.999, 1e-8, 0.9


class LearningRates(NamedTuple):
    """Learning rates of backbone, neck and stages; in the log vgglr, baselr, stagelr."""

    backbone: float
    neck: float
    stages: float


def learning_rates(
    step: int, config: OptimConfig, *, total_steps: int, num_processes: int = 1, frozen: Sequence[str] = ()
) -> LearningRates:
    """Return the learning rates of a step, counted from 0; 0 for `frozen` groups. Only the schedule "cosine" uses `total_steps`.

    Cosine: Loshchilov and Hutter, ICLR 2017, equation 5, without restarts, from lr to 0.
    """
    if config.lr_schedule == "cosine":
        rate = config.lr * (1 + math.cos(math.pi * min(step / total_steps, 1))) / 2
    else:
        rate = config.lr * config.lr_gamma ** bisect_right(config.lr_steps, step)
    if config.scale_lr:
        rate *= num_processes
    if step < config.lr_warmup_steps:
        rate *= (step + 1) / config.lr_warmup_steps
    backbone = 0.0 if step < config.freeze_backbone_steps else rate * config.backbone_lr_factor
    rates = LearningRates(backbone=backbone, neck=rate * config.neck_lr_factor, stages=rate)
    return rates._replace(**dict.fromkeys(frozen, 0.0))


def break_points(config: OptimConfig, total_steps: int) -> list[int]:
    """Return the steps below `total_steps` at which the schedule changes, from 0 on; for a cosine also its half and last step."""
    points = {0, config.lr_warmup_steps, config.freeze_backbone_steps}
    points |= set(config.lr_steps) if config.lr_schedule == "steps" else {total_steps // 2, total_steps - 1}
    return sorted(step for step in points if 0 <= step < max(total_steps, 1))


def _if_finite(finite: ms.Tensor, value: float, otherwise: float) -> ms.Tensor:
    """Return `value` if the step is finite, otherwise the value that changes nothing. In compiled code."""
    return ops.select(finite, ms.Tensor(value, ms.float32), ms.Tensor(otherwise, ms.float32))


def _follow(share: ms.Tensor, average: ms.Parameter, parameter: ms.Parameter) -> ms.Tensor:
    return ops.assign_add(average, share * (parameter - average))


class Optimizer(nn.Cell):
    """The optimizer of `OptimConfig`, with one learning rate for each parameter group of a network.

    The compiled step calls it with one gradient for each of `weights`, float32 (3,) learning rates in the order of
    `LearningRates`, and whether the step is finite. If it is not, the gradients must be 0, and nothing changes: the rates become 0,
    the betas 1. All of its state is in parameters: moments, powers of the betas, averages of the weights.
    Adam: Kingma and Ba, ICLR 2015, algorithm 1. AdamW: Loshchilov and Hutter, ICLR 2019, algorithm 2.
    """

    def __init__(self, network: Network, config: OptimConfig | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.config = config = config or OptimConfig()
        groups = network.parameter_groups()
        weights = [p for name in LearningRates._fields for p in groups[name]]
        self.group_of = [i for i, name in enumerate(LearningRates._fields) for _ in groups[name]]
        # Not biases and normalization, which have one axis.
        self.decays = [config.weight_decay > 0 and p.ndim > 1 for p in weights]
        self.weights = ms.ParameterTuple(weights)
        # Plain values: the graph compiler is slow on dataclasses.
        self.adapts, self.decoupled = config.optimizer != "momentum", config.optimizer == "adamw"
        self.decay, self.ema_share = config.weight_decay, 1 - config.ema_decay
        if self.adapts:
            self.moment1 = self.weights.clone(prefix="adam.moment1", init="zeros")
            self.moment2 = self.weights.clone(prefix="adam.moment2", init="zeros")
            self.beta1_power = ms.Parameter(ms.Tensor(1.0, ms.float32), name="adam.beta1_power")
            self.beta2_power = ms.Parameter(ms.Tensor(1.0, ms.float32), name="adam.beta2_power")
            self.update = ops.Adam()
        else:
            self.velocity = self.weights.clone(prefix="momentum.velocity", init="zeros")
            self.update = ops.ApplyMomentum()
        self.each = ops.HyperMap()  # compiles faster than a loop
        self.averaged = ms.ParameterTuple([*weights, *running_averages(network)] if config.ema_decay else [])
        self.average = self.averaged.clone(prefix="ema", init="same") if config.ema_decay else ()

    def construct(self, gradients: Sequence[ms.Tensor], rates: ms.Tensor, finite: ms.Tensor) -> Sequence[ms.Tensor]:
        """Update the weights. What depends on the results is computed after the update."""
        rates = ops.select(finite, rates, ops.zeros_like(rates))
        if self.decay:
            gradients = self.decayed(gradients, rates, finite)
        done = self.adapt(gradients, rates, finite) if self.adapts else self.accelerate(gradients, rates, finite)
        if self.averaged:
            share = _if_finite(finite, self.ema_share, 0.0)
            done = ops.depend(self.each(ops.partial(_follow, share), self.average, self.averaged), done)
        return done

    def adapt(self, gradients: Sequence[ms.Tensor], rates: ms.Tensor, finite: ms.Tensor) -> Sequence[ms.Tensor]:
        """Do one step of Adam."""
        beta1, beta2 = _if_finite(finite, BETA1, 1.0), _if_finite(finite, BETA2, 1.0)
        # Always below 1, for Adam divides by 1 - power.
        beta1_power = self.beta1_power * BETA1
        beta2_power = self.beta2_power * BETA2
        done = ()  # compiled: a list would become an operator of its own, and the graph compiler accepts no annotation here
        for i in range(len(self.weights)):
            update = self.update(
                self.weights[i], self.moment1[i], self.moment2[i], beta1_power, beta2_power,
                rates[self.group_of[i]], beta1, beta2, EPSILON, gradients[i],
            )  # fmt: skip
            done += (update,)  # type: ignore[assignment]  # see above
        power1 = ops.assign(self.beta1_power, ops.select(finite, beta1_power, self.beta1_power))
        power2 = ops.assign(self.beta2_power, ops.select(finite, beta2_power, self.beta2_power))
        return (*done, power1, power2)

    def accelerate(self, gradients: Sequence[ms.Tensor], rates: ms.Tensor, finite: ms.Tensor) -> Sequence[ms.Tensor]:
        """Do one step of momentum."""
        momentum = _if_finite(finite, MOMENTUM, 1.0)
        done = ()  # as in `adapt`
        for i in range(len(self.weights)):
            update = self.update(self.weights[i], self.velocity[i], rates[self.group_of[i]], gradients[i], momentum)
            done += (update,)  # type: ignore[assignment]  # see above
        return done

    def decayed(self, gradients: Sequence[ms.Tensor], rates: ms.Tensor, finite: ms.Tensor) -> Sequence[ms.Tensor]:
        """Decay the weights (AdamW), or add the L2 penalty to the gradients."""
        results = []
        decay = _if_finite(finite, self.decay, 0.0)
        for i in range(len(self.weights)):
            if not self.decays[i]:
                results.append(gradients[i])
            elif self.decoupled:
                ops.assign_sub(self.weights[i], rates[self.group_of[i]] * self.decay * self.weights[i])
                results.append(gradients[i])
            else:
                results.append(gradients[i] + decay * self.weights[i])
        return results

    def state(self) -> dict[str, ms.Parameter]:
        """Return the state of the optimizer, by name, without the averages."""
        if not self.adapts:
            return {p.name: p for p in self.velocity}
        return {p.name: p for p in (*self.moment1, *self.moment2, self.beta1_power, self.beta2_power)}

    def averages(self) -> dict[str, ms.Parameter]:
        """Return the averages of weights and batch statistics by the name of their parameter; empty without `ema_decay`."""
        return {parameter.name: average for parameter, average in zip(self.averaged, self.average, strict=True)}

    def start_averages(self) -> None:
        """Set the averages to the current weights."""
        for parameter, average in zip(self.averaged, self.average, strict=True):
            ops.assign(average, parameter)
