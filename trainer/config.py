"""Options of the command `train`, and its presets. Imports nothing heavy."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from trainer.data.config import JitterConfig
from trainer.device import DeviceConfig
from trainer.loop.config import OptimConfig
from trainer.networks.config import NetworkConfig, Precision
from trainer.presets import PRESETS
from trainer.validation.config import ValidateConfig

Preset = Literal["openpose", "openpose-8p", "openpose-2019", "lightweight", "small", "small-photos"]
MAX_SOURCE_WEIGHT = 1_000
MAX_ACCUMULATE_STEPS = 10_000  # a run stops only between steps


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a network on a record set.

    Example: python -m trainer train --records records --out runs/first --vgg-path vgg19.ckpt

    On a CPU: python -m trainer train --records records --out runs/small --preset small

    Show the plan without training: python -m trainer train --records records --out runs/first --dry-run
    """

    PRESETS: ClassVar = PRESETS

    records: Path
    """Record set: the --out folder of `python -m pipeline build`."""
    out: Path
    """Run folder for checkpoints, log.jsonl, config.yaml, schedule.png and curves.png. Must not exist or must be empty, unless
    you pass --resume."""
    preset: Preset = "openpose"
    """Set of defaults: openpose (network and schedule of Cao et al. 2017), openpose-8p (the same network with the schedule of the
    MindSpore model zoo for 8 devices), openpose-2019 (network of Cao et al. 2019), lightweight (network and schedule of Osokin
    2018, real-time inference on a CPU), small (a network that a CPU can train) or small-photos (one that a CPU can train on
    photographs: it sees the whole person)."""
    max_epoch: Annotated[int, arg(aliases=["--max-epoch-train"])] = 60
    """Number of epochs. One epoch shows every image once."""
    max_steps: int | None = None
    """Stop after this number of steps, or after max_epoch, whichever comes first. Default: no limit."""
    batch_size: int = 10
    """Samples per process that the device computes at once. A step uses accumulate_steps times as many."""
    accumulate_steps: int = 1
    """Add the gradients of this number of batches before each update: batches of batch_size times accumulate_steps with the memory of
    batch_size. Batch normalization still sees batch_size samples."""
    seed: int = 0
    """Random seed of the initial weights, the order of the samples and the augmentation on the device."""
    backbone_path: Path | None = None
    """Weights trained on ImageNet, to initialize the backbone: VGG19 or VGG16 for openpose and openpose-2019, MobileNet v1 for
    lightweight. Takes the files of torchvision, MindCV, the model zoo and pytorch-mobilenet as they are."""
    vgg_path: Path | None = None
    """The model zoo's name of --backbone-path; openpose and openpose-2019 only."""
    pretrained_model_path: Annotated[Path | None, arg(aliases=["--load-pretrain"])] = None
    """Checkpoint of this trainer, or its run folder, to start from (with its moving averages, if it has them). If skeleton, number of
    stages or width differ, every layer takes what fits: fields follow the names of joints and limbs. The plan lists all layers."""
    freeze: tuple[str, ...] = ()
    """Parts that are not trained: backbone, neck, stages, or stages:N for the first N stages. Their batch normalization uses its
    running averages."""
    resume: bool = False
    """Continue the run in --out from its newest intact checkpoint; start from the beginning if it has no checkpoint."""
    keep_checkpoint_max: int = 5
    """Number of checkpoints to keep; older ones are deleted."""
    ckpt_interval: int = 5_000
    """Number of steps between checkpoints. The last step always writes one."""
    log_interval: int = 100
    """Number of steps between log lines."""
    picture_interval: int = 0
    """Number of steps between pictures of the first samples, their targets and the network's prediction, in OUT/pictures.
    0: off."""
    tensorboard: bool = False
    """Also write the log as TensorBoard event files to OUT/tensorboard. Requires the extra [tensorboard]."""
    profile: str | None = None
    """Profile the steps START to END - 1, given as START:END, with mindspore.profiler, and write the traces to OUT/profile.
    Example: 100:110."""
    jit_level: Literal["O0", "O1"] = "O0"
    """Optimization level of MindSpore's graph compiler. O1 fuses operators; MindSpore calls it experimental."""
    dry_run: bool = False
    """Print the plan (steps, schedule, parameters, memory, disk, time) and exit without training or writing anything."""
    precision: Precision = "O0"
    """Precision of the network: O0 float32, O2 float16 except for batch normalization, O3 float16. Weights, loss and optimizer
    always use float32. O2 and O3 need a loss scale and are not faster on a CPU."""
    num_parallel_workers: int = 2
    """Number of threads that read and decode samples ahead of the device; at most the number of cores."""
    source_weights: tuple[str, ...] = ()
    """For records of several sources: how often an epoch shows each image of a source, as NAME=WEIGHT. Default: the weights given to
    `build`. Example: coco=1 lsp=0.5."""
    check_hashes: bool = False
    """Before training, compare the SHA-256 of every file of the record set with the manifest, which reads the whole set. File
    sizes, and the CRC of every row that is read, are always checked."""
    check_memory: bool = True
    """On a CPU: refuse to start if the estimated memory is not available."""
    validate: Annotated[ValidateConfig, arg(name="")] = field(default_factory=ValidateConfig)
    device: Annotated[DeviceConfig, arg(name="")] = field(default_factory=DeviceConfig)
    network: Annotated[NetworkConfig, arg(name="")] = field(default_factory=NetworkConfig)
    jitter: Annotated[JitterConfig, arg(name="")] = field(default_factory=JitterConfig)
    optim: Annotated[OptimConfig, arg(name="")] = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        positive = (
            "max_epoch",
            "batch_size",
            "accumulate_steps",
            "keep_checkpoint_max",
            "ckpt_interval",
            "log_interval",
            "num_parallel_workers",
        )
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("picture_interval", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.max_steps is not None and self.max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, got {self.max_steps}")
        if self.profile is not None and not self.profiled_steps:
            raise ValueError(f"profile must be START:END with 1 <= START < END, for example 100:110, got {self.profile}")
        if self.max_steps is not None and self.profiled_steps and self.profiled_steps.start > self.max_steps:
            raise ValueError(f"profile must start at most at max_steps = {self.max_steps}, got {self.profile}")
        if self.accumulate_steps > MAX_ACCUMULATE_STEPS:
            raise ValueError(f"accumulate_steps must be at most {MAX_ACCUMULATE_STEPS:,}, got {self.accumulate_steps}")
        self._check_frozen()
        _ = self.chosen_weights
        if self.vgg_path is not None and not self.network.has_vgg_backbone:
            raise ValueError("vgg_path needs the backbone of VGG19; remove it, or use --preset openpose or openpose-2019")
        if self.backbone_path is not None and self.vgg_path is not None:
            raise ValueError("backbone_path and vgg_path are the same option; pass one of them")
        if self.pretrained_model_path is not None and (self.backbone_path is not None or self.vgg_path is not None):
            raise ValueError(
                "pretrained_model_path replaces the weights of the backbone, so backbone_path and vgg_path have no effect; pass one of them"
            )
        if self.backbone_path is not None and self.network.residual:
            raise ValueError(
                "backbone_path: no published weights fit a residual backbone; remove it, or use --preset openpose, openpose-2019 "
                "or lightweight"
            )

    def _check_frozen(self) -> None:
        num_stages = self.network.num_stages
        names = {"backbone", "neck", "stages", *(f"stages:{count}" for count in range(1, num_stages))}
        for part in self.freeze:
            if part not in names:
                raise ValueError(f"freeze must be backbone, neck, stages, or stages:1 to stages:{num_stages - 1}, got {part!r}")
        if {"backbone", "neck", "stages"} <= set(self.freeze):
            raise ValueError("freeze leaves nothing to train; remove a part")

    @property
    def chosen_weights(self) -> dict[str, float]:
        """`source_weights` by name of the source. Raises ValueError for anything that is not NAME=WEIGHT."""
        weights = {}
        for word in self.source_weights:
            name, _, value = word.rpartition("=")
            weight = float(value) if re.fullmatch(r"\d{1,6}(\.\d{1,6})?", value) else 0
            if not name or not 0 < weight <= MAX_SOURCE_WEIGHT:
                raise ValueError(
                    f"source_weights must be NAME=WEIGHT with a weight above 0, at most {MAX_SOURCE_WEIGHT:,}, got {word!r}"
                )
            weights[name] = weight
        return weights

    @property
    def frozen_groups(self) -> tuple[str, ...]:
        """Parameter groups of which nothing is trained."""
        return tuple(part for part in self.freeze if ":" not in part)

    @property
    def profiled_steps(self) -> range:
        """Numbers, from 1, of the steps to profile."""
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", self.profile or "")
        first, end = map(int, match.groups()) if match else (1, 1)
        return range(first, end) if first else range(0)

    @property
    def unfolds(self) -> bool:
        """Whether to unfold the network on a CPU: `NetworkConfig.unfolds`, in float32 only."""
        return self.network.unfolds and self.precision == "O0"
