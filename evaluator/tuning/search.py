"""Settings of the decoder to try, and the choice among them by cross-validation over images."""

import dataclasses
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.decoding import DecodeConfig, People
from evaluator.metrics.coco_eval import Comparison, compare, evaluate
from evaluator.metrics.results import Results, to_results
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton

VALUES: dict[str, tuple[Any, ...]] = {
    "peak_threshold": (0.01, 0.03, 0.1),
    "relative_threshold": (0.0, 0.1, 0.2, 0.3),
    "paf_threshold": (0.02, 0.05, 0.1),
    "fragments": (True, False),
}
Found = Mapping[int, Sequence[People]]
"""By image id: the people that each candidate finds."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The outcome of a search.

    candidates: settings, the present ones first. ap: COCO AP of each on all images. chosen: index of the best one on all images; 0, the
    present ones, if a choice on other images gains nothing. ap_before: AP of the present settings. ap_after: AP over all images when the settings of each fold are those with the highest AP
    on the other folds, which is what to expect on other images. by_fold: the index chosen for each fold.
    """

    candidates: list[DecodeConfig]
    ap: list[float]
    chosen: int
    ap_before: float
    ap_after: float
    by_fold: list[int]


def candidates(present: DecodeConfig) -> list[DecodeConfig]:
    """Return the present settings, then all combinations of VALUES, those with the fewest changes first."""
    proposed = [
        dataclasses.replace(present, **dict(zip(VALUES, values, strict=True))) for values in itertools.product(*VALUES.values())
    ]

    def num_changes(settings: DecodeConfig) -> int:
        return sum(getattr(settings, name) != getattr(present, name) for name in VALUES)

    return list(dict.fromkeys([present, *sorted(proposed, key=num_changes)]))


def choose(
    document: CocoFile,
    found: Found,
    skeleton: Skeleton,
    settings: list[DecodeConfig],
    num_folds: int,
    report: Callable[[], None] = lambda: None,
) -> Choice:
    """Choose the settings with the highest AP over the images in `found`; the first ones among equals.

    report: called once per candidate. Raises UserError as `compare` does.
    """
    folds = split(found, num_folds)
    rest = [[image_id for other in folds if other is not fold for image_id in other] for fold in folds]
    ap = np.zeros((len(settings), 1 + num_folds))
    for number in range(len(settings)):
        comparison = compare(
            document, _results(document, found, skeleton, {image_id: number for image_id in found}), skeleton, [*found]
        )
        ap[number] = [_ap(comparison), *(_ap(comparison.over(images)) for images in rest)]
        report()
    by_fold = ap[:, 1:].argmax(axis=0).tolist()
    used = {image_id: number for fold, number in zip(folds, by_fold, strict=True) for image_id in fold}
    ap_after = evaluate(document, _results(document, found, skeleton, used), skeleton, [*found]).figures["AP"]
    return Choice(
        candidates=settings,
        ap=ap[:, 0].tolist(),
        chosen=int(ap[:, 0].argmax()) if ap_after > ap[0, 0] else 0,
        ap_before=float(ap[0, 0]),
        ap_after=ap_after,
        by_fold=by_fold,
    )


def split(image_ids: Collection[int], num_folds: int) -> list[list[int]]:
    """Divide images into parts of equal size, at random, the same way every time."""
    ids = sorted(image_ids)
    order = np.random.default_rng(0).permutation(len(ids))
    return [sorted(ids[place] for place in order[number::num_folds]) for number in range(num_folds)]


def _ap(comparison: Comparison) -> float:
    return comparison.figures["AP"]


def _results(document: CocoFile, found: Found, skeleton: Skeleton, used: Mapping[int, int]) -> Results:
    """COCO results with the people that the candidate `used[image_id]` finds in each image."""
    about: dict[str, Any] = {"category_id": document.category_id, "skeleton": skeleton}
    sizes = {image.id: image.size_wh for image in document.images}
    return [
        entry
        for image_id, number in used.items()
        for entry in to_results(found[image_id][number], image_id=image_id, size_wh=sizes[image_id], **about)
    ]
