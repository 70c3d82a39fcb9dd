"""Learning rates as a pure function of the step, and the rules by which weights follow gradients."""

import math
from bisect import bisect_right
from typing import NamedTuple

import mindspore as ms
from mindspore import nn, ops

from trainer.config import OptimConfig
from trainer.networks.network import Network, running_averages

BETA1, BETA2, EPSILON, MOMENTUM = 0.9, 0.999, 1e-8, 0.9


class LearningRates(NamedTuple):
    """Of the backbone, of the neck and of the stages; the log's vgglr, baselr, stagelr."""

    vgg: float
    base: float
    stage: float


def learning_rates(step: int, config: OptimConfig, *, total_steps: int, num_processes: int = 1) -> LearningRates:
    """Learning rates of a step, counted from 0 over the whole run of `total_steps` (which only "cosine" looks at).

    The cosine is that of Loshchilov and Hutter, ICLR 2017, equation 5, without restarts: from lr to 0.
    """
    if config.lr_schedule == "cosine":
        rate = config.lr * (1 + math.cos(math.pi * min(step / total_steps, 1))) / 2
    else:
        rate = config.lr * config.lr_gamma ** bisect_right(config.lr_steps, step)
    if config.scale_lr:
        rate *= num_processes
    if step < config.lr_warmup_steps:
        rate *= (step + 1) / config.lr_warmup_steps
    backbone = 0.0 if step < config.freeze_backbone_steps else rate * config.vgg_lr_factor
    return LearningRates(vgg=backbone, base=rate * config.base_lr_factor, stage=rate)


def _follow(share, average, parameter):
    return ops.assign_add(average, share * (parameter - average))


class Optimizer(nn.Cell):
    """The rule of `OptimConfig.optimizer` over the groups of a network, each with its own learning rate.

    Called inside the compiled step with one gradient for each of `weights` and float32 (3,) learning rates, in the
    order of `LearningRates`. Its own parameters (moments, powers of the betas, the average of the weights) are all that it
    remembers. Adam is algorithm 1 of Kingma and Ba, ICLR 2015, AdamW algorithm 2 of Loshchilov and Hutter, ICLR 2019.
    """

    def __init__(self, network: Network, config: OptimConfig | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.config = config = config or OptimConfig()
        groups = network.parameter_groups()
        weights = [p for name in LearningRates._fields for p in groups[name]]
        self.group_of = [i for i, name in enumerate(LearningRates._fields) for _ in groups[name]]
        self.decays = [config.weight_decay > 0 and p.ndim > 1 for p in weights]  # biases and normalization have one axis
        self.weights = ms.ParameterTuple(weights)
        # Plain values: the compiler takes long over a dataclass.
        self.adapts, self.decoupled = config.optimizer != "momentum", config.optimizer == "adamw"
        self.decay, self.forgets = config.weight_decay, 1 - config.ema_decay
        if self.adapts:
            self.moment1 = self.weights.clone(prefix="adam.moment1", init="zeros")
            self.moment2 = self.weights.clone(prefix="adam.moment2", init="zeros")
            self.beta1_power = ms.Parameter(ms.Tensor(1.0, ms.float32), name="adam.beta1_power")
            self.beta2_power = ms.Parameter(ms.Tensor(1.0, ms.float32), name="adam.beta2_power")
            self.update = ops.Adam()
        else:
            self.velocity = self.weights.clone(prefix="momentum.velocity", init="zeros")
            self.update = ops.ApplyMomentum()
        self.each = ops.HyperMap()  # a loop takes longer to compile
        self.averaged = ms.ParameterTuple([*weights, *running_averages(network)] if config.ema_decay else [])
        self.average = self.averaged.clone(prefix="ema", init="same") if config.ema_decay else ()

    def construct(self, gradients, rates):
        if self.decay:
            gradients = self.decayed(gradients, rates)
        if self.adapts:
            beta1_power = self.beta1_power * BETA1
            beta2_power = self.beta2_power * BETA2
            for i in range(len(self.weights)):
                self.update(
                    self.weights[i], self.moment1[i], self.moment2[i], beta1_power, beta2_power,
                    rates[self.group_of[i]], BETA1, BETA2, EPSILON, gradients[i],
                )  # fmt: skip
            ops.assign(self.beta1_power, beta1_power)
            ops.assign(self.beta2_power, beta2_power)
        else:
            for i in range(len(self.weights)):
                self.update(self.weights[i], self.velocity[i], rates[self.group_of[i]], gradients[i], MOMENTUM)
        done = True
        if self.averaged:
            done = self.each(ops.partial(_follow, self.forgets), self.average, self.averaged)
        return done

    def decayed(self, gradients, rates):
        """Decay the weights (AdamW), or add their penalty to the gradients."""
        kept = []
        for i in range(len(self.weights)):
            if not self.decays[i]:
                kept.append(gradients[i])
            elif self.decoupled:
                ops.assign_sub(self.weights[i], rates[self.group_of[i]] * self.decay * self.weights[i])
                kept.append(gradients[i])
            else:
                kept.append(gradients[i] + self.decay * self.weights[i])
        return kept

    def state(self) -> dict[str, ms.Parameter]:
        """Everything that the rule remembers, by name."""
        if not self.adapts:
            return {p.name: p for p in self.velocity}
        return {p.name: p for p in (*self.moment1, *self.moment2, self.beta1_power, self.beta2_power)}

    def averages(self) -> dict[str, ms.Parameter]:
        """The averages of the weights and of what batch normalization keeps, by their names; none without `ema_decay`."""
        return {parameter.name: average for parameter, average in zip(self.averaged, self.average, strict=True)}

    def begin_averages(self) -> None:
        """Take the weights as they are now for their averages."""
        for parameter, average in zip(self.averaged, self.average, strict=True):
            ops.assign(average, parameter)
