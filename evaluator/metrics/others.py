"""The metrics of other data sets than COCO, by their names in --metric."""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from evaluator.metrics import crowdpose_ap, ochuman_ap, pck, pckh, posetrack_ap
from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import Measured
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile

MODULES = {"crowdpose": crowdpose_ap, "ochuman": ochuman_ap, "pck": pck, "pckh": pckh, "posetrack": posetrack_ap}


def require_metrics(document: CocoFile, config: MetricConfig) -> None:
    """Raise UserError for a metric that needs what the annotation file does not have. Call it before the work starts."""
    for name in config.others:
        MODULES[name].require(document, config)


def measure_others(document: CocoFile, results: Results, config: MetricConfig, image_ids: Collection[int]) -> dict[str, Measured]:
    """Return the chosen metrics other than COCO's. Raises UserError if results and annotations do not match."""
    return {name: MODULES[name].measure(document, results, config, image_ids) for name in config.others}


def as_written(measured: dict[str, Measured]) -> dict[str, Any]:
    """Return the entry `others` of metrics.json; nothing if no other metric was chosen."""
    return {"others": {name: asdict(each) for name, each in measured.items()}} if measured else {}
