"""Diagnosis of each result, person and joint, after Ronchi and Perona, "Benchmarking and Error Diagnosis in Multi-Instance Pose
Estimation", ICCV 2017, section 3.

Results and people are matched by OKS, best fit first, regardless of the scores; a match has an OKS of at least MATCH_OKS. The
similarity of a joint is its term of the OKS, exp(-d^2 / (2 area (2 sigma)^2)): 1 at the ground truth, 0.5 at the edge of the
region that still counts as this joint.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluator.metrics.coco_eval import Comparison, ImageComparison
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.skeleton import Skeleton

JOINT_ERRORS = {
    "miss": "joint that is not near any ground-truth joint of its kind, of this person or another",
    "swap": "joint nearer to the same (or the mirrored) joint of another person",
    "inversion": "joint nearer to the mirrored joint of the same person",
    "jitter": "joint near the ground truth, but not close (similarity from 0.5 to 0.85)",
}
PERSON_ERRORS = {
    "score": "result that ranks above a better fit of the same person",
    "false": "result that fits no person, or a person who is matched already",
    "missed": "person without a matching result",
}
ERRORS = {**JOINT_ERRORS, **PERSON_ERRORS}
GOOD = len(JOINT_ERRORS)  # code of a joint without error
UNKNOWN = -1  # code of an unlabeled joint, or of a joint of a missed person

GOOD_FROM, NEAR_FROM = 0.85, 0.5
MATCH_OKS = 0.1
IGNORED_OKS = 0.5  # a result with this OKS to a crowd or to a person without labeled joints is neither right nor wrong


@dataclass(frozen=True, kw_only=True)
class ImageErrors:
    """The diagnosis of one image with D results, best score first and at most as many as COCO scores, and P people.

    places: intp (D,), places in the list of all results. fates: "found" (matched), "score", "false" or "ignored" for each
    result. best_oks: float (D,), OKS of each result with the person that fits it best. people: annotations that count.
    found_by: intp (P,), row of the matched result, -1 for missed people. oks: float (P,), 0 for missed people.
    similarity: float (P, S), 0 for missed people, NaN for unlabeled joints. distance_px: float (P, S), NaN for both.
    joint_errors: int8 (P, S), index into JOINT_ERRORS, GOOD or UNKNOWN.
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
        """Count each kind of ERRORS."""
        joints = {name: int((self.joint_errors == code).sum()) for code, name in enumerate(JOINT_ERRORS)}
        results = {name: self.fates.count(name) for name in ("score", "false")}
        return {**joints, **results, "missed": int((self.found_by < 0).sum())}


def diagnose(comparison: Comparison, document: CocoFile, results: Results, skeleton: Skeleton) -> list[ImageErrors]:
    """Diagnose each image that has results or people. `comparison` is that of the same results and annotations."""
    diagnoses = []
    for image_id in comparison.image_ids:
        image = comparison.image(image_id)
        if len(image.counted) or len(image.places):
            diagnoses.append(_diagnose_image(image_id, image, document, results, skeleton))
    return diagnoses


def _diagnose_image(
    image_id: int, image: ImageComparison, document: CocoFile, results: Results, skeleton: Skeleton
) -> ImageErrors:
    annotations = document.annotations.get(image_id, [])
    people = tuple(entry for entry, counts in zip(annotations, image.counted, strict=True) if counts)
    oks = image.oks[:, image.counted]
    found_by = match(oks)
    predicted = np.array([results[place]["keypoints"] for place in image.places])
    predicted = predicted.reshape(len(image.places), len(skeleton.source_joints), 3)
    similarity, distance, errors = _diagnose_joints(found_by, predicted, people, skeleton)
    return ImageErrors(
        image_id=image_id,
        places=image.places,
        fates=_fates(image.oks, image.counted, found_by),
        best_oks=oks.max(axis=1, initial=0),
        people=people,
        found_by=found_by,
        oks=np.nanmean(similarity, axis=1) if len(people) else np.zeros(0),
        similarity=similarity,
        distance_px=distance,
        joint_errors=errors,
    )


def match(oks: np.ndarray, least: float = MATCH_OKS) -> np.ndarray:
    """Match results and people greedily, highest OKS first; of equal OKS, the result with the higher score wins.

    least: lowest OKS of a match.

    oks: float (D, P), rows by descending score. Returns intp (P,): the row matched to each person, -1 for missed people.
    """
    found_by = np.full(oks.shape[1], -1, np.intp)
    taken = np.zeros(len(oks), bool)
    for cell in np.argsort(-oks, axis=None, kind="stable"):
        row, person = divmod(int(cell), oks.shape[1])
        if oks[row, person] < least:
            break
        if found_by[person] < 0 and not taken[row]:
            found_by[person], taken[row] = row, True
    return found_by


def _fates(oks: np.ndarray, counted: np.ndarray, found_by: np.ndarray) -> tuple[str, ...]:
    """The fate of each result; oks: (D, P), counted: (P,)."""
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
    found_by: np.ndarray, predicted: np.ndarray, people: Sequence[Annotation], skeleton: Skeleton
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """predicted: float (D, S, 3). Returns similarity, distance_px and joint_errors as in ImageErrors."""
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
        # Similarity of each joint to the same and to the mirrored joint of each person: (P, S) each.
        same, apart = _similarities(predicted[row, :, :2], true, areas, skeleton)
        other_side, _ = _similarities(predicted[row, :, :2], true[:, mirror], areas, skeleton)
        other_side[:, mirror == np.arange(num_joints)] = 0
        others = np.arange(len(people)) != person
        swapped = np.maximum(same, other_side)[others].max(axis=0, initial=0)
        codes = _classify(same[person], other_side[person], swapped)
        joints = labeled[person]
        similarity[person, joints], distance[person, joints] = same[person, joints], apart[person, joints]
        errors[person, joints] = codes[joints]
    return similarity, distance, errors


def _similarities(places: np.ndarray, true: np.ndarray, areas: np.ndarray, skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray]:
    """Compare joints at `places` (S, 2) with each person's, (P, S, 3): similarity (0 if unlabeled) and distance, (P, S)."""
    apart = np.hypot(*np.moveaxis(places - true[..., :2], -1, 0))
    # Like pycocotools, add the spacing of 1 to the area.
    variance = 2 * np.square(2 * np.array(skeleton.sigmas)) * (areas[:, None] + np.spacing(1))
    return np.exp(-np.square(apart) / variance) * (true[..., 2] > 0), apart


def _classify(own: np.ndarray, other_side: np.ndarray, swapped: np.ndarray) -> np.ndarray:
    """Classify joints by the ground-truth joint they are most similar to, as in github.com/matteorr/coco-analyze.

    The arguments are similarities (S,): to the joint itself, to the mirrored joint of the same person, and the highest one to a
    joint of another person. Returns codes int8 (S,).
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
    """Return intp (S,): the mirrored joint of each joint of the annotation file, or the joint itself if it has none."""
    swap = {a: b for a, b in skeleton.mirror_pairs} | {b: a for a, b in skeleton.mirror_pairs}
    order = {joint: place for place, joint in enumerate(skeleton.source_joints)}
    return np.array([order.get(swap.get(joint, joint), place) for joint, place in order.items()])
