"""Checks that results and annotations match, because a score over a mismatch is meaningless."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Id, convert, read_json

MAX_NUMBER = 1e9

Number = Annotated[float, Meta(ge=-MAX_NUMBER, le=MAX_NUMBER)]


class _Fields(msgspec.Struct):
    """The types of the fields of a result."""

    image_id: Id | None = None
    category_id: Id | None = None
    keypoints: list[Number] = []
    score: Number = 0
    raw_score: Number = 0
    confidences: list[Number] = []
    bbox: list[Number] | None = None

    def __post_init__(self) -> None:
        if len(self.bbox or ()) not in (0, 4):
            raise ValueError(f"bbox must be x, y, width, height, got {len(self.bbox or ())} numbers")


FIELDS = ("image_id", "category_id", "keypoints", "score")

RawResults = Sequence[Mapping[str, Any]]
"""Results whose fields have not been checked yet."""


class MismatchError(UserError):
    """Results that do not match the annotations or the metrics. `problem` is the message without the advice."""

    def __init__(self, problem: str, advice: str) -> None:
        super().__init__(f"{problem}; {advice}")
        self.problem = problem


def read_results(path: Path) -> Results:
    """Read a COCO results file, a list of objects; `require_fit` checks that no field is missing.

    Raises UserError naming the file and a field of another type.
    """
    results = read_json(path, "results file")
    if not isinstance(results, list) or not all(isinstance(entry, dict) for entry in results):
        raise UserError(f"results file {path}: expected a list of objects with {', '.join(FIELDS)}; use a COCO results file")
    convert(results, list[_Fields], f"results file {path}")
    return results


def require_fit(document: CocoFile, results: RawResults, skeleton: Skeleton, image_ids: Collection[int] | None = None) -> None:
    """Raise MismatchError unless results, annotations and `image_ids` match.

    The message lists every kind of mismatch with a count and an example: unknown images, other categories, a wrong number of
    keypoints, values that are not finite numbers, missing fields, duplicates.
    """
    known = {image.id for image in document.images}
    problems = [
        _describe("requested images that are not in the annotation file", sorted(set(image_ids or ()) - known), "image"),
        *(_describe(f"results without {name}", _places(name not in entry for entry in results)) for name in FIELDS),
    ]
    problems = [problem for problem in problems if problem] or _mismatches(document, results, skeleton, known)
    if problems:
        raise MismatchError(
            f"annotation file {document.path} and results do not match: {'; '.join(problems)}",
            "use the annotation file that the results were computed for",
        )


def _mismatches(document: CocoFile, results: RawResults, skeleton: Skeleton, known: set[int]) -> list[str]:
    length = 3 * len(skeleton.source_joints)
    unknown = sorted({str(entry["image_id"]) for entry in results if not _is_known(entry["image_id"], known)})
    categories = sorted({str(entry["category_id"]) for entry in results if entry["category_id"] != document.category_id})
    wrong_length = _places(not isinstance(entry["keypoints"], list) or len(entry["keypoints"]) != length for entry in results)
    wrong_confidences = _places(len(entry.get("confidences") or [0] * (length // 3)) * 3 != length for entry in results)
    problems = [
        _describe("images of the results that are not in the annotation file", unknown, "image"),
        _describe(f"categories of the results other than {document.category_id}, people", categories, "category"),
        _describe(f"results without {length} keypoint values (x, y, v of each joint)", wrong_length),
        _describe(f"results whose confidences are not {length // 3} numbers, one per joint", wrong_confidences),
    ]
    if not wrong_length:
        not_finite = _places(~_finite(results))
        problems.append(_describe("results whose keypoints or score are not finite numbers", not_finite))
        if not not_finite:
            problems.append(_describe("duplicate results", _duplicates(results)))
    return [problem for problem in problems if problem]


def _is_known(image_id: Any, known: set[int]) -> bool:
    return isinstance(image_id, Integral) and image_id in known


def _finite(results: RawResults) -> np.ndarray:
    """bool (N,): whether all keypoint values and the score are finite numbers; keypoints have equal lengths."""
    try:
        values = np.array([[*entry["keypoints"], entry["score"]] for entry in results], np.float64)
    except (TypeError, ValueError):  # some values are text or lists
        return np.array([all(map(_is_number, (*entry["keypoints"], entry["score"]))) for entry in results])
    return np.isfinite(values).all(axis=1) if len(results) else np.zeros(0, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _duplicates(results: RawResults) -> list[int]:
    """Places of results with the image, score and keypoints of an earlier one, as after concatenating a file with itself."""
    seen: set[tuple[Any, ...]] = set()
    duplicates = []
    for place, entry in enumerate(results):
        key = entry["image_id"], entry["score"], hash(tuple(entry["keypoints"]))
        if key in seen:
            duplicates.append(place)
        seen.add(key)
    return duplicates


def _places(conditions: Iterable[bool]) -> list[int]:
    """The places at which a condition holds."""
    return [place for place, holds in enumerate(conditions) if holds]


def _describe(problem: str, examples: Sequence[int | str], kind: str = "result number") -> str:
    """The problem with the count and the first of the examples; empty if there are no examples."""
    return f"{problem}: {len(examples)}, for example {kind} {examples[0]}" if examples else ""
