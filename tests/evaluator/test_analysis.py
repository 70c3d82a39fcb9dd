"""Error analysis: results with one kind of error each; the analysis must find that kind, and fixing it must restore AP 1."""

import copy

import numpy as np
import pytest
from evaluator_data import person, shift_to, write_annotations

from evaluator.metrics.analysis import analyze, fix_errors
from evaluator.metrics.coco_eval import compare
from evaluator.metrics.diagnosis import ERRORS, JOINT_ERRORS, _classify, diagnose, match, mirrored_sources
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18

IMAGES = {1: ("a.jpg", 600, 400), 2: ("b.jpg", 400, 400), 3: ("empty.jpg", 400, 400)}
PEOPLE = [(1, person(100, 50)), (1, person(400, 60, 1.1)), (2, person(150, 60, 0.6, without=("left_knee", "left_ankle")))]


def place_of(joint):
    return COCO18.source_joints.index(joint)


@pytest.fixture
def document(tmp_path):
    return CocoFile(write_annotations(tmp_path / "a.json", IMAGES, PEOPLE), COCO18)


def entry(points, image_id=1, score=1.0):
    return {"image_id": image_id, "category_id": 7, "keypoints": points.ravel().tolist(), "score": score}


def ground_truth():
    return [points.copy() for _, points in PEOPLE]


def entries(people):
    return [
        entry(points, image_id, score=2 - n / 10) for n, (points, (image_id, _)) in enumerate(zip(people, PEOPLE, strict=True))
    ]


def areas_of(document):
    return [a.area for image_id in (1, 2) for a in document.annotations[image_id]]


def with_jitter(document):
    return entries([shift_to(0.7, points, area) for points, area in zip(ground_truth(), areas_of(document), strict=True)])


def with_misses(document):
    people = ground_truth()
    for points in people:
        points[[place_of("right_wrist"), place_of("nose")], 1] += 3000
    return entries(people)


def with_swaps(document):
    people = ground_truth()
    arm = [place_of("right_wrist"), place_of("right_elbow")]
    people[0][arm], people[1][arm] = people[1][arm].copy(), people[0][arm].copy()
    return entries(people)


def with_inversions(document):
    people = ground_truth()
    ends = [place_of(f"{side}_{joint}") for joint in ("wrist", "elbow", "ankle") for side in ("left", "right")]
    people[0][ends] = people[0][mirrored_sources(COCO18)[ends]]
    return entries(people)


def with_score_errors(document):
    first = shift_to(0.6, PEOPLE[0][1], areas_of(document)[0])
    return [*entries(ground_truth()), entry(first, score=9.0)]


def with_false_people(document):
    return [*entries(ground_truth()), entry(person(5000, 40), score=9.0), entry(person(250, 90), 3, score=8.0)]


def with_missed_people(document):
    return entries(ground_truth())[1:]


