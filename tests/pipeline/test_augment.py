"""Augmentation: a bright spot stays under its keypoint, and left stays left, through every transform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import geometry
from pipeline.build.config import BuildConfig
from pipeline.datasets.selection import Sample
from pipeline.images import PADDING_GRAY
from pipeline.samples import augment
from pipeline.samples.augment import Transform, apply_transform, plan_transform, shift_hsv
from pipeline.samples.config import AugmentConfig
from pipeline.skeletons import COCO18

SIZE = dict(skeleton=COCO18, insize=128, stride_px=8)
WIDTH, HEIGHT = 200, 160


def sample_of(*points) -> Sample:
    keypoints = np.zeros((1, 18, 3), np.float32)
    for joint, (x, y) in zip(("left_wrist", "right_ankle", "nose"), points, strict=False):
        keypoints[0, COCO18.index(joint)] = (x, y, 2)
    return Sample(image_id=1, file_name="x.jpg", width=WIDTH, height=HEIGHT, license=1, keypoints=keypoints)


def crop_of(sample: Sample, transform: Transform, image: np.ndarray, ignore=None):
    return apply_transform(transform, image=image, ignore=ignore, keypoints=sample.keypoints, **SIZE)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(20, WIDTH - 21), st.integers(20, HEIGHT - 21), st.booleans())
def test_a_bright_spot_stays_under_its_keypoint(seed, x, y, plain):
    sample = sample_of((x, y), (WIDTH / 2, HEIGHT / 2))
    config = AugmentConfig(augment="none" if plain else "reference", color_probability=0)
    transform = plan_transform(sample, config, insize=128, stride_px=8, variant=0, rng=np.random.default_rng(seed))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255  # centered on x, y
    crop = crop_of(sample, transform, image)
    joint = COCO18.index("right_wrist" if transform.mirrored else "left_wrist")
    point = crop.keypoints[0, joint]
    assert point[2] == 2 and np.count_nonzero(crop.keypoints[0, :, 2]) == 2
    light = crop.image[..., 0].astype(float)
    light[light == PADDING_GRAY] = 0  # padding
    inside = (point[:2] > 8).all() and (point[:2] < 119).all()
    if inside:
        rows, columns = np.indices(light.shape)
        near = np.hypot(columns - point[0], rows - point[1]) < 8
        weight = light * near
        center = np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()
        np.testing.assert_allclose(center, point[:2], atol=0.3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31))
def test_an_ignored_region_moves_with_the_image(seed):
    sample = sample_of((100, 80), (60, 100))
    ignore = np.zeros((HEIGHT, WIDTH), bool)
    ignore[60:101, 80:121] = True  # around the keypoint 100, 80
    config = AugmentConfig(center_jitter_px=10, min_scale=0.8, max_scale=1.2)
    transform = plan_transform(sample, config, insize=128, stride_px=8, variant=0, rng=np.random.default_rng(seed))
    crop = crop_of(sample, transform, np.zeros((HEIGHT, WIDTH, 3), np.uint8), ignore)
    joint = COCO18.index("right_wrist" if transform.mirrored else "left_wrist")
    cell = np.rint(geometry.pixels_to_cells(crop.keypoints[0, joint, :2], 8)).astype(int)
    if (cell >= 0).all() and (cell < 16).all():
        assert crop.ignore[cell[1], cell[0]]
    assert not crop.ignore.all()


def test_dilation_reaches_16_pixels():
    image, ignore = np.zeros((128, 128, 3), np.uint8), np.zeros((128, 128), bool)
    ignore[56:72, 56:72] = True
    sample = sample_of((10, 10), (20, 20))
    crop = apply_transform(Transform(matrix=geometry.identity()), image=image, ignore=ignore, keypoints=sample.keypoints, **SIZE)
    expected = np.zeros((16, 16), bool)
    expected[5:11, 5:11] = True  # 56 - 16 = 40 = 5 cells
    expected[[5, 5, 10, 10], [5, 10, 5, 10]] = crop.ignore[5, 5]  # a rounded corner
    np.testing.assert_array_equal(crop.ignore, expected)


def test_mirrored_crop_is_the_mirror_of_the_crop():
    sample, rng = sample_of((90, 70), (120, 110)), np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    matrix = geometry.translation(-30, -20)
    plain = crop_of(sample, Transform(matrix=matrix), image)
    mirrored_matrix = geometry.compose(matrix, geometry.mirroring(128))
    mirrored = crop_of(sample, Transform(matrix=mirrored_matrix, mirrored=True), image)
    np.testing.assert_array_equal(mirrored.image, plain.image[:, ::-1])
    left, right = COCO18.index("left_wrist"), COCO18.index("right_wrist")
    assert mirrored.keypoints[0, right].tolist() == [127 - plain.keypoints[0, left, 0], *plain.keypoints[0, left, 1:]]
    assert mirrored.keypoints[0, left].tolist() == [0, 0, 0]


def test_crops_without_augmentation_have_the_scale_of_evaluation_and_no_padding():
    sample = sample_of((5, 80), (15, 100))  # at the left edge
    image = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    transform = plan_transform(
        sample, AugmentConfig(augment="none"), insize=128, stride_px=8, variant=0, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(transform.matrix[:, :2], np.eye(2) * 128 / HEIGHT)
    assert (crop_of(sample, transform, image).image == 255).all(), "no padding in the crop"


def test_variants_without_augmentation_center_on_one_person_after_the_other():
    two = np.concatenate([sample_of((30, 80), (40, 100)).keypoints, sample_of((160, 80), (170, 100)).keypoints])
    sample = Sample(image_id=1, file_name="x", width=WIDTH, height=HEIGHT, license=1, keypoints=two)
    config = AugmentConfig(augment="none")
    shifts = [plan_transform(sample, config, insize=128, stride_px=8, variant=v, rng=None).matrix[0, 2] for v in range(3)]
    assert shifts[0] == shifts[2] != shifts[1]


@given(x=st.floats(0, WIDTH - 11), stride_px=st.sampled_from([4, 8, 16]))
def test_crops_without_augmentation_align_with_the_cells_of_the_whole_image(x, stride_px):
    sample = sample_of((x, 80), (x + 10, 100))
    matrix = plan_transform(sample, AugmentConfig(augment="none"), insize=128, stride_px=stride_px, variant=0, rng=None).matrix
    corner = geometry.transform_points(matrix, np.zeros(2)) - (128 / HEIGHT - 1) / 2  # of the image's outer edge
    np.testing.assert_allclose(corner / stride_px, np.round(corner / stride_px), atol=1e-9)


def test_scales_keep_people_within_the_size_limits():
    rng = np.random.default_rng(0)
    for size in (10.0, 64.0, 400.0, 3000.0):
        sample, diagonal = sample_of((0, 0), (size - 1, 0)), np.hypot(size, 1)
        scales = [augment._random_scale(sample, AugmentConfig(), rng) for _ in range(200)]
        assert min(scales) >= 0.5 and max(scales) <= 2.0
        assert all(s * diagonal >= 64 - 1e-6 or s >= 1 for s in scales)
        assert all(s * diagonal <= 512 + 1e-6 or s <= 1 for s in scales)


def test_hue_is_cyclic_and_value_is_clipped():
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    assert shift_hsv(red, (60, 0, 0))[0, 0].tolist() == [0, 255, 0]  # 120 degrees further
    assert shift_hsv(red, (-60, 0, 0))[0, 0].tolist() == [0, 0, 255]
    gray = np.full((2, 2, 3), 250, np.uint8)
    assert shift_hsv(gray, (0, 0, 30))[0, 0].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(shift_hsv(red, (0, 0, 0)), red)


def test_transforms_depend_only_on_the_generator():
    sample = sample_of((90, 70), (120, 110))
    first, second = (
        plan_transform(sample, AugmentConfig(), insize=128, stride_px=8, variant=0, rng=np.random.default_rng([0, 1, 2]))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.matrix, second.matrix)
    assert (first.mirrored, first.hsv_shift) == (second.mirrored, second.hsv_shift)


@pytest.mark.parametrize("fields", [dict(min_scale=2.5), dict(mirror_probability=1.5), dict(hsv_shift=(0, 200, 0))])
def test_invalid_settings_are_errors(fields):
    with pytest.raises(ValueError, match="must"):
        AugmentConfig(**fields)


@given(st.integers(0, 2**31))
def test_cmu_preset_scales_relative_to_the_person_and_limits_the_rotation(seed):
    options = {name: value for name, value in BuildConfig.PRESETS["cmu"].items() if name != "people_free_share"}
    sample = sample_of((60, 50), (90, 130))  # 80 pixels high
    rng = np.random.default_rng(seed)
    transform = plan_transform(sample, AugmentConfig(**options), insize=128, stride_px=8, variant=0, rng=rng)
    linear = np.diag([-1 if transform.mirrored else 1, 1]) @ transform.matrix[:, :2]
    scale = np.sqrt(np.linalg.det(linear))
    assert 0.333 <= scale * 80 / (0.6 * 128) <= 1.5
    assert abs(np.degrees(np.arctan2(linear[1, 0], linear[0, 0]))) <= 45
    assert transform.hsv_shift is None
