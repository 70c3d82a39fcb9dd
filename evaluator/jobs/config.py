"""Options of the commands `run`, `merge`, `score`, `watch` and `calibrate`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluator.inference.config import InferConfig
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.metrics.config import MetricConfig
from evaluator.options import (
    BatchSize,
    Decoding,
    Device,
    DrawMinScore,
    FileJoints,
    Inference,
    MaxImages,
    Metrics,
    Pictures,
    Tracking,
    Unreadable,
    VideoScores,
    require_batch_size,
    require_video,
)
from evaluator.tracking.config import TrackConfig
from pipeline.tolerance import Tolerance
from trainer.device import DeviceConfig

MAX_SHARDS = 1_000_000

Metric = Literal["AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)"]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Evaluate a checkpoint on annotated images: write COCO results and metrics, and draw the best and worst images.

    All images of the annotation file are scored, including images without people. --metric adds the metrics of other data sets.

    Example: python -m evaluator run --checkpoint runs/first --annotations person_keypoints_val2017.json --images val2017 --out ap

    With --fields instead of --checkpoint, the command decodes and scores stored fields; it needs no network and no images.
    To continue a run that was stopped or killed, repeat the command. Until the run is complete, its results are in
    OUT.unfinished, or in OUT if that folder existed before. To share the work between machines, give each one a --shard, from 1/4 to 4/4, and a separate --out;
    then `merge` combines the outputs.
    """

    out: Path
    """Folder for results.json, metrics.json, evaluation.json, config.yaml and pictures; absent or empty."""
    annotations: Path | None = None
    """COCO keypoint annotation file. Joints are matched by name if its keypoints are not those of the network. With --submission:
    COCO's image_info file, or nothing for all images of --images."""
    joints: FileJoints = ()
    submission: bool = False
    """Write results.json for images without annotations, as COCO's server expects it, and no metrics."""
    checkpoint: Path | None = None
    """Checkpoint file, run folder, whose newest checkpoint is used, or exported network (.onnx), which needs no MindSpore."""
    fields: Path | None = None
    """Stored fields (.npz): arrays image_id, orig_wh, input_wh, and for each image hm_<id> and paf_<id>, at stride 8."""
    skeleton: Path | None = None
    """With --fields: skeleton for keypoints other than COCO's, the one given to `python -m pipeline build --skeleton`."""
    images: Path | None = None
    """Folder of the images; with --fields only needed to draw pictures."""
    max_images: MaxImages = None
    shard: str | None = None
    """i/n: process only the i-th of n shards of the images, 1/n to n/n. `merge` combines the shards and computes the metrics."""
    batch_size: BatchSize = None
    pictures: Pictures = 8
    draw_min_score: DrawMinScore = 0.5
    tolerance: Unreadable = field(default_factory=Tolerance)
    device: Device = field(default_factory=DeviceConfig)
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeOptions)
    metrics: Metrics = field(default_factory=MetricConfig)
    video: VideoScores = False
    tracking: Tracking = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        require_video(self.video, self.tracking)
        if self.video and (self.shard or self.max_images):
            raise ValueError("--video needs all frames; use `merge --video` after --shard, and omit --max-images")
        if self.submission:
            self._require_submission()
        elif self.annotations is None:
            raise ValueError("give --annotations, or --submission for images without annotations")
        if self.shard and self.metrics != MetricConfig():
            raise ValueError("--metric needs all images; use `merge --metric` after --shard")
        if self.checkpoint is None and self.fields is None:
            raise ValueError("give --checkpoint, or --fields to evaluate stored fields")
        if self.checkpoint is not None and self.fields is not None:
            raise ValueError("give either --checkpoint or --fields, not both")
        if self.checkpoint is not None and self.images is None:
            raise ValueError("--checkpoint needs --images, the folder of the annotated images")
        if self.checkpoint is not None and self.skeleton is not None:
            raise ValueError("--skeleton works only with --fields; a checkpoint contains its skeleton")
        if self.fields is not None and (self.inference != InferConfig() or self.batch_size is not None):
            raise ValueError(
                "insize, scales, mirror, raw_weights, precision, size_step_px and batch_size work only with --checkpoint; "
                "stored fields need no network"
            )
        if self.pictures < 0:
            raise ValueError(f"pictures must be 0 or more, got {self.pictures}")
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {self.max_images}")
        require_batch_size(self.batch_size)
        _ = self.part, self.network_joints

    @property
    def network_joints(self) -> dict[str, str]:
        """The network's names by those of the file, from --joints."""
        for entry in self.joints:
            if not all(entry.partition("=")):
                raise ValueError(f"joints must be FILE=NETWORK, such as throat=neck, got {entry!r}")
        return {file: network for file, _, network in (entry.partition("=") for entry in self.joints)}

    def _require_submission(self) -> None:
        if self.checkpoint is None:
            raise ValueError("--submission needs --checkpoint")
        if self.max_images or self.video or self.metrics != MetricConfig():
            raise ValueError("--submission processes all images and has no metrics; omit --max-images, --video and --metric")

    @property
    def part(self) -> tuple[int, int]:
        """(i, n) of --shard; (1, 1) without it."""
        if self.shard is None:
            return 1, 1
        number, slash, count = self.shard.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) <= MAX_SHARDS):
            raise ValueError(f"shard must be i/n with i from 1 to n and n up to {MAX_SHARDS}, such as 1/4, got {self.shard!r}")
        return int(number), int(count)


