"""Learning rates by hand, optimizers against their formulas in float64, and a step that learns and rejects values that are not finite."""

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainer_data import TINY

from trainer.config import TrainConfig
from trainer.loop.config import OptimConfig
from trainer.loop.loss import stage_losses
from trainer.loop.optimizer import LearningRates, Optimizer, learning_rates
from trainer.loop.step import StepResult, make_scaler, make_step
from trainer.networks.network import Network, initialize

GO = ms.Tensor(0.0, ms.float32)  # no process was asked to stop


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


def test_warmup_is_linear_up_to_the_full_rate():
    config = OptimConfig(lr=1.0, lr_warmup_steps=4, freeze_backbone_steps=0, backbone_lr_factor=1)
    assert [learning_rates(step, config, total_steps=300_000).stages for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert learning_rates(0, config, total_steps=300_000).backbone == 0.25


def test_cosine_decays_from_the_full_rate_to_zero_at_the_end_of_the_run():
    config = OptimConfig(lr=1.0, lr_schedule="cosine", freeze_backbone_steps=0)
    rates = [learning_rates(step, config, total_steps=8).stages for step in range(10)]
    assert rates[:5:2] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5])
    assert rates == sorted(rates, reverse=True) and rates[8] == rates[9] == 0


@given(step=st.integers(0, 400_000))
def test_rates_never_rise_after_the_freeze_and_keep_their_factors(step):
    config = OptimConfig(lr=3e-4)
    now, later = learning_rates(step, config, total_steps=300_000), learning_rates(step + 1, config, total_steps=300_000)
    assert now.neck == pytest.approx(now.stages / 4)
    assert later.stages <= now.stages
    assert now.backbone in (0, now.neck) and (now.backbone > 0) == (step >= 2_000)


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"lr": float("nan")}, {"lr_gamma": -1}, {"lr_steps": (5, 5)}, {"lr_steps": (0,)}])
def test_invalid_options_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OptimConfig(**wrong)


def make_batch() -> list[np.ndarray]:
    """Return two images, heatmaps, PAFs and masks for a network with 3 heatmaps and 4 PAF channels."""
    return [
        np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3)).astype(np.uint8),
        np.full((2, 3, 2, 3), 200, np.uint8),
        np.full((2, 4, 2, 3), -90, np.int8),
        np.zeros((2, 2, 3), np.uint8),
        np.ones((2, 7), np.uint8),
    ]


@pytest.fixture(scope="module")
def trained():
    """Return a tiny network after 25 steps on one batch: (network, adam, step, batch, losses)."""
    network = Network(TINY, 3, 4)
    initialize(network, np.random.default_rng(0))
    adam = Optimizer(network)
    step = make_step(network, adam, make_scaler(OptimConfig(loss_scale=1024.0)))
    batch = make_batch()
    rates = ms.Tensor([1e-2] * 3, ms.float32)
    losses = [StepResult.read(step([list(map(ms.Tensor, batch))], rates, GO)).losses.sum() for _ in range(25)]
    return network, adam, step, batch, losses


def test_the_step_learns(trained):
    losses = trained[-1]
    assert losses[-1] < 0.3 * losses[0]


def snapshot(network, adam) -> dict[str, np.ndarray]:
    return {name: p.asnumpy().copy() for name, p in (network.parameters_dict() | adam.state()).items()}


def test_each_group_has_its_own_learning_rate_and_adam_matches_its_formula(trained):
    network, adam, step, batch, _ = trained
    rates = LearningRates(backbone=0.0, neck=1e-3, stages=2e-3)
    before = snapshot(network, adam)
    step([list(map(ms.Tensor, batch))], ms.Tensor(rates, ms.float32), GO)
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


def test_a_gradient_that_is_not_finite_is_reported_and_changes_nothing(trained):
    network, adam, step, batch, _ = trained
    weight = network.stages[0].pafs[-1].weight
    good = weight.asnumpy().copy()
    poisoned = good.copy()
    poisoned[0, 0, 0, 0] = np.nan
    rates = ms.Tensor([1e-3] * 3, ms.float32)
    assert StepResult.read(step([list(map(ms.Tensor, batch))], rates, GO)).finite
    # set_data would not reach the compiled graph.
    ms.ops.assign(weight, ms.Tensor(poisoned))
    before = snapshot(network, adam)
    assert not StepResult.read(step([list(map(ms.Tensor, batch))], rates, GO)).finite
    for name, value in snapshot(network, adam).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    ms.ops.assign(weight, ms.Tensor(good))


