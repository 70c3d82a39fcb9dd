"""The loss: values computed by hand, the ignore mask, and parts of a batch that average to the whole."""

import mindspore as ms
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.loop.loss import stage_losses
from trainer.networks.network import last_fields

NUM_HEATMAPS, NUM_PAFS, GRID = 3, 4, (2, 3)


def random_case(seed: int, batch: int):
    rng = np.random.default_rng(seed)
    heatmaps = rng.integers(0, 256, (batch, NUM_HEATMAPS, *GRID)).astype(np.uint8)
    pafs = rng.integers(-127, 128, (batch, NUM_PAFS, *GRID)).astype(np.int8)
    mask = rng.integers(0, 2, (batch, *GRID)).astype(np.uint8)
    outputs = [
        (rng.normal(size=heatmaps.shape).astype(np.float32), rng.normal(size=pafs.shape).astype(np.float32)) for _ in range(2)
    ]
    return outputs, heatmaps, pafs, mask


def losses_of(outputs, heatmaps, pafs, mask, labeled=None) -> np.ndarray:
    outputs = tuple(tuple(map(ms.Tensor, stage)) for stage in outputs)
    labeled = np.ones((1, heatmaps.shape[1] + pafs.shape[1]), np.uint8) if labeled is None else labeled
    return stage_losses(outputs, *map(ms.Tensor, (heatmaps, pafs, mask, labeled))).asnumpy()


def test_values_computed_by_hand():
    heatmaps, pafs = np.full((1, 1, 1, 2), 255, np.uint8), np.full((1, 2, 1, 2), -127, np.int8)
    outputs = [(np.full((1, 1, 1, 2), 0.5, np.float32), np.zeros((1, 2, 1, 2), np.float32))]
    # Errors are 0.5 and 1 everywhere; then one of the two cells is ignored.
    np.testing.assert_allclose(losses_of(outputs, heatmaps, pafs, np.array([[[0, 0]]], np.uint8)), [[0.25, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(losses_of(outputs, heatmaps, pafs, np.array([[[0, 1]]], np.uint8)), [[0.125, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(losses_of(outputs, heatmaps, pafs, np.array([[[1, 1]]], np.uint8)), [[0, 0]])


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), batch=st.integers(1, 4))
def test_agrees_with_the_formula_in_float64(seed, batch):
    outputs, heatmaps, pafs, mask = random_case(seed, batch)
    counts = 1.0 - mask[:, None]
    expected = [[np.mean(counts * (h - heatmaps / 255.0) ** 2), np.mean(counts * (p - pafs / 127.0) ** 2)] for h, p in outputs]
    np.testing.assert_allclose(losses_of(outputs, heatmaps, pafs, mask), expected, rtol=1e-5)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_ignored_cells_do_not_matter_and_halves_average_to_the_whole(seed):
    outputs, heatmaps, pafs, mask = random_case(seed, 4)
    whole = losses_of(outputs, heatmaps, pafs, mask)
    halves = [
        losses_of([(h[part], p[part]) for h, p in outputs], heatmaps[part], pafs[part], mask[part])
        for part in (slice(0, 2), slice(2, 4))
    ]
    np.testing.assert_allclose(np.mean(halves, axis=0), whole, rtol=1e-5)
    changed = [(np.where(mask[:, None], h + 9, h), np.where(mask[:, None], p - 9, p)) for h, p in outputs]
    np.testing.assert_allclose(losses_of(changed, heatmaps, pafs, mask), whole, rtol=1e-6)


def test_a_missing_branch_has_loss_0_and_the_last_fields_are_the_result():
    outputs, heatmaps, pafs, mask = random_case(0, 2)
    both = losses_of(outputs, heatmaps, pafs, mask)
    (first_heatmaps, first_pafs), (second_heatmaps, second_pafs) = ([ms.Tensor(f) for f in stage] for stage in outputs)
    pafs_first = ((None, first_pafs), (second_heatmaps, None))
    losses = stage_losses(pafs_first, *map(ms.Tensor, (heatmaps, pafs, mask, np.ones((1, 7), np.uint8)))).asnumpy()
    np.testing.assert_array_equal(losses, [[0, both[0, 1]], [both[1, 0], 0]])
    assert last_fields(pafs_first) == (second_heatmaps, first_pafs)
    assert last_fields(((first_heatmaps, first_pafs), (second_heatmaps, second_pafs))) == (second_heatmaps, second_pafs)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_channels_that_a_source_does_not_label_do_not_matter(seed):
    outputs, heatmaps, pafs, mask = random_case(seed, 3)
    labeled = np.random.default_rng(seed).integers(0, 2, (3, NUM_HEATMAPS + NUM_PAFS)).astype(np.uint8)
    unknown_heatmaps, unknown_pafs = (part[..., None, None] == 0 for part in np.split(labeled, [NUM_HEATMAPS], axis=1))
    losses = losses_of(outputs, heatmaps, pafs, mask, labeled)
    changed = [(np.where(unknown_heatmaps, h + 9, h), np.where(unknown_pafs, p - 9, p)) for h, p in outputs]
    np.testing.assert_array_equal(losses_of(changed, heatmaps, pafs, mask, labeled), losses)
    weights = 1.0 - mask[:, None]
    expected = [
        [
            np.mean(weights * ~unknown_heatmaps * (h - heatmaps / 255.0) ** 2),
            np.mean(weights * ~unknown_pafs * (p - pafs / 127.0) ** 2),
        ]
        for h, p in outputs
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_joints_and_limbs_can_count_more():
    """By hand, with weight 4: one joint of height 1 and 0.2 (background 0 and 0.8), one limb of length 1 and 0; all errors are 1."""
    heatmaps = np.array([[[[255, 51]], [[0, 204]]]], np.uint8)
    pafs = np.array([[[[0, 0]], [[-127, 0]]]], np.int8)
    outputs = tuple(ms.Tensor((field / levels + 1).astype(np.float32)) for field, levels in ((heatmaps, 255), (pafs, 127)))
    truth = map(ms.Tensor, (heatmaps, pafs, np.zeros((1, 1, 2), np.uint8), np.ones((1, 4), np.uint8)))
    losses = stage_losses((outputs,), *truth, positive_weight=4.0).asnumpy()
    np.testing.assert_allclose(losses, [[(5 + 1.8 + 5 + 1.8) / 4, (5 + 1 + 5 + 1) / 4]], rtol=1e-6)
