"""COCO's AP and AR with the rules of another data set for the areas of people. Shared by `crowdpose_ap` and `ochuman_ap`."""

import copy
from collections.abc import Callable, Collection
from dataclasses import replace

import numpy as np

from evaluator.metrics.coco_eval import Comparison, compare
from evaluator.metrics.coco_sets import Ignored
from evaluator.metrics.figures import UNDEFINED
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.skeleton import Skeleton

SHOWN: dict[str, slice | int] = {"": slice(None), " .5": 0, " .75": 5}  # places in the OKS thresholds 0.5, 0.55, …, 0.95


def compare_with_areas(
    document: CocoFile,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int],
    area: Callable[[Annotation], float],
    ignored: Ignored = lambda entry: False,
) -> Comparison:
    """Return COCO's evaluation with the areas of people, in square pixels, replaced by those of `area`."""
    changed = copy.copy(document)
    changed.annotations = {
        image_id: [replace(entry, area=area(entry)) for entry in entries] for image_id, entries in document.annotations.items()
    }
    return compare(changed, results, skeleton, image_ids, ignored=ignored)


def six_figures(comparison: Comparison) -> dict[str, float]:
    """Return AP and AR, their mean over the OKS thresholds 0.5 to 0.95 and at 0.5 and 0.75, of people of all sizes."""
    return {
        **{f"AP{name}": _mean(comparison.precision[places, ..., 0]) for name, places in SHOWN.items()},
        **{f"AR{name}": _mean(comparison.recall[places, ..., 0]) for name, places in SHOWN.items()},
    }


def average_precision(comparison: Comparison) -> float:
    """Return the AP of people of all sizes; UNDEFINED without people."""
    return _mean(comparison.precision[..., 0])


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size and values.min() > UNDEFINED else UNDEFINED
