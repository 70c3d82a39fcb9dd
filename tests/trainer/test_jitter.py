"""Augmentation on the device: mirrored samples match mirrored people, colors match a hand calculation, draws are reproducible."""

import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_data import PUPPET

from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig, quantize_heatmaps, quantize_pafs, render_heatmaps, render_pafs
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18
from trainer.data.config import JitterConfig
from trainer.data.jitter import LUMA, Jitter, color_matrices
from trainer.data.order import IDENTITY, draw_augmentation

SIDE, CELLS = 64, 8


def batch(rng, skeleton, count=3, people=2):
    """Return random images, targets of random people, random masks, and the keypoints."""
    keypoints = np.zeros((count, people, skeleton.num_joints, 3), np.float32)
    keypoints[..., :2] = rng.uniform(0, SIDE - 1, keypoints[..., :2].shape)
    keypoints[..., 2] = rng.integers(0, 3, keypoints.shape[:3])
    images = rng.integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
    mask = rng.integers(0, 2, (count, CELLS, CELLS), np.uint8)
    return images, *targets(keypoints, skeleton), mask, keypoints


def targets(keypoints, skeleton):
    shape = dict(skeleton=skeleton, grid_hw=(CELLS, CELLS), config=TargetConfig(insize=SIDE))
    fields = [(quantize_heatmaps(render_heatmaps(k, **shape)), quantize_pafs(render_pafs(k, **shape))) for k in keypoints]
    return [np.stack(arrays) for arrays in zip(*fields, strict=True)]


def augmented(config, skeleton, *arrays):
    """Return images, heatmaps, PAFs and mask after augmentation, as tensors."""
    jitter = Jitter(config, skeleton)
    fields = dict(zip(("images", "heatmaps", "pafs", "mask", "augmentation"), arrays, strict=True))
    labeled = np.ones((len(fields["images"]), skeleton.num_heatmaps + skeleton.num_pafs), np.uint8)
    return jitter(*jitter.inputs({**fields, "labeled": labeled}))[:-1]


def augmentation(count, **columns):
    table = np.full((count, 4), IDENTITY, np.float32)
    for name, values in columns.items():
        table[:, ("mirrored", "brightness", "contrast", "saturation").index(name)] = values
    return table


@pytest.mark.parametrize("skeleton", [COCO18, Skeleton.from_dict(PUPPET)], ids=lambda skeleton: skeleton.name)
def test_a_mirrored_sample_equals_the_targets_of_mirrored_people(skeleton):
    images, heatmaps, pafs, mask, keypoints = batch(np.random.default_rng(0), skeleton)
    found = augmented(JitterConfig(mirror=True), skeleton, images, heatmaps, pafs, mask, augmentation(3, mirrored=[1, 0, 1]))
    keypoints[[0, 2], ..., 0] = SIDE - 1 - keypoints[[0, 2], ..., 0]
    keypoints[[0, 2]] = keypoints[[0, 2]][:, :, skeleton.mirror]
    true_heatmaps, true_pafs = targets(keypoints, skeleton)
    for image, mirrored, plain in zip(found[0].asnumpy(), [1, 0, 1], images, strict=True):
        np.testing.assert_array_equal(image, cv2.flip(plain, 1) if mirrored else plain)
    assert [str(t.dtype) for t in found] == ["UInt8", "UInt8", "Int8", "UInt8"]
    assert np.abs(found[1].asnumpy().astype(int) - true_heatmaps).max() <= 1
    assert np.abs(found[2].asnumpy().astype(int) - true_pafs).max() <= 1
    np.testing.assert_array_equal(found[3].asnumpy(), np.stack([mask[0][:, ::-1], mask[1], mask[2][:, ::-1]]))


def test_without_options_nothing_changes():
    samples = batch(np.random.default_rng(1), COCO18)[:4]
    found = augmented(JitterConfig(), COCO18, *samples, augmentation(3, mirrored=1, brightness=2))
    for tensor, array in zip(found, samples, strict=True):
        np.testing.assert_array_equal(tensor.asnumpy(), array)


def test_colors_match_a_hand_calculation():
    images = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    images[:] = 100, 200, 20
    table = augmentation(4, brightness=[1, 1.5, 1, 1], contrast=[1, 1, 0.5, 1], saturation=[1, 1, 1, 0])
    samples = batch(np.random.default_rng(2), COCO18, count=4)
    found = augmented(JitterConfig(color_jitter=0.5), COCO18, images, *samples[1:4], table)
    colors = found[0].asnumpy()[:, 0, 0].tolist()
    gray = round(0.299 * 100 + 0.587 * 200 + 0.114 * 20)
    assert colors == [[100, 200, 20], [150, 255, 30], [114, 164, 74], [gray] * 3]
    for tensor, array in zip(found[1:], samples[1:4], strict=True):
        np.testing.assert_array_equal(tensor.asnumpy(), array)


@given(st.lists(st.floats(0, 2, width=32), min_size=3, max_size=3))
def test_grays_stay_gray(factors):
    """A gray stays gray; contrast and saturation do not change the middle gray; saturation keeps the luma."""
    matrix = color_matrices(np.array([factors]))[0]
    for level in (0.0, 127.5, 255.0):
        color = matrix @ (level, level, level, 1)
        assert np.ptp(color) < 1e-3
        assert np.isclose(color[0], factors[1] * factors[0] * level + 127.5 * (1 - factors[1]), atol=1e-3)
    assert np.isclose(
        np.dot(LUMA, color_matrices(np.array([[1, 1, factors[2]]]))[0] @ (10, 90, 200, 1)),
        np.dot(LUMA, (10, 90, 200)),
        atol=1e-3,
    )


def test_draws_depend_only_on_seed_epoch_and_sample():
    config = JitterConfig(mirror=True, color_jitter=0.4)
    first = draw_augmentation(config, 4000, seed=3, epoch=5)
    np.testing.assert_array_equal(first, draw_augmentation(config, 4000, seed=3, epoch=5))
    for other in (draw_augmentation(config, 4000, seed=4, epoch=5), draw_augmentation(config, 4000, seed=3, epoch=6)):
        assert (first[:-1, 0] != other[:-1, 0]).mean() == pytest.approx(0.5, abs=0.05)
    assert tuple(first[-1]) == IDENTITY
    assert first[:-1, 0].mean() == pytest.approx(0.5, abs=0.05)
    assert first[:-1, 1:].min() == pytest.approx(0.6, abs=0.01) and first[:-1, 1:].max() == pytest.approx(1.4, abs=0.01)
    identity = draw_augmentation(JitterConfig(), 10, seed=3, epoch=5)
    np.testing.assert_array_equal(identity, np.tile(np.float32(IDENTITY), (11, 1)))


def test_a_skeleton_that_cannot_be_mirrored_is_refused():
    asymmetric = dataclasses.replace(COCO18, mirror_pairs=COCO18.mirror_pairs[1:])
    with pytest.raises(UserError, match="--mirror"):
        Jitter(JitterConfig(mirror=True), asymmetric)
