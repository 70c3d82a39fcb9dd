"""The documents that evaluations write and read again: evaluation.json, metrics.json, leaderboard.json, checked against types."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, NotRequired, Required, TypedDict

from msgspec import Meta

from evaluator.jobs.config import MAX_SHARDS
from evaluator.metrics.figures import FIGURES
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Count, Finite, Sha256, convert, read_json
from pipeline.storage.files import file_facts
from pipeline.wording import printable

ShardNumber = Annotated[int, Meta(ge=1, le=MAX_SHARDS)]
Figures = dict[str, Finite]


class _Facts(TypedDict):
    """Size and SHA-256 of a file."""

    bytes: Count
    sha256: Sha256


class _Identity(TypedDict, total=False):
    """The entries of evaluation.json that commands use. All of them are compared with those of other evaluations."""

    annotations: Sha256
    max_images: Annotated[int, Meta(ge=1)] | None
    skeleton: dict[str, Any]
    insize: Count | None
    checkpoint: str
    calibration: dict[str, Any]
    results_version: Count
    shard: tuple[ShardNumber, ShardNumber]
    people: _Facts


class _Settings(TypedDict, total=False):
    """The options in metrics.json that decide which pictures an evaluation writes."""

    images: str | None
    pictures: Count
    draw_min_score: Finite


class _Measured(TypedDict):
    """The figures of another metric than COCO's."""

    about: str
    figures: Figures
    joints: dict[str, Figures]
    counts: dict[str, Count]


class _Metrics(TypedDict, total=False):
    """metrics.json. Evaluations of earlier versions lack some entries."""

    figures: Required[Figures]
    num_images: Count
    num_images_in_file: Count
    num_people: Count
    data_set: str
    unreadable_images: dict[str, str]
    speed: dict[str, Finite]
    others: dict[str, _Measured]
    tracking: dict[str, Figures]
    evaluated: str
    version: str
    settings: _Settings


class _BoardEntry(TypedDict):
    """A checkpoint in leaderboard.json: with `figures`, or with `failed`."""

    step: Count
    epoch: Count
    sha256: Sha256
    figures: NotRequired[Figures]
    metrics_sha256: NotRequired[Sha256]
    failed: NotRequired[str]


class _Board(TypedDict):
    """leaderboard.json."""

    metric: str
    settings: dict[str, Any]
    checkpoints: list[_BoardEntry]


def read_identity(path: Path, what: str) -> dict[str, Any]:
    """Read an evaluation.json. Raises UserError naming the file and the field."""
    identity = _read(path, what, _Identity)
    number, count = identity.get("shard", (1, 1))
    if number > count:
        raise UserError(f"{what} {path}: shard must be i, n with i at most n, got {number}, {count}")
    if "skeleton" in identity:
        Skeleton.from_dict(identity["skeleton"], f"{what} {path}: skeleton")
    return identity


def read_metrics(path: Path, needed: Iterable[str] = (), figures: Iterable[str] = ()) -> dict[str, Any]:
    """Read a metrics.json with these entries and figures. Raises UserError naming the file and the field."""
    metrics = _read(path, "metrics", _Metrics)
    _require(needed, metrics, f"metrics {path}")
    _require(figures, metrics["figures"], f"metrics {path}: figures")
    if "tracking" in needed:
        _require(("all",), metrics["tracking"], f"metrics {path}: tracking")
    if "settings" in needed:
        _require(_Settings.__annotations__, metrics["settings"], f"metrics {path}: settings")
    return metrics


def read_board(path: Path) -> dict[str, Any]:
    """Read a leaderboard.json. Raises UserError naming the file and the field."""
    board = _read(path, "leaderboard", _Board)
    if board["metric"] not in FIGURES:
        raise UserError(
            f"leaderboard {path}: metric must be one of {', '.join(FIGURES)}, got {printable(board['metric'][:60])!r}"
        )
    for number, entry in enumerate(board["checkpoints"]):
        if "failed" not in entry:
            _require([board["metric"]], entry.get("figures", {}), f"leaderboard {path}: checkpoints[{number}].figures")
    return board


def output_folder(out: Path, step: int) -> Path:
    """Return the folder, in that of `watch`, with the output of the evaluation of a checkpoint."""
    return out / f"step-{step:08d}"


def require_outputs(board: dict[str, Any], path: Path) -> None:
    """Raise UserError unless the figures of every entry of a leaderboard are those in the output of its evaluation."""
    for entry in board["checkpoints"]:
        if "failed" in entry:
            continue
        metrics = output_folder(path.parent, entry["step"]) / "metrics.json"
        exists = metrics.is_file()
        digest = file_facts(metrics)["sha256"] if exists else ""
        if not exists or entry.get("metrics_sha256", digest) != digest or read_metrics(metrics)["figures"] != entry["figures"]:
            problem = f"differs from what {path.name} states; one of them was edited" if exists else "no such file"
            raise UserError(
                f"metrics {metrics}: {problem}; restore the file, or choose another --out to evaluate all checkpoints again"
            )


def _read(path: Path, what: str, schema: Any) -> dict[str, Any]:
    """Read a JSON file and check it against a type. Returns its entries that the type does not name, too."""
    document = read_json(path, what)
    convert(document, schema, f"{what} {path}")
    return document


def _require(names: Iterable[str], entries: dict[str, Any], where: str) -> None:
    if missing := [name for name in names if name not in entries]:
        raise UserError(f"{where}: missing required field `{missing[0]}`")
