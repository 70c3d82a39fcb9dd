"""A finished output of `predict`, to which files are added (--skip-existing)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from evaluator.jobs.documents import read_identity
from evaluator.jobs.partial import EVALUATION, differences, remove_leftover
from pipeline.errors import UserError
from pipeline.storage.documents import Count, Id, convert, read_json
from pipeline.storage.files import write_json
from pipeline.storage.folders import unfinished_folder

RESULTS, IMAGES, SKIPPED, PREDICTION = "results.json", "images.json", "skipped.json", "prediction.json"
OF_FILES = ("num_files", "files", "last_id")  # entries of an identity that change when files are added
LAST = (RESULTS, IMAGES, SKIPPED, PREDICTION)  # files of the output that are written last, in this order


class Skipped(TypedDict):
    """An entry of skipped.json."""

    file_name: str
    reason: str
    num_images: NotRequired[Count]


class _Counts(TypedDict):
    """Numbers of images and frames, in prediction.json."""

    num_images: Count
    num_unreadable: Count


class _Image(TypedDict):
    """What is used of an entry of images.json."""

    id: Id
    file_name: str
    drawing: str
    frame: NotRequired[Count]


class _Result(TypedDict):
    """What is used of an entry of results.json."""

    image_id: Id


@dataclass(frozen=True, kw_only=True)
class Previous:
    """The lists of a finished output: entries of results.json, images.json and skipped.json."""

    results: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def file_names(self) -> set[str]:
        """The files in which people were searched."""
        return {image["file_name"] for image in self.images}

    @property
    def drawings(self) -> list[tuple[str, bool]]:
        """Names of the drawings without suffix, and whether they are videos."""
        pairs = {(image["drawing"].rpartition(".")[0], "frame" in image) for image in self.images}
        return sorted(pairs)

    @property
    def last_id(self) -> int:
        """The largest id of an image; 0 without images."""
        return max((image["id"] for image in self.images), default=0)


def read_prediction(out: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the identity of a finished output, and its numbers of images. Raises UserError naming file and field."""
    about = read_identity(out / PREDICTION, "prediction")
    counts: dict[str, int] = {name: about.pop(name, None) for name in _Counts.__annotations__}
    convert(counts, _Counts, f"prediction {out / PREDICTION}")
    return about, counts


def require_same(out: Path, identity: dict[str, Any], *, except_files: bool) -> None:
    """Raise UserError, naming the difference, unless a finished output is that of the same inputs and options."""
    about, _ = read_prediction(out)
    changed = differences(_without_files(about), _without_files(identity))
    if except_files and not changed:
        return
    advice = "" if changed else "; --skip-existing adds new files"
    if changed := differences(about, identity):
        raise UserError(
            f"output folder {out}: contains a finished prediction with other inputs or options ({changed}); use the same ones, or "
            f"choose another --out{advice}"
        )


def _without_files(identity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name not in OF_FILES}


def discard_other_work(out: Path, identity: dict[str, Any]) -> None:
    """Delete the work of a command that added other files and was killed: ids follow from the files."""
    path = unfinished_folder(out) / EVALUATION
    if not path.exists():
        return
    work = read_identity(path, "unfinished evaluation")
    if differences(work, identity) and not differences(_without_files(work), _without_files(identity)):
        remove_leftover(out, work, len(identity["skeleton"]["joints"]))


def finish(out: Path, identity: dict[str, Any], previous: Previous) -> None:
    """Write the last file of an output that lists all files, if a command that added some was killed before it did."""
    num_unreadable = sum(entry.get("num_images", 1) for entry in previous.skipped)
    about = {**identity, "num_images": len(previous.images), "num_unreadable": num_unreadable}
    if differences(read_json(out / PREDICTION, "prediction"), about):
        write_json(out / PREDICTION, about)


def read_previous(out: Path) -> Previous:
    """Read the lists of a finished output. Raises UserError naming file and field."""
    images = _read(out / IMAGES, "images", list[_Image])
    ids = {image["id"] for image in images}
    # A command that was killed while it added files has left results of images that are not listed.
    results = [entry for entry in _read(out / RESULTS, "results", list[_Result]) if entry["image_id"] in ids]
    return Previous(results=results, images=images, skipped=read_skipped(out))


def read_skipped(out: Path) -> list[Skipped]:
    """Read skipped.json; empty without it. Raises UserError naming file and field."""
    path = out / SKIPPED
    return _read(path, "skipped files", list[Skipped]) if path.exists() else []


def _read(path: Path, what: str, schema: Any) -> Any:
    document = read_json(path, what)
    convert(document, schema, f"{what} {path}")
    return document