@dataclass(frozen=True, kw_only=True)
class MergeConfig:
    """Combine the outputs of `run --shard 1/n` to `run --shard n/n` and score them as the output of a single run.

    Example: python -m evaluator merge part1 part2 --annotations person_keypoints_val2017.json --out ap
    """

    parts: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """The --out folders of all shards, in any order."""
    out: Path
    """Folder for results.json, metrics.json, evaluation.json, config.yaml and pictures; absent or empty."""
    annotations: Path | None = None
    """COCO keypoint annotation file, the same as that of the shards. Not needed for a submission of a folder."""
    images: Path | None = None
    """Folder of the images; only needed to draw pictures, and for a submission of a folder."""
    pictures: Pictures = 8
    draw_min_score: DrawMinScore = 0.5
    tolerance: Unreadable = field(default_factory=Tolerance)
    metrics: Metrics = field(default_factory=MetricConfig)
    video: VideoScores = False
    tracking: Tracking = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        require_video(self.video, self.tracking)
        if not self.parts:
            raise ValueError("parts must be at least one folder, got none")
        if self.annotations is None and self.images is None:
            raise ValueError("give --annotations; for a submission of a folder, --images")
        if self.pictures < 0:
            raise ValueError(f"pictures must be 0 or more, got {self.pictures}")


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Evaluate each new checkpoint while a training run is in progress, and keep a leaderboard and the best checkpoint.

    Example: python -m evaluator watch --run runs/coco --annotations person_keypoints_val2017.json --images val2017 --out watched

    To continue after a stop, repeat the command.
    """

    run: Path
    """Run folder (--out of the training run); may be empty."""
    annotations: Path
    """COCO keypoint annotation file."""
    images: Path
    """Folder of the images."""
    out: Path
    """Folder for the leaderboard, the best checkpoint and the output of every evaluation; absent, or from the same command."""
    metric: Metric = "AP"
    """Metric that decides which checkpoint is the best."""
    stop_with_training: bool = False
    """Stop when the training run has ended and all its checkpoints are evaluated."""
    max_evaluations: int | None = None
    """Stop when this many checkpoints are evaluated, including those of earlier runs of this command."""
    idle_minutes: float | None = None
    """Stop after this many minutes without a new checkpoint; 0 evaluates the existing checkpoints and stops."""
    poll_seconds: float = 10.0
    """Seconds between two checks for new checkpoints."""
    joints: FileJoints = ()
    max_images: MaxImages = None
    batch_size: BatchSize = None
    pictures: Pictures = 8
    tolerance: Unreadable = field(default_factory=Tolerance)
    device: Device = field(default_factory=DeviceConfig)
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeOptions)

    def __post_init__(self) -> None:
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise ValueError(f"max_evaluations must be at least 1, got {self.max_evaluations}")
        if self.idle_minutes is not None and not 0 <= self.idle_minutes < float("inf"):
            raise ValueError(f"idle_minutes must be 0 or more, got {self.idle_minutes}")
        if not 0.1 <= self.poll_seconds <= 3600:
            raise ValueError(f"poll_seconds must be from 0.1 to 3600, got {self.poll_seconds}")
        self.evaluation(self.run, self.out)

    def evaluation(self, checkpoint: Path, out: Path) -> RunConfig:
        """Return the options of `run` for one checkpoint."""
        return RunConfig(
            checkpoint=checkpoint,
            out=out,
            annotations=self.annotations,
            images=self.images,
            joints=self.joints,
            max_images=self.max_images,
            batch_size=self.batch_size,
            pictures=self.pictures,
            tolerance=self.tolerance,
            device=self.device,
            inference=self.inference,
            decoding=self.decoding,
        )


@dataclass(frozen=True, kw_only=True)
class CalibrateConfig:
    """Calibrate the scores of a network: make them the probability that a predicted person is right.

    A person is right if its OKS with a person of the ground truth is at least 0.5. The probabilities are fitted to an evaluation of
    the network, and kept in a copy of its file. COCO metrics do not change. Use images that the network was not trained on, and as
    many as you have: some hundred people are enough.

    Example: python -m evaluator calibrate --evaluation ap --annotations person_keypoints_val2017.json --checkpoint runs/first --out calibrated.safetensors
    """

    evaluation: Path
    """Output folder of `run` for this checkpoint."""
    annotations: Path
    """COCO keypoint annotation file of this evaluation."""
    checkpoint: Path
    """Checkpoint file, exported network (.onnx), or run folder, whose checkpoint of this evaluation is used."""
    out: Path
    """File to write, .safetensors or .onnx as --checkpoint, outside of the run folder; must not exist."""
