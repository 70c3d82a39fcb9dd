"""Scores of people from 0 to 1, computed from the sums of the decoder, and the choice of the people to show.

The sum of a person's peaks and limbs ("raw score") has no unit. A calibrated network maps it to the probability that the person is
right. The map is strictly increasing, so that the order of people, and with it every COCO metric, is that of the raw scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.skeleton import Skeleton

# An uncalibrated network gives a score of 0.5 to this share of the raw score of a perfect, complete person.
UNCALIBRATED_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class ScoreMap:
    """A strictly increasing map from raw scores to scores from 0 to 1.

    knots: pairs (raw score, probability), both ascending, of a calibrated network; the map is linear between them. Without knots, the
    score is raw / (raw + half): 0.5 at `half`, and not a probability.
    """

    half: float
    knots: Sequence[tuple[float, float]] = ()

    def __call__(self, raw: np.ndarray) -> np.ndarray:
        """Return the scores of people, float64 (N,), for their raw scores (N,)."""
        raw = np.maximum(np.asarray(raw, np.float64), 0)
        return np.interp(raw, *np.transpose(self.knots)) if self.knots else raw / (raw + self.half)

    @property
    def is_calibrated(self) -> bool:
        """Whether the scores are probabilities."""
        return bool(self.knots)


def score_map(skeleton: Skeleton, knots: Sequence[tuple[float, float]] = ()) -> ScoreMap:
    """Return the map of a network with these knots, or that of an uncalibrated network."""
    return ScoreMap(half=UNCALIBRATED_SHARE * (skeleton.num_joints + skeleton.num_limbs), knots=knots)


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Which people to draw and to write."""

    min_score: float = 0.5
    """Least score of a person, from 0 to 1. The probability that the person is right if the network is calibrated; 0 keeps everybody."""
    min_joints: int = 1
    """Least number of joints that were found."""
    max_people: int | None = None
    """Keep only this many people per image, those with the highest scores. Default: all."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score must be from 0 to 1, got {self.min_score}")
        if self.min_joints < 1:
            raise ValueError(f"min_joints must be at least 1, got {self.min_joints}")
        if self.max_people is not None and self.max_people < 1:
            raise ValueError(f"max_people must be at least 1, got {self.max_people}")


def select(keypoints: np.ndarray, scores: np.ndarray, config: SelectConfig) -> np.ndarray:
    """Return the people to keep, intp (M,), best score first.

    keypoints: (N, J, 3), 0 in the third column of joints that were not found. scores: (N,), of a `ScoreMap`.
    """
    good = (scores >= config.min_score) & ((keypoints[..., 2] > 0).sum(axis=1) >= config.min_joints)
    kept = np.flatnonzero(good)
    return kept[np.argsort(-scores[kept], kind="stable")][: config.max_people]
