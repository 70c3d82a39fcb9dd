"""A small build of a synthetic data set, and helpers for the commands of `pipeline`."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.build.config import BuildConfig
from pipeline.records.codec import Row
from pipeline.records.reader import ShardReader
from pipeline.samples.config import AugmentConfig
from pipeline.samples.targets import TargetConfig

PIPELINE = [sys.executable, "-m", "pipeline"]


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in `folder` by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read_rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of a shard, which must have some, in order. Raises DamagedRow at the first damaged row."""
    with contextlib.closing(ShardReader(folder)) as reader:
        for number in range(len(reader)):
            yield reader.read(number)


def words_of(config: BuildConfig) -> list[str]:
    """Return the command-line arguments of `build` for a configuration from `build_config`."""
    return [
        *("build", "--annotations", str(config.annotations), "--images", str(config.images), "--out", str(config.out)),
        *("--variants", str(config.variants), "--shards", str(config.shards), "--jobs", str(config.jobs), "--insize", "128"),
    ]


def build_config(people: Path, out: Path, **options: Any) -> BuildConfig:
    """Return a small build of `people`: 128-pixel crops, two shards per variant, one process."""
    defaults: dict[str, Any] = dict(
        annotations=people / "annotations" / "person_keypoints_train2017.json",
        images=people / "train2017",
        out=out,
        variants=2,
        shards=2,
        jobs=1,
        targets=TargetConfig(insize=128),
        augmentation=AugmentConfig(),
    )
    return BuildConfig(**{**defaults, **options})


PUPPET = {
    "name": "puppet5",
    "joints": ["middle", "left_string", "right_string", "left_hook", "right_hook"],
    "limbs": [["middle", "left_hook"], ["middle", "right_hook"], ["left_hook", "left_string"], ["right_hook", "right_string"]],
    "mirror_pairs": [["left_string", "right_string"], ["left_hook", "right_hook"]],
    "source_joints": ["right_string", "left_string", "right_hook", "left_hook"],
    "sigmas": [0.06, 0.06, 0.1, 0.1],
    "derived": [["middle", "left_hook", "right_hook"]],
}
