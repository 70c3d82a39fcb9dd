"""The vectorized OKS equals that of pycocotools bit by bit."""

import numpy as np
import pytest
from evaluator_data import person, write_annotations
from pycocotools.cocoeval import COCOeval

from evaluator.decoding import People
from evaluator.metrics import coco_eval
from evaluator.metrics.oks import KeypointEval
from evaluator.metrics.results import to_results
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18


def crowded(folder, rng):
    """Three images with complete people, partly labeled people, people without labeled joints and crowds; the last one is empty."""
    images = {i: (f"{i}.png", 640, 480) for i in (1, 2, 3)}
    people, crowds = [], [(1, person(300, 300))]
    for image_id in (1, 2):
        for _ in range(6):
            hidden = rng.choice(COCO18.source_joints, rng.integers(0, 18), replace=False)
            people.append((image_id, person(*rng.uniform(50, 400, 2), rng.uniform(0.1, 1.5), without=hidden)))
    return CocoFile(write_annotations(folder / "a.json", images, people, crowds), COCO18)


def results_near(document, rng):
    results = []
    for image_id in (1, 2, 3):
        for number in range(30):
            entries = [entry.keypoints for entry in document.annotations.get(image_id, [])] or [person(200, 100)]
            source = entries[number % len(entries)] + rng.normal(0, 6, (17, 3))
            keypoints = np.zeros((1, COCO18.num_joints, 3), np.float32)
            keypoints[0, COCO18.source_indices] = np.abs(source)
            people = People(keypoints=keypoints, scores=rng.integers(1, 9, 1).astype(np.float32))
            results += to_results(people, image_id=image_id, category_id=7, skeleton=COCO18)
    return results


def evaluated(kind, document, results, monkeypatch):
    """Evaluate with a subclass of COCOeval. Returns the evaluation and the COCOeval instance."""
    jobs = []

    class Recorded(kind):
        def evaluate(self):
            jobs.append(self)
            super().evaluate()

    monkeypatch.setattr(coco_eval, "KeypointEval", Recorded)
    return coco_eval.evaluate(document, results, COCO18), jobs[0]


@pytest.mark.parametrize("seed", range(4))
def test_oks_and_figures_equal_pycocotools(tmp_path, seed, monkeypatch):
    rng = np.random.default_rng(seed)
    document = crowded(tmp_path, rng)
    results = results_near(document, rng)
    (ours, our_job), (theirs, their_job) = (evaluated(kind, document, results, monkeypatch) for kind in (KeypointEval, COCOeval))
    assert 0 < ours.figures["AP"] < 0.9
    assert ours == theirs
    assert our_job.ious.keys() == their_job.ious.keys()
    for key, oks in their_job.ious.items():
        np.testing.assert_array_equal(our_job.ious[key], oks)


@pytest.mark.parametrize("part", [[1], [1, 2], [2, 3], [3], []])
def test_restricted_evaluation_equals_separate_evaluation(tmp_path, part):
    rng = np.random.default_rng(7)
    document = crowded(tmp_path, rng)
    results = results_near(document, rng)
    whole, restricted = coco_eval.evaluate_twice(document, results, COCO18, [1, 2, 3], part)
    assert whole == coco_eval.evaluate(document, results, COCO18)
    assert restricted == coco_eval.evaluate(document, results, COCO18, part)
