"""COCO results and metrics: OKS by hand, empty predictions, images without people, results that do not match annotations."""

import dataclasses
import json

import numpy as np
import pytest
from evaluator_data import person, write_annotations

from evaluator.decoding import People
from evaluator.metrics.checks import read_results
from evaluator.metrics.coco_eval import AREA_RANGES, compare, evaluate, labeled_images
from evaluator.metrics.figures import FIGURES
from evaluator.metrics.results import place_missing, to_results
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.selection import add_derived_joints
from pipeline.errors import UserError
from pipeline.skeletons import COCO18

IMAGES = {1: ("a.jpg", 400, 400), 2: ("b.jpg", 400, 400), 3: ("empty.jpg", 400, 400)}


@pytest.fixture
def document(tmp_path):
    people = [(1, person(100, 50)), (1, person(250, 60)), (2, person(150, 60, 0.6, without=("left_knee", "left_ankle")))]
    return CocoFile(write_annotations(tmp_path / "a.json", IMAGES, people), COCO18)


def people_of(sources, scores=None):
    source = np.array(sources).reshape(-1, len(COCO18.source_joints), 3)
    keypoints = add_derived_joints(source, COCO18, one_is_enough=False)
    scores = np.ones(len(keypoints)) if scores is None else np.array(scores)
    return People(keypoints=keypoints, scores=scores.astype(np.float32))


def results_of(sources, image_id, scores=None):
    return to_results(people_of(sources, scores), image_id=image_id, category_id=7, skeleton=COCO18)


def ground_truth_results(document):
    return [r for i, entries in document.annotations.items() for r in results_of([e.keypoints for e in entries], i)]


def test_ground_truth_scores_one(document):
    evaluation = evaluate(document, ground_truth_results(document), COCO18)
    assert list(evaluation.figures) == list(FIGURES)
    assert all(value == pytest.approx(1) for value in evaluation.figures.values())
    assert evaluation.image_oks == {1: pytest.approx(1), 2: pytest.approx(1)}


def test_empty_prediction_scores_zero(document):
    evaluation = evaluate(document, [], COCO18)
    assert evaluation.figures["AP"] == evaluation.figures["AR"] == 0
    assert evaluation.image_oks == {1: 0, 2: 0}


def test_evaluation_prints_nothing_and_line_is_an_ordered_dict(document, capsys):
    line = evaluate(document, [], COCO18).line()
    assert capsys.readouterr().out == ""
    assert line.startswith("{'AP': 0.0, 'AP .5': 0.0, 'AP .75': ")


def test_the_table_is_that_of_pycocotools(document, capsys):
    """One person is found, so that the ten values differ."""
    results = ground_truth_results(document)[1:2]
    compare(document, results, COCO18)._job.summarize()
    assert "\n".join(evaluate(document, results, COCO18).rows()) + "\n" == capsys.readouterr().out


def test_oks_matches_the_formula(document):
    """With all joints off by d pixels, OKS = mean of exp(-d^2 / (2 area (2 sigma)^2)), cocodataset.org/#keypoints-eval."""
    moved = person(150, 60, 0.6, without=("left_knee", "left_ankle"))
    moved[moved[:, 2] > 0, 0] += 4
    area = document.annotations[2][0].area
    sigmas = np.array(COCO18.sigmas)[moved[:, 2] > 0]
    expected = np.exp(-(4**2) / (2 * area * (2 * sigmas) ** 2)).mean()
    assert evaluate(document, results_of([moved], 2), COCO18).image_oks[2] == pytest.approx(expected, rel=1e-4)


def test_false_positives_in_images_without_people_count(document):
    truth = ground_truth_results(document)
    with_false = truth + results_of([person(100, 50)] * 2, 3, scores=[2, 3])
    everywhere = evaluate(document, with_false, COCO18)
    where_people_are = evaluate(document, with_false, COCO18, labeled_images(document))
    assert labeled_images(document) == [1, 2]
    assert where_people_are.figures["AP"] == pytest.approx(1)
    assert everywhere.figures["AP"] < 0.8


