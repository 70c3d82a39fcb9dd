"""The shape of a network: its options. Loads nothing heavy."""

from dataclasses import dataclass
from typing import Literal

NUM_HALVINGS = 3  # the backbone's poolings, or convolutions of stride 2
STRIDE_PX = 2**NUM_HALVINGS
NUM_VGG_CONVOLUTIONS = 10
NUM_MOBILENET_LAYERS = 12
MIN_UNFOLDED_CHANNELS = 64


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of the network. The defaults are the network of CVPR 2017: with COCO's 18 joints 52.3 M parameters."""

    architecture: Literal["openpose", "openpose-2019", "lightweight"] = "openpose"
    """Network of Cao et al. 2017, of Cao et al. 2019, or of Osokin 2018; the preset of that name gives it its published shape."""
    backbone_channels: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 256, 256, 512, 512)
    """Channels of the backbone's layers: VGG19's first ten (pretrained weights need the default); residual: three or more;
    lightweight: MobileNet's first twelve."""
    neck_channels: tuple[int, ...] = (256, 128)
    """Channels of the layers between backbone and stages (lightweight: one number); the last are the features that every stage
    sees."""
    num_stages: int = 6
    """Stages; the first sees features only, each later one refines the fields of those before."""
    num_paf_stages: int = 0
    """openpose-2019: how many of the stages, the first ones, are for PAFs; the others are for heatmaps."""
    stage_channels: int = 128
    """Channels inside the stages."""
    stage1_channels: int | None = None
    """Channels inside the first stage (openpose-2019: the first for PAFs and the first for heatmaps); None: stage_channels."""
    stage1_hidden_channels: int = 512
    """Channels of the 1x1 convolution in front of the fields, in the same stages as stage1_channels."""
    hidden_channels: int | None = None
    """Channels of the 1x1 convolution in front of the fields of the other stages; None: stage_channels."""
    kernel_size: int = 7
    """openpose: kernel of the five wide convolutions of every later stage; odd."""
    residual: bool = False
    """openpose: learn faster from random weights: batch normalization, convolutions of stride 2 for the backbone's poolings, and
    a shortcut over every two convolutions of the same channels (He et al., CVPR 2016)."""

    def __post_init__(self) -> None:
        self._check_architecture()
        for name in ("stage_channels", "stage1_hidden_channels", "num_stages", "stage1_channels", "hidden_channels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not self.neck_channels:
            raise ValueError("neck_channels must be at least one number, got none")
        if min(*self.backbone_channels, *self.neck_channels) < 1:
            raise ValueError(f"channels must be at least 1, got {self.backbone_channels} and {self.neck_channels}")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, so that the fields keep their size, got {self.kernel_size}")

    def _check_architecture(self) -> None:
        """What only some architectures have, and how many layers their backbones have."""
        count, name = len(self.backbone_channels), self.architecture
        needed = NUM_MOBILENET_LAYERS if name == "lightweight" else NUM_VGG_CONVOLUTIONS
        if self.residual and count < NUM_HALVINGS:
            raise ValueError(f"backbone_channels must be at least {NUM_HALVINGS} numbers for a residual backbone, got {count}")
        if not self.residual and count != needed:
            raise ValueError(
                f"backbone_channels must be {needed} numbers for architecture {name}, got {count}; take --preset {name}"
            )
        if name == "lightweight" and len(self.neck_channels) != 1:
            raise ValueError(f"neck_channels must be one number for architecture lightweight, got {self.neck_channels}")
        if name != "openpose" and (self.residual or self.kernel_size != NetworkConfig.kernel_size):
            option = "residual" if self.residual else "kernel_size"
            raise ValueError(f"{option} is of architecture openpose only; leave it out, or take --preset {name}")
        if name == "openpose-2019" and not 1 <= self.num_paf_stages < self.num_stages:
            raise ValueError(
                f"num_paf_stages must be at least 1 and below num_stages {self.num_stages}, got {self.num_paf_stages}; "
                "take --preset openpose-2019"
            )
        if name != "openpose-2019" and self.num_paf_stages:
            raise ValueError(f"num_paf_stages is of architecture openpose-2019 only, got {self.num_paf_stages}; leave it out")

    @property
    def first_channels(self) -> int:
        """Channels inside the first stage of its kind."""
        return self.stage1_channels or self.stage_channels

    @property
    def later_hidden_channels(self) -> int:
        """Channels in front of the fields of the later stages."""
        return self.hidden_channels or self.stage_channels

    @property
    def unfolds(self) -> bool:
        """Whether a CPU computes it by convolutions of 1x1 alone (see `trainer.networks.layers.Convolution`): where all can be made so.

        Narrow networks gain little and would compile twice as long.
        """
        return self.architecture != "lightweight" and not self.residual and self.stage_channels >= MIN_UNFOLDED_CHANNELS

    @property
    def has_vgg_backbone(self) -> bool:
        """Whether the weights of VGG19 fit the backbone."""
        return self.architecture != "lightweight" and not self.residual
