"""People in pixels -> COCO results -> COCO metrics (pycocotools), over all images of an annotation file."""

import contextlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO

from evaluator.decoding.decode import People
from evaluator.decoding.grouping import body_reach
from evaluator.metrics.checks import require_fit
from evaluator.metrics.oks import KeypointEval
from evaluator.metrics.results import Results
from pipeline.datasets.coco import CocoFile
from pipeline.skeleton import Skeleton

# Square pixels of a person's segment, by pycocotools' names. COCO's keypoint figures know no small people as such: those below
# 32 * 32 count in "all" alone.
AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
SMALL = {"small": (0.0, 32.0**2)}

FIGURES = ("AP", "AP .5", "AP .75", "AP (M)", "AP (L)", "AR", "AR .5", "AR .75", "AR (M)", "AR (L)")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """figures: the ten COCO figures by name, -1 where no annotated person is of that size.

    image_oks: for each image with labeled people the mean of their OKS with the results matched to them, 0 for the missed.
    """

    figures: dict[str, float]
    image_oks: dict[int, float]

    def line(self) -> str:
        """The figures in one line, as a dict."""
        return str({name: round(value, 4) for name, value in self.figures.items()})


def to_results(people: People, *, image_id: int, category_id: int, skeleton: Skeleton) -> Results:
    """People, in pixels of the original image, as entries of a COCO results file, in the joint order of the annotations.

    COCO scores every labeled joint, found or not, and takes a person's size from all the joints given, so that a missing one
    at 0, 0 would do harm: it is put where the nearest found joint is, along the limbs, and its third number is 0 instead of 1.
    """
    placed = place_missing(people.keypoints, skeleton)
    found = people.keypoints[..., 2:] > 0
    entries = np.concatenate([placed.round(2), found], axis=-1)[:, skeleton.source_indices]
    entries[:, skeleton.source_indices < 0] = 0
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": row.ravel().tolist(), "score": float(score)}
        for row, score in zip(entries, people.scores, strict=True)
    ]


def place_missing(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """float32 (N, J, 3), each with a joint -> float64 (N, J, 2): missing joints (third value 0) at their nearest found one."""
    found = keypoints[..., 2] > 0
    distance = body_reach(skeleton).astype(np.float64)
    distance[(distance == 0) & ~np.eye(skeleton.num_joints, dtype=bool)] = 1e6  # no limbs lead there: the last resort
    nearest = np.where(found[:, None], distance, np.inf).argmin(axis=2)
    return np.take_along_axis(keypoints[..., :2].astype(np.float64), nearest[..., None], axis=1)


def labeled_images(document: CocoFile) -> list[int]:
    """Ids of the images that show a person with labeled joints, crowds apart."""
    return sorted(
        image_id
        for image_id, annotations in document.annotations.items()
        if any(annotation.is_labeled_person for annotation in annotations)
    )


def evaluate(document: CocoFile, results: Results, skeleton: Skeleton, image_ids: Collection[int] | None = None) -> Evaluation:
    """COCO's keypoint metrics over all images of the file, those without people too, or over `image_ids` alone.

    Raises UserError naming everything in which annotations and results do not belong together.
    """
    return _evaluation(compare(document, results, skeleton, image_ids), document)


def evaluate_twice(
    document: CocoFile, results: Results, skeleton: Skeleton, image_ids: Collection[int], part: Collection[int]
) -> tuple[Evaluation, Evaluation]:
    """`evaluate` over `image_ids`, and over some of them, `part`, alone; results and people are compared once."""
    job = compare(document, results, skeleton, image_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        partial = job.over(part)
    return _evaluation(job, document), _evaluation(partial, document)


def _evaluation(job: KeypointEval, document: CocoFile) -> Evaluation:
    figures = dict(zip(FIGURES, map(float, job.stats), strict=True))
    return Evaluation(figures=figures, image_oks=_image_oks(job, document))


def compare(
    document: CocoFile,
    results: Results,
    skeleton: Skeleton,
    image_ids: Collection[int] | None = None,
    areas: Mapping[str, tuple[float, float]] = AREA_RANGES,
) -> KeypointEval:
    """pycocotools' own evaluation, done; its `stats` are those of FIGURES if `areas` begins with COCO's three.

    Its detections have the id 1 + place in `results`; its people stand in the order of the document. Raises UserError as
    `evaluate` does.
    """
    require_fit(document, results, skeleton, image_ids)
    # pycocotools prints its progress.
    with contextlib.redirect_stdout(io.StringIO()):
        job = KeypointEval(_truth(document, skeleton), _detections(document, results, skeleton), "keypoints")
        job.params.kpt_oks_sigmas = np.array(skeleton.sigmas)
        job.params.imgIds = sorted({image.id for image in document.images} if image_ids is None else set(image_ids))
        job.params.areaRngLbl, job.params.areaRng = list(areas), [list(limits) for limits in areas.values()]
        job.evaluate()
        job.accumulate()
        if set(AREA_RANGES) <= set(areas):
            job.summarize()
    return job


def _truth(document: CocoFile, skeleton: Skeleton) -> COCO:
    annotations = [
        {
            "image_id": image_id,
            "category_id": document.category_id,
            "keypoints": entry.keypoints.ravel().tolist(),
            "num_keypoints": int(entry.labeled.sum()),
            "iscrowd": int(entry.iscrowd),
            "area": entry.area,
            "bbox": list(entry.bbox),
        }
        for image_id, entries in sorted(document.annotations.items())
        for entry in entries
    ]
    return _coco(document, annotations)


def _detections(document: CocoFile, results: Results, skeleton: Skeleton) -> COCO:
    points = np.array([entry["keypoints"] for entry in results], np.float64).reshape(len(results), len(skeleton.source_joints), 3)
    low, high = points[..., :2].min(axis=1), points[..., :2].max(axis=1)
    boxes, areas = np.concatenate([low, high - low], axis=1).tolist(), (high - low).prod(axis=1).tolist()
    annotations = [
        {**entry, "area": area, "bbox": box, "iscrowd": 0} for entry, area, box in zip(results, areas, boxes, strict=True)
    ]
    return _coco(document, annotations)


def _coco(document: CocoFile, annotations: list[dict]) -> COCO:
    coco = COCO()
    # Ids are given anew: COCOeval takes a match with annotation 0 for no match.
    coco.dataset = {
        "images": [{"id": image.id} for image in document.images],
        "categories": [{"id": document.category_id}],
        "annotations": [{**annotation, "id": number} for number, annotation in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def _image_oks(job: KeypointEval, document: CocoFile) -> dict[int, float]:
    """Mean OKS of each image's labeled people, matched as COCO does: the best-scored result first takes the nearest person."""
    means = {}
    wanted = set(job.params.imgIds)
    for image_id in labeled_images(document):
        if image_id not in wanted:
            continue
        key = image_id, document.category_id
        counted = np.array([not entry["ignore"] for entry in job._gts[key]])
        matched = np.zeros(counted.sum())
        free = np.ones(len(matched), bool)
        for oks in np.reshape(job.ious[key], (-1, len(counted)))[:, counted]:
            if free.any():
                best = np.where(free, oks, -1).argmax()
                # A result that resembles nobody takes nobody.
                if oks[best] >= 0.1:
                    matched[best], free[best] = oks[best], False
        means[image_id] = float(matched.mean())
    return means
