"""The reliability of scores for the page: do as many people turn out right as their scores say?"""

from typing import Any

import numpy as np

from evaluator.inference.scoring import read_calibration
from evaluator.metrics.calibration import MIN_PROBABILITY, Reliability, cross_fit, judge, reliability
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton

MIN_PEOPLE = 30  # fewer make no curve


def describe_reliability(
    document: CocoFile, results: Results, skeleton: Skeleton, identity: dict[str, Any], where: str
) -> dict[str, Any] | None:
    """Return the reliability of an evaluation as plain values; None for too few people, and for scores that are not from 0 to 1.

    written: of the scores in the results. fitted: of scores that `calibrate` fits to one half of the images, on the other half.
    Both are of people with a fitted score of MIN_PROBABILITY or more; leftOut: numbers of the others, and of right ones among them.
    fittedHere: the network was calibrated on the very images of this evaluation, so that its scores look better than they are.
    """
    judged = judge(document, results, skeleton)
    if len(np.unique(judged.image_ids)) < 2 or judged.scores.max() > 1 or min(judged.scores.min(), judged.raw.min()) < 0:
        return None
    fitted = cross_fit(judged)
    possible = fitted >= MIN_PROBABILITY
    if possible.sum() < MIN_PEOPLE:
        return None
    calibration = read_calibration(identity.get("calibration", {}), where)
    return {
        "written": _plain(reliability(judged.scores[possible], judged.is_right[possible])),
        "fitted": _plain(reliability(fitted[possible], judged.is_right[possible])),
        "minProbability": MIN_PROBABILITY,
        "leftOut": [int((~possible).sum()), int(judged.is_right[~possible].sum())],
        "isCalibrated": calibration is not None,
        "fittedHere": calibration is not None and calibration.annotations == identity.get("annotations"),
    }


def _plain(measured: Reliability) -> dict[str, Any]:
    points = zip(measured.score.round(4), measured.right.round(4), measured.count, strict=True)
    return {"ece": round(measured.ece, 4), "points": [[float(score), float(right), int(count)] for score, right, count in points]}
