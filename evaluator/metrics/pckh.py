"""PCKh, the metric of MPII: PCK with 0.6 x the diagonal of the head box as the size of a person.

Andriluka et al., "2D Human Pose Estimation: New Benchmark and State of the Art Analysis", CVPR 2014. As MMPose's MpiiPCKAccuracy
(mmpose/evaluation/metrics/keypoint_2d_metrics.py): the figure is the share of all labeled joints without pelvis and thorax, each joint
with the same weight, and a pair of joints has the mean of its left and its right one. A joint is right if its distance is less than (<) the
allowed one, as in MMPose; MPII's own program counts equal distances as right (<=). People and predictions are paired as for `pck`.
"""

from collections.abc import Collection

import numpy as np

from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import UNDEFINED, Measured
from evaluator.metrics.pck import CHOICES, distances, require_norm, shares
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile

ALPHAS = (0.5, 0.1)
NOT_IN_TOTAL = ("pelvis", "thorax")
ABOUT = (
    "PCKh: share of joints nearer than alpha x 0.6 x the diagonal of the head box, without pelvis and thorax; best: the prediction "
    "that fits a person best, top: the one with the highest score"
)


def require(document: CocoFile, config: MetricConfig) -> None:
    """Raise UserError unless at least one labeled person has a head box."""
    require_norm(document, "head", "pckh")


def measure(document: CocoFile, results: Results, config: MetricConfig, image_ids: Collection[int]) -> Measured:
    """Score results over `image_ids`. Raises UserError if they do not match the annotations."""
    apart = distances(document, results, "head", image_ids)
    in_total = [joint not in NOT_IN_TOTAL for joint in document.skeleton.source_joints]
    figures, joints = {}, {}
    for alpha in ALPHAS:
        for choice in CHOICES:
            name, all_joints = f"PCKh@{alpha:g} {choice}", apart.by_choice[choice]
            counted = all_joints[:, in_total]
            num_labeled = int((~np.isnan(counted)).sum())
            figures[name] = float((counted < alpha).sum() / num_labeled) if num_labeled else UNDEFINED
            joints[name] = _with_pairs(shares(all_joints, alpha, document.skeleton))
    return Measured(about=ABOUT, figures=figures, joints=joints, counts=apart.counts)


def _with_pairs(by_joint: dict[str, float]) -> dict[str, float]:
    """Return the shares with those of each pair, such as `ankle`, the mean of `left_ankle` and `right_ankle`."""
    pairs = {}
    for joint, right in by_joint.items():
        left = by_joint.get(joint.replace("right_", "left_")) if joint.startswith("right_") else None
        if left is not None:
            pairs[joint.removeprefix("right_")] = UNDEFINED if UNDEFINED in (left, right) else (left + right) / 2
    return by_joint | pairs
