"""AP on OCHuman: COCO's, with the areas of people that its files state.

https://github.com/liruilong940607/OCHumanApi: its README scores the COCO form of the annotations with COCO's program. That form
(ochumanApi/ochuman.py, toCocoFormart) has the area of the box, not of the segmentation, and only people with keypoints and a
segmentation. `convert` of ochuman.json keeps the other people as well, those without keypoints as people to ignore; so for the
published figures use the COCO form, ochuman_coco_format_{val,test}_range_0.00_1.00.json.
"""

from collections.abc import Collection

from evaluator.metrics.config import MetricConfig
from evaluator.metrics.figures import Measured
from evaluator.metrics.other_areas import compare_with_areas, six_figures
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.errors import UserError
from pipeline.skeletons import COCO18


def require(document: CocoFile, config: MetricConfig) -> None:
    """Raise UserError unless the file has the 17 keypoints of COCO, which OCHuman has."""
    if sorted(document.skeleton.source_joints) != sorted(COCO18.source_joints):
        raise UserError(
            f"annotation file {document.path}: --metric ochuman needs the 17 keypoints of COCO; use OCHuman's annotations"
        )


def measure(document: CocoFile, results: Results, config: MetricConfig, image_ids: Collection[int]) -> Measured:
    """Score results over `image_ids`. Raises UserError if they do not match the annotations."""
    skeleton = document.skeleton
    comparison = compare_with_areas(document, results, skeleton, image_ids, lambda entry: entry.bbox[2] * entry.bbox[3])
    return Measured(about="OCHuman: AP and AR with the area of the box as the area of a person", figures=six_figures(comparison))
