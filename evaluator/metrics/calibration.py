"""Calibration of scores: the probability that a predicted person is right, fitted to an evaluation, and its error.

A person is right if COCO matches it with a person of the ground truth at an OKS of RIGHT_OKS or more.

The map is fitted by isotonic regression (Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability
estimates", KDD 2002), which yields blocks of people with equal probability; it is linear from one block to the next. Within a block it
rises by an insignificant amount, so that it is strictly increasing: calibrated scores have no ties that raw scores do not have.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from evaluator.decoding.scores import ScoreMap
from evaluator.metrics.coco_eval import AREA_RANGES, keypoint_eval
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton

RIGHT_OKS = 0.5
NUM_BINS = 15
# Most predictions are certainly wrong: fragments with tiny scores, which would hide the error of all others. Those below this
# probability are left out of the calibration error.
MIN_PROBABILITY = 0.05
MIN_BLOCK = 10  # people: the average of fewer says little
MAX_BLOCKS = 30
PRIOR_WEIGHT = 1.0  # people with the average precision, added to each block, so that a block of right people does not get 1
LIMIT = 1e-3  # probabilities are from LIMIT to 1 - LIMIT
MIN_STEP = 1e-4  # of the probability between two blocks
RISE = 1e-5  # of the probability within a block
TAIL = 1e-3  # share of the way to 0 and 1 that is left to raw scores outside the blocks
REACH = 100.0  # the last knot, in multiples of the last block's raw score; no person has as high a score

Knots = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """N predicted people that are right or wrong: raw scores and scores float64 (N,), is_right bool (N,), image_ids int64 (N,)."""

    raw: np.ndarray
    scores: np.ndarray
    is_right: np.ndarray
    image_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Scores beside the share of right people, in bins of equally many people.

    count: int (B,). score: mean score (B,). right: share of right people (B,). ece: expected calibration error, the mean of
    |score - right| over all people, with equal-mass bins as in Nguyen and O'Connor, "Posterior calibration and exploratory analysis
    for natural language processing models", EMNLP 2015 (their error is the root of the mean square).
    """

    count: np.ndarray
    score: np.ndarray
    right: np.ndarray
    ece: float


def judge(document: CocoFile, results: Results, skeleton: Skeleton) -> Judged:
    """Return all predicted people that are right or wrong. Results without `raw_score` count with their `score`.

    As in COCO, results that match a crowd or a person without labeled joints are neither. Raises UserError if results and annotations
    do not match.
    """
    places, is_right = _match(document, results, skeleton)
    chosen = [results[place] for place in places]
    return Judged(
        raw=np.array([entry.get("raw_score", entry["score"]) for entry in chosen], np.float64),
        scores=np.array([entry["score"] for entry in chosen], np.float64),
        is_right=is_right,
        image_ids=np.array([entry["image_id"] for entry in chosen], np.int64),
    )


