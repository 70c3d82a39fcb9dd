"""Coordinate conventions of pixels and cells, and affine matrices."""

import cv2
import numpy as np
import pytest

from pipeline import geometry
from pipeline.skeletons import COCO18

POINTS = np.random.default_rng(0).uniform(-50, 400, (20, 2))


def test_first_cell_covers_pixels_0_to_7():
    assert geometry.cells_to_pixels(0, 8) == 3.5
    assert geometry.cell_centers(3, 8).tolist() == [3.5, 11.5, 19.5]


def test_cell_and_pixel_conversions_are_inverse():
    np.testing.assert_allclose(geometry.pixels_to_cells(geometry.cells_to_pixels(POINTS, 8), 8), POINTS)


def test_mirror_twice_is_the_identity():
    twice = geometry.compose(geometry.mirroring(368), geometry.mirroring(368))
    np.testing.assert_array_equal(twice, geometry.identity())
    keypoints = np.random.default_rng(1).uniform(0, 368, (3, 18, 3)).astype(np.float32)
    np.testing.assert_array_equal(keypoints[:, COCO18.mirror][:, COCO18.mirror], keypoints)


def test_mirroring_swaps_the_outer_pixels():
    np.testing.assert_array_equal(geometry.transform_points(geometry.mirroring(10), [[0, 4], [9, 4]]), [[9, 4], [0, 4]])


def test_compose_applies_matrices_from_first_to_last():
    one, two = geometry.rotation(30), geometry.translation(5, -3)
    expected = geometry.transform_points(two, geometry.transform_points(one, POINTS))
    np.testing.assert_allclose(geometry.transform_points(geometry.compose(one, two), POINTS), expected)


def test_invert_undoes_a_matrix():
    matrix = geometry.compose(geometry.resizing(1.7, 0.6), geometry.rotation(77), geometry.translation(5, -3))
    np.testing.assert_allclose(
        geometry.transform_points(geometry.invert(matrix), geometry.transform_points(matrix, POINTS)), POINTS
    )


def test_rotation_turns_x_towards_y():
    np.testing.assert_allclose(geometry.transform_points(geometry.rotation(90), [[1, 0]]), [[0, 1]], atol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_resizing_matches_cv2_resize(scale):
    ramp = np.tile(np.arange(64, dtype=np.float32), (4, 1))  # each pixel holds its x
    resized = cv2.resize(ramp, None, fx=scale, fy=1, interpolation=cv2.INTER_LINEAR)
    inner = np.arange(4, resized.shape[1] - 4)
    back = geometry.transform_points(geometry.invert(geometry.resizing(scale, 1)), np.stack([inner, inner * 0], axis=-1))
    np.testing.assert_allclose(resized[0, inner], back[:, 0], atol=1e-4)


def test_unlabeled_points_stay_at_the_origin():
    keypoints = np.array([[[10, 20, 2], [0, 0, 0]]], np.float32)
    moved = geometry.transform_keypoints(geometry.translation(5, 5), keypoints)
    assert moved.tolist() == [[[15, 25, 2], [0, 0, 0]]]
    assert keypoints[0, 0, 0] == 10, "the input is not modified"
