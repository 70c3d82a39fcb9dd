"""Shared inputs of the trainer's tests: a tiny synthetic record set, and a network that compiles in a second."""

import dataclasses
from pathlib import Path

import numpy as np

from pipeline.build.build import run as build
from pipeline.build.config import BuildConfig
from pipeline.cli import as_options, flatten, main
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18
from pipeline.synthetic.config import SynthesizeConfig
from pipeline.synthetic.synthesize import run as synthesize
from trainer.__main__ import COMMANDS
from trainer.networks.config import NetworkConfig
from trainer.run import checkpoint
from trainer.run.checkpoint import CheckpointInfo

TINY = NetworkConfig(
    backbone_channels=(4,) * 10, neck_channels=(4,), num_stages=2, stage_channels=4, stage1_hidden_channels=4, kernel_size=3
)
TINY_OPTIONS = as_options(flatten(TINY))


def make_records(folder: Path, *, num_images: int = 16, variants: int = 2, shards: int = 2) -> Path:
    """Build a record set of synthetic people, 64 px, in folder/records."""
    synthesize(SynthesizeConfig(out=folder / "people", num_images=num_images, width=160, height=120, jobs=1))
    annotations = folder / "people" / "annotations" / "person_keypoints_train2017.json"
    build(
        BuildConfig(
            annotations=annotations, images=folder / "people" / "train2017", out=folder / "records", variants=variants,
            shards=shards, jobs=1, targets=TargetConfig(insize=64),
        )
    )  # fmt: skip
    return folder / "records"


def make_info(**changes) -> CheckpointInfo:
    fields = dict(
        step=7, epoch=1, position=16, seed=3, loss_scale=16384.0, config={"lr": 0.1, "lr_steps": [5]},
        network=dataclasses.asdict(TINY), skeleton=COCO18.to_dict(), targets={"insize": 64, "stride_px": 8},
        normalization=TINY.normalization, records_digest="abc",
    )  # fmt: skip
    return CheckpointInfo(**{**fields, **changes})


def small_tensors(value: float = 1.0) -> checkpoint.Tensors:
    return {"network.a": np.full((2, 3), value, np.float32), "optimizer.b": np.arange(4, dtype=np.float32), "n": np.float32(2)}


def train(records: Path, out: Path, *more: str) -> int:
    """Run the command `train` with a tiny network; return its exit code."""
    words = f"train --preset small --records {records} --out {out} --batch-size 4 --log-interval 2 --device-target CPU".split()
    return main("trainer", "", COMMANDS, [*words, "--lr-schedule", "steps", *TINY_OPTIONS, *more])
