"""Options of the evaluator's commands."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from evaluator.decode import DecodeConfig
from pipeline.targets import TargetConfig

Decoding = Annotated[DecodeConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class OracleConfig:
    """The ceiling of encoding and decoding: targets of the true key points, quantised, decoded and scored as if predicted.

    Needs no images. Everybody with a labelled joint, crowds apart, is drawn into the targets of the image, resized as `run` does.

    Example: python -m evaluator oracle --annotations person_keypoints_val2017.json
    """

    annotations: Path
    """COCO key-point annotation file."""
    out: Path | None = None
    """Folder for results.json, metrics.json and config.yaml; absent or empty."""
    skeleton: Path | None = None
    """Key points other than COCO's: the file that `python -m pipeline build --skeleton` took."""
    neck: Literal["both_shoulders", "one_shoulder"] = "one_shoulder"
    """Where the neck is if one shoulder is unlabelled: nowhere, or at the labelled one."""
    targets: Annotated[TargetConfig, tyro.conf.arg(name="")] = field(default_factory=TargetConfig)
    decoding: Decoding = field(default_factory=DecodeConfig)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Evaluate a checkpoint on annotated images: COCO results, the ten COCO figures, pictures of the best and worst images.

    All images of the annotation file count, those without people too.

    Example: python -m evaluator run --checkpoint runs/first --annotations person_keypoints_val2017.json --images val2017 --out ap

    With --fields instead of --checkpoint, stored fields are decoded and scored; no network and no images are needed.
    """

    annotations: Path
    """COCO key-point annotation file."""
    out: Path
    """Folder for results.json, metrics.json, config.yaml and pictures; absent or empty."""
    checkpoint: Path | None = None
    """Checkpoint file, or a run folder, whose newest checkpoint is taken."""
    fields: Path | None = None
    """Stored fields (.npz): arrays image_id, orig_wh, input_wh, and for each image hm_<id> and paf_<id>, at stride 8."""
    skeleton: Path | None = None
    """With --fields: key points other than COCO's, the file that `python -m pipeline build --skeleton` took."""
    images: Path | None = None
    """Folder of the images; with --fields it is needed for the pictures only."""
    insize: int | None = None
    """Images are resized so that their shorter side is this long, in pixels. Default: the side of the training crops."""
    pictures: int = 8
    """Pictures of so many of the best and so many of the worst images; 0: none."""
    draw_min_score: float = 1.0
    """Pictures show predicted people with at least this score; results.json holds everybody."""
    allow_unreadable: bool = False
    """Exit with 0 although images could not be read. They are listed, and count as images in which nothing was found."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if (self.checkpoint is None) == (self.fields is None):
            raise ValueError("give either --checkpoint or --fields, and not both")
        if self.checkpoint is not None and self.images is None:
            raise ValueError("--checkpoint needs --images, the folder of the annotated images")
        if self.checkpoint is not None and self.skeleton is not None:
            raise ValueError("skeleton belongs to --fields; a checkpoint knows its own")
        if self.fields is not None and self.insize is not None:
            raise ValueError("insize belongs to --checkpoint; stored fields have their size already")
        if self.pictures < 0:
            raise ValueError(f"pictures must be 0 or more, got {self.pictures}")
        require_insize(self.insize)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Find people in images: a drawing of each, and one JSON file in the form of COCO results.

    Example: python -m evaluator predict --checkpoint runs/first --out found holiday.jpg more_pictures/
    """

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files, and folders of images."""
    checkpoint: Path
    """Checkpoint file, or a run folder, whose newest checkpoint is taken."""
    out: Path
    """Folder for results.json, images.json, config.yaml and the drawings; absent or empty."""
    insize: int | None = None
    """Images are resized so that their shorter side is this long, in pixels. Default: the side of the training crops."""
    draw_min_score: float = 1.0
    """Drawings show people with at least this score; results.json holds everybody."""
    device_target: Literal["auto", "CPU", "Ascend"] = "auto"
    """Device; auto takes Ascend where there is one."""
    decoding: Decoding = field(default_factory=DecodeConfig)

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("images must be at least one file or folder, got none")
        require_insize(self.insize)


def require_insize(insize: int | None) -> None:
    if insize is not None and not 32 <= insize <= 4096:
        raise ValueError(f"insize must be from 32 to 4096 pixels, got {insize}")
