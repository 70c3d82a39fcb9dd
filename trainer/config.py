"""What a training run can be told: network, optimizer, run, and the presets. Loads nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from trainer.networks.config import NetworkConfig

MAX_LOSS_SCALE = 2.0**24  # float16 needs no more, and the inverse of a very large one is flushed to zero


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How weights follow gradients: the rule, and one learning rate for backbone, neck and stages each."""

    optimizer: Literal["adam", "adamw", "momentum"] = "adam"
    """Adam (Kingma and Ba, ICLR 2015), AdamW (Loshchilov and Hutter, ICLR 2019), or gradient descent with momentum 0.9."""
    weight_decay: float = 0.0
    """Of weights, not of biases and normalization. adamw: apart from the gradient; else added to it, as an L2 penalty."""
    clip_norm: float = 0.0
    """If above 0, gradients whose norm over all weights is larger are shortened to it."""
    ema_decay: float = 0.0
    """If above 0, an average of the weights is kept, with this share of the old one at each step (0.999, say); evaluation takes it."""
    lr: float = 1e-4
    """Learning rate of the stages."""
    lr_schedule: Literal["steps", "cosine"] = "steps"
    """How learning rates fall: by lr_gamma at each of lr_steps, or along half a cosine to zero at the end of the run."""
    lr_gamma: float = 0.1
    """Factor on every learning rate at each of lr_steps."""
    lr_steps: tuple[int, ...] = (100_000, 200_000, 250_000)
    """Training steps (batches, counted over the whole run) at which lr_gamma applies; increasing."""
    lr_warmup_steps: int = 0
    """Steps over which the learning rates rise linearly from zero."""
    scale_lr: bool = False
    """Multiply the learning rates by the number of processes that train together, as the model zoo does unasked."""
    vgg_lr_factor: float = 0.25
    """Learning rate of the backbone, as a share of lr."""
    base_lr_factor: float = 0.25
    """Learning rate of the neck, as a share of lr."""
    freeze_backbone_steps: int = 2_000
    """Steps at the beginning in which the backbone does not learn (its learning rate is 0)."""
    loss_scale: float = 16_384.0
    """Factor on the loss while gradients are computed, against underflow in half precision."""
    dynamic_loss_scale: bool = False
    """Begin with loss_scale, halve it where numbers are not finite (that step is left out and counted), double it after
    1,000 good steps. Otherwise numbers that are not finite stop the training."""

    def __post_init__(self) -> None:
        for name in ("lr", "lr_gamma", "loss_scale"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be above 0 and finite, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if self.loss_scale > MAX_LOSS_SCALE:
            raise ValueError(f"loss_scale must be at most 2^24 = {MAX_LOSS_SCALE:.0f}, got {self.loss_scale:g}")
        if self.dynamic_loss_scale and self.loss_scale < 1:
            raise ValueError(f"loss_scale must be at least 1 for dynamic_loss_scale, got {self.loss_scale}")
        for name in ("vgg_lr_factor", "base_lr_factor", "lr_warmup_steps", "freeze_backbone_steps", "weight_decay", "clip_norm"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if any(step < 1 for step in self.lr_steps) or list(self.lr_steps) != sorted(set(self.lr_steps)):
            raise ValueError(f"lr_steps must be increasing step numbers from 1 on, got {self.lr_steps}")


@dataclass(frozen=True, kw_only=True)
class JitterConfig:
    """What the device changes in the samples, differently in every epoch, so that few stored variants go far."""

    mirror: bool = False
    """Mirror half of the samples, drawn anew in every epoch."""
    color_jitter: float = 0.0
    """Multiply brightness, contrast and saturation of each sample by factors up to so far from 1 (0.3, say)."""

    def __post_init__(self) -> None:
        if not 0 <= self.color_jitter <= 1:
            raise ValueError(f"color_jitter must be in [0, 1], got {self.color_jitter}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a network on a record set.

    Example: python -m trainer train --records records --out runs/first --vgg-path vgg19.ckpt

    On a CPU: python -m trainer train --records records --out runs/small --preset small

    What it would do, without doing it: python -m trainer train --records records --out runs/first --dry-run
    """

    PRESETS: ClassVar = {
        "openpose": {},
        # Channels: the BODY_25 model that its authors published (trainer/networks/openpose2019.py).
        "openpose-2019": {
            "architecture": "openpose-2019",
            "num_stages": 6,
            "num_paf_stages": 4,
            "stage_channels": 128,
            "stage1_channels": 96,
            "stage1_hidden_channels": 256,
            "hidden_channels": 512,
        },
        # Schedule: its author's train.py, which begins with MobileNet's ImageNet weights; without them raise lr.
        "lightweight": {
            "architecture": "lightweight",
            "backbone_channels": (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512),
            "neck_channels": (128,),
            "num_stages": 2,
            "stage_channels": 128,
            "stage1_hidden_channels": 512,
            "batch_size": 80,
            "lr": 1.6e-4,
            "lr_gamma": 0.333,
            "lr_steps": (80_000, 160_000, 208_000),
            "max_epoch": 280,
            "freeze_backbone_steps": 0,
        },
        "small": {
            "residual": True,
            "backbone_channels": (16, 48, 64, 64, 64, 64, 64),
            "neck_channels": (64, 64),
            "num_stages": 2,
            "stage_channels": 48,
            "stage1_hidden_channels": 96,
            "kernel_size": 3,
            "batch_size": 8,
            "lr": 8e-3,
            "lr_schedule": "cosine",
            "lr_warmup_steps": 50,
            "vgg_lr_factor": 1.0,
            "base_lr_factor": 1.0,
            "freeze_backbone_steps": 0,
            "ckpt_interval": 500,
            "log_interval": 20,
        },
    }

    records: Path
    """Record set: the --out folder of `python -m pipeline build`."""
    out: Path
    """Folder of the run: checkpoints, log.jsonl, config.yaml, schedule.png, curves.png. Absent or empty, unless --resume is given."""
    preset: Literal["openpose", "openpose-2019", "lightweight", "small"] = "openpose"
    """Defaults of the other options: network and schedule of Cao et al. 2017, the network of Cao et al. 2019, network and
    schedule of Osokin 2018 (finds people in real time on a CPU), or a network that a CPU can train. The defaults that this help
    shows are those of openpose; RUN/config.yaml and `info` show what a run takes."""
    max_epoch: Annotated[int, arg(aliases=["--max-epoch-train"])] = 60
    """Epochs; an epoch shows every image once."""
    max_steps: int | None = None
    """Stop after that many steps, if max_epoch does not come first."""
    batch_size: int = 10
    """Samples a step."""
    seed: int = 0
    """Seed of the initial weights and of the order of samples."""
    vgg_path: Path | None = None
    """MindSpore checkpoint of VGG19, trained on ImageNet, for the backbone."""
    pretrained_model_path: Annotated[Path | None, arg(aliases=["--load-pretrain"])] = None
    """Checkpoint of this trainer (or its run folder) whose weights to start from, or their averages if it has them; same network and
    skeleton."""
    resume: bool = False
    """Continue the run in --out from its newest complete checkpoint; start it where there is none."""
    keep_checkpoint_max: int = 5
    """Newest checkpoints to keep."""
    ckpt_interval: int = 5_000
    """Steps between checkpoints; there is always one at the end."""
    log_interval: int = 100
    """Steps between log lines."""
    picture_interval: int = 0
    """Steps between pictures of the first samples of the record set, their targets and what the network finds of them, in
    OUT/pictures. 0: none."""
    tensorboard: bool = False
    """Write the entries of log.jsonl as TensorBoard event files too, in OUT/tensorboard. Needs the extra [tensorboard]."""
    dry_run: bool = False
    """Print the plan (steps, schedule, parameters, memory, disk, time) and stop: nothing is computed and nothing written."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    device_id: int = 0
    """Which of the Ascend devices."""
    precision: Literal["O0", "O2", "O3"] = "O0"
    """In what the network computes; weights, loss and optimizer are float32 always. O0: float32. O2: float16, but batch
    normalization. O3: float16. Both want a loss scale, and gain nothing on a CPU."""
    num_parallel_workers: int = 2
    """Threads that read and decode samples ahead of the device; at most the number of cores."""
    check_hashes: bool = False
    """Before training, compare the SHA-256 of every file of the record set with its manifest (reads all of it). Without it sizes
    are compared, and every row's CRC when it is read."""
    check_memory: bool = True
    """On a CPU: refuse to start where the memory that it should take is not available."""
    network: Annotated[NetworkConfig, arg(name="")] = field(default_factory=NetworkConfig)
    jitter: Annotated[JitterConfig, arg(name="")] = field(default_factory=JitterConfig)
    optim: Annotated[OptimConfig, arg(name="")] = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        positive = ("max_epoch", "batch_size", "keep_checkpoint_max", "ckpt_interval", "log_interval", "num_parallel_workers")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.picture_interval < 0:
            raise ValueError(f"picture_interval must be 0 (no pictures) or more, got {self.picture_interval}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.vgg_path is not None and not self.network.has_vgg_backbone:
            raise ValueError("vgg_path needs the backbone of VGG19; leave it out, or take --preset openpose or openpose-2019")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    @property
    def unfolds(self) -> bool:
        """As `NetworkConfig.unfolds`; only float32 has the operators."""
        return self.network.unfolds and self.precision == "O0"