def test_one_of_two_people_gives_half_the_recall(document):
    evaluation = evaluate(document, results_of([person(100, 50)], 1), COCO18, [1])
    assert evaluation.figures["AR"] == pytest.approx(0.5)
    assert evaluation.image_oks == {1: pytest.approx(0.5)}


def test_sigmas_come_from_the_skeleton(document):
    shifted = person(100, 50)
    shifted[:, 0] += 5
    strict = dataclasses.replace(COCO18, sigmas=tuple(s / 4 for s in COCO18.sigmas))
    results = results_of([shifted], 1)
    assert evaluate(document, results, strict).image_oks[1] < 0.7 * evaluate(document, results, COCO18).image_oks[1]


def test_results_have_the_joint_order_of_the_annotations(document):
    source = person(100, 50, without=("left_ankle",))
    [entry] = results_of([source], 1, scores=[3.5])
    points = np.reshape(entry["keypoints"], (-1, 3))
    assert (
        entry["raw_score"] == 3.5
        and entry["score"] == pytest.approx(3.5 / (3.5 + 3.7))
        and entry["image_id"] == 1
        and entry["category_id"] == 7
    )
    found = source[:, 2] > 0
    np.testing.assert_allclose(points[found, :2], source[found, :2], atol=0.006)
    assert (points[:, 2] == found).all()
    knee, ankle = (COCO18.source_joints.index(f"left_{joint}") for joint in ("knee", "ankle"))
    assert points[ankle, 0] == points[knee, 0] and points[ankle, 1] > points[knee, 1] + 1


def test_missing_joints_are_placed_above_or_below_the_nearest_found_joint_along_the_limbs():
    keypoints = np.zeros((1, COCO18.num_joints, 3), np.float32)
    nose, hip = COCO18.index("nose"), COCO18.index("left_hip")
    keypoints[0, nose], keypoints[0, hip] = (10, 20, 0.5), (30, 40, 0.5)
    # From nose to hip by way of the neck: 0.097 and |(0.0955, 0.288)| = 0.3034 body heights. So the body is 28.28 / 0.4004 = 70.63 high.
    ear, ankle = (10, 20 - 0.4 * 0.015 * 70.63), (30, 40 + 0.4 * 0.491 * 70.63)
    placed = place_missing(keypoints, COCO18)[0]
    np.testing.assert_allclose(placed[[nose, hip]], [(10, 20), (30, 40)])
    np.testing.assert_allclose(placed[[COCO18.index("left_ear"), COCO18.index("left_ankle")]], [ear, ankle], atol=0.01)
    inside = place_missing(keypoints, COCO18, size_wh=(100, 50))[0]
    np.testing.assert_allclose(inside[COCO18.index("left_ankle")], (30, 49))
    lone = np.where(np.arange(COCO18.num_joints)[:, None] == nose, keypoints, 0)  # nothing tells how large that body is
    assert (place_missing(lone, COCO18)[0] == (10, 20)).all()
    assert place_missing(keypoints[:0], COCO18).shape == (0, COCO18.num_joints, 2)


def test_crowds_and_people_without_labeled_joints_are_ignored(tmp_path):
    unlabeled = np.zeros((len(COCO18.source_joints), 3))
    path = write_annotations(tmp_path / "a.json", IMAGES, [(1, person(100, 50)), (2, unlabeled)], crowds=[(1, person(250, 60))])
    document = CocoFile(path, COCO18)
    assert labeled_images(document) == [1]
    evaluation = evaluate(document, results_of([person(100, 50), person(250, 60)], 1, scores=[1, 2]), COCO18)
    assert evaluation.figures["AP"] == pytest.approx(1)
    assert evaluation.image_oks == {1: pytest.approx(1)}


