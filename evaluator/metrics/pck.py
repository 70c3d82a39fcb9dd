"""PCK: the share of labeled joints that are predicted within a distance of alpha times the size of the person.

Yang and Ramanan, "Articulated human detection with flexible mixtures of parts", PAMI 2013. As MMPose's PCKAccuracy
(mmpose/evaluation/metrics/keypoint_2d_metrics.py, functional/keypoint_eval.py): a joint is right if its distance is less than (<) the
allowed one, and the figure is the mean over joints of each joint's share. Sizes as there: torso, the distance from left shoulder to
right hip, as for LSP (eval_pck.m) and JHMDB; head, 0.6 x the diagonal of the head box; box, the longer side of the person's box.

PCK was made for one person per image. Here an image may have several people and predictions, which are paired by OKS, highest first,
each once, with no lower limit. "best" pairs all predictions, so that a person gets the one that fits best. "top" pairs only as many as the
image has labeled people, those with the highest scores: of one person, the highest-scored prediction. Joints that a prediction lacks
(v = 0), and all joints of a person without a prediction, are wrong.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from evaluator.metrics.checks import require_fit
from evaluator.metrics.config import MetricConfig, Norm
from evaluator.metrics.diagnosis import match
from evaluator.metrics.figures import UNDEFINED, Measured
from evaluator.metrics.oks import oks_of
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton

ALPHAS = (0.05, 0.1, 0.2)
CHOICES = ("best", "top")
TORSO = ("left_shoulder", "right_hip")
HEAD_SHARE = 0.6  # of the diagonal of MPII's head box: the length of the head (evalMPII, poseval)
MIN_SIZE_PX = 1.0  # MMPose takes a shorter torso as unknown, too


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Distances of joints in sizes of their person, float64 (P, S): NaN for unlabeled joints, infinite for missing ones.

    by_choice: by CHOICES. num_left_out: labeled people of unknown size, who are not among the P.
    """

    by_choice: dict[str, np.ndarray]
    num_left_out: int

    @property
    def counts(self) -> dict[str, int]:
        """How many people are scored, and how many cannot be."""
        return {"labeled people": len(self.by_choice["best"]), "people of unknown size left out": self.num_left_out}


def require(document: CocoFile, config: MetricConfig) -> None:
    """Raise UserError unless the file has what `pck_norm` needs."""
    require_norm(document, config.pck_norm, f"pck --pck-norm {config.pck_norm}")


def require_norm(document: CocoFile, norm: Norm, metric: str) -> None:
    """Raise UserError unless the size of at least one person is known. metric: the option, for the message."""
    where, joints = f"annotation file {document.path}", document.skeleton.source_joints
    if norm == "torso" and (lacking := [joint for joint in TORSO if joint not in joints]):
        raise UserError(f"{where}: has no keypoint {lacking[0]}, from which --metric pck takes the torso; use --pck-norm box")
    sizes = [
        size_of(entry, norm, document.skeleton)
        for entries in document.annotations.values()
        for entry in entries
        if entry.is_labeled_person
    ]
    if not any(size >= MIN_SIZE_PX for size in sizes):
        needed = {
            "torso": "left_shoulder and right_hip",
            "head": "head_box, which `convert` keeps of PoseTrack and of MPII's .mat file",
            "box": "a box of at least a pixel",
        }
        raise UserError(f"{where}: --metric {metric} needs people with {needed[norm]}; this file has none")


def size_of(entry: Annotation, norm: Norm, skeleton: Skeleton) -> float:
    """Return the size of a person in pixels; 0 if it is unknown."""
    if norm == "torso":
        ends = entry.keypoints[[skeleton.source_joints.index(joint) for joint in TORSO]]
        return float(np.linalg.norm(ends[0, :2] - ends[1, :2])) if (ends[:, 2] > 0).all() else 0.0
    if norm == "head":
        return HEAD_SHARE * float(np.hypot(*entry.head_box[2:])) if entry.head_box else 0.0
    return float(max(entry.bbox[2:]))


