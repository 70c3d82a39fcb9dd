"""COCO keypoint metrics of results (pycocotools), over all images of an annotation file."""

import contextlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from evaluator.metrics.checks import require_fit
from evaluator.metrics.coco_sets import Ignored, detections, ground_truth
from evaluator.metrics.figures import FIGURES
from evaluator.metrics.oks import KeypointEval
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton

# Segment areas of a person in square pixels, with the names of pycocotools. COCO's keypoint metrics have no range for small
# people; those below 32 * 32 count in "all" only.
AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
SMALL = {"small": (0.0, 32.0**2)}

MAX_PEOPLE = 20  # COCO scores this many predicted people per image

MIN_MATCH_OKS = 0.1  # a result with a lower OKS does not match a person


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """COCO metrics of results.

    figures: the ten COCO metrics by name; -1 if no annotated person is in the area range.
    image_oks: mean OKS of the labeled people of each image that has any; missed people count as 0.
    """

    figures: dict[str, float]
    image_oks: dict[int, float]

    def rows(self) -> list[str]:
        """Return the ten rows that pycocotools prints."""
        return [
            f" {title:<18} ({name.split()[0]}) @[ IoU={threshold:<9} | area={area:>6} | maxDets={MAX_PEOPLE:>3} ] = {value:0.3f}"
            for name, (title, threshold, area, value) in rows_of(self.figures).items()
        ]

    def summary(self) -> str:
        """Return `rows` and, for scripts, `line`."""
        return "\n".join([*self.rows(), self.line()])

    def line(self) -> str:
        """Return the metrics as one line, formatted as a dict."""
        return str({name: round(value, 4) for name, value in self.figures.items()})


def rows_of(figures: Mapping[str, float]) -> dict[str, tuple[str, str, str, float]]:
    """Return COCO's ten rows by name: title, OKS threshold, area range, value."""
    rows = {}
    for name, value in figures.items():
        kind, _, part = name.partition(" ")
        title = {"AP": "Average Precision", "AR": "Average Recall"}[kind]
        threshold = f"{float(part):.2f}" if part.startswith(".") else "0.50:0.95"
        rows[name] = title, threshold, {"(M)": "medium", "(L)": "large"}.get(part, "all"), value
    return rows


@dataclass(frozen=True, kw_only=True)
class ImageComparison:
    """The D results and P annotations of one image, as COCO compares them.

    places: intp (D,), places in the list of all results, best score first, at most as many as COCO scores.
    counted: bool (P,), which annotations count; crowds and people without labeled joints do not.
    oks: float64 (D, P).
    """

    places: np.ndarray
    counted: np.ndarray
    oks: np.ndarray


class Comparison:
    """COCO's evaluation of results against the annotations, with typed access to what pycocotools computes."""

    def __init__(self, job: KeypointEval, category_id: int) -> None:
        """job: evaluated and accumulated."""
        self._job, self._category_id = job, category_id

    @property
    def image_ids(self) -> list[int]:
        """Ids of the images that are compared, ascending."""
        return [int(image_id) for image_id in self._job.params.imgIds]

    @property
    def figures(self) -> dict[str, float]:
        """The metrics FIGURES; available if the area ranges begin with AREA_RANGES."""
        return dict(zip(FIGURES, map(float, self._job.stats), strict=True))

    @property
    def thresholds(self) -> np.ndarray:
        """OKS thresholds (T,)."""
        return self._job.params.iouThrs

    @property
    def precision(self) -> np.ndarray:
        """Precision (T, 101, A) by OKS threshold, recall 0, 0.01, …, 1 and area range; -1 if a range has no people."""
        return self._job.eval["precision"][:, :, 0, :, 0]

    @property
    def recall(self) -> np.ndarray:
        """Highest recall (T, A) by OKS threshold and area range; -1 if a range has no people."""
        return self._job.eval["recall"][:, 0, :, 0]

    def image(self, image_id: int) -> ImageComparison:
        """Return the results and annotations of one image; annotations are in the order of the annotation file."""
        key = image_id, self._category_id
        detections = self._job._dts[key]
        # The order and the limit of pycocotools, so that the rows are those of its OKS.
        order = np.argsort([-entry["score"] for entry in detections], kind="mergesort")[: self._job.params.maxDets[-1]]
        places = np.array([detections[i]["id"] - 1 for i in order], np.intp)
        counted = np.array([not entry["ignore"] for entry in self._job._gts[key]], bool)
        return ImageComparison(places=places, counted=counted, oks=np.reshape(self._job.ious[key], (len(places), len(counted))))

    def over(self, image_ids: Collection[int]) -> "Comparison":
        """Return the comparison restricted to some of its images, without comparing anything again."""
        with contextlib.redirect_stdout(io.StringIO()):
            return Comparison(self._job.over(image_ids), self._category_id)


