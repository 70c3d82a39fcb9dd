"""Options of the optimizer. Imports nothing heavy."""

from dataclasses import dataclass
from typing import Literal

MAX_LOSS_SCALE = 2.0**24  # float16 needs no more, and the inverse of a much larger scale is flushed to zero


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimizer, learning rates of backbone, neck and stages, and loss scale."""

    optimizer: Literal["adam", "adamw", "momentum"] = "adam"
    """Adam (Kingma and Ba, ICLR 2015), AdamW (Loshchilov and Hutter, ICLR 2019) or SGD with momentum 0.9."""
    weight_decay: float = 0.0
    """Weight decay: decoupled for adamw, an L2 penalty added to the gradient otherwise. Does not apply to biases and
    normalization."""
    clip_norm: float = 0.0
    """Clip the gradients to this global norm. 0: off."""
    clip_tensor_norm: float = 0.0
    """Clip the gradient of each weight to this norm in each process, before the processes average them. 0: off."""
    positive_weight: float = 0.0
    """Weight of joints and limbs in the loss, for example 5: a cell counts 1 + positive_weight times the height of the joint or the length
    of the PAF that it should have. Joints and limbs fill few cells, so that a new network first learns to predict nothing. 0: all
    cells count the same, as in the paper."""
    ema_decay: float = 0.0
    """Keep an exponential moving average of the weights with this decay, for example 0.999, and use it in evaluation. 0: off."""
    lr: float = 1e-4
    """Learning rate of the stages."""
    lr_schedule: Literal["steps", "cosine"] = "steps"
    """Learning-rate schedule: multiply by lr_gamma at each of lr_steps, or cosine decay to zero at the end of the run."""
    lr_gamma: float = 0.1
    """Factor by which the learning rates change at each of lr_steps."""
    lr_steps: tuple[int, ...] = (100_000, 200_000, 250_000)
    """Training steps at which lr_gamma applies, counted from the start of the run; increasing."""
    lr_warmup_steps: int = 0
    """Number of steps of linear warmup from zero."""
    scale_lr: bool = False
    """Multiply the learning rates by the number of processes, as the MindSpore model zoo always does."""
    backbone_lr_factor: float = 0.25
    """Learning rate of the backbone, relative to lr."""
    neck_lr_factor: float = 0.25
    """Learning rate of the neck, relative to lr."""
    freeze_backbone_steps: int = 2_000
    """Number of steps at the start of the run in which the backbone is frozen."""
    loss_scale: float = 16_384.0
    """Factor on the loss while gradients are computed, which prevents underflow in float16."""
    dynamic_loss_scale: bool = False
    """Start with loss_scale, halve it when a gradient is not finite (the step is skipped and counted), and double it after 1,000
    good steps. Without this option, a gradient that is not finite ends the run."""

    def __post_init__(self) -> None:
        for name in ("lr", "lr_gamma", "loss_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.loss_scale > MAX_LOSS_SCALE:
            raise ValueError(f"loss_scale must be at most 2^24 = {MAX_LOSS_SCALE:.0f}, got {self.loss_scale:g}")
        if self.dynamic_loss_scale and self.loss_scale < 1:
            raise ValueError(f"loss_scale must be at least 1 with dynamic_loss_scale, got {self.loss_scale}")
        nonnegative = (
            "backbone_lr_factor",
            "neck_lr_factor",
            "lr_warmup_steps",
            "freeze_backbone_steps",
            "weight_decay",
            "clip_norm",
            "clip_tensor_norm",
            "positive_weight",
        )
        for name in nonnegative:
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more and finite, got {getattr(self, name)}")
        if any(step < 1 for step in self.lr_steps) or list(self.lr_steps) != sorted(set(self.lr_steps)):
            raise ValueError(f"lr_steps must be increasing step numbers, each at least 1, got {self.lr_steps}")
