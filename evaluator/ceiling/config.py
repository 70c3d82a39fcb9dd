"""Options of the commands `oracle`, `stress` and `bench-decode`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

import tyro

from evaluator.decoding import DecodeConfig
from evaluator.options import AllDecoding, Tracking, VideoScores, require_video
from evaluator.tracking.config import TrackConfig
from pipeline.samples.targets import TargetConfig

Fault = Literal["blur", "weak", "noise", "false", "missing", "reversed"]


@dataclass(frozen=True, kw_only=True)
class OracleConfig:
    """Measure the ceiling of encoding and decoding: quantize, decode and score the targets of the ground truth.

    The targets of each image, resized as `run` resizes it, show all people with labeled joints, except
    crowds.

    Example: python -m evaluator oracle --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO keypoint annotation file."""
    out: Path | None = None
    """Output folder for results.json, metrics.json and config.yaml; must be absent or empty. Default: write no files."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's, the same as for `python -m pipeline build --skeleton`."""
    neck_joint: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Place the neck only if both shoulders are labeled, or also at a single labeled shoulder."""
    video: VideoScores = False
    images: Path | None = None
    """With --video: folder of the images, so that the colors of clothes tell people apart. Without it, only motion and pose do."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    decoding: AllDecoding = field(default_factory=DecodeConfig)
    tracking: Tracking = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        require_video(self.video, self.tracking)
        if self.images and not self.video:
            raise ValueError("images are only read with --video")


@dataclass(frozen=True, kw_only=True)
class StressConfig:
    """Degrade the targets of the ground truth, decode and score them, and print the AP for each fault and strength.

    Example: python -m evaluator stress --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO keypoint annotation file; images are not needed."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's, the same as for `python -m pipeline build --skeleton`."""
    faults: tuple[Fault, ...] = get_args(Fault)
    """Faults to apply, one at a time."""
    half: Literal["all", "one", "other"] = "all"
    """Images to use: all, a random half to tune settings on, or the other half to report results on."""
    neck_joint: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Place the neck only if both shoulders are labeled, or also at a single labeled shoulder."""
    seed: int = 0
    """Seed of the random faults."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    decoding: AllDecoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class BenchDecodeConfig:
    """Time the decoder in one thread, on the targets of the ground truth and on crowds composed of the same people.

    Example: python -m evaluator bench-decode --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO keypoint annotation file; images are not needed."""
    skeleton: Path | None = None
    """Skeleton for keypoints other than COCO's, the same as for `python -m pipeline build --skeleton`."""
    num_images: int = 200
    """Number of images with people to decode. A tenth as many crowds of each size are decoded too."""
    repeats: int = 5
    """Number of times that each image is decoded; the fastest time counts."""
    decoding: AllDecoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        for name in ("num_images", "repeats"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