KINDS = {
    "jitter": (with_jitter, 17 + 17 + 15),
    "miss": (with_misses, 3 * 2),
    "swap": (with_swaps, 2 * 2),
    "inversion": (with_inversions, 6),
    "score": (with_score_errors, 1),
    "false": (with_false_people, 2),
    "missed": (with_missed_people, 1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_error_is_found_and_fixing_it_restores_ap(document, kind):
    make, count = KINDS[kind]
    results = make(document)
    before = copy.deepcopy(results)
    analysis = analyze(document, results, COCO18)
    assert {name: figures.count for name, figures in analysis.errors.items() if figures.count} == {kind: count}
    assert analysis.figures["AP"] < 0.95
    assert analysis.errors[kind].ap_alone == pytest.approx(1)
    order = list(ERRORS)
    so_far = [analysis.errors[name].ap_so_far for name in order]
    assert so_far == sorted(so_far)
    assert so_far[order.index(kind) :] == pytest.approx([1] * (len(order) - order.index(kind)))
    # Better scores can raise AP whatever the error is; fixing any other kind changes nothing.
    for name in set(order) - {kind, "score"}:
        assert analysis.errors[name].ap_alone == pytest.approx(analysis.figures["AP"]), name
    assert results == before, "inputs are not modified"


def test_several_kinds_of_errors_are_all_fixed(document):
    jittered, missing = with_jitter(document), with_misses(document)
    results = [jittered[0], missing[2], *with_false_people(document)[3:]]
    analysis = analyze(document, results, COCO18)
    counts = {name: figures.count for name, figures in analysis.errors.items()}
    assert counts == {"miss": 2, "swap": 0, "inversion": 0, "jitter": 17, "score": 0, "false": 2, "missed": 1}
    assert analysis.errors["missed"].ap_so_far == pytest.approx(1)


def test_ground_truth_has_no_errors_and_empty_prediction_misses_all_people(document):
    right = analyze(document, entries(ground_truth()), COCO18)
    assert all(figures.count == 0 and figures.ap_alone == pytest.approx(1) for figures in right.errors.values())
    nothing = analyze(document, [], COCO18)
    assert nothing.figures["AP"] == 0
    assert nothing.errors["missed"].count == 3 and nothing.errors["missed"].ap_alone == pytest.approx(1)
    assert nothing.joints["nose"].oks == 0 and nothing.joints["nose"].num_missed == 3


def test_similarities_average_to_the_oks_of_pycocotools(document):
    rng = np.random.default_rng(0)
    results = entries([points + [8, 8, 0] * rng.standard_normal(points.shape) for points in ground_truth()])
    comparison = compare(document, results, COCO18)
    for image in diagnose(comparison, document, results, COCO18):
        oks = comparison.image(image.image_id).oks
        expected = [oks[row, person] for person, row in enumerate(image.found_by)]
        np.testing.assert_allclose(image.oks, expected, rtol=1e-9)
        assert 0.2 < image.oks.min() < 1


def test_fixing_no_kind_changes_nothing(document):
    results = with_false_people(document)
    images = diagnose(compare(document, results, COCO18), document, results, COCO18)
    assert sorted(map(str, fix_errors(document, results, images, ()))) == sorted(map(str, results))


def test_joint_figures_by_hand(document):
    people = ground_truth()
    nose, knee = place_of("nose"), place_of("left_knee")
    people[0][nose, 0] += 3
    people[0][knee, 2] = 0  # not predicted, but placed correctly
    area = areas_of(document)[0]
    joints = analyze(document, entries(people)[:2], COCO18).joints
    similarity = np.exp(-9 / (2 * area * (2 * 0.026) ** 2))
    assert joints["nose"].num_labeled == 3 and joints["nose"].num_missed == 1
    assert joints["nose"].oks == pytest.approx((similarity + 1) / 3)
    assert joints["nose"].oks_found == pytest.approx((similarity + 1) / 2)
    assert joints["nose"].median_px == pytest.approx(1.5)
    assert joints["left_knee"].num_labeled == 2 and joints["left_knee"].num_missed == 0
    assert joints["left_knee"].num_guessed == 1 and joints["nose"].num_guessed == 0
    assert joints["left_knee"].counts == {**dict.fromkeys(JOINT_ERRORS, 0), "good": 2}


def test_areas_include_small_people(tmp_path):
    people = [(1, person(100, 50)), (1, person(400, 60, 0.5)), (2, person(150, 60, 0.15))]
    document = CocoFile(write_annotations(tmp_path / "a.json", IMAGES, people), COCO18)
    areas = analyze(document, [entry(people[0][1]), entry(people[2][1], 2)], COCO18).areas
    assert {name: area.num_people for name, area in areas.items()} == {"all": 3, "medium": 1, "large": 1, "small": 1}
    assert (areas["large"].ar, areas["medium"].ar, areas["small"].ar) == pytest.approx((1, 0, 1))


def test_results_on_crowds_are_ignored_and_only_the_twenty_best_results_count(tmp_path):
    people = [(1, person(100, 50)), (1, person(400, 60))]
    document = CocoFile(write_annotations(tmp_path / "a.json", IMAGES, people[:1], crowds=people[1:]), COCO18)
    strays = [entry(person(9000 + 10 * n, 40), score=0.5 + n / 100) for n in range(25)]
    results = [*strays, entry(people[1][1], score=3), entry(people[0][1], score=2)]
    [image] = analyze(document, results, COCO18).images.values()
    assert image.fates == ("ignored", "found", *["false"] * 18)
    assert image.places.tolist() == [25, 26, *range(24, 6, -1)]


def test_second_result_of_a_person_is_false_or_a_score_error(document):
    worse = shift_to(0.6, PEOPLE[0][1], areas_of(document)[0])
    for score, kind in ((0.1, "false"), (9.0, "score")):
        analysis = analyze(document, [*entries(ground_truth()), entry(worse, score=score)], COCO18)
        assert [name for name, figures in analysis.errors.items() if figures.count] == [kind]


def test_subset_of_images(document):
    analysis = analyze(document, with_missed_people(document), COCO18, [2])
    assert list(analysis.images) == [2] and analysis.figures["AP"] == pytest.approx(1)
    assert not any(figures.count for figures in analysis.errors.values())
    assert [figures.ap_alone for figures in analysis.errors.values()] == pytest.approx([1] * len(ERRORS))


def test_joint_errors_follow_the_highest_similarity():
    own, other_side, swapped = np.array(
        [[0.9, 0.3, 0.3], [0.7, 0.3, 0.3], [0.7, 0.8, 0.3], [0.86, 0.3, 0.9], [0.49, 0.49, 0.49]]
    ).T
    names = [*JOINT_ERRORS, "good"]
    assert [names[code] for code in _classify(own, other_side, swapped)] == ["good", "jitter", "inversion", "swap", "miss"]


def test_best_pairs_are_matched_first():
    oks = np.array([[0.6, 0.5], [0.9, 0.05], [0.05, 0.09]])
    assert match(oks).tolist() == [1, 0]
    assert match(np.array([[0.5], [0.5]])).tolist() == [0], "equal OKS: the result with the higher score wins"
    assert match(np.zeros((0, 2))).tolist() == [-1, -1] and match(np.zeros((2, 0))).tolist() == []
