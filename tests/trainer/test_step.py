"""A step that the device does not wait for: one reading per step, one step late; few collectives; no process updates alone."""

import threading
from dataclasses import dataclass

import mindspore as ms
import numpy as np
import pytest
from mindspore import ops
from step_runs import RESIDUAL, Run, Twins, batch
from trainer_data import TINY, TINY_OPTIONS, make_records

from pipeline.cli import main
from trainer.__main__ import COMMANDS
from trainer.distributed.world import World
from trainer.loop.reduction import NUM_BUCKETS, bucket_ranges
from trainer.loop.step import make_step
from trainer.loop.timeline import Idle, Timeline
from trainer.networks.config import NetworkConfig
from trainer.run import checkpoint


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", ["adam", pytest.param("adamw", marks=pytest.mark.long), pytest.param("momentum", marks=pytest.mark.long)]
)
def test_no_process_updates_alone(optimizer):
    """If another process reports a value that is not finite, nothing changes here, batch normalization included."""
    run = Run(RESIDUAL, Twins(other_is_bad=1.0), optimizer=optimizer)
    before = run.values()
    result = run.take()
    assert not result.finite and np.isfinite(result.losses).all() and result.gradient_norm > 0 and result.loss_scale == 512
    for name, value in run.values().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert any("moving_mean" in name for name in before)


def never_finite(values):
    return ops.isnan(values[0].sum())


@pytest.mark.slow
def test_a_process_that_is_not_finite_tells_the_others(monkeypatch):
    """The check of this process is patched; its flag must reach the sum, and with it every process."""
    monkeypatch.setattr("trainer.loop.reduction.locally_finite", never_finite)
    run = Run(TINY, Twins())
    before = run.values()
    assert not run.take().finite
    assert all(np.array_equal(value, before[name]) for name, value in run.values().items())


