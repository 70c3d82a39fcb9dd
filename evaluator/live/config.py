"""Options of the command `live`. Imports nothing heavy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from evaluator.decoding.scores import SelectConfig
from evaluator.inference.config import InferConfig
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.options import Decoding, Device, Inference
from evaluator.tracking.config import TrackConfig, require_track
from trainer.device import DeviceConfig

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """Show the people in front of a camera, or in a stream or video, on a web page of this machine.

    Example: python -m evaluator live 0 --checkpoint openpose.onnx

    Prints the address of the page; Ctrl-C stops. Frames that arrive while the network computes are dropped.
    """

    source: Annotated[str, tyro.conf.Positional]
    """Number of a camera, such as 0; address of a stream (rtsp://, http://, ...); or video file, which plays at its own speed."""
    checkpoint: Path
    """Exported network (.onnx), checkpoint file, or run folder, whose newest checkpoint is used."""
    host: str = LOOPBACK
    """Address at which the page is served. The default is reachable from this machine only; 0.0.0.0 is reachable from its network."""
    port: int = 8000
    """Port of the page; 0 takes a free one."""
    token: bool = True
    """Show pictures only to those who have the address that the command prints, which contains a random token."""
    loop: bool = False
    """Begin a video file again at its end."""
    min_score: float = SelectConfig.min_score
    """Draw people with at least this score, from 0 to 1. The page can change it."""
    track: bool = True
    """Follow people from frame to frame and show their identities."""
    smooth: bool = False
    """Smooth the keypoints over time (One-Euro filter). Needs --track."""
    tracking: Annotated[TrackConfig, tyro.conf.arg(name="")] = field(default_factory=TrackConfig)
    device: Device = field(default_factory=DeviceConfig)
    inference: Inference = field(default_factory=InferConfig)
    decoding: Decoding = field(default_factory=DecodeOptions)

    def __post_init__(self) -> None:
        if not self.source:
            raise ValueError("source must be a camera, an address or a file, got an empty text")
        if not self.host:
            raise ValueError("host must be an address, such as 127.0.0.1, got an empty text")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, got {self.port}")
        require_track(self.smooth, self.track)
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1, got {self.min_score}")
