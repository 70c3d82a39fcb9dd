"""Error analysis of an evaluation: metrics by joint and by size of the person, and the AP if each kind of error were fixed.

Pure functions of annotations, COCO results and skeleton.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from evaluator.metrics.coco_eval import AREA_RANGES, SMALL, Comparison, compare
from evaluator.metrics.diagnosis import ERRORS, GOOD, JOINT_ERRORS, ImageErrors, diagnose
from evaluator.metrics.results import Result, Results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.runtime.progress import progress_bar
from pipeline.skeleton import Skeleton

ALL_AREAS = {"all": AREA_RANGES["all"]}


@dataclass(frozen=True, kw_only=True)
class AreaFigures:
    """AP and AR of people with an area from `limits[0]` to `limits[1]` square pixels; -1 if there are no such people."""

    limits: tuple[float, float]
    num_people: int
    ap: float
    ar: float


@dataclass(frozen=True, kw_only=True)
class ErrorFigures:
    """One kind of error: its count, the AP if only it were fixed, the AP if it and all kinds before it were fixed."""

    count: int
    ap_alone: float
    ap_so_far: float


@dataclass(frozen=True, kw_only=True)
class JointFigures:
    """One joint of the annotation file, over people with at least one labeled joint; 0 or NaN if it is never labeled.

    num_labeled: number of labeled joints. oks: mean similarity, 0 for missed people. oks_found: mean similarity without missed
    people. median_px: median distance to the ground truth, without missed people. num_missed: labeled joints of missed people.
    num_guessed: labeled joints of found people whose result lacks the joint (v = 0). counts: number of joints by JOINT_ERRORS
    and "good".
    """

    num_labeled: int
    oks: float
    oks_found: float
    median_px: float
    num_missed: int
    num_guessed: int
    counts: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The error analysis of an evaluation.

    figures: the ten COCO metrics. areas, errors, joints: by name. images: by id, only images with people or results.
    precision: float (T, 101) at the OKS thresholds `thresholds` (T,) and the recalls 0, 0.01, …, 1; -1 if there are no people.
    """

    figures: dict[str, float]
    areas: dict[str, AreaFigures]
    thresholds: np.ndarray
    precision: np.ndarray
    errors: dict[str, ErrorFigures]
    joints: dict[str, JointFigures]
    images: dict[int, ImageErrors]


def analyze(document: CocoFile, results: Results, skeleton: Skeleton, image_ids: Collection[int] | None = None) -> Analysis:
    """Analyze results over `image_ids`; by default over all images of the file.

    Raises UserError if results and annotations do not match.
    """
    areas = {**AREA_RANGES, **SMALL}
    comparison = compare(document, results, skeleton, image_ids, areas)
    images = diagnose(comparison, document, results, skeleton)
    return Analysis(
        figures=comparison.figures,
        areas=_area_figures(comparison, images, areas),
        thresholds=comparison.thresholds,
        precision=comparison.precision[:, :, 0],
        errors=error_figures(document, results, skeleton, images, image_ids),
        joints=joint_figures(images, results, skeleton),
        images={image.image_id: image for image in images},
    )


def _area_figures(
    comparison: Comparison, images: list[ImageErrors], areas: dict[str, tuple[float, float]]
) -> dict[str, AreaFigures]:
    people = np.array([person.area for image in images for person in image.people])
    return {
        name: AreaFigures(
            limits=limits,
            num_people=int(((people >= limits[0]) & (people <= limits[1])).sum()),
            ap=_mean(comparison.precision[:, :, place]),
            ar=_mean(comparison.recall[:, place]),
        )
        for place, (name, limits) in enumerate(areas.items())
    }


def error_figures(
    document: CocoFile,
    results: Results,
    skeleton: Skeleton,
    images: list[ImageErrors],
    image_ids: Collection[int] | None = None,
) -> dict[str, ErrorFigures]:
    """Count each kind of error and compute the AP if it were fixed, over `image_ids` or all images of the file."""
    counts = [image.count() for image in images]
    alone: dict[str, float] = {}
    so_far: dict[str, float] = {}
    with progress_bar(total=2 * len(ERRORS), desc="analyzing errors", unit="kind") as progress:
        for number, name in enumerate(ERRORS, start=1):
            for kinds, target in (((name,), alone), (tuple(ERRORS)[:number], so_far)):
                fixed = fix_errors(document, results, images, kinds)
                target[name] = _mean(compare(document, fixed, skeleton, image_ids, ALL_AREAS).precision)
                progress.update()
    return {
        name: ErrorFigures(count=sum(count[name] for count in counts), ap_alone=alone[name], ap_so_far=so_far[name])
        for name in ERRORS
    }


