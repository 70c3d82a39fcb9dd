"""What a build can be told. Loads nothing heavy."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import tyro

from pipeline.build.backends import Backend
from pipeline.cli import flatten
from pipeline.datasets.selection import PersonFilter
from pipeline.records.codec import RecordFormat
from pipeline.samples.augment import AugmentConfig
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import read_skeleton


@dataclass(frozen=True, kw_only=True)
class BuildConfig:
    """Build records from COCO keypoints (2014, 2017, or a file of the same form).

    Example: python -m pipeline build --annotations person_keypoints_train2017.json --images train2017 --out records
    """

    PRESETS: ClassVar = {
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
    """Folder of the images."""
    out: Path
    """Folder of the record set; absent, empty, or left by the same command, which then continues."""
    preset: Literal["reference", "cmu"] = "reference"
    """Defaults of the augmentation: the model zoo's, or those of CMU's training (person in the middle at 1/3 to 1.5 of its usual
    size, rotation within 45 degrees, no color, 2 % people-free images)."""
    skeleton: Path | None = None
    """Keypoints other than COCO's: YAML or JSON with name, joints, limbs, mirror_pairs, source_joints, sigmas, derived."""
    variants: int = 1
    """Augmented variants of every image; epoch e trains on variant e mod variants. More of them than a complete set has are
    added to it."""
    shards: int | None = None
    """Shards per variant. Default: one for every 256 images, at most 64."""
    jobs: int = -1
    """Processes; -1 = one per core. The records do not depend on it."""
    backend: Backend = "loky"
    """Who runs them: processes of this machine, or the workers of a dask cluster that sees the same folders."""
    scheduler: str | None = None
    """Address of the dask scheduler, such as tcp://host:8786."""
    seed: int = 0
    """Seed of the augmentation."""
    image_codec: Literal["jpeg", "raw"] = "jpeg"
    """How the crops are stored: jpeg (about 40 KB) or raw pixels (about 400 KB, no decoding when training)."""
    jpeg_quality: int = 90
    """JPEG quality of the crops, 1 to 100."""
    strict: bool = False
    """Stop at the first unreadable image. Otherwise it is skipped, counted and listed."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    people: Annotated[PersonFilter, tyro.conf.arg(name="")] = field(default_factory=PersonFilter)
    augmentation: Annotated[AugmentConfig, tyro.conf.arg(name="")] = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise ValueError(f"variants must be at least 1, got {self.variants}")
        if self.shards is not None and self.shards < 1:
            raise ValueError(f"shards must be at least 1, got {self.shards}")
        if (self.backend == "dask") != (self.scheduler is not None):
            raise ValueError(f"scheduler goes with --backend dask, got {self.scheduler} with {self.backend}")
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")
        _ = self.format  # read here, so that workers need not

    @functools.cached_property
    def format(self) -> RecordFormat:
        skeleton = read_skeleton(self.skeleton)
        return RecordFormat(skeleton=skeleton, targets=self.targets, image_codec=self.image_codec, jpeg_quality=self.jpeg_quality)

    def content(self) -> dict:
        """The options that decide what is in the set: all but where it comes from, where it goes and who builds it."""
        outside = ("annotations", "images", "out", "skeleton", "jobs", "backend", "scheduler", "strict")
        return {name: value for name, value in flatten(self).items() if name not in outside}