def test_a_file_without_areas_and_boxes_scores_as_with_the_derived_ones(document, tmp_path):
    content = json.loads(document.path.read_text())
    for entry in content["annotations"]:
        del entry["area"], entry["bbox"]
    (tmp_path / "bare.json").write_text(json.dumps(content))
    bare = CocoFile(tmp_path / "bare.json", COCO18)
    for entry in content["annotations"]:
        x, y, _ = np.array(entry["keypoints"]).reshape(-1, 3)[np.array(entry["keypoints"])[2::3] > 0].T
        width, height = np.ptp(x) + 1, np.ptp(y) + 1
        entry |= {"bbox": [x.min(), y.min(), width, height], "area": 0.53 * width * height}
    (tmp_path / "full.json").write_text(json.dumps(content))
    full = CocoFile(tmp_path / "full.json", COCO18)
    shifted = [{**entry, "keypoints": [value + 3 for value in entry["keypoints"]]} for entry in ground_truth_results(document)]
    assert evaluate(bare, shifted, COCO18) == evaluate(full, shifted, COCO18) != evaluate(document, shifted, COCO18)
    assert (
        bare.notes()
        == [
            "3 annotations without a box: the box around their keypoints",
            "3 annotations without an area: 0.53 x the area of their box",
        ]
        and not full.notes()
    )


def test_results_of_other_images_or_categories_are_rejected(document):
    with pytest.raises(UserError, match="images of the results that are not in the annotation file: 1, for example image 99"):
        evaluate(document, results_of([person(100, 50)], 99), COCO18)
    [entry] = results_of([person(100, 50)], 1)
    with pytest.raises(UserError, match="categories of the results other than 7, people: 1, for example category 1"):
        evaluate(document, [{**entry, "category_id": 1}], COCO18)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": "1"}, "images of the results that are not in the annotation file: 1, for example image 1"),
        ({"score": float("nan")}, "results whose keypoints or score are not finite numbers: 1, for example result number 1"),
        ({"score": "high"}, "not finite numbers: 1, for example result number 1"),
        ({"keypoints": [float("inf")] * 51}, "not finite numbers"),
        ({"keypoints": [None] * 51}, "not finite numbers"),
        ({"keypoints": [1.0] * 48}, "results without 51 keypoint values .x, y, v of each joint.: 1, for example result number 1"),
        ({"keypoints": None}, "results without 51 keypoint values"),
    ],
)
def test_damaged_results_are_reported(document, change, reason):
    good, bad = results_of([person(100, 50), person(250, 60)], 1)
    with pytest.raises(UserError, match=reason):
        evaluate(document, [good, {**bad, **change}], COCO18)


def test_all_mismatches_are_reported_at_once_with_counts(document):
    entries = results_of([person(100, 50), person(250, 60)], 1)
    entries += [entries[1], {**entries[0], "image_id": 98}, {**entries[0], "image_id": 99, "category_id": 8}]
    with pytest.raises(UserError) as error:
        evaluate(document, entries, COCO18)
    for part in ("not in the annotation file: 2", "example category 8", "duplicate results: 1, for example result number 2"):
        assert part in str(error.value)
    with pytest.raises(UserError, match="results without score: 2, for example result number 0"):
        evaluate(document, [{k: v for k, v in entry.items() if k != "score"} for entry in entries[:2]], COCO18)
    with pytest.raises(UserError, match="requested images that are not in the annotation file: 1, for example image 5"):
        evaluate(document, [], COCO18, [1, 5])


def test_results_file_must_be_a_list_of_objects(tmp_path):
    path = tmp_path / "results.json"
    for text, reason in (("", "not JSON"), ("{}", "a list of objects"), ("[1]", "a list of objects")):
        path.write_text(text)
        with pytest.raises(UserError, match=reason):
            read_results(path)
    path.write_text('[{"score": 1}]')
    assert read_results(path) == [{"score": 1}]


def test_area_ranges_can_be_extended(document):
    small = {**AREA_RANGES, "small": (0.0, 1e5)}
    comparison = compare(document, ground_truth_results(document), COCO18, areas=small)
    assert comparison.precision.shape == (10, 101, 4) and comparison.recall.shape == (10, 4)
    assert comparison.figures == evaluate(document, ground_truth_results(document), COCO18).figures
