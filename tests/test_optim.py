"""Learning rates by hand, Adam against its formula in float64, the step: it learns, and it refuses what is not finite."""

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_data import TINY

from trainer.config import OptimConfig
from trainer.network import Network, initialise
from trainer.optim import Adam, LearningRates, learning_rates
from trainer.step import make_step

GO = ms.Tensor(0.0, ms.float32)  # nobody asks to stop


def test_the_reference_schedule():
    config = OptimConfig()
    for step, expected in (
        (0, (0, 2.5e-5, 1e-4)),
        (1_999, (0, 2.5e-5, 1e-4)),
        (2_000, (2.5e-5, 2.5e-5, 1e-4)),
        (99_999, (2.5e-5, 2.5e-5, 1e-4)),
        (100_000, (2.5e-6, 2.5e-6, 1e-5)),
        (200_000, (2.5e-7, 2.5e-7, 1e-6)),
        (250_000, (2.5e-8, 2.5e-8, 1e-7)),
    ):
        assert learning_rates(step, config, total_steps=300_000) == pytest.approx(expected), step


def test_warm_up_rises_from_the_first_step_to_the_full_rate():
    config = OptimConfig(lr=1.0, lr_warmup_steps=4, freeze_trunk_steps=0, vgg_lr_factor=1)
    assert [learning_rates(step, config, total_steps=300_000).stage for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert learning_rates(0, config, total_steps=300_000).vgg == 0.25


def test_cosine_falls_from_the_full_rate_to_nothing_at_the_end_of_the_run():
    config = OptimConfig(lr=1.0, lr_schedule="cosine", freeze_trunk_steps=0)
    rates = [learning_rates(step, config, total_steps=8).stage for step in range(10)]
    assert rates[:5:2] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5])
    assert rates == sorted(rates, reverse=True) and rates[8] == rates[9] == 0


@given(step=st.integers(0, 400_000))
def test_rates_never_rise_after_the_freeze_and_keep_their_factors(step):
    config = OptimConfig(lr=3e-4)
    now, later = learning_rates(step, config, total_steps=300_000), learning_rates(step + 1, config, total_steps=300_000)
    assert now.base == pytest.approx(now.stage / 4)
    assert later.stage <= now.stage
    assert now.vgg in (0, now.base) and (now.vgg > 0) == (step >= 2_000)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"lr": float("nan")}, {"lr_gamma": -1}, {"lr_steps": (5, 5)}, {"lr_steps": (0,)}])
def test_wrong_options_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimConfig(**wrong)


@pytest.fixture(scope="module")
def trained():
    """A tiny network after 25 steps on one batch: (network, adam, step, batch, losses)."""
    network = Network(TINY, 3, 4)
    initialise(network, np.random.default_rng(0))
    adam = Adam(network)
    step = make_step(network, adam, loss_scale=1024.0)
    rng = np.random.default_rng(1)
    batch = [
        rng.integers(0, 256, (2, 16, 24, 3)).astype(np.uint8),
        np.full((2, 3, 2, 3), 200, np.uint8),
        np.full((2, 4, 2, 3), -90, np.int8),
        np.zeros((2, 2, 3), np.uint8),
    ]
    losses = [step(*map(ms.Tensor, batch), ms.Tensor([1e-2] * 3, ms.float32), GO)[0].asnumpy().sum() for _ in range(25)]
    return network, adam, step, batch, losses


def test_the_step_learns(trained):
    losses = trained[-1]
    assert losses[-1] < 0.3 * losses[0]


def snapshot(network, adam) -> dict[str, np.ndarray]:
    return {name: p.asnumpy().copy() for name, p in (network.parameters_dict() | adam.state()).items()}


def test_each_group_moves_at_its_own_rate_and_adam_is_its_formula(trained):
    network, adam, step, batch, _ = trained
    rates = LearningRates(vgg=0.0, base=1e-3, stage=2e-3)
    before = snapshot(network, adam)
    step(*map(ms.Tensor, batch), ms.Tensor(rates, ms.float32), GO)
    after = snapshot(network, adam)
    assert before.keys() == after.keys()
    power1, power2 = (float(after[f"adam.beta{i}_power"]) for i in (1, 2))
    assert (power1, power2) == pytest.approx((0.9**26, 0.999**26), rel=1e-4)
    for group, parameters in network.parameter_groups().items():
        for p in parameters:
            m0, m1 = before[f"adam.moment1.{p.name}"], after[f"adam.moment1.{p.name}"].astype(np.float64)
            gradient = (m1 - 0.9 * m0) / 0.1
            v1 = 0.999 * before[f"adam.moment2.{p.name}"].astype(np.float64) + 0.001 * gradient**2
            rate = rates._asdict()[group] * np.sqrt(1 - power2) / (1 - power1)
            expected = before[p.name] - rate * m1 / (np.sqrt(v1) + 1e-8)
            np.testing.assert_allclose(after[p.name], expected, rtol=1e-4, atol=1e-6, err_msg=p.name)
            assert (rates._asdict()[group] > 0) or np.array_equal(before[p.name], after[p.name])


def test_a_gradient_that_is_not_finite_is_told_and_changes_nothing(trained):
    network, adam, step, batch, _ = trained
    weight = network.stages[0].pafs[-1].weight
    good = weight.asnumpy().copy()
    poisoned = good.copy()
    poisoned[0, 0, 0, 0] = np.nan
    rates = ms.Tensor([1e-3] * 3, ms.float32)
    assert bool(step(*map(ms.Tensor, batch), rates, GO)[1])
    # set_data would not reach a graph that is compiled already.
    ms.ops.assign(weight, ms.Tensor(poisoned))
    before = snapshot(network, adam)
    finite = step(*map(ms.Tensor, batch), rates, GO)[1]
    assert not bool(finite)
    for name, value in snapshot(network, adam).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    ms.ops.assign(weight, ms.Tensor(good))


def test_an_ignored_batch_has_no_gradient(trained):
    network, adam, step, batch, _ = trained
    before = snapshot(network, adam)
    losses, *_ = step(*map(ms.Tensor, [*batch[:3], np.ones_like(batch[3])]), ms.Tensor([1e-3] * 3, ms.float32), GO)
    assert losses.asnumpy().max() == 0
    name = "adam.moment1.stages.0.pafs.0.weight"
    np.testing.assert_allclose(snapshot(network, adam)[name], 0.9 * before[name], rtol=1e-5, atol=1e-12)
