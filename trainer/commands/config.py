"""Options of the commands whose modules are heavy to import. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from trainer.networks.config import STRIDE_PX

MAX_SIMULATED_IMAGES, MAX_SIMULATED_RANKS = 100_000_000, 100_000
MIN_SECONDS = 0.01  # long enough for a first batch
MAX_DEVICE_MS = 10_000  # the command stops only between steps


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Convert published weights of another project to a checkpoint of this one.

    Reads PyTorch (.pth, without PyTorch and without executing anything), MindSpore (.ckpt), Caffe (.caffemodel), safetensors and
    .npz files. Prints what the file contains, and its license. The published accuracy is not measured.

    A pose network becomes a checkpoint that every other command takes. A backbone becomes a file for --backbone-path of train,
    which also takes the original file.

    Example: python -m trainer import checkpoint_iter_370000.pth --out lightweight.safetensors
    """

    file: Annotated[Path, tyro.conf.Positional]
    """File with the published weights."""
    out: Path
    """Checkpoint to write."""
    source: Annotated[
        Literal["auto", "model-zoo", "lightweight", "openpose-coco", "openpose-body25", "vgg", "mobilenet"],
        tyro.conf.arg(aliases=["--from"]),
    ] = "auto"
    """Where the weights come from: OpenPose of MindSpore's model zoo (model-zoo), Lightweight OpenPose (lightweight), CMU's COCO
    model or pytorch-openpose (openpose-coco), CMU's BODY_25 model (openpose-body25), or a backbone: VGG19, VGG16 (vgg),
    MobileNet v1 (mobilenet). auto recognizes it by the names of the tensors."""
    overwrite: bool = False
    """Replace --out if it exists."""


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Show how a record set is shared by many ranks: balance, coverage, shards, bytes, and the time to the first batch.

    Writes a record set of small rows to a temporary folder, so that opening it takes as long as opening a real one, and reads it
    with the stream that training uses.

    Example: python -m trainer simulate
    """

    num_images: int = 56_599
    """Rows per variant. The default is the number of images with keypoints in COCO train2017."""
    shards: int = 64
    """Shards per variant."""
    sample_kb: float = 36.1
    """Size of a real sample in kilobytes, as measured by `python -m pipeline bench-build`."""
    batch_size: int = 10
    """Samples per step and rank."""
    ranks: tuple[int, ...] = (1, 8, 64, 512)
    """Numbers of ranks to simulate."""
    device_rate: float = 35.0
    """Samples per second of one device."""

    def __post_init__(self) -> None:
        for name in ("num_images", "shards", "sample_kb", "batch_size", "device_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.num_images > MAX_SIMULATED_IMAGES:
            raise ValueError(f"num_images must be at most {MAX_SIMULATED_IMAGES:,}, got {self.num_images}")
        if not self.ranks or not 1 <= min(self.ranks) <= max(self.ranks) <= MAX_SIMULATED_RANKS:
            raise ValueError(f"ranks must be 1 to {MAX_SIMULATED_RANKS:,} each, got {self.ranks}")


@dataclass(frozen=True, kw_only=True)
class BenchStreamConfig:
    """Measure samples per second: from JPEG records, from raw records, and augmented on the fly by the same code.

    Builds small record sets from your images in a temporary folder.

    Example: python -m trainer bench-stream --annotations person_keypoints_val2017.json --images val2017
    """

    annotations: Path
    """COCO keypoint annotation file."""
    images: Path
    """Folder with its images."""
    skeleton: Path | None = None
    """Skeleton, as for `python -m pipeline build`. Default: COCO."""
    num_images: int = 512
    """Samples per epoch: the first images with a target person, repeated if there are fewer."""
    insize: int = 368
    """Side of the crops in pixels."""
    batch_size: int = 16
    """Samples per batch."""
    num_parallel_workers: int = 2
    """Number of threads of the stream."""
    seconds: float = 10.0
    """Duration of each measurement."""
    device_ms: tuple[float, ...] = ()
    """Also simulate devices that take this number of milliseconds per batch (the step sleeps), and measure how long each step
    waits for data."""

    def __post_init__(self) -> None:
        for name in ("num_images", "insize", "batch_size", "num_parallel_workers"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.seconds < MIN_SECONDS:
            raise ValueError(f"seconds must be at least {MIN_SECONDS}, got {self.seconds}")
        if self.insize % STRIDE_PX:
            raise ValueError(f"insize must be a multiple of {STRIDE_PX}, got {self.insize}")
        if any(not 0 < ms <= MAX_DEVICE_MS for ms in self.device_ms):
            raise ValueError(f"device_ms must be above 0 and at most {MAX_DEVICE_MS:,}, got {self.device_ms}")