def test_an_ignored_batch_has_no_gradient(trained):
    network, adam, step, batch, _ = trained
    before = snapshot(network, adam)
    packed = step([list(map(ms.Tensor, [*batch[:3], np.ones_like(batch[3]), batch[4]]))], ms.Tensor([1e-3] * 3, ms.float32), GO)
    assert StepResult.read(packed).losses.max() == 0
    name = "adam.moment1.stages.0.pafs.0.weight"
    np.testing.assert_allclose(snapshot(network, adam)[name], 0.9 * before[name], rtol=1e-5, atol=1e-12)


def expected_step(config: OptimConfig, number: int, weight, gradient, memory: dict, rate: float) -> np.ndarray:
    """Return the weight after step `number` (from 1) by the published formulas in float64. `memory` holds m and v, or velocity."""
    decay = config.weight_decay if weight.ndim > 1 else 0.0
    if config.optimizer == "adamw":
        weight = weight - rate * decay * weight
    else:
        gradient = gradient + decay * weight
    if config.optimizer == "momentum":
        memory["velocity"] = 0.9 * memory.get("velocity", 0) + gradient
        return weight - rate * memory["velocity"]
    memory["m"] = 0.9 * memory.get("m", 0) + 0.1 * gradient
    memory["v"] = 0.999 * memory.get("v", 0) + 0.001 * gradient**2
    m, v = memory["m"] / (1 - 0.9**number), memory["v"] / (1 - 0.999**number)
    return weight - rate * m / (np.sqrt(v) + 1e-8 / np.sqrt(1 - 0.999**number))


@pytest.mark.slow
@pytest.mark.parametrize(("optimizer", "clip_norm"), [("adam", 0.05), ("adamw", 0.0), ("momentum", 0.05)])
def test_every_optimizer_matches_its_formula_with_decay_clipping_and_average(optimizer, clip_norm):
    config = OptimConfig(optimizer=optimizer, weight_decay=0.1, clip_norm=clip_norm, ema_decay=0.75)
    network, batch, rate = Network(TINY, 3, 4), list(map(ms.Tensor, make_batch())), 1e-2
    initialize(network, np.random.default_rng(0))
    rule = Optimizer(network, config)
    rule.start_averages()
    step = make_step(network, rule, make_scaler(config))
    gradients_of = ms.value_and_grad(lambda *b: stage_losses(network(b[0]), *b[1:]).sum(), None, rule.weights)
    weights = [p.asnumpy().astype(np.float64) for p in rule.weights]
    averages, memories = [w.copy() for w in weights], [{} for _ in weights]
    for number in (1, 2, 3):
        gradients = [g.asnumpy().astype(np.float64) for g in gradients_of(*batch)[1]]
        norm = np.sqrt(sum((g**2).sum() for g in gradients))
        result = StepResult.read(step([batch], ms.Tensor([rate] * 3, ms.float32), GO))
        assert result.gradient_norm == pytest.approx(norm, rel=1e-4) and norm > 0.05
        share = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for i, gradient in enumerate(gradients):
            weights[i] = expected_step(config, number, weights[i], share * gradient, memories[i], rate)
            averages[i] = 0.75 * averages[i] + 0.25 * weights[i]
            np.testing.assert_allclose(rule.weights[i].asnumpy(), weights[i], rtol=2e-3, atol=2e-5, err_msg=rule.weights[i].name)
            np.testing.assert_allclose(rule.averages()[rule.weights[i].name].asnumpy(), averages[i], rtol=2e-3, atol=2e-5)
            weights[i] = rule.weights[i].asnumpy().astype(np.float64)  # Adam amplifies rounding errors: compare single steps


