"""AP on CrowdPose: of all images, and of images by how much their people overlap.

Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation and a New Benchmark", CVPR 2019; official program:
https://github.com/Jeff-sjtu/CrowdPose (crowdposetools/cocoeval.py), which xtcocotools repeats. The areas of people are 0.53 x their
boxes, and people with `num_keypoints` 0 are ignored. The groups are those of the paper: crowd index below 0.1, below 0.8, and from
0.8. The official program divides at 0.2 instead of 0.1: "AP easy (0.2)" and "AP medium (0.2)" are its figures, and so those of MMPose,
which uses xtcocotools.
"""

from collections.abc import Collection
from dataclasses import replace

from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import UNDEFINED, Measured
from evaluator.metrics.other_areas import average_precision, compare_with_areas, six_figures
from evaluator.metrics.results import Results
from pipeline.datasets.boxes import box_area
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.skeletons import read_skeleton

GROUPS = {
    "AP easy": (0.0, 0.1),
    "AP medium": (0.1, 0.8),
    "AP hard": (0.8, float("inf")),
    "AP easy (0.2)": (0.0, 0.2),
    "AP medium (0.2)": (0.2, 0.8),
}
ABOUT = "CrowdPose: AP by crowd index, easy below 0.1, medium below 0.8, hard from 0.8; (0.2): the official program's limit of easy and medium"


def require(document: CocoFile, config: MetricConfig) -> None:
    """Raise UserError unless the file has the keypoints of CrowdPose, and a crowd index of every image."""
    where, joints = f"annotation file {document.path}", read_skeleton("crowdpose14").source_joints
    if document.skeleton.source_joints != joints:
        raise UserError(f"{where}: --metric crowdpose needs the keypoints of CrowdPose, {', '.join(joints)}; use its annotations")
    for image in document.images:
        if image.crowdIndex is None:
            raise UserError(
                f"{where}: image {image.id} has no crowdIndex; --metric crowdpose needs it, as in the files of CrowdPose"
            )


def measure(document: CocoFile, results: Results, config: MetricConfig, image_ids: Collection[int]) -> Measured:
    """Score results over `image_ids`. Raises UserError if they do not match the annotations."""
    skeleton = replace(document.skeleton, sigmas=read_skeleton("crowdpose14").sigmas)
    comparison = compare_with_areas(
        document, results, skeleton, image_ids, lambda entry: box_area(entry.bbox), lambda entry: entry.num_keypoints == 0
    )
    figures = six_figures(comparison)
    for name, (low, high) in GROUPS.items():
        ids = {image.id for image in document.images if low <= (image.crowdIndex or 0.0) < high} & set(image_ids)
        figures[name] = average_precision(comparison.over(ids)) if ids else UNDEFINED
    return Measured(about=ABOUT, figures=figures)
