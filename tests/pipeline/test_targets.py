"""Targets, compared with a slow implementation of the paper's formulas, cell by cell in float64."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.samples import targets
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18

CONFIG = TargetConfig(insize=64, heatmap_sigma_px=7.0, paf_half_width_px=8.0)
SHAPE = dict(skeleton=COCO18, grid_hw=CONFIG.grid_hw, config=CONFIG)


def people_of(max_people: int):
    """Return a strategy for keypoints of up to `max_people` people, inside and around the crop, some unlabeled."""
    coordinates = hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, max_people), st.just(18), st.just(2)),
        elements=st.floats(-20, 84, width=32),
    )
    return coordinates.flatmap(
        lambda xy: hnp.arrays(np.int8, xy.shape[:2], elements=st.integers(0, 2)).map(
            lambda v: np.concatenate([xy * (v > 0)[..., None], v[..., None]], axis=-1).astype(np.float32)
        )
    )


def literal_heatmaps(keypoints):
    height, width = CONFIG.grid_hw
    maps = np.zeros((19, height, width))
    for joint in range(18):
        for row in range(height):
            for column in range(width):
                x, y = (column + 0.5) * 8 - 0.5, (row + 0.5) * 8 - 0.5
                for person in keypoints.astype(np.float64):
                    if person[joint, 2] > 0:
                        squared = (x - person[joint, 0]) ** 2 + (y - person[joint, 1]) ** 2
                        maps[joint, row, column] = max(maps[joint, row, column], math.exp(-squared / (2 * 7.0**2)))
    for row in range(height):
        for column in range(width):
            maps[18, row, column] = 1 - max(maps[:18, row, column])
    return maps


def literal_pafs(keypoints):
    """Return the PAFs, and the cells whose center is so close to a limb's edge that rounding decides."""
    height, width = CONFIG.grid_hw
    pafs, doubtful = np.zeros((38, height, width)), np.zeros((38, height, width), bool)
    for limb, (start, end) in enumerate(COCO18.limb_joints):
        for row in range(height):
            for column in range(width):
                p = np.array([(column + 0.5) * 8 - 0.5, (row + 0.5) * 8 - 0.5])
                vectors = []
                for person in keypoints.astype(np.float64):
                    a, b = person[start], person[end]
                    length = math.hypot(*(b - a)[:2])
                    if a[2] == 0 or b[2] == 0 or length == 0:
                        continue
                    v = (b - a)[:2] / length
                    along = v @ (p - a[:2])
                    across = abs(v[0] * (p - a[:2])[1] - v[1] * (p - a[:2])[0])
                    if 0 <= along <= length and across <= 8.0:
                        vectors.append(v)
                    if min(abs(along), abs(along - length), abs(across - 8.0)) < 1e-6:
                        doubtful[2 * limb : 2 * limb + 2, row, column] = True
                if vectors:
                    pafs[2 * limb : 2 * limb + 2, row, column] = np.mean(vectors, axis=0)
    return pafs, doubtful


@settings(max_examples=15, deadline=None)
@given(people_of(2))
def test_heatmaps_match_the_formula(keypoints):
    expected = literal_heatmaps(keypoints)
    rendered = targets.render_heatmaps(keypoints, **SHAPE)
    np.testing.assert_allclose(rendered, expected, atol=1e-5)
    restored = targets.dequantize_heatmaps(targets.quantize_heatmaps(rendered))
    assert np.abs(restored - expected).max() <= 0.5 / 255 + 1e-5


@settings(max_examples=15, deadline=None)
@given(people_of(3))
def test_pafs_match_the_formula(keypoints):
    expected, doubtful = literal_pafs(keypoints)
    rendered = targets.render_pafs(keypoints, **SHAPE)
    np.testing.assert_allclose(np.where(doubtful, 0, rendered), np.where(doubtful, 0, expected), atol=1e-5)
    restored = targets.dequantize_pafs(targets.quantize_pafs(rendered))
    assert np.abs(np.where(doubtful, 0, restored - expected)).max() <= 0.5 / 127 + 1e-5


def test_values_computed_by_hand():
    keypoints = np.zeros((1, 18, 3), np.float32)
    keypoints[0, COCO18.index("right_hip")] = (11.5, 11.5, 2)  # the center of cell 1, 1
    keypoints[0, COCO18.index("right_knee")] = (11.5, 51.5, 2)  # directly below, cell 1, 6
    heatmaps = targets.render_heatmaps(keypoints, **SHAPE)
    assert heatmaps[COCO18.index("right_hip"), 1, 1] == 1
    assert heatmaps[COCO18.index("right_hip"), 1, 2] == pytest.approx(math.exp(-64 / 98))
    assert heatmaps[-1, 1, 1] == 0
    pafs = targets.render_pafs(keypoints, **SHAPE)
    limb = COCO18.limbs.index(("right_hip", "right_knee"))
    assert (pafs[2 * limb] == 0).all()
    expected = np.zeros((8, 8))
    expected[1:7, 0:3] = 1  # from hip to knee, one cell to each side
    np.testing.assert_array_equal(pafs[2 * limb + 1], expected)
    assert not np.delete(pafs, [2 * limb, 2 * limb + 1], axis=0).any()


def test_without_people_there_is_only_background():
    no_people = np.zeros((0, 18, 3), np.float32)
    assert not targets.render_heatmaps(no_people, **SHAPE)[:-1].any()
    assert (targets.render_heatmaps(no_people, **SHAPE)[-1] == 1).all()
    assert not targets.render_pafs(no_people, **SHAPE).any()


def test_opposite_limbs_cancel_out():
    a, b = COCO18.index("right_hip"), COCO18.index("right_knee")
    keypoints = np.zeros((2, 18, 3), np.float32)
    keypoints[0, [a, b]] = (11.5, 11.5, 2), (11.5, 51.5, 2)
    keypoints[1, [b, a]] = keypoints[0, [a, b]]
    assert not targets.render_pafs(keypoints, **SHAPE).any()


@pytest.mark.parametrize("fields", [dict(insize=370), dict(stride_px=0), dict(heatmap_sigma_px=0), dict(paf_half_width_px=-1)])
def test_invalid_settings_are_errors(fields):
    with pytest.raises(ValueError, match="must"):
        TargetConfig(**fields)
