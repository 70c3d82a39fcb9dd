"""Image to input to fields and back: a bright spot returns to its position, whatever the size of the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluator.decoding import DecodeConfig
from evaluator.inference.augmentation import AugmentedNetwork, image_fields
from evaluator.inference.config import InferConfig
from evaluator.inference.fields import find_people
from evaluator.inference.sizes import MAX_ASPECT, grid_size, input_size
from pipeline import geometry
from pipeline.images import PADDING_GRAY
from pipeline.samples.targets import TargetConfig, render_heatmaps, render_pafs
from pipeline.skeleton import Skeleton

DOT = Skeleton(name="dot", joints=("dot",), limbs=(), mirror_pairs=(), source_joints=("dot",), sigmas=(0.05,))
STRIDE_PX = 8


def with_spot(width, height, x, y, radius):
    rows, columns = np.mgrid[:height, :width]
    spot = 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * radius**2))
    return np.repeat(np.rint(spot).astype(np.uint8)[..., None], 3, axis=2)


def spot_center(image):
    """Center of mass, in pixels."""
    weight = np.where(image[..., 0] == PADDING_GRAY, 0, image[..., 0]).astype(np.float64)
    rows, columns = np.indices(weight.shape)
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


class SpotNetwork:
    """Finds the bright spot of an image and returns the target of a joint at that position."""

    skeleton, insize, stride_px = DOT, 96, STRIDE_PX

    def fields(self, images):
        keypoints = np.array([[[*spot_center(images[0]), 2]]], np.float32)
        grid = images.shape[1] // STRIDE_PX, images.shape[2] // STRIDE_PX
        render = {"skeleton": DOT, "grid_hw": grid, "config": TargetConfig(insize=96)}
        return render_heatmaps(keypoints, **render)[None], render_pafs(keypoints, **render)[None]


@given(
    width=st.integers(60, 240),
    height=st.integers(60, 240),
    across=st.floats(0.25, 0.75),
    down=st.floats(0.25, 0.75),
    insize=st.sampled_from([64, 96, 100, 133]),
    step=st.sampled_from([1, 8, 64, 100]),
)
@settings(max_examples=40, deadline=None)
def test_spot_returns_to_its_position(width, height, across, down, insize, step):
    x, y = across * width, down * height
    image = with_spot(width, height, x, y, radius=4)
    config = InferConfig(insize=insize, size_step_px=step)
    [padded] = AugmentedNetwork(SpotNetwork(), config).prepare(image)
    matrix = geometry.resizing(*(new / old for new, old in zip(input_size(width, height, insize), (width, height), strict=True)))
    scale = insize / min(width, height)
    assert np.hypot(*(spot_center(padded) - geometry.transform_points(matrix, np.array([x, y])))) < 0.2 * max(1, scale)
    # No threshold from noise: a spot covers much of a field of 8 x 8 cells, and the estimate takes it for noise.
    people = find_people(image_fields(SpotNetwork(), image, config), DOT, DecodeConfig(noise_factor=0))
    assert len(people) == 1
    assert np.hypot(*(people.keypoints[0, 0, :2] - (x, y))) < 0.5 * max(1, 1 / scale)


@given(width=st.integers(1, 5000), height=st.integers(1, 5000))
def test_shorter_side_becomes_insize_and_aspect_is_kept(width, height):
    new_width, new_height = input_size(width, height, 368)
    if max(width, height) <= MAX_ASPECT * min(width, height):
        assert min(new_width, new_height) == 368
        assert abs(max(new_width, new_height) - 368 * max(width, height) / min(width, height)) <= 0.5
    assert min(new_width, new_height) >= 1 and max(new_width, new_height) <= MAX_ASPECT * 368


def test_padding_is_gray_and_fills_cells_and_steps():
    image = np.full((100, 130, 3), 200, np.uint8)
    for step, expected in ((1, (104, 136)), (64, (104, 168))):
        [padded] = AugmentedNetwork(SpotNetwork(), InferConfig(insize=100, size_step_px=step)).prepare(image)
        assert padded.shape == (*expected, 3)
        assert (padded[:100, :130] == 200).all()
        assert (padded[100:] == PADDING_GRAY).all() and (padded[:, 130:] == PADDING_GRAY).all()
    assert grid_size(130, 100, STRIDE_PX) == (13, 17)


def test_number_of_input_sizes_is_small():
    """Sizes like those of COCO images. Four scales need about as many combinations as one; rounding adds a few."""
    rng = np.random.default_rng(0)
    sides = [(640, int(side)) for side in rng.integers(320, 641, 2000)]
    sides += [(height, width) for width, height in sides]
    one, four = (
        {AugmentedNetwork(SpotNetwork(), InferConfig(insize=368, scales=scales)).padded_sizes(size) for size in sides}
        for scales in ((1.0,), (0.5, 1.0, 1.5, 2.0))
    )
    assert len(one) <= 13 and len(four) <= 15
    for (width, height), *_ in one:
        assert width % STRIDE_PX == height % STRIDE_PX == 0 and min(width, height) == 368


class PaddingNetwork:
    """Returns peaks in cells that contain only padding, and nothing inside the image."""

    skeleton, insize, stride_px = DOT, 96, STRIDE_PX

    def fields(self, images):
        count, height, width, _ = images.shape
        cells = images[..., 0].reshape(count, height // 8, 8, width // 8, 8)
        heatmaps = np.zeros((count, 2, height // 8, width // 8), np.float32)
        heatmaps[:, 0] = (cells == PADDING_GRAY).all(axis=(2, 4))
        heatmaps[:, 0, ::2] *= 0.5
        return heatmaps, np.zeros((count, 0, *heatmaps.shape[2:]), np.float32)


@given(width=st.integers(20, 300), height=st.integers(20, 300), mirror=st.booleans(), step=st.sampled_from([8, 64, 200]))
@settings(max_examples=40, deadline=None)
def test_padding_yields_no_people(width, height, mirror, step):
    network, image = PaddingNetwork(), np.full((height, width, 3), 10, np.uint8)
    config = InferConfig(scales=(1.0,), mirror=mirror, size_step_px=step)
    fields = image_fields(network, image, config)
    assert fields.heatmaps.shape[1:] == grid_size(*input_size(width, height, 96), STRIDE_PX)
    assert not fields.heatmaps.any() and len(find_people(fields, DOT, DecodeConfig())) == 0


def test_people_are_clipped_to_the_image():
    class Everywhere(SpotNetwork):
        def fields(self, images):
            grid = images.shape[1] // STRIDE_PX, images.shape[2] // STRIDE_PX
            heatmaps = np.random.default_rng(0).random((1, 2, *grid), np.float32)
            return heatmaps, np.zeros((1, 0, *grid), np.float32)

    people = find_people(image_fields(Everywhere(), np.zeros((97, 141, 3), np.uint8)), DOT, DecodeConfig(noise_factor=0))
    assert len(people) > 5
    assert (people.keypoints[..., :2] >= 0).all() and (people.keypoints[..., :2] <= (140, 96)).all()


@pytest.mark.parametrize("width, height", [(1, 1), (1, 400), (3000, 2)])
def test_extreme_aspect_ratios_are_supported(width, height):
    config = InferConfig(insize=64, size_step_px=STRIDE_PX)
    [padded] = AugmentedNetwork(SpotNetwork(), config).prepare(np.zeros((height, width, 3), np.uint8))
    assert padded.shape[0] % STRIDE_PX == padded.shape[1] % STRIDE_PX == 0
    assert padded.size <= 3 * (64 + 8) * (MAX_ASPECT * 64 + 8)
