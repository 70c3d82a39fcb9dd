"""Options of the network. Imports nothing heavy."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

NUM_HALVINGS = 3  # poolings or strided convolutions of the backbone
STRIDE_PX = 2**NUM_HALVINGS
NUM_VGG_CONVOLUTIONS = 10
NUM_MOBILENET_LAYERS = 12
MIN_UNFOLDED_CHANNELS = 64
MAX_CHANNELS, MAX_LAYERS, MAX_LEVELS, MAX_STAGES, MAX_KERNEL_SIZE = 16_384, 100, 6, 100, 99
Precision = Literal["O0", "O2", "O3"]
# Mean and standard deviation of ImageNet's pixels in 0..255 (RGB), as in torchvision and MindCV.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
RUNNING_AVERAGES = (".moving_mean", ".moving_variance")  # of batch normalization, not trained by the optimizer
MIN_PIXEL_STD, MAX_PIXEL_STD = 1e-3, 1e3


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Architecture and size of the network. The defaults are those of Cao et al., CVPR 2017 (52.3 M parameters for COCO)."""

    architecture: Literal["openpose", "openpose-2019", "lightweight"] = "openpose"
    """Network of Cao et al. 2017 (openpose), Cao et al. 2019 (openpose-2019) or Osokin 2018 (lightweight). Use the preset of the
    same name to get the published size."""
    backbone_channels: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512)
    """Output channels of the backbone layers: ten for VGG19 (pretrained weights require the default), three or more with
    --residual, twelve for lightweight."""
    neck_channels: tuple[int, ...] = (256, 128)
    """Output channels of the neck layers between backbone and stages (lightweight: one layer). The last layer outputs the features
    that every stage sees."""
    num_stages: int = 6
    """Number of stages. The first stage sees only the features; each later stage refines the fields of the stage before it."""
    num_paf_stages: int = 0
    """openpose-2019: number of PAF stages. The remaining stages predict heatmaps."""
    stage_channels: int = 128
    """Channels of the stages."""
    stage1_channels: int | None = None
    """Channels of the first stage (openpose-2019: of the first PAF stage and the first heatmap stage). Default: stage_channels."""
    stage1_hidden_channels: int = 512
    """Channels of the next-to-last 1x1 convolution, in the same stages as stage1_channels."""
    hidden_channels: int | None = None
    """Channels of the next-to-last 1x1 convolution in all other stages. Default: stage_channels."""
    kernel_size: int = 7
    """openpose: kernel size of the five wide convolutions in every later stage; odd."""
    residual: bool = False
    """openpose: use a residual network (He et al., CVPR 2016), which trains faster from random weights: batch normalization,
    strided convolutions instead of pooling, and residual blocks."""
    context_channels: tuple[int, ...] = ()
    """With --residual: channels of coarser levels of the backbone, each at half the resolution of the one before, as in U-Net (Ronneberger
    et al., MICCAI 2015). They see whole people at little cost. Default: none."""
    channel_order: Literal["rgb", "bgr"] = "rgb"
    """Order in which the first layer sees the color channels. Images are always RGB, and the network reorders them; weights that
    were trained on images from OpenCV need bgr."""
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN
    """Mean of red, green and blue in 0..255, which the network subtracts. The default is ImageNet's."""
    pixel_std: tuple[float, float, float] = IMAGENET_STD
    """Standard deviation of red, green and blue, by which the network divides. The default is ImageNet's."""

    def __post_init__(self) -> None:
        for name in ("backbone_channels", "neck_channels"):
            if not 1 <= len(getattr(self, name)) <= MAX_LAYERS:
                raise ValueError(f"{name} must be 1 to {MAX_LAYERS} numbers, got {len(getattr(self, name))}")
        self._check_architecture()
        for name in ("stage_channels", "stage1_hidden_channels", "num_stages", "stage1_channels", "hidden_channels"):
            value, limit = getattr(self, name), MAX_STAGES if name == "num_stages" else MAX_CHANNELS
            if value is not None and not 1 <= value <= limit:
                raise ValueError(f"{name} must be 1 to {limit:,}, got {value}")
        if len(self.context_channels) > MAX_LEVELS:
            raise ValueError(f"context_channels must be at most {MAX_LEVELS} numbers, got {len(self.context_channels)}")
        for name in ("backbone_channels", "neck_channels", "context_channels"):
            if not all(1 <= channels <= MAX_CHANNELS for channels in getattr(self, name)):
                raise ValueError(f"{name} must be 1 to {MAX_CHANNELS:,} each, got {getattr(self, name)}")
        if not 1 <= self.kernel_size <= MAX_KERNEL_SIZE or self.kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd, so that the fields keep their size, and at most {MAX_KERNEL_SIZE}, got {self.kernel_size}"
            )
        self._check_pixels()

    def _check_pixels(self) -> None:
        for name, low, high in (("pixel_mean", 0.0, 255.0), ("pixel_std", MIN_PIXEL_STD, MAX_PIXEL_STD)):
            values = getattr(self, name)
            if not all(math.isfinite(value) and low <= value <= high for value in values):
                raise ValueError(f"{name} must be three numbers from {low:g} to {high:g}, got {values}")

    def _check_architecture(self) -> None:
        """Check the number of layers, and the options that only some architectures have."""
        count, name = len(self.backbone_channels), self.architecture
        expected = NUM_MOBILENET_LAYERS if name == "lightweight" else NUM_VGG_CONVOLUTIONS
        if self.residual and count < NUM_HALVINGS:
            raise ValueError(f"backbone_channels must have at least {NUM_HALVINGS} numbers with residual, got {count}")
        if self.context_channels and not self.residual:
            raise ValueError(f"context_channels needs residual, got {self.context_channels} without it; pass --residual")
        if not self.residual and count != expected:
            raise ValueError(
                f"backbone_channels must have {expected} numbers for architecture {name}, got {count}; use --preset {name}"
            )
        if name == "lightweight" and len(self.neck_channels) != 1:
            raise ValueError(f"neck_channels must be one number for architecture lightweight, got {self.neck_channels}")
        if name != "openpose" and (self.residual or self.kernel_size != NetworkConfig.kernel_size):
            option = "residual" if self.residual else "kernel_size"
            raise ValueError(f"{option} applies only to architecture openpose; remove it or use --preset {name}")
        if name == "openpose-2019" and not 1 <= self.num_paf_stages < self.num_stages:
            raise ValueError(
                f"num_paf_stages must be at least 1 and less than num_stages ({self.num_stages}), got {self.num_paf_stages}; "
                "use --preset openpose-2019"
            )
        if name != "openpose-2019" and self.num_paf_stages:
            raise ValueError(f"num_paf_stages applies only to architecture openpose-2019, got {self.num_paf_stages}; remove it")

    @property
    def normalization(self) -> dict[str, Any]:
        """What the network does to pixels, as it is described in checkpoints and exports: mean and std of RGB in 0..255."""
        return {"channel_order": self.channel_order, "mean": self.pixel_mean, "std": self.pixel_std}

    @property
    def first_channels(self) -> int:
        """Channels of the first stage of each kind."""
        return self.stage1_channels or self.stage_channels

    @property
    def later_hidden_channels(self) -> int:
        """Channels of the next-to-last convolution in the later stages."""
        return self.hidden_channels or self.stage_channels

    @property
    def min_weights(self) -> int:
        """A lower bound of the number of weights, known before the network takes memory."""
        backbone_kernel = 1 if self.architecture == "lightweight" else 3
        chain = (3, *self.backbone_channels, *self.neck_channels)
        num_weights = backbone_kernel**2 * sum(before * after for before, after in itertools.pairwise(chain))
        levels = (self.backbone_channels[-1], *self.context_channels)
        num_weights += 9 * sum(before * after + 4 * after**2 for before, after in itertools.pairwise(levels))
        features, first, later = self.neck_channels[-1], self.first_channels, self.stage_channels
        num_weights += first * (features + self.stage1_hidden_channels)
        num_first, num_branches = (1, 2) if self.architecture == "openpose" else (2, 1)
        kernel = self.kernel_size if self.architecture == "openpose" else 1
        stage = kernel**2 * later * (features + 4 * later) + later * self.later_hidden_channels
        return num_weights + max(self.num_stages - num_first, 0) * num_branches * stage

    @property
    def unfolds(self) -> bool:
        """Whether to unfold the network on a CPU (see `trainer.networks.cpu_convolution`).

        True if all convolutions can be unfolded and the network is wide. Narrow networks gain little and compile twice as long.
        """
        return self.architecture != "lightweight" and not self.residual and self.stage_channels >= MIN_UNFOLDED_CHANNELS

    @property
    def has_vgg_backbone(self) -> bool:
        """Whether VGG19 weights fit the backbone."""
        return self.architecture != "lightweight" and not self.residual
