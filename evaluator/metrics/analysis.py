"""What the losses of an evaluation are made of: figures by joint and by size of the person, and the AP that mending each kind of
error would give. Pure functions over annotations, COCO results and skeleton.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from evaluator.metrics.coco_eval import AREA_RANGES, FIGURES, SMALL, compare
from evaluator.metrics.diagnosis import ERRORS, GOOD, JOINT_ERRORS, ImageErrors, diagnose
from evaluator.metrics.results import Result, Results
from pipeline.datasets.coco import Annotation, CocoFile
from pipeline.progress import progress_bar
from pipeline.skeleton import Skeleton

EVERYBODY = {"all": AREA_RANGES["all"]}


@dataclass(frozen=True, kw_only=True)
class AreaFigures:
    """AP and AR (-1 where there is nobody) of people with an area from `limits[0]` to `limits[1]` square pixels."""

    limits: tuple[float, float]
    num_people: int
    ap: float
    ar: float


@dataclass(frozen=True, kw_only=True)
class ErrorFigures:
    """One kind of error: how many, AP with it alone mended, AP with it and all kinds before it mended."""

    count: int
    ap_alone: float
    ap_so_far: float


@dataclass(frozen=True, kw_only=True)
class JointFigures:
    """One joint of the annotation file, over people with a labeled joint; 0 or NaN where it is labeled nowhere.

    num_labeled: how often. oks: mean similarity, 0 for missed people. oks_found: without those. median_px: distance from the
    true place, of people who were found. num_missed: of people who were not. num_guessed: of people who were, but without this
    joint (its v is 0 in the results). counts: how often each of JOINT_ERRORS, and "good".
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
    """figures: COCO's ten. areas, errors, joints: by name. images: by id, those with people or results.

    precision: float (T, 101), at each OKS of `thresholds` (T,) and the recalls 0, 0.01, …, 1; -1 where there is nobody.
    """

    figures: dict[str, float]
    areas: dict[str, AreaFigures]
    thresholds: np.ndarray
    precision: np.ndarray
    errors: dict[str, ErrorFigures]
    joints: dict[str, JointFigures]
    images: dict[int, ImageErrors]


def analyze(document: CocoFile, results: Results, skeleton: Skeleton, image_ids: Collection[int] | None = None) -> Analysis:
    """Over all images of the file, or over `image_ids` alone.

    Raises UserError where results and annotations do not belong together.
    """
    areas = {**AREA_RANGES, **SMALL}
    job = compare(document, results, skeleton, image_ids, areas)
    images = diagnose(job, document, results, skeleton)
    people = np.array([person.area for image in images for person in image.people])
    figures_of = {
        name: AreaFigures(
            limits=limits,
            num_people=int(((people >= limits[0]) & (people <= limits[1])).sum()),
            ap=_mean(job.eval["precision"][:, :, 0, place, 0]),
            ar=_mean(job.eval["recall"][:, 0, place, 0]),
        )
        for place, (name, limits) in enumerate(areas.items())
    }
    return Analysis(
        figures=dict(zip(FIGURES, map(float, job.stats), strict=True)),
        areas=figures_of,
        thresholds=job.params.iouThrs,
        precision=job.eval["precision"][:, :, 0, 0, 0],
        errors=mending(document, results, skeleton, images, image_ids),
        joints=joint_figures(images, results, skeleton),
        images={image.image_id: image for image in images},
    )


def mending(
    document: CocoFile,
    results: Results,
    skeleton: Skeleton,
    images: list[ImageErrors],
    image_ids: Collection[int] | None = None,
) -> dict[str, ErrorFigures]:
    """Every kind of error with the AP of mending it, scored by pycocotools over all images of the file or over `image_ids`."""
    counts = [image.count() for image in images]
    alone, so_far = {}, {}
    with progress_bar(total=2 * len(ERRORS), desc="mending errors", unit="kind") as progress:
        for number, name in enumerate(ERRORS, start=1):
            for kinds, into in (((name,), alone), (tuple(ERRORS)[:number], so_far)):
                mended = mend(document, results, images, kinds)
                into[name] = _mean(compare(document, mended, skeleton, image_ids, EVERYBODY).eval["precision"])
                progress.update()
    return {
        name: ErrorFigures(count=sum(count[name] for count in counts), ap_alone=alone[name], ap_so_far=so_far[name])
        for name in ERRORS
    }


