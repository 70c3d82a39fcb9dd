"""Options of tracking. Imports nothing heavy."""

from dataclasses import dataclass

TRACK_OPTIONS = "min_oks, max_lost_s, confirm_frames, start_score and appearance"


@dataclass(frozen=True, kw_only=True)
class TrackConfig:
    """How people are followed from frame to frame."""

    min_oks: float = 0.3
    """Lowest similarity (OKS) of a person to a predicted pose at which they are one identity."""
    max_lost_s: float = 4.0
    """Seconds for which an identity is kept while its person is hidden. After two seconds, only the clothes tell who it is."""
    confirm_frames: int = 2
    """Number of consecutive frames after which a new person gets an identity. People of the first frame get theirs at once."""
    start_score: float | None = None
    """Lowest score, from 0 to 1, of a person who starts a new identity. People with lower scores only continue one. Default: 0.5 if the
    network is calibrated; otherwise 0.7, or joints with a mean confidence of 0.6."""
    appearance: bool = True
    """Also tell people apart by the colors of their clothes, which needs the images."""

    def __post_init__(self) -> None:
        if not 0 < self.min_oks < 1:
            raise ValueError(f"min_oks must be in (0, 1), got {self.min_oks}")
        if not 0 <= self.max_lost_s <= 3600:
            raise ValueError(f"max_lost_s must be from 0 to 3600, got {self.max_lost_s}")
        if not 1 <= self.confirm_frames <= 1000:
            raise ValueError(f"confirm_frames must be from 1 to 1000, got {self.confirm_frames}")
        if self.start_score is not None and not 0 <= self.start_score <= 1:
            raise ValueError(f"start_score must be from 0 to 1, got {self.start_score}")


def require_track(smooth: bool, track: bool) -> None:
    """Raise ValueError if keypoints are to be smoothed without following people."""
    if smooth and not track:
        raise ValueError("--smooth needs --track, which tells which keypoints belong to one person")