def labeled_images(document: CocoFile) -> list[int]:
    """Return the ids of the images that show a person, not a crowd, with labeled joints."""
    return sorted(
        image_id
        for image_id, annotations in document.annotations.items()
        if any(annotation.is_labeled_person for annotation in annotations)
    )


def evaluate(document: CocoFile, results: Results, skeleton: Skeleton, image_ids: Collection[int] | None = None) -> Evaluation:
    """Compute COCO's keypoint metrics over `image_ids`; by default over all images, including those without people.

    Raises UserError listing every mismatch between annotations and results.
    """
    return _evaluation(compare(document, results, skeleton, image_ids), document)


def evaluate_twice(
    document: CocoFile, results: Results, skeleton: Skeleton, image_ids: Collection[int], part: Collection[int]
) -> tuple[Evaluation, Evaluation]:
    """Evaluate over `image_ids` and over the subset `part`, comparing results and people only once."""
    comparison = compare(document, results, skeleton, image_ids)
    return _evaluation(comparison, document), _evaluation(comparison.over(part), document)


def _evaluation(comparison: Comparison, document: CocoFile) -> Evaluation:
    return Evaluation(figures=comparison.figures, image_oks=_image_oks(comparison, document))


def compare(
    document: CocoFile,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int] | None = None,
    areas: Mapping[str, tuple[float, float]] = AREA_RANGES,
    ignored: Ignored = lambda entry: False,
) -> Comparison:
    """Run the evaluation of pycocotools. areas: area ranges by name. Raises UserError as `evaluate` does.

    ignored: whether COCO ignores a person in addition to crowds and people without labeled joints.
    """
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        job = keypoint_eval(document, results, skeleton, image_ids, ignored)
        job.params.areaRngLbl, job.params.areaRng = list(areas), [list(limits) for limits in areas.values()]
        job.evaluate()
        job.accumulate()
        if set(AREA_RANGES) <= set(areas):
            job.summarize()
    return Comparison(job, document.category_id)


def keypoint_eval(
    document: CocoFile,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int] | None = None,
    ignored: Ignored = lambda entry: False,
) -> KeypointEval:
    """Return an evaluation of these images that has not run yet. Raises MismatchError as `require_fit` does."""
    require_fit(document, results, skeleton, image_ids)
    job = KeypointEval(ground_truth(document, ignored), detections(document, results, skeleton), "keypoints")
    job.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
    job.params.imgIds = sorted({image.id for image in document.images} if image_ids is None else set(image_ids))
    return job


def _image_oks(comparison: Comparison, document: CocoFile) -> dict[int, float]:
    """Mean OKS of the labeled people of each image. As in COCO, the best-scored result chooses its person first."""
    means = {}
    compared = set(comparison.image_ids)
    for image_id in labeled_images(document):
        if image_id not in compared:
            continue
        image = comparison.image(image_id)
        matched = np.zeros(image.counted.sum())
        free = np.ones(len(matched), bool)
        for oks in image.oks[:, image.counted]:
            if free.any():
                best = np.where(free, oks, -1).argmax()
                if oks[best] >= MIN_MATCH_OKS:
                    matched[best], free[best] = oks[best], False
        means[image_id] = float(matched.mean())
    return means
