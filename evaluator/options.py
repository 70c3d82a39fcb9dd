"""Options that several commands share: one type, one help text and one check for each. Imports nothing heavy."""

from typing import Annotated

import tyro

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import SelectConfig
from evaluator.inference.config import InferConfig
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.metrics.config import MetricConfig
from evaluator.tracking.config import TRACK_OPTIONS, TrackConfig
from pipeline.tolerance import Tolerance
from trainer.device import DeviceConfig

ACCELERATOR_BATCH_SIZE = 8

Decoding = Annotated[DecodeOptions, tyro.conf.arg(name="")]
AllDecoding = Annotated[DecodeConfig, tyro.conf.arg(name="")]
Inference = Annotated[InferConfig, tyro.conf.arg(name="")]
Device = Annotated[DeviceConfig, tyro.conf.arg(name="")]
Metrics = Annotated[MetricConfig, tyro.conf.arg(name="")]
Tracking = Annotated[TrackConfig, tyro.conf.arg(name="")]

BatchSize = Annotated[
    int | None,
    tyro.conf.arg(
        help="Images of equal padded size per call of the network. "
        f"Default: 1 on a CPU, where larger batches are not faster, {ACCELERATOR_BATCH_SIZE} on other devices."
    ),
]
FileJoints = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        help="Keypoints that the annotation file calls otherwise than the network, as FILE=NETWORK, such as throat=neck."
    ),
]
MaxImages = Annotated[
    int | None,
    tyro.conf.arg(help="Evaluate a random subset of this many images, the same subset every time. The output states the number."),
]
Pictures = Annotated[int, tyro.conf.arg(help="Number of best and of worst images to draw; 0 draws no pictures.")]
DrawMinScore = Annotated[
    float,
    tyro.conf.arg(
        help="Draw only predicted people with at least this score, from 0 to 1. results.json always lists all of them."
    ),
]
VideoScores = Annotated[
    bool,
    tyro.conf.arg(
        help="Also follow the people from frame to frame and score their identities: MOTA, IDF1, switches. The annotations need "
        "videos and track_id, as `python -m pipeline synthesize --video` writes them."
    ),
]
Select = Annotated[SelectConfig, tyro.conf.arg(name="")]
Unreadable = Annotated[Tolerance, tyro.conf.arg(name="")]


def require_batch_size(batch_size: int | None) -> None:
    """Raise ValueError for a batch size out of range."""
    if batch_size is not None and not 1 <= batch_size <= 1024:
        raise ValueError(f"batch_size must be from 1 to 1024, got {batch_size}")


def choose_batch_size(batch_size: int | None, device: str) -> int:
    """Return the requested batch size, or the default of the device."""
    return batch_size or (1 if device == "CPU" else ACCELERATOR_BATCH_SIZE)


def require_video(video: bool, tracking: TrackConfig) -> None:
    """Raise ValueError for options of tracking without --video."""
    if not video and tracking != TrackConfig():
        raise ValueError(f"{TRACK_OPTIONS} need --video")
