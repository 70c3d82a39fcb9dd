"""The evaluations that a model card states: read from the output folders of `run` and `merge`, and of this very checkpoint."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from evaluator.decoding import DecodeConfig
from evaluator.inference.config import InferConfig
from evaluator.jobs.documents import read_identity, read_metrics
from evaluator.jobs.partial import EVALUATION
from evaluator.metrics.figures import FIGURES
from pipeline.errors import UserError
from pipeline.storage.documents import convert
from pipeline.storage.files import require_folder

METRICS, PICTURES = "metrics.json", "pictures"
NOT_MEASURED = -1.0  # no person of the size that a metric covers
HASH_CHARACTERS = 12  # of a SHA-256 in a message

T = TypeVar("T", InferConfig, DecodeConfig)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One evaluation. data_set: description of the annotation file, or its name. figures: by name, without those not measured."""

    folder: Path
    data_set: str
    annotations: str
    annotations_sha256: str
    figures: dict[str, float]
    num_images: int
    num_images_in_file: int
    num_people: int
    inference: InferConfig
    decoding: DecodeConfig
    device: str
    results_version: int

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides the figures beside weights and images."""
        both = asdict(self.inference) | asdict(self.decoding)
        both = {name: list(value) if isinstance(value, tuple) else value for name, value in both.items()}
        return both | {"device": self.device, "results_version": self.results_version}

    @property
    def pictures(self) -> list[Path]:
        """The best and the worst picture, as far as there are any. If there are few images, all are among the best."""
        best, worst = (sorted((self.folder / PICTURES).glob(f"{kind}-*.jpg")) for kind in ("best", "worst"))
        return best[:1] + (worst[:1] or best[1:][-1:])


def read_measurements(
    folders: Iterable[Path], checkpoint: Path, sha256s: Sequence[str], *, has_averages: bool
) -> list[Measurement]:
    """Read the evaluations of the checkpoint with the first of these SHA-256, or of another file with the same weights.

    Raises UserError, naming the folder, for a folder that is no complete evaluation, or of other weights.
    """
    measurements = []
    for folder in folders:
        require_folder(folder, "evaluation")
        identity = read_identity(folder / EVALUATION, "evaluation")
        _require_these_weights(folder, identity, checkpoint, sha256s)
        if has_averages and identity.get("raw_weights"):
            raise UserError(
                f"evaluation {folder}: was computed with --raw-weights, but the averaged weights of {checkpoint} are published; "
                "evaluate without --raw-weights"
            )
        measurements.append(_measurement(folder, identity))
    return measurements


def _require_these_weights(folder: Path, identity: dict[str, Any], checkpoint: Path, sha256s: Sequence[str]) -> None:
    """Raise UserError unless the evaluation is of the checkpoint. Evaluations of exported files would be compared here, too."""
    if identity.get("checkpoint") in sha256s:
        return
    if "checkpoint" not in identity:
        raise UserError(f"evaluation {folder}: is not one of a checkpoint, but of stored fields; give an output folder of `run`")
    step = f"step {identity['step']:,}" if isinstance(identity.get("step"), int) else "unknown step"
    raise UserError(
        f"evaluation {folder}: is of another checkpoint ({step}, SHA-256 {str(identity['checkpoint'])[:HASH_CHARACTERS]}…) than "
        f"{checkpoint} (SHA-256 {sha256s[0][:HASH_CHARACTERS]}…); give that checkpoint, or evaluate this one with `python -m evaluator run`"
    )


def _measurement(folder: Path, identity: dict[str, Any]) -> Measurement:
    where = f"evaluation {folder / EVALUATION}"
    if not (folder / METRICS).is_file():
        raise UserError(f"evaluation {folder}: has no {METRICS}; give the output of `merge`, not of a shard")
    metrics = read_metrics(folder / METRICS, ("num_images", "num_images_in_file", "num_people", "settings"), FIGURES)
    facts = convert(
        {name: identity.get(name) for name in ("annotations", "device", "results_version")},
        dict[str, str | int],
        where,
    )
    annotations = Path(str(metrics["settings"].get("annotations", "unknown"))).name
    return Measurement(
        folder=folder,
        data_set=metrics.get("data_set") or annotations,
        annotations=annotations,
        annotations_sha256=str(facts["annotations"]),
        figures={name: metrics["figures"][name] for name in FIGURES if metrics["figures"][name] != NOT_MEASURED},
        num_images=metrics["num_images"],
        num_images_in_file=metrics["num_images_in_file"],
        num_people=metrics["num_people"],
        inference=_options(identity, InferConfig, where),
        decoding=_options(identity, DecodeConfig, where),
        device=str(facts["device"]),
        results_version=int(facts["results_version"]),
    )


def _options(identity: dict[str, Any], config: type[T], where: str) -> T:
    """Return the options of a group that an evaluation was computed with. Raises UserError for invalid ones."""
    known = {field.name: identity[field.name] for field in fields(config) if field.name in identity}
    options: T = convert(known, config, where)
    return options