@pytest.mark.slow
@pytest.mark.long
def test_processes_with_equal_batches_update_like_one_process():
    single, twin = Run(TINY, World()), Run(TINY, Twins(other_stops=1.0))
    for _ in range(2):
        one, two = single.take(), twin.take()
        np.testing.assert_allclose(two.losses, one.losses, rtol=1e-6)
        assert two.finite and two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-6)
        assert two.stopping and not one.stopping
    for name, value in twin.values().items():
        np.testing.assert_allclose(value, single.values()[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adam", pytest.param("momentum", marks=pytest.mark.long)])
def test_accumulated_parts_update_like_one_batch(optimizer):
    whole, parts = (Run(TINY, World(), optimizer=optimizer, num_parts=n, clip_norm=0.05) for n in (1, 2))
    halves = [[tensor[i : i + 1] for tensor in batch()] for i in range(2)]
    for _ in range(3):
        one, two = whole.take(), parts.take(parts=halves)
        np.testing.assert_allclose(two.losses, one.losses, rtol=1e-5)
        assert two.finite and two.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-5) and one.gradient_norm > 0.05
    for name, value in parts.values().items():
        np.testing.assert_allclose(value, whole.values()[name], rtol=1e-4, atol=2e-6, err_msg=name)


@pytest.mark.long
@pytest.mark.slow
def test_one_bad_part_withholds_the_whole_update_and_leaves_no_trace():
    run, halves = Run(RESIDUAL, Twins(), num_parts=2), [[tensor[i : i + 1] for tensor in batch()] for i in range(2)]
    before, bias = run.values(), run.network.stages[0].pafs[-1].bias
    good = bias.asnumpy().copy()
    ms.ops.assign(bias, ms.Tensor(np.full_like(good, np.nan)))
    assert not run.take(parts=halves).finite
    ms.ops.assign(bias, ms.Tensor(good))
    ms.ops.assign(run.optimizer.averages()[bias.name], ms.Tensor(good))  # follows its weight, which the test poisoned
    for name, value in run.values().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    fresh = Run(RESIDUAL, Twins(), num_parts=2)
    np.testing.assert_array_equal(run.take(parts=halves).losses, fresh.take(parts=halves).losses)
    assert np.isclose(run.take(parts=halves).gradient_norm, fresh.take(parts=halves).gradient_norm, rtol=1e-6)


@dataclass(frozen=True, kw_only=True)
class Marked(World):
    """Two processes whose sum is an operator that the step does not use otherwise, so that it can be counted."""

    size: int = 2

    def summing(self):
        return ops.Erfc()


@pytest.mark.slow
@pytest.mark.long
def test_the_compiled_step_of_openpose_has_at_most_8_collectives(tmp_path, monkeypatch):
    monkeypatch.setenv("MS_DEV_DUMP_IR_PASSES", "validate")  # the last pass of the frontend
    small = NetworkConfig(backbone_channels=(4,) * 10, neck_channels=(4, 4), stage_channels=4, stage1_hidden_channels=4)
    ms.set_context(save_graphs=1, save_graphs_path=str(tmp_path))
    try:
        run = Run(small, Marked())
        run.take()
    finally:
        ms.set_context(save_graphs=0)
    validated = sorted(tmp_path.rglob("*validate*.ir"), key=lambda path: path.stat().st_size)[-1].read_text()
    assert len(run.optimizer.weights) == 184 and validated.count("Erfc(") == NUM_BUCKETS + 1 == 8


def test_buckets_cover_all_gradients_in_order_and_are_of_similar_size():
    sizes = [1728, 64, 36864, 64, 2_359_296, 512, 2_359_296, 512, 100, 100, 2_000_000, 9, 9] * 14
    ranges = bucket_ranges(sizes)
    assert [i for first, end in ranges for i in range(first, end)] == list(range(len(sizes)))
    totals = [sum(sizes[first:end]) for first, end in ranges]
    assert len(ranges) == NUM_BUCKETS and max(totals) < 1.2 * min(totals)
    assert bucket_ranges([5]) == [(0, 1)] and bucket_ranges([1, 100, 1]) == [(0, 2), (2, 3)]


@pytest.mark.slow
def test_a_result_is_read_once_and_after_the_next_step_was_launched(tmp_path, monkeypatch):
    """Counts every way in which the host can wait for the device, and the tensors that the main thread creates."""
    events: list[str] = []
    numbers: dict[int, int] = {}
    kept = []  # an id must not be used twice

    def make_counted(*arguments, **options):
        step = make_step(*arguments, **options)

        def launch(*inputs):
            packed = step(*inputs)
            kept.append(packed)
            numbers[id(packed)] = len(kept)
            events.append(f"launch {len(kept)}")
            return packed

        return launch

    def counted(name):
        original = getattr(ms.Tensor, name)

        def read(tensor, *arguments, **options):
            events.append(f"read {numbers.get(id(tensor), 'another tensor')}")
            return original(tensor, *arguments, **options)

        return read

    monkeypatch.setattr("trainer.loop.training.make_step", make_counted)
    for name in ("asnumpy", "item", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(ms.Tensor, name, counted(name))
    create = ms.Tensor.__init__

    def counted_create(tensor, *arguments, **options):
        if threading.current_thread() is threading.main_thread():
            events.append("create")
        create(tensor, *arguments, **options)

    monkeypatch.setattr(ms.Tensor, "__init__", counted_create)
    out = tmp_path / "run"
    more = ["--mirror", "--color-jitter", "0.3", "--dynamic-loss-scale", "--max-steps", "7", "--batch-size", "4"]
    words = ["--preset", "small", "--records", str(make_records(tmp_path)), "--out", str(out), "--device-target", "CPU"]
    assert main("trainer", "", COMMANDS, ["train", *words, *TINY_OPTIONS, *more]) == 0
    assert "create" in events, "tensors are created before the first step"
    steady = events[events.index("launch 3") : events.index("launch 7")]
    assert steady == ["launch 3", "launch 4", "read 3", "launch 5", "read 4", "launch 6", "read 5"]
    assert events.count("read 7") == 1 and checkpoint.read_newest(out)[1].step == 7


def idle_times(*, device_s: float, data_s: float, host_s: float, num_steps: int = 6) -> list[Idle]:
    """Return the idle times of steps on an asynchronous device with exact durations, as a loop like that of training finds them."""
    now, free_s = 0.0, 0.0
    timeline = Timeline(is_asynchronous=True, clock=lambda: now)
    ends, found = [], []

    def get():
        nonlocal now
        now += data_s

    def read():
        nonlocal now
        start_s = now
        now = max(now, ends.pop(0))
        found.append(timeline.read(start_s))

    for number in range(num_steps):
        timeline.wait_for_data(get)
        now += host_s
        free_s = max(now, free_s) + device_s
        ends.append(free_s)
        timeline.launch(now)
        if number < 2:  # as in training, so that the duration of a step is known
            read() if number == 0 else [read() for _ in ends[:]]
        elif len(ends) > 1:
            read()
    return found[2:]


@pytest.mark.parametrize(
    ("device_s", "data_s", "host_s", "idle"),
    [(1.0, 0.2, 0.3, (0.0, 0.0)), (1.0, 3.0, 0.5, (2.0, 0.5)), (1.0, 0.25, 4.0, (0.0, 3.25))],
    ids=["the device is never idle", "slow data", "slow host"],
)
def test_the_timeline_of_an_asynchronous_device(device_s, data_s, host_s, idle):
    found = idle_times(device_s=device_s, data_s=data_s, host_s=host_s)[1:]
    assert len(found) > 1
    for step in found:
        assert (step.data_s, step.host_s) == pytest.approx(idle, abs=1e-9)


def test_the_timeline_of_a_synchronous_device():
    now = 0.0
    timeline = Timeline(is_asynchronous=False, clock=lambda: now)

    def get():
        nonlocal now
        now += 0.5

    found = []
    for number in range(4):
        timeline.wait_for_data(get)
        now += 0.25
        start_s, now = now, now + 2.0
        timeline.launch(start_s)
        if number:
            found.append(timeline.read(now))
    assert found == [Idle(data_s=0.0, host_s=0.0), *[Idle(data_s=0.5, host_s=0.25)] * 2]
