"""Options of the command `check-device`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import arg

from trainer.config import Preset, TrainConfig
from trainer.device import DeviceConfig
from trainer.networks.config import STRIDE_PX, NetworkConfig, Precision

Check = Literal["versions", "operators", "training", "throughput", "ranks"]
Architecture = Literal["openpose", "openpose-2019", "lightweight", "small"]


@dataclass(frozen=True, kw_only=True)
class CheckDeviceConfig:
    """Check that a device computes what a CPU computes, and how fast: versions, operators, training, throughput, two ranks.

    Each check runs in processes of its own, so that a crash of one does not end the others. Exits with 1 if a check fails. Needs no
    data: it draws people and builds records in a temporary folder.

    Example: python -m trainer check-device --json check.json

    On a CPU: python -m trainer check-device --preset small --networks small --insize 64 --batch-size 2 --device-target CPU
    """

    PRESETS: ClassVar = {
        name: {key: value for key, value in preset.items() if key in NetworkConfig.__dataclass_fields__}
        for name, preset in TrainConfig.PRESETS.items()
    }

    only: tuple[Check, ...] = ("versions", "operators", "training", "throughput", "ranks")
    """Checks to run."""
    preset: Preset = "openpose"
    """Network and schedule of the checks training, throughput and ranks: sets the defaults of the network options."""
    networks: tuple[Architecture, ...] = ("openpose", "openpose-2019", "lightweight", "small")
    """Presets whose fields the check operators compares with a CPU."""
    precision: Precision = "O0"
    """Precision of the device, as for `train`. The CPU always computes in float32; the limits depend on the precision."""
    unfold: bool = True
    """On a CPU: unfold the convolutions of openpose and openpose-2019, as training does."""
    insize: int = 368
    """Side of the images in pixels."""
    batch_size: int = 10
    """Images per step of the check throughput. The other checks use 1 or 2."""
    num_steps: int = 50
    """Steps of the check throughput that are timed, after as many others."""
    max_idle: float = 0.05
    """Throughput: largest share of time in which the device may wait for data or for the host."""
    timeout_seconds: float = 900.0
    """End a process of a check after this long, which counts as a failure."""
    json: Path | None = None
    """Also write the results to this file."""
    device: Annotated[DeviceConfig, arg(name="")] = field(default_factory=DeviceConfig)
    network: Annotated[NetworkConfig, arg(name="")] = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        for name in ("insize", "batch_size", "num_steps", "timeout_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.insize % STRIDE_PX or self.insize < 64:
            raise ValueError(f"insize must be a multiple of {STRIDE_PX} and at least 64, got {self.insize}")
        if not 0 < self.max_idle <= 1:
            raise ValueError(f"max_idle must be above 0 and at most 1, got {self.max_idle}")
        for name in ("only", "networks"):
            if not getattr(self, name):
                raise ValueError(f"{name} needs at least one name")
