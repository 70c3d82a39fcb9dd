"""Do results and annotations belong together? Whatever does not is named: a score over it would mean nothing."""

from collections.abc import Collection, Iterable, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from evaluator.metrics.results import Result
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.skeleton import Skeleton

FIELDS = ("image_id", "category_id", "keypoints", "score")


def read_results(path: Path) -> list[Result]:
    """A COCO results file: a list of objects. Raises UserError naming it; what is in them is checked by `require_fit`."""
    results = read_json(path, "results file")
    if not isinstance(results, list) or not all(isinstance(entry, dict) for entry in results):
        raise UserError(f"results file {path}: expected a list of objects with {', '.join(FIELDS)}")
    return results


def require_fit(
    document: CocoFile, results: Sequence[dict], skeleton: Skeleton, image_ids: Collection[int] | None = None
) -> None:
    """Raises UserError naming every way in which results, annotations and the images asked for do not fit, with a count and
    an example each: images that the file lacks, another category, a wrong number of keypoints, values that are no finite
    numbers, fields that are missing, the same person twice."""
    known = {image.id for image in document.images}
    problems = [
        _few("{count} images asked for are not in it, such as image {example}", sorted(set(image_ids or ()) - known)),
        *(_few(f"{{count}} results lack {name}, such as number {{example}}", _lacking(name, results)) for name in FIELDS),
    ]
    problems = [problem for problem in problems if problem] or _misfits(document, results, skeleton, known)
    if problems:
        raise UserError(
            f"annotation file {document.path}: {'; '.join(problems)}; annotations and results do not belong together, "
            "or the results are damaged"
        )


def _misfits(document: CocoFile, results: Sequence[dict], skeleton: Skeleton, known: set[int]) -> list[str]:
    length = 3 * len(skeleton.source_joints)
    strangers = sorted({str(entry["image_id"]) for entry in results if not _is_known(entry["image_id"], known)})
    others = sorted({str(entry["category_id"]) for entry in results if entry["category_id"] != document.category_id})
    counts = _where(not isinstance(entry["keypoints"], list) or len(entry["keypoints"]) != length for entry in results)
    problems = [
        _few("lacks {count} images of the results, such as {example}", strangers),
        _few(f"people are category {document.category_id}, not so in the results (category {{example}})", others),
        _few(
            f"{{count}} results do not have {length} numbers of keypoints (x, y, v of each joint), such as number {{example}}",
            counts,
        ),
    ]
    if not counts:
        odd = _where(~_finite(results))
        problems.append(
            _few("{count} results have keypoints or a score that are not finite numbers, such as number {example}", odd)
        )
        if not odd:
            problems.append(_few("{count} results stand there twice, such as number {example}", _twice(results)))
    return [problem for problem in problems if problem]


def _is_known(image_id: Any, known: set[int]) -> bool:
    return isinstance(image_id, Integral) and image_id in known


def _finite(results: Sequence[dict]) -> np.ndarray:
    """bool (N,): whether score and keypoints, all of one length, are finite numbers."""
    try:
        values = np.array([[*entry["keypoints"], entry["score"]] for entry in results], np.float64)
    except (TypeError, ValueError):  # text or lists among them
        return np.array([all(map(_is_number, (*entry["keypoints"], entry["score"]))) for entry in results])
    return np.isfinite(values).all(axis=1) if len(results) else np.zeros(0, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _twice(results: Sequence[dict]) -> list[int]:
    """Places of results that repeat an earlier one: the same image, score and keypoints, as when files are put together twice."""
    seen, again = set(), []
    for place, entry in enumerate(results):
        key = entry["image_id"], entry["score"], hash(tuple(entry["keypoints"]))
        if key in seen:
            again.append(place)
        seen.add(key)
    return again


def _lacking(name: str, results: Sequence[dict]) -> list[int]:
    return _where(name not in entry for entry in results)


def _where(conditions: Iterable[bool]) -> list[int]:
    return [place for place, holds in enumerate(conditions) if holds]


def _few(text: str, examples: Sequence) -> str:
    """The text with the count and the first of the examples; nothing where there is none."""
    return text.format(count=len(examples), example=examples[0]) if examples else ""
