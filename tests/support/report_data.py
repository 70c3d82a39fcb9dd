"""Evaluations for the tests of the report, written as `run` writes them."""

import cv2
import numpy as np
import yaml
from evaluator_data import person, shift_to, write_set

from evaluator.metrics.coco_eval import evaluate
from evaluator.metrics.config import MetricConfig
from evaluator.metrics.others import as_written, measure_others
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18
from pipeline.storage.files import write_json


def entry(points, image_id, score):
    """Return a COCO result."""
    return {"image_id": image_id, "category_id": 7, "keypoints": points.ravel().tolist(), "score": score}


def write_evaluation(folder, annotations, results, **settings):
    """Write an output folder as `run` does. Returns it."""
    folder.mkdir()
    document = CocoFile(annotations, COCO18)
    others = measure_others(document, results, MetricConfig(metric=("pck",)), [image.id for image in document.images])
    figures = evaluate(document, results, COCO18).figures
    write_json(folder / "results.json", results)
    write_json(folder / "metrics.json", {"figures": figures, "unreadable_images": {}, **as_written(others)})
    (folder / "config.yaml").write_text(yaml.safe_dump({"annotations": str(annotations), **settings}))
    return folder


def write_evaluations(folder):
    """Write the images and annotations of `write_set`, and two evaluations: one almost perfect, one with several kinds of errors.

    Returns the annotation file, the image folder and both evaluations.
    """
    annotations, images = write_set(folder, names=("a</script><b>.png", "b.png", "c.png"))
    (images / "a<").mkdir()
    cv2.imwrite(str(images / "a<" / "script><b>.png"), np.full((300, 320, 3), 40, np.uint8))
    area = CocoFile(annotations, COCO18).annotations[10][0].area
    jittered = shift_to(0.7, person(100, 40), area)
    inverted = person(200, 90, 1.2)
    hands = [COCO18.source_joints.index(f"{side}_wrist") for side in ("left", "right")]
    inverted[hands] = inverted[hands[::-1]]
    right = [entry(person(100, 40), 10, 4), entry(person(240, 50, 0.8), 10, 3), entry(person(200, 90, 1.2), 20, 2)]
    wrong = [entry(jittered, 10, 4), entry(inverted, 20, 2), entry(person(380, 200, 0.4), 20, 1), entry(person(150, 90), 30, 9)]
    first = write_evaluation(folder / "first", annotations, right)
    return annotations, images, first, write_evaluation(folder / "second", annotations, wrong, checkpoint="/no/such")
