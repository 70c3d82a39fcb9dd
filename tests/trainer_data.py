"""What several tests of the trainer need: a tiny record set made from nothing, and a network that compiles in a second."""

from pathlib import Path

from pipeline.build import run as build
from pipeline.cli import as_options, flatten
from pipeline.config import BuildConfig
from pipeline.synthesize import SynthesizeConfig
from pipeline.synthesize import run as synthesize
from pipeline.targets import TargetConfig
from trainer.config import NetworkConfig

TINY = NetworkConfig(
    trunk_channels=(4,) * 10, cpm_channels=(4,), num_stages=2, stage_channels=4, stage1_hidden_channels=4, kernel_size=3
)
TINY_OPTIONS = as_options(flatten(TINY))


def make_records(folder: Path, *, num_images: int = 16, variants: int = 2, shards: int = 2) -> Path:
    """Records of drawn people, 64 px, in folder/records."""
    synthesize(SynthesizeConfig(out=folder / "people", num_images=num_images, width=160, height=120, jobs=1))
    annotations = folder / "people" / "annotations" / "person_keypoints_train2017.json"
    build(
        BuildConfig(
            annotations=annotations, images=folder / "people" / "train2017", out=folder / "records", variants=variants,
            shards=shards, jobs=1, targets=TargetConfig(insize=64),
        )
    )  # fmt: skip
    return folder / "records"