@pytest.mark.slow
def test_the_preset_for_8_devices_updates_as_the_model_zoo_does():
    """By hand: gradients of 8192 times the loss, each clipped to norm 10, momentum 0.9, learning rate 8 x 1e-4; not unscaled."""
    names = OptimConfig.__dataclass_fields__
    config = OptimConfig(**{name: value for name, value in TrainConfig.PRESETS["openpose-8p"].items() if name in names})
    network, batch = Network(TINY, 3, 4), list(map(ms.Tensor, make_batch()))
    initialize(network, np.random.default_rng(0))
    rule = Optimizer(network, config)
    step = make_step(network, rule, make_scaler(config))
    gradients_of = ms.value_and_grad(lambda *b: stage_losses(network(b[0]), *b[1:]).sum(), None, rule.weights)
    weights = [p.asnumpy().astype(np.float64) for p in rule.weights]
    velocity, num_clipped = [0.0 for _ in weights], 0
    for number in range(3):
        gradients = [8192 * g.asnumpy().astype(np.float64) for g in gradients_of(*batch)[1]]
        rates = ms.Tensor(learning_rates(number, config, total_steps=50_000, num_processes=8), ms.float32)
        assert StepResult.read(step([batch], rates, GO)).finite
        for i, gradient in enumerate(gradients):
            num_clipped += np.linalg.norm(gradient) > 10
            velocity[i] = 0.9 * velocity[i] + gradient * min(1, 10 / max(np.linalg.norm(gradient), 1e-12))
            weights[i] = weights[i] - 8e-4 * velocity[i]
            np.testing.assert_allclose(rule.weights[i].asnumpy(), weights[i], rtol=1e-4, atol=1e-6)
    assert 0 < num_clipped < 3 * len(weights)
    drops = [learning_rates(number, config, total_steps=50_000).stages for number in (31_249, 31_250, 37_500)]
    assert drops == pytest.approx([6.5536, 0.65536, 0.065536])


@pytest.mark.slow
def test_a_dynamic_loss_scale_halves_after_a_bad_step_and_doubles_after_a_window_of_good_ones(monkeypatch):
    monkeypatch.setattr("trainer.loop.step.LOSS_SCALE_WINDOW", 2)
    config = OptimConfig(loss_scale=1024.0, dynamic_loss_scale=True)
    network, batch = Network(TINY, 3, 4), list(map(ms.Tensor, make_batch()))
    initialize(network, np.random.default_rng(0))
    rule, scaler = Optimizer(network, config), make_scaler(config)
    step, rates = make_step(network, rule, scaler), ms.Tensor([1e-3] * 3, ms.float32)
    scales = []
    for poisoned in (True, True, False, False, False):
        before, bias = snapshot(network, rule), network.stages[0].pafs[-1].bias
        good = bias.asnumpy().copy()
        if poisoned:
            ms.ops.assign(bias, ms.Tensor(np.full_like(good, np.inf)))
        assert StepResult.read(step([batch], rates, GO)).finite == (not poisoned)
        ms.ops.assign(bias, ms.Tensor(good)) if poisoned else None
        changed = any(not np.array_equal(value, before[name]) for name, value in snapshot(network, rule).items())
        assert changed == (not poisoned)
        scales.append(float(scaler.scale_value.asnumpy()))
    assert scales == [512, 256, 256, 512, 512]


@pytest.mark.slow
def test_a_dynamic_loss_scale_stays_in_the_range_in_which_gradients_are_exact(monkeypatch):
    monkeypatch.setattr("trainer.loop.step.LOSS_SCALE_WINDOW", 1)
    config = OptimConfig(loss_scale=2.0**23, dynamic_loss_scale=True)
    network, batch = Network(TINY, 3, 4), list(map(ms.Tensor, make_batch()))
    initialize(network, np.random.default_rng(0))
    scaler = make_scaler(config)
    step = make_step(network, Optimizer(network, config), scaler)
    norms = [StepResult.read(step([batch], ms.Tensor([0.0] * 3, ms.float32), GO)).gradient_norm for _ in range(4)]
    assert float(scaler.scale_value.asnumpy()) == 2**24
    assert norms[0] > 0.05 and norms == pytest.approx([norms[0]] * 4, rel=1e-5)
    with pytest.raises(ValueError, match=r"loss_scale must be at most 2\^24"):
        OptimConfig(loss_scale=2.0**25)
