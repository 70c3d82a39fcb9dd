"""Scores from 0 to 1: the order of people stays, whatever the map, and the people to show are chosen."""

import dataclasses

import numpy as np
import pytest
from calibration_data import CALIBRATION
from hypothesis import given
from hypothesis import strategies as st

from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import SelectConfig, score_map, select
from evaluator.inference.config import InferConfig
from evaluator.inference.scoring import map_of, read_calibration, settings_of, warn_of_other_settings
from evaluator.metrics.calibration import fit
from pipeline.errors import UserError
from pipeline.skeletons import COCO18


def test_a_tenth_of_a_perfect_person_has_an_uncalibrated_score_of_a_half():
    perfect = COCO18.num_joints + COCO18.num_limbs
    scores = score_map(COCO18)(np.array([0, perfect / 10, perfect], np.float32))
    assert scores == pytest.approx([0, 0.5, 1 / 1.1])


def test_a_calibration_is_linear_between_its_knots_and_constant_outside():
    to_scores = map_of(read_calibration(CALIBRATION, "x"), COCO18)
    assert to_scores(np.array([-1, 0, 2, 4, 9, 100])) == pytest.approx([0.01, 0.01, 0.105, 0.2, 0.9, 0.9])


@given(st.lists(st.tuples(st.floats(0, 40, width=32), st.booleans()), min_size=1, max_size=200))
def test_fitted_maps_keep_the_order_of_neighboring_floats_and_never_reach_0_or_1(people):
    raw, is_right = np.array([p[0] for p in people], np.float64), np.array([p[1] for p in people])
    for to_scores in (score_map(COCO18), score_map(COCO18, fit(raw, is_right))):
        low = np.geomspace(0.01, 60, 2000).astype(np.float32)
        high = np.nextafter(low, np.float32(np.inf))
        scores = to_scores(low)
        assert (to_scores(high) > scores).all() and (scores > 0).all() and (scores < 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"knots": [[0.0, 0.5], [1.0, 0.5]]}, "strictly increasing"),
        ({"knots": [[1.0, 0.1], [0.5, 0.5]]}, "strictly increasing"),
        ({"knots": [[0.0, 0.1], [1.0, 1.0]]}, r"knots\[1\]\[1\]"),
        ({"knots": [[0.0, 0.1]]}, "knots"),
        ({"num_images": -1}, "num_images"),
        ({"settings": 3}, "settings"),
    ],
)
def test_a_damaged_calibration_is_refused_naming_the_field(change, message):
    with pytest.raises(UserError, match=rf"^checkpoint c: calibration: .*{message}"):
        read_calibration(CALIBRATION | change, "checkpoint c")


def test_other_settings_than_those_of_the_calibration_are_named(capsys):
    calibration = read_calibration(CALIBRATION, "x")
    warn_of_other_settings(calibration, settings_of(InferConfig(), 368, DecodeConfig()))
    warn_of_other_settings(None, settings_of(InferConfig(mirror=True), 200, DecodeConfig()))
    assert capsys.readouterr().err == ""
    warn_of_other_settings(calibration, settings_of(InferConfig(mirror=True), 368, DecodeConfig(peak_threshold=0.1)))
    error = capsys.readouterr().err
    assert "mirror: False then, True now" in error and "peak_threshold: 0.03 then, 0.1 now" in error and "scales" not in error


def test_people_are_chosen_by_score_joints_and_number():
    keypoints = np.zeros((4, 18, 3))
    for person, joints in enumerate((1, 9, 5, 18)):
        keypoints[person, :joints, 2] = 0.5
    scores = np.array([0.9, 0.5, 0.7, 0.1])
    assert select(keypoints, scores, SelectConfig()).tolist() == [0, 2, 1]
    assert select(keypoints, scores, SelectConfig(min_score=0)).tolist() == [0, 2, 1, 3]
    assert select(keypoints, scores, SelectConfig(min_joints=6)).tolist() == [1]
    assert select(keypoints, scores, SelectConfig(min_joints=2, max_people=1)).tolist() == [2]
    assert select(keypoints[:0], scores[:0], SelectConfig()).tolist() == []
    for options in ({"min_score": 1.5}, {"min_score": float("nan")}, {"min_joints": 0}, {"max_people": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            dataclasses.replace(SelectConfig(), **options)
