"""Options of the command `build`. Imports nothing heavy."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from pipeline.cli import flatten
from pipeline.datasets.selection import PersonFilter
from pipeline.samples.config import AugmentConfig
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import read_skeleton
from pipeline.tolerance import Tolerance

if TYPE_CHECKING:
    from pipeline.records.codec import RecordFormat

MAX_VARIANTS = 1_000  # of a manifest and of the names of shards
Backend = Literal["loky", "dask"]


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Build a record set from COCO keypoints (2014, 2017, or any file of the same format).

    Example: python -m pipeline build --annotations person_keypoints_train2017.json --images train2017 --out records
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "reference": {},
        # https://github.com/CMU-Perceptual-Computing-Lab/openpose_train: scale 1/3 to 1.5, target_dist 0.6, 45 degrees
        "cmu": {
            "min_scale": 0.333,
            "max_scale": 1.5,
            "person_share": 0.6,
            "rotation_range_degrees": 45.0,
            "color_probability": 0.0,
            "people_free_share": 0.02,
        },
    }

    annotations: Path
    """COCO keypoint annotation file (person_keypoints_*.json)."""
    images: Path
    """Folder with the images."""
    out: Path
    """Folder of the record set; must be absent or empty. To resume a build or add variants, run the same command again."""
    preset: Literal["reference", "cmu"] = "reference"
    """Defaults of the augmentation: reference (the MindSpore model zoo) or cmu (CMU's training: scale relative to the person, 1/3
    to 1.5; rotation within 45 degrees; no color shift; 2% images without people)."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's: the name of a shipped one, such as mpii16 (`convert` lists them), or a YAML or JSON
    file with name, joints, limbs, mirror_pairs, source_joints, sigmas, derived."""
    variants: int = 1
    """Augmented variants of each image; epoch e trains on variant e mod variants. A larger number than a complete record set has
    adds variants to it."""
    shards: int | None = None
    """Shards per variant. Default: one per 256 images, at most 64."""
    jobs: int = -1
    """Number of processes, at most one per core and per shard; -1 = one per core. Does not affect the records."""
    backend: Backend = "loky"
    """Where to build: loky (processes on this machine) or dask (workers of a dask cluster that share the folders)."""
    scheduler: str | None = None
    """Address of the dask scheduler, such as tcp://host:8786. Required with --backend dask."""
    seed: int = 0
    """Random seed of the augmentation."""
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    """Storage of the crops: jpeg (about 40 KB each) or raw pixels (about 400 KB each, no decoding during training)."""
    jpeg_quality: int = 90
    """JPEG quality of the crops, 1 to 100."""
    strict: bool = False
    """Stop at the first unreadable image instead of skipping, counting and listing it."""
    tolerance: Annotated[Tolerance, tyro.conf.arg(name="")] = field(default_factory=Tolerance)
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    people: Annotated[PersonFilter, tyro.conf.arg(name="")] = field(default_factory=PersonFilter)
    augmentation: Annotated[AugmentConfig, tyro.conf.arg(name="")] = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.variants <= MAX_VARIANTS:
            raise ValueError(f"variants must be from 1 to {MAX_VARIANTS:,}, got {self.variants}")
        if self.shards is not None and self.shards < 1:
            raise ValueError(f"shards must be at least 1, got {self.shards}")
        if self.backend == "dask" and self.scheduler is None:
            raise ValueError("--backend dask needs --scheduler")
        if self.backend != "dask" and self.scheduler is not None:
            raise ValueError("--scheduler needs --backend dask")
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        _ = self.format  # read the skeleton file once, before workers start

    @functools.cached_property
    def format(self) -> "RecordFormat":
        """The row format. Raises UserError for a bad skeleton file."""
        from pipeline.records.codec import RecordFormat  # loads OpenCV and pyarrow, which --help does not need

        skeleton = read_skeleton(self.skeleton)
        return RecordFormat(skeleton=skeleton, targets=self.targets, image_codec=self.image_codec, jpeg_quality=self.jpeg_quality)

    def content(self) -> dict[str, Any]:
        """Return the options that determine the samples: all except inputs, output and how the build runs."""
        outside = ("annotations", "images", "out", "skeleton", "jobs", "backend", "scheduler", "strict", "max_unreadable")
        return {name: value for name, value in flatten(self).items() if name not in outside}