def fix_errors(document: CocoFile, results: Results, images: list[ImageErrors], kinds: Collection[str]) -> Results:
    """Return the results without errors of these kinds; results that COCO does not score are dropped.

    - miss, swap, inversion, jitter: the joint is moved to the ground truth.
    - score: the score becomes the OKS, and matched results rank above all others.
    - false: the result is removed.
    - missed: an exact result is added, with the median score of matched results.

    Errors are thus fixed completely. Ronchi and Perona only move a joint to the edge of the next better class, and do not fix
    missed people.
    """
    codes = [code for code, name in enumerate(JOINT_ERRORS) if name in kinds]
    matched = [results[place]["score"] for image in images for place in image.places[image.found_by[image.found_by >= 0]]]
    typical = float(np.median(matched)) if matched else 1.0
    fixed = []
    for image in images:
        entries: Results = [results[place].copy() for place in image.places]
        to_fix = np.isin(image.joint_errors, codes)
        oks = np.nanmean(np.where(to_fix, 1.0, image.similarity), axis=1) if len(image.people) else image.oks
        if "score" in kinds:
            for entry, best in zip(entries, image.best_oks, strict=True):
                entry["score"] = float(best)
        for person, row in enumerate(image.found_by):
            if row >= 0:
                entries[row]["keypoints"] = _moved(entries[row], image.people[person], to_fix[person])
                if "score" in kinds:
                    entries[row]["score"] = 1 + float(oks[person])
            elif "missed" in kinds:
                entries.append(_exact(image, person, document.category_id, 2.0 if "score" in kinds else typical))
        fates = (*image.fates, *["found"] * (len(entries) - len(image.fates)))
        fixed += [entry for entry, fate in zip(entries, fates, strict=True) if not ("false" in kinds and fate == "false")]
    return fixed


def _moved(entry: Result, person: Annotation, joints: np.ndarray) -> list[float]:
    """Keypoints of a result with the given joints, bool (S,), moved to the ground truth."""
    points = np.reshape(entry["keypoints"], (-1, 3)).astype(np.float64)
    points[joints, :2] = person.keypoints[joints, :2]
    return points.ravel().tolist()


def _exact(image: ImageErrors, person: int, category_id: int, score: float) -> Result:
    """A result that equals the ground truth."""
    points = image.people[person].keypoints.copy()
    labeled = points[:, 2] > 0
    # Unlabeled joints are not scored, but determine the area of the result: place them at the center.
    points[~labeled, :2] = points[labeled, :2].mean(axis=0)
    return {"image_id": image.image_id, "category_id": category_id, "keypoints": points.ravel().tolist(), "score": score}


def joint_figures(images: list[ImageErrors], results: Results, skeleton: Skeleton) -> dict[str, JointFigures]:
    """Compute the figures of each joint of the annotation file."""
    num_joints = len(skeleton.source_joints)
    none = np.zeros((0, num_joints))
    similarity = np.concatenate([none, *(image.similarity for image in images)])
    distance = np.concatenate([none, *(image.distance_px for image in images)])
    errors = np.concatenate([none, *(image.joint_errors for image in images)])
    found = np.concatenate([none[:, 0], *(image.found_by >= 0 for image in images)]).astype(bool)
    predicted = [_predicted_joints(image, row, results) for image in images for row in image.found_by]
    is_predicted = np.array(predicted, bool).reshape(-1, num_joints)
    figures = {}
    for place, joint in enumerate(skeleton.source_joints):
        labeled = ~np.isnan(similarity[:, place])
        matched = labeled & found
        figures[joint] = JointFigures(
            num_labeled=int(labeled.sum()),
            oks=_mean(similarity[labeled, place]),
            oks_found=_mean(similarity[matched, place]),
            median_px=float(np.median(distance[matched, place])) if matched.any() else np.nan,
            num_missed=int((labeled & ~found).sum()),
            num_guessed=int((matched & ~is_predicted[:, place]).sum()),
            counts={name: int((errors[:, place] == code).sum()) for code, name in [*enumerate(JOINT_ERRORS), (GOOD, "good")]},
        )
    return figures


def _predicted_joints(image: ImageErrors, row: int, results: Results) -> np.ndarray:
    """bool (S,): which joints the result in that row predicts; all for row -1, a missed person."""
    if row < 0:
        return np.ones(image.similarity.shape[1], bool)
    return np.reshape(results[image.places[row]]["keypoints"], (-1, 3))[:, 2] > 0


def _mean(values: np.ndarray) -> float:
    """Mean of the known values (pycocotools marks unknown ones with -1); -1 if there are none."""
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
