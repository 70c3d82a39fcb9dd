"""AP by joint on PoseTrack, of people in single frames.

Pishchulin et al., "DeepCut", CVPR 2016; Andriluka et al., "PoseTrack", CVPR 2018; program: https://github.com/leonid-pishchulin/poseval
(py/evaluateAP.py, py/eval_helpers.py). Frames without annotated people do not count. Joints in regions to ignore are left out, of the
annotations and of the predictions. A joint matches within 0.5 x 0.6 x the diagonal of the person's head box (<=). Each prediction is
kept for the person of whom it has the largest share of labeled joints, and each person takes the prediction with the largest share.
The joints of all predictions are then ranked by score, those of unpaired predictions as false, and give the AP of each joint, the area
under the precision envelope as in PASCAL VOC 2010. "AP" is the mean over the 15 joints.

The score of a joint is its value in `confidences`; in results of other programs, which have none, the score of the person.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import cv2
import numpy as np

from evaluator.metrics.checks import require_fit
from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import UNDEFINED, Measured
from evaluator.metrics.pck import size_of
from evaluator.metrics.results import Result, Results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Annotation
from pipeline.errors import UserError
from pipeline.skeletons import read_skeleton

MAX_DISTANCE = 0.5  # in head sizes
GROUPS = {"head": ("head_top", "head_bottom", "nose")} | {
    name: (f"right_{name}", f"left_{name}") for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
}
ABOUT = "PoseTrack (poseval): AP by joint, within half of the head size; head: mean of head_top, head_bottom and nose"


def require(document: CocoFile, config: MetricConfig) -> None:
    """Raise UserError unless the file has the joints of PoseTrack, and a head box of every labeled person."""
    where = f"annotation file {document.path}"
    if lacking := [joint for joint in read_skeleton("posetrack15").joints if joint not in document.skeleton.source_joints]:
        raise UserError(f"{where}: has no keypoint {lacking[0]}; --metric posetrack needs the 15 joints of PoseTrack 2018")
    for image_id, entries in document.annotations.items():
        if any(entry.is_labeled_person and entry.head_box is None for entry in entries):
            raise UserError(
                f"{where}: a person of image {image_id} has no head_box, which `convert` keeps; --metric posetrack needs it"
            )


def measure(document: CocoFile, results: Results, config: MetricConfig, image_ids: Collection[int]) -> Measured:
    """Score results over `image_ids`. Raises UserError if they do not match the annotations."""
    require_fit(document, results, document.skeleton, image_ids)
    by_image: dict[int, Results] = defaultdict(list)
    for entry in results:
        by_image[entry["image_id"]].append(entry)
    names = read_skeleton("posetrack15").joints
    places = [document.skeleton.source_joints.index(joint) for joint in names]
    num_labeled = np.zeros(len(names), int)
    scores, rights = [np.zeros((0, len(names)))], [np.zeros((0, len(names)))]
    for image_id in sorted(image_ids):
        entries = document.annotations.get(image_id, [])
        if all(entry.iscrowd for entry in entries):
            continue
        true, sizes = _labeled(entries, document, places)
        predicted, own_scores = _predicted(by_image[image_id], entries, places)
        num_labeled += (true[..., 2] > 0).sum(axis=0)
        scores.append(own_scores)
        rights.append(np.where(np.isnan(own_scores), np.nan, _right(predicted, own_scores, true, sizes)))
    all_scores, all_rights = np.concatenate(scores), np.concatenate(rights)
    curves = [curve(all_scores[:, place], all_rights[:, place], int(num_labeled[place])) for place in range(len(names))]
    joints = {
        title: _with_groups({joint: values[column] for joint, values in zip(names, curves, strict=True)})
        for column, title in enumerate(("AP", "precision", "recall"))
    }
    figures = {title: _mean([column[joint] for joint in names]) for title, column in joints.items()}
    return Measured(about=ABOUT, figures=figures, joints=joints, counts={"labeled joints": int(num_labeled.sum())})


def _labeled(entries: list[Annotation], document: CocoFile, places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the labeled people, float64 (P, 15, 3), without joints in regions to ignore, and their head sizes in pixels (P,)."""
    people = [entry for entry in entries if entry.is_labeled_person]
    true = _at([entry.keypoints for entry in people], places)
    true[..., 2] *= ~_ignored(true, entries)
    has_joints = (true[..., 2] > 0).any(axis=1)
    return true[has_joints], np.array([size_of(entry, "head", document.skeleton) for entry in people])[has_joints]