def _match(document: CocoFile, results: Results, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Match results with people as COCO does, also the results beyond COCO's limit per image.

    Returns intp (M,), the places in the list of the results that count, ascending, and bool (M,), whether they match a person.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        job = keypoint_eval(document, results, skeleton)
        job.params.areaRngLbl, job.params.areaRng = ["all"], [list(AREA_RANGES["all"])]
        job.params.iouThrs, job.params.maxDets = np.array([RIGHT_OKS]), [max(1, len(results))]
        job.evaluate()
    images = [image for image in job.evalImgs if image is not None]
    ids, matched, ignored = (
        np.concatenate([np.zeros(0), *(np.ravel(image[name]) for image in images)]) for name in ("dtIds", "dtMatches", "dtIgnore")
    )
    order = np.argsort(ids)
    order = order[ignored[order] == 0]
    return (ids[order] - 1).astype(np.intp), matched[order] > 0


def fit(raw: np.ndarray, is_right: np.ndarray) -> Knots:
    """Fit the map from raw scores (N,), at least one and none negative, to the probability of being right, bool (N,).

    Returns knots of a `ScoreMap`, strictly increasing in both numbers, probabilities above 0 and below 1.
    """
    values, at, counts = np.unique(raw, return_inverse=True, return_counts=True)
    rights = np.bincount(at, is_right)
    starts = isotonic_regression(rights / counts, weights=counts).blocks[:-1]
    # Number of people, number of right people, lowest and highest raw score of each block.
    sums = [np.add.reduceat(column, starts) for column in (counts, rights)]
    blocks = np.stack([*sums, values[starts], values[np.append(starts[1:], len(values)) - 1]]).astype(np.float64)
    prior = (blocks[1].sum() + 1) / (blocks[0].sum() + 2)
    while (pair := _pair_to_merge(blocks[0], _probabilities(blocks, prior))) is not None:
        merged = [*blocks[:2, pair] + blocks[:2, pair + 1], blocks[2, pair], blocks[3, pair + 1]]
        blocks = np.concatenate([blocks[:, :pair], np.transpose([merged]), blocks[:, pair + 2 :]], axis=1)
    knots: Knots = []
    for low, high, probability in zip(*blocks[2:].tolist(), _probabilities(blocks, prior).tolist(), strict=True):
        knots += [(low, probability), (high, probability + RISE)] if low < high else [(low, probability)]
    (lowest, first), (highest, last) = knots[0], knots[-1]
    start = [(0.0, first * (1 - TAIL))] if lowest > 0 else []
    return [*start, *knots, (REACH * max(highest, 1.0), last + TAIL * (1 - last))]


def _probabilities(blocks: np.ndarray, prior: float) -> np.ndarray:
    count, right = blocks[:2]
    return np.clip((right + PRIOR_WEIGHT * prior) / (count + PRIOR_WEIGHT), LIMIT, 1 - LIMIT)


def _pair_to_merge(count: np.ndarray, probability: np.ndarray) -> int | None:
    """Return the first block of the next pair to merge: one with a small block, else the most similar one of too many."""
    if len(count) == 1:
        return None
    step = np.diff(probability)
    cost = count[:-1] * count[1:] / (count[:-1] + count[1:]) * step**2  # squared error that merging adds
    smallest = int(count.argmin())
    if count[smallest] < MIN_BLOCK:
        neighbors = [pair for pair in (smallest - 1, smallest) if 0 <= pair < len(cost)]
        return min(neighbors, key=lambda pair: cost[pair])
    if len(count) > MAX_BLOCKS:
        return int(cost.argmin())
    return int(step.argmin()) if step.min() < MIN_STEP else None


def cross_fit(judged: Judged, folds: int = 2) -> np.ndarray:
    """Return each person's probability, float64 (N,), by a map that was fitted to other images.

    The images are split at random into equal parts, always in the same way. There must be people in at least `folds` images.
    """
    ids = np.unique(judged.image_ids)
    part = np.random.default_rng(0).permutation(len(ids))[np.searchsorted(ids, judged.image_ids)] % folds
    probability = np.zeros(len(judged))
    for number in range(folds):
        own = part == number
        probability[own] = ScoreMap(half=1, knots=fit(judged.raw[~own], judged.is_right[~own]))(judged.raw[own])
    return probability


def reliability(scores: Sequence[float] | np.ndarray, is_right: np.ndarray, num_bins: int = NUM_BINS) -> Reliability:
    """Compare scores (N,) with the share of right people in at most `num_bins` bins of equally many people."""
    order = np.argsort(scores, kind="stable")
    bins = [part for part in np.array_split(order, num_bins) if len(part)]
    count = np.array([len(part) for part in bins], np.int64)
    score = np.array([np.asarray(scores)[part].mean() for part in bins])
    right = np.array([is_right[part].mean() for part in bins])
    ece = float((count * np.abs(score - right)).sum() / max(1, count.sum()))
    return Reliability(count=count, score=score, right=right, ece=ece)
