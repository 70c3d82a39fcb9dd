"""The calibration of a network's scores, as checkpoints and exported files contain it, and its use."""

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Annotated, Any

from msgspec import Meta

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import ScoreMap, score_map
from evaluator.inference.config import InferConfig
from evaluator.inference.protocols import CheckpointNetwork
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Count, Finite, Sha256, convert
from pipeline.wording import counted, printable

MAX_KNOTS = 64

RawScore = Annotated[float, Meta(ge=0, le=1e30)]
Probability = Annotated[float, Meta(gt=0, lt=1)]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The map from raw scores to probabilities that `calibrate` fits, and what it was fitted to.

    knots: pairs (raw score, probability), see `ScoreMap`. settings: those of the evaluation, which change the raw scores.
    annotations, checkpoint: SHA-256 of the files of the evaluation. num_images, num_people, num_right: predicted people, and how many
    of them were right. ece_before, ece_after: expected calibration error on images that were not used for fitting.
    """

    knots: Annotated[tuple[tuple[RawScore, Probability], ...], Meta(min_length=2, max_length=MAX_KNOTS)]
    settings: dict[str, Any]
    annotations: Sha256
    checkpoint: Sha256
    num_images: Count
    num_people: Count
    num_right: Count
    ece_before: Finite
    ece_after: Finite

    def __post_init__(self) -> None:
        if not all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(self.knots)):
            raise ValueError("knots must be strictly increasing in both numbers")


def read_calibration(description: Mapping[str, Any], where: str) -> Calibration | None:
    """Return the calibration that a checkpoint or an exported file contains; None if it is empty.

    Raises UserError, which begins with `where`, naming the field.
    """
    return convert(dict(description), Calibration, f"{where}: calibration") if description else None


def calibration_of(network: CheckpointNetwork) -> Calibration | None:
    """Return the calibration of a network; None if it has none. Raises UserError, naming its file, if it is damaged."""
    return read_calibration(network.info.calibration, f"checkpoint {network.path}")


def map_of(calibration: Calibration | None, skeleton: Skeleton) -> ScoreMap:
    """Return the map from raw scores to scores of a network."""
    return score_map(skeleton, calibration.knots if calibration else ())


def settings_of(inference: InferConfig, insize: int | None, decoding: DecodeConfig) -> dict[str, Any]:
    """Return the settings that change raw scores, as plain values. insize: the one that is used, None for stored fields."""
    scales = list(inference.scales)
    own = {"insize": insize, "scales": scales, "mirror": inference.mirror, "raw_weights": inference.raw_weights}
    return own | asdict(decoding)


def warn_of_other_settings(calibration: Calibration | None, settings: Mapping[str, Any]) -> None:
    """Print a warning if the network was calibrated with other settings."""
    if calibration is None:
        return
    known = calibration.settings
    changed = [f"{name}: {known[name]} then, {value} now" for name, value in settings.items() if known.get(name, value) != value]
    if changed:
        print(
            f"warning: the scores were calibrated with other settings ({printable('; '.join(changed))}), so that they may not be "
            "probabilities; calibrate with these settings",
            file=sys.stderr,
        )


def describe_scores(calibration: Calibration | None) -> str:
    """Return a line for the user that says what the scores are."""
    if calibration is None:
        return "scores: not calibrated, so they are no probabilities; `python -m evaluator calibrate` makes them probabilities"
    error = f"expected calibration error {calibration.ece_after:.3f}"
    return f"scores: probability that a person is right, calibrated on {counted(calibration.num_images, 'image')} ({error})"