def mend(document: CocoFile, results: Results, images: list[ImageErrors], kinds: Collection[str]) -> Results:
    """The results as they would be without errors of these kinds; those that COCO does not look at are left out.

    miss, swap, inversion, jitter: such joints are put at their true place. score: a result's score is its OKS, and whoever is
    somebody's comes before whoever is not. false: such results go. missed: such people are found exactly, with the median
    score of those who were found. So an error is mended wholly; Ronchi and Perona move a joint to the edge of the next better
    class, and leave missed people out.
    """
    codes = [code for code, name in enumerate(JOINT_ERRORS) if name in kinds]
    found = [results[place]["score"] for image in images for place in image.places[image.found_by[image.found_by >= 0]]]
    typical = float(np.median(found)) if found else 1.0
    mended = []
    for image in images:
        entries = [dict(results[place]) for place in image.places]
        right = np.isin(image.joint_errors, codes)
        oks = np.nanmean(np.where(right, 1.0, image.similarity), axis=1) if len(image.people) else image.oks
        if "score" in kinds:
            for entry, best in zip(entries, image.best_oks, strict=True):
                entry["score"] = float(best)
        for person, row in enumerate(image.found_by):
            if row >= 0:
                entries[row]["keypoints"] = _moved(entries[row], image.people[person], right[person])
                if "score" in kinds:
                    entries[row]["score"] = 1 + float(oks[person])
            elif "missed" in kinds:
                entries.append(_exact(image, person, document.category_id, 2.0 if "score" in kinds else typical))
        fates = (*image.fates, *["found"] * (len(entries) - len(image.fates)))
        mended += [entry for entry, fate in zip(entries, fates, strict=True) if not ("false" in kinds and fate == "false")]
    return mended


def _moved(entry: Result, person: Annotation, right: np.ndarray) -> list[float]:
    points = np.reshape(entry["keypoints"], (-1, 3)).astype(np.float64)
    points[right, :2] = person.keypoints[right, :2]
    return points.ravel().tolist()


def _exact(image: ImageErrors, person: int, category_id: int, score: float) -> Result:
    points = image.people[person].keypoints.copy()
    labeled = points[:, 2] > 0
    points[~labeled, :2] = points[labeled, :2].mean(axis=0)  # anywhere near: they are not scored, but tell the person's size
    return {"image_id": image.image_id, "category_id": category_id, "keypoints": points.ravel().tolist(), "score": score}


def joint_figures(images: list[ImageErrors], results: Results, skeleton: Skeleton) -> dict[str, JointFigures]:
    """By joint of the annotation file."""
    num_joints = len(skeleton.source_joints)
    none = np.zeros((0, num_joints))
    similarity = np.concatenate([none, *(image.similarity for image in images)])
    distance = np.concatenate([none, *(image.distance_px for image in images)])
    errors = np.concatenate([none, *(image.joint_errors for image in images)])
    found = np.concatenate([none[:, 0], *(image.found_by >= 0 for image in images)]).astype(bool)
    given = np.array([_given(image, row, results) for image in images for row in image.found_by], bool).reshape(-1, num_joints)
    figures = {}
    for place, joint in enumerate(skeleton.source_joints):
        labeled = ~np.isnan(similarity[:, place])
        seen = labeled & found
        figures[joint] = JointFigures(
            num_labeled=int(labeled.sum()),
            oks=_mean(similarity[labeled, place]),
            oks_found=_mean(similarity[seen, place]),
            median_px=float(np.median(distance[seen, place])) if seen.any() else np.nan,
            num_missed=int((labeled & ~found).sum()),
            num_guessed=int((seen & ~given[:, place]).sum()),
            counts={name: int((errors[:, place] == code).sum()) for code, name in [*enumerate(JOINT_ERRORS), (GOOD, "good")]},
        )
    return figures


def _given(image: ImageErrors, row: int, results: Results) -> np.ndarray:
    """bool (S,): the joints that the result in that row has of its own; all of them where it is missing."""
    if row < 0:
        return np.ones(image.similarity.shape[1], bool)
    return np.reshape(results[image.places[row]]["keypoints"], (-1, 3))[:, 2] > 0


def _mean(values: np.ndarray) -> float:
    """Mean of what is known: pycocotools marks with -1 what is not. -1 if nothing is."""
    known = values[values > -1]
    return float(known.mean()) if known.size else -1.0
