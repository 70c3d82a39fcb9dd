"""Options of the evaluator's commands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluator.decoding.decode import DecodeConfig
from evaluator.inference.infer import InferConfig
from pipeline.samples.targets import TargetConfig

Decoding = Annotated[DecodeConfig, tyro.conf.arg(name="")]
Inference = Annotated[InferConfig, tyro.conf.arg(name="")]

NUM_TOGETHER = 8  # images a batch, by default, on a device that is not a CPU


@dataclass(frozen=True, kw_only=True)
class OracleConfig:
    """The ceiling of encoding and decoding: targets of the true keypoints, quantized, decoded and scored as if predicted.

    Needs no images. Everybody with a labeled joint, crowds apart, is drawn into the targets of the image, resized as `run` does.

    Example: python -m evaluator oracle --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO keypoint annotation file."""
    out: Path | None = None
    """Folder for results.json, metrics.json and config.yaml; absent or empty."""
    skeleton: Path | None = None
    """Keypoints other than COCO's: the file that `python -m pipeline build --skeleton` took."""
    neck_joint: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Where the neck is if one shoulder is unlabeled: nowhere, or at the labeled one."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Evaluate a checkpoint on annotated images: COCO results, the ten COCO figures, pictures of the best and worst images.

    All images of the annotation file count, those without people too.

    Example: python -m evaluator run --checkpoint runs/first --annotations person_keypoints_val2017.json --images val2017 --out ap

    With --fields instead of --checkpoint, stored fields are decoded and scored; no network and no images are needed.
    A run that was stopped or killed continues with the same command; what it has found lies in OUT.unfinished until then.
    Several machines share the work by --shard 1/4 to --shard 4/4 with an --out each; `merge` makes one result of theirs.
    """

    annotations: Path
    """COCO keypoint annotation file."""
    out: Path
    """Folder for results.json, metrics.json, evaluation.json, config.yaml and pictures; absent or empty."""
    checkpoint: Path | None = None
    """Checkpoint file, or a run folder, whose newest checkpoint is taken."""
    fields: Path | None = None
    """Stored fields (.npz): arrays image_id, orig_wh, input_wh, and for each image hm_<id> and paf_<id>, at stride 8."""
    skeleton: Path | None = None
    """With --fields: keypoints other than COCO's, the file that `python -m pipeline build --skeleton` took."""
    images: Path | None = None
    """Folder of the images; with --fields it is needed for the pictures only."""
    max_images: int | None = None
    """Look at, and score, only so many of the images, chosen at random, always the same ones. The figures say so."""
    shard: str | None = None
    """i/n: look at the i-th of n parts of the images, 1/n to n/n. A part is not scored; `merge` scores all of them together."""
    batch_size: int | None = None
    """Images of equal padded size that the network gets at once. Default: 1 on a CPU, where more are not faster, 8 elsewhere."""
    pictures: int = 8
    """Pictures of so many of the best and so many of the worst images; 0: none."""
    draw_min_score: float = 1.0
    """Pictures show predicted people with at least this score; results.json holds everybody."""
    allow_unreadable: bool = False
    """Exit with 0 although images could not be read. They are listed, and count as images in which nothing was found."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.fields is None):
            raise ValueError("give either --checkpoint or --fields, and not both")
        if self.checkpoint is not None and self.images is None:
            raise ValueError("--checkpoint needs --images, the folder of the annotated images")
        if self.checkpoint is not None and self.skeleton is not None:
            raise ValueError("skeleton belongs to --fields; a checkpoint knows its own")
        if self.fields is not None and (self.inference != InferConfig() or self.batch_size is not None):
            raise ValueError(
                "insize, scales, mirror, size_step_px and batch_size belong to --checkpoint; stored fields have their size already"
            )
        if self.pictures < 0:
            raise ValueError(f"pictures must be 0 or more, got {self.pictures}")
        if self.max_images is not None and self.max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {self.max_images}")
        require_batch_size(self.batch_size)
        _ = self.part

    @property
    def part(self) -> tuple[int, int]:
        """(i, n) of --shard; (1, 1) without it."""
        if self.shard is None:
            return 1, 1
        number, slash, count = self.shard.partition("/")
        if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise ValueError(f"shard must be i/n with i from 1 to n, such as 1/4, got {self.shard!r}")
        return int(number), int(count)


def require_batch_size(batch_size: int | None) -> None:
    if batch_size is not None and not 1 <= batch_size <= 1024:
        raise ValueError(f"batch_size must be from 1 to 1024, got {batch_size}")


def choose_batch_size(batch_size: int | None, device: str) -> int:
    """What was asked for, or what suits the device."""
    return batch_size or (1 if device == "CPU" else NUM_TOGETHER)


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Evaluate each new checkpoint of a training, while it runs, and keep a leaderboard and the best checkpoint.

    Example: python -m evaluator watch --run runs/coco --annotations person_keypoints_val2017.json --images val2017 --out watched

    A watch that was stopped continues with the same command.
    """

    run: Path
    """Folder of the training (its --out); it need not be there yet."""
    annotations: Path
    """COCO keypoint annotation file."""
    images: Path
    """Folder of the images."""
    out: Path
    """Folder for the leaderboard, the best checkpoint and the output of every evaluation; absent, or left by the same command."""
    metric: Literal["AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)"] = "AP"
    """The figure that decides which is best."""
    stop_with_training: bool = False
    """Stop when no training holds the run folder any more and all its checkpoints are evaluated."""
    max_evaluations: int | None = None
    """Stop when so many checkpoints are evaluated, earlier ones included."""
    idle_minutes: float | None = None
    """Stop when no new checkpoint has come for so long; 0: evaluate those that are there, and stop."""
    poll_seconds: float = 10.0
    """Look for new checkpoints so often."""
    max_images: int | None = None
    """Evaluate on so many of the images only, always the same ones. The leaderboard says so."""
    batch_size: int | None = None
    """Images of equal padded size that the network gets at once. Default: 1 on a CPU, where more are not faster, 8 elsewhere."""
    pictures: int = 8
    """Pictures of so many of the best and so many of the worst images of every evaluation; 0: none."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if self.max_evaluations is not None and self.max_evaluations < 1:
            raise ValueError(f"max_evaluations must be at least 1, got {self.max_evaluations}")
        if self.idle_minutes is not None and not 0 <= self.idle_minutes < float("inf"):
            raise ValueError(f"idle_minutes must be 0 or more, got {self.idle_minutes}")
        if not 0.1 <= self.poll_seconds <= 3600:
            raise ValueError(f"poll_seconds must be from 0.1 to 3600, got {self.poll_seconds}")
        self.evaluation(self.run, self.out)

    def evaluation(self, checkpoint: Path, out: Path) -> RunConfig:
        """What `run` is told about one checkpoint."""
        shared = ("annotations", "images", "max_images", "batch_size", "pictures", "device_target", "inference", "decoding")
        return RunConfig(checkpoint=checkpoint, out=out, allow_unreadable=True, **{name: getattr(self, name) for name in shared})


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Find people in images and videos: a drawing of each, and one JSON file in the form of COCO results.

    Example: python -m evaluator predict --checkpoint runs/first --out found holiday.jpg more_pictures/ dance.mp4
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, video files, and folders of images and videos."""
    checkpoint: Path
    """Checkpoint file, or a run folder, whose newest checkpoint is taken."""
    out: Path
    """Folder for results.json, images.json, config.yaml and the drawings (an annotated video for a video); absent or empty."""
    openpose_json: bool = False
    """Write one file per image and per frame of a video into OUT/openpose too, in the form of OpenPose's --write_json."""
    draw_min_score: float = 1.0
    """Drawings show people with at least this score; results.json holds everybody."""
    batch_size: int | None = None
    """Images of equal padded size that the network gets at once. Default: 1 on a CPU, where more are not faster, 8 elsewhere."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images must be at least one file or folder, got none")
        require_batch_size(self.batch_size)