def _predicted(results: list[Result], entries: list[Annotation], places: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions of an image: float64 (N, 15, 3), and the scores of their joints (N, 15), NaN for joints they lack."""
    points = _at([entry["keypoints"] for entry in results], places)
    scores = np.array([_joint_scores(entry, places) for entry in results]).reshape(len(results), len(places))
    has = points[..., 2] > 0
    return points, np.where((has | ~has.any(axis=1, keepdims=True)) & ~_ignored(points, entries), scores, np.nan)


def _at(keypoints: Sequence[Any], places: list[int]) -> np.ndarray:
    """Return keypoints, x, y, v of all joints, at these places, float64 (N, 15, 3)."""
    points = [np.reshape(each, (-1, 3))[places] for each in keypoints]
    return np.array(points, np.float64).reshape(len(points), len(places), 3)


def _joint_scores(entry: Result, places: list[int]) -> list[float]:
    confidences = entry.get("confidences")
    return [confidences[place] if confidences else entry["score"] for place in places]


def _ignored(points: np.ndarray, entries: list[Annotation]) -> np.ndarray:
    """bool (N, 15): whether points lie inside a polygon of a region to ignore."""
    inside = np.zeros(points.shape[:2], bool)
    for entry in entries:
        for polygon in entry.segmentation if entry.iscrowd and isinstance(entry.segmentation, list) else ():
            outline = np.array(polygon, np.float32).reshape(-1, 1, 2)
            for place in np.ndindex(inside.shape):
                x, y = points[place][:2]
                inside[place] |= cv2.pointPolygonTest(outline, (float(x), float(y)), False) > 0
    return inside


def _right(predicted: np.ndarray, scores: np.ndarray, true: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Pair predictions and people; return whether the joints of each prediction match those of its person, bool (N, 15)."""
    right = np.zeros(scores.shape, bool)
    if not len(predicted) or not len(true):
        return right
    apart = np.linalg.norm(predicted[:, None, :, :2] - true[None, :, :, :2], axis=-1) / np.maximum(sizes, 1e-9)[:, None]
    matches = (apart <= MAX_DISTANCE) & ~np.isnan(scores)[:, None] & (true[..., 2] > 0)
    share = matches.sum(axis=2) / (true[..., 2] > 0).sum(axis=1)
    share[np.arange(share.shape[1]) != share.argmax(axis=1)[:, None]] = 0
    for person, row in enumerate(share.argmax(axis=0)):
        if share[row, person] > 0:
            right[row] = matches[row, person]
    return right


def curve(scores: np.ndarray, right: np.ndarray, num_labeled: int) -> tuple[float, float, float]:
    """Return AP, final precision and final recall of one joint; UNDEFINED if it is never labeled.

    scores, right: float64 (N,), NaN for predictions without the joint. AP: area under the precision envelope over recall.
    """
    if not num_labeled:
        return UNDEFINED, UNDEFINED, UNDEFINED
    known = ~np.isnan(scores)
    order = np.argsort(-scores[known], kind="stable")
    if not len(order):
        return 0.0, 0.0, 0.0
    found = right[known][order].cumsum()
    precision, recall = found / np.arange(1, len(order) + 1), found / num_labeled
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall, prepend=0.0) * envelope).sum()), float(precision[-1]), float(recall[-1])


def _with_groups(by_joint: dict[str, float]) -> dict[str, float]:
    return by_joint | {name: _mean([by_joint[joint] for joint in joints]) for name, joints in GROUPS.items()}


def _mean(values: list[float]) -> float:
    known = [value for value in values if value != UNDEFINED]
    return float(np.mean(known)) if known else UNDEFINED