def distances(document: CocoFile, results: Results, norm: Norm, image_ids: Collection[int]) -> Distances:
    """Pair people and results of each image, and return the distances of their joints.

    Raises UserError if results and annotations do not match.
    """
    skeleton = document.skeleton
    require_fit(document, results, skeleton, image_ids)
    by_image = defaultdict(list)
    for entry in sorted(results, key=lambda entry: -entry["score"]):
        by_image[entry["image_id"]].append(entry["keypoints"])
    found: dict[str, list[np.ndarray]] = {choice: [] for choice in CHOICES}
    num_left_out = 0
    for image_id in sorted(image_ids):
        labeled = [entry for entry in document.annotations.get(image_id, []) if entry.is_labeled_person]
        sizes = np.array([size_of(entry, norm, skeleton) for entry in labeled])
        known = sizes >= MIN_SIZE_PX
        num_left_out += int((~known).sum())
        predicted = np.array(by_image[image_id], np.float64).reshape(-1, len(skeleton.source_joints), 3)
        for choice, candidates in (("best", predicted), ("top", predicted[: len(labeled)])):
            if known.any():
                found[choice].append(_distances(labeled, candidates, skeleton)[known] / sizes[known, None])
    none = np.zeros((0, len(skeleton.source_joints)))
    return Distances(by_choice={name: np.concatenate([none, *each]) for name, each in found.items()}, num_left_out=num_left_out)


def _distances(labeled: list[Annotation], predicted: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Distances in pixels of the joints of each labeled person to those of its prediction, float64 (P, S).

    predicted: float64 (N, S, 3), highest score first.
    """
    true = np.array([entry.keypoints for entry in labeled])
    pixels = np.full(true.shape[:2], np.inf)
    for person, row in enumerate(match(oks_of(labeled, predicted, skeleton).T, least=0.0)):
        if row >= 0:
            apart = np.linalg.norm(predicted[row, :, :2] - true[person, :, :2], axis=-1)
            has = predicted[row, :, 2] > 0
            # Some programs write v = 0 for all joints; then v says nothing.
            pixels[person] = np.where(has | ~has.any(), apart, np.inf)
    return np.where(true[..., 2] > 0, pixels, np.nan)


def shares(apart: np.ndarray, alpha: float, skeleton: Skeleton) -> dict[str, float]:
    """Return each joint's share of labeled ones that are nearer than alpha; UNDEFINED for joints that are never labeled.

    apart: float64 (P, S) as in `Distances`.
    """
    labeled = (~np.isnan(apart)).sum(axis=0)
    right = (apart < alpha).sum(axis=0)
    return {
        joint: float(right[place] / labeled[place]) if labeled[place] else UNDEFINED
        for place, joint in enumerate(skeleton.source_joints)
    }


def measure(document: CocoFile, results: Results, config: MetricConfig, image_ids: Collection[int]) -> Measured:
    """Score results over `image_ids`. Raises UserError if they do not match the annotations."""
    apart = distances(document, results, config.pck_norm, image_ids)
    joints = {
        f"PCK@{alpha:g} {choice}": shares(apart.by_choice[choice], alpha, document.skeleton)
        for alpha in ALPHAS
        for choice in CHOICES
    }
    figures = {name: _mean([share for share in column.values() if share != UNDEFINED]) for name, column in joints.items()}
    size = {
        "torso": "torso (left shoulder to right hip)",
        "head": "head (0.6 x diagonal of its box)",
        "box": "longer side of the box",
    }
    about = (
        f"PCK: share of joints nearer than alpha x {size[config.pck_norm]}, mean over joints; best: the prediction that fits a person "
        "best, top: the one with the highest score"
    )
    return Measured(about=about, figures=figures, joints=joints, counts=apart.counts)


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else UNDEFINED
