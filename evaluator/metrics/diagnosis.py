"""What is wrong with each result, person and joint, after Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance
Pose Estimation", ICCV 2017, section 3.

Results and people are paired by their OKS, best fitting first, whatever the scores are; a pair has an OKS of at least MATCH_OKS.
A joint's similarity is its term of the OKS, exp(-d^2 / (2 area (2 sigma)^2)): 1 at the true place, 0.5 at the edge of what
still counts as the joint's own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluator.metrics.results import Results
from pipeline.datasets.coco import Annotation, CocoFile
from pipeline.skeleton import Skeleton

JOINT_ERRORS = {
    "miss": "joint near no joint of its kind, of this person or another",
    "swap": "joint nearer to another person's joint of this kind (or of the other side)",
    "inversion": "joint nearer to the same person's joint of the other side",
    "jitter": "joint near its place, but not on it (similarity from 0.5 to 0.85)",
}
PERSON_ERRORS = {
    "score": "result before one that fits the same person better",
    "false": "result that is nobody, or somebody who was found already",
    "missed": "person whom no result fits",
}
ERRORS = {**JOINT_ERRORS, **PERSON_ERRORS}
GOOD = len(JOINT_ERRORS)  # the code of a joint without error
UNKNOWN = -1  # unlabeled, or of a person who was not found

GOOD_FROM, NEAR_FROM = 0.85, 0.5
MATCH_OKS = 0.1
IGNORED_OKS = 0.5  # a result that fits a crowd or a person without labeled joints so well is neither right nor wrong


@dataclass(frozen=True, kw_only=True)
class ImageErrors:
    """The diagnosis of one image with its D results, best score first and no more than COCO looks at, and its P people.

    places: intp (D,), of the results in the list of all results. fates: of each result "found" (it is somebody's), "score",
    "false" or "ignored". best_oks: float (D,), of each result with the person it fits best. people: annotations that count.
    found_by: intp (P,), row of the person's result, -1 for the missed. oks: float (P,), 0 for the missed.
    similarity: float (P, S), 0 for the missed, NaN where unlabeled. distance_px: float (P, S), NaN for the missed too.
    joint_errors: int8 (P, S), place in JOINT_ERRORS, GOOD or UNKNOWN.
    """

    image_id: int
    places: np.ndarray
    fates: tuple[str, ...]
    best_oks: np.ndarray
    people: tuple[Annotation, ...]
    found_by: np.ndarray
    oks: np.ndarray
    similarity: np.ndarray
    distance_px: np.ndarray
    joint_errors: np.ndarray

    def count(self) -> dict[str, int]:
        """How often each of ERRORS occurs."""
        joints = {name: int((self.joint_errors == code).sum()) for code, name in enumerate(JOINT_ERRORS)}
        results = {name: self.fates.count(name) for name in ("score", "false")}
        return {**joints, **results, "missed": int((self.found_by < 0).sum())}


def diagnose(job: Any, document: CocoFile, results: Results, skeleton: Skeleton) -> list[ImageErrors]:
    """Every image that has results or people; `job` is what `evaluator.metrics.coco_eval.compare` made of these results."""
    return [
        _diagnose_image(job, image_id, document, results, skeleton)
        for image_id in map(int, job.params.imgIds)
        if job._gts[image_id, document.category_id] or job._dts[image_id, document.category_id]
    ]


def _diagnose_image(job: Any, image_id: int, document: CocoFile, results: Results, skeleton: Skeleton) -> ImageErrors:
    key = image_id, document.category_id
    annotations = document.annotations.get(image_id, [])
    counted = np.array([not entry["ignore"] for entry in job._gts[key]], bool)
    # As pycocotools orders and cuts them, so that rows are those of its OKS.
    order = np.argsort([-entry["score"] for entry in job._dts[key]], kind="mergesort")[: job.params.maxDets[-1]]
    places = np.array([job._dts[key][i]["id"] - 1 for i in order], np.intp)
    oks = np.reshape(job.ious[key], (len(places), len(counted)))
    people = tuple(entry for entry, counts in zip(annotations, counted, strict=True) if counts)
    found_by = match(oks[:, counted])
    given = np.array([results[place]["keypoints"] for place in places]).reshape(len(places), len(skeleton.source_joints), 3)
    similarity, distance, errors = _diagnose_joints(found_by, given, people, skeleton)
    return ImageErrors(
        image_id=image_id,
        places=places,
        fates=_fates(oks, counted, found_by),
        best_oks=oks[:, counted].max(axis=1, initial=0),
        people=people,
        found_by=found_by,
        oks=np.nanmean(similarity, axis=1) if len(people) else np.zeros(0),
        similarity=similarity,
        distance_px=distance,
        joint_errors=errors,
    )


def match(oks: np.ndarray) -> np.ndarray:
    """OKS (D, P), rows by falling score -> intp (P,): the row that is each person's, -1 for none. The best OKS comes first; of
    equal ones that of the higher score."""
    found_by = np.full(oks.shape[1], -1, np.intp)
    taken = np.zeros(len(oks), bool)
    for cell in np.argsort(-oks, axis=None, kind="stable"):
        row, person = divmod(int(cell), oks.shape[1])
        if oks[row, person] < MATCH_OKS:
            break
        if found_by[person] < 0 and not taken[row]:
            found_by[person], taken[row] = row, True
    return found_by


def _fates(oks: np.ndarray, counted: np.ndarray, found_by: np.ndarray) -> tuple[str, ...]:
    fates = []
    for row, similar in enumerate(oks):
        people = similar[counted]
        nearest = int(people.argmax()) if len(people) else 0
        if row in found_by:
            fates.append("found")
        elif similar[~counted].max(initial=0) >= IGNORED_OKS:
            fates.append("ignored")
        elif people.max(initial=0) >= MATCH_OKS and found_by[nearest] > row:
            fates.append("score")
        else:
            fates.append("false")
    return tuple(fates)


def _diagnose_joints(
    found_by: np.ndarray, given: np.ndarray, people: Sequence[Annotation], skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`given`: float (D, S, 3). Returns similarity, distance_px and joint_errors of ImageErrors."""
    num_joints = len(skeleton.source_joints)
    true = np.array([entry.keypoints for entry in people]).reshape(-1, num_joints, 3)
    areas = np.array([entry.area for entry in people], np.float64)
    labeled = true[..., 2] > 0
    similarity, distance = np.where(labeled, 0.0, np.nan), np.full(labeled.shape, np.nan)
    errors = np.full(labeled.shape, UNKNOWN, np.int8)
    mirror = mirrored_sources(skeleton)
    for person, row in enumerate(found_by):
        if row < 0:
            continue
        # Each of its joints against the same and the mirrored joint of everybody: (P, S) each.
        same, apart = _similarities(given[row, :, :2], true, areas, skeleton)
        other_side, _ = _similarities(given[row, :, :2], true[:, mirror], areas, skeleton)
        other_side[:, mirror == np.arange(num_joints)] = 0
        others = np.arange(len(people)) != person
        swapped = np.maximum(same, other_side)[others].max(axis=0, initial=0)
        codes = _classify(same[person], other_side[person], swapped)
        here = labeled[person]
        similarity[person, here], distance[person, here] = same[person, here], apart[person, here]
        errors[person, here] = codes[here]
    return similarity, distance, errors


def _similarities(places: np.ndarray, true: np.ndarray, areas: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Joints at `places` (S, 2) against each person's, (P, S, 3): similarity (0 where unlabeled) and distance, (P, S)."""
    apart = np.hypot(*np.moveaxis(places - true[..., :2], -1, 0))
    # pycocotools adds the spacing of 1 to the area in the same way.
    variance = 2 * np.square(2 * np.array(skeleton.sigmas)) * (areas[:, None] + np.spacing(1))
    return np.exp(-np.square(apart) / variance) * (true[..., 2] > 0), apart


def _classify(own: np.ndarray, other_side: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """Similarities (S,) to the own joint, to the own one of the other side, to the best of others -> codes.

    A joint is what it is most similar to, as in the authors' own program (github.com/matteorr/coco-analyze).
    """
    names = list(JOINT_ERRORS)
    is_own = (own >= other_side) & (own >= swapped)
    return np.select(
        [
            np.maximum(np.maximum(own, other_side), swapped) < NEAR_FROM,
            is_own & (own >= GOOD_FROM),
            is_own,
            other_side >= swapped,
        ],
        [names.index("miss"), GOOD, names.index("jitter"), names.index("inversion")],
        names.index("swap"),
    ).astype(np.int8)


def mirrored_sources(skeleton: Skeleton) -> np.ndarray:
    """intp (S,): for each joint of the annotation file its mirror image, itself where it has none."""
    swap = {a: b for a, b in skeleton.mirror_pairs} | {b: a for a, b in skeleton.mirror_pairs}
    order = {joint: place for place, joint in enumerate(skeleton.source_joints)}
    return np.array([order.get(swap.get(joint, joint), place) for joint, place in order.items()])
