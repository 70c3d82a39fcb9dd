"""The plan of a training run: its numbers match the run, and printing it changes nothing."""

import dataclasses
import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from trainer_data import make_records, train

from trainer.config import TrainConfig
from trainer.loop.config import OptimConfig
from trainer.loop.optimizer import LearningRates, break_points, learning_rates
from trainer.loop.planning import ended_by, steps_left
from trainer.loop.state import Progress
from trainer.run import plan
from trainer.run.checkpoint import list_checkpoints, read_newest
from trainer.run.plan import FEW_STEPS, Plan, free_bytes, past_speed


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def some_plan(**changes) -> Plan:
    values = dict(
        num_samples=1000, num_variants=2, insize=368, batch_size=10, num_ranks=4, steps_per_epoch=25, steps_done=0, steps_left=5000,
        rates=((0, LearningRates(0.0, 2.5e-5, 1e-4)),), schedule="steps", parameters={"backbone": 3, "neck": 2, "stages": 5}, num_frozen=0,
        memory_bytes=int(2e9), available_bytes=int(3e9), checkpoint_bytes=int(1e9), keep_checkpoint_max=5, kept_bytes=0,
        free_bytes=int(100e9), imgs_per_sec=None, ended_by="--max-epoch 2",
    )  # fmt: skip
    return Plan(**{**values, **changes})


def line(made: Plan, title: str) -> str:
    (found,) = [text for text in made.lines() if text.startswith(title)]
    return found


def test_break_points_are_the_steps_at_which_rates_jump():
    optim = OptimConfig(lr=1e-3, lr_steps=(40, 70, 500), lr_warmup_steps=0, freeze_backbone_steps=25)
    points = break_points(optim, 100)
    rates = [learning_rates(step, optim, total_steps=100) for step in range(100)]
    assert points == [0] + [step for step in range(1, 100) if rates[step] != rates[step - 1]] == [0, 25, 40, 70]


def test_break_points_of_a_warm_up_and_a_cosine():
    optim = OptimConfig(lr_schedule="cosine", lr_warmup_steps=10, freeze_backbone_steps=0)
    assert break_points(optim, 101) == [0, 10, 50, 100]
    assert learning_rates(10, optim, total_steps=101).stages == pytest.approx(optim.lr * (1 + math.cos(math.pi * 10 / 101)) / 2)
    assert break_points(optim, 0) == [0]


def test_disk_space_is_for_one_checkpoint_more_than_are_kept():
    assert some_plan().disk_bytes == 6e9 and not any("WARNING" in text for text in some_plan().lines())
    assert some_plan(kept_bytes=int(5e9)).disk_bytes == 1e9, "existing checkpoints are replaced"
    short = "\n".join(some_plan(free_bytes=int(5.9e9)).lines())
    assert "WARNING" in short and "--keep-checkpoint-max" in short


def test_time_follows_from_the_speed_of_all_ranks():
    assert "unknown" in line(some_plan(), "time")
    assert "0:33:20 at 100.00 imgs/sec" in line(some_plan(imgs_per_sec=100.0), "time")


def test_lines_of_the_plan():
    assert "not estimated" in line(some_plan(memory_bytes=None), "memory")
    assert "4 ranks x 10 = 40 samples per step" in line(some_plan(), "batch")
    assert "1 rank x 1 = 1 sample per step" in line(some_plan(num_ranks=1, batch_size=1), "batch")
    assert "25 per epoch; 7 done, 5,000 to go; ends at step 5,007 (--max-epoch 2)" in line(some_plan(steps_done=7), "steps")
    over = some_plan(steps_done=4, steps_left=0, ended_by="--max-steps 3")
    assert "4 done, 0 to go; ended (--max-steps 3)" in line(over, "steps")
    equal = "\n".join(some_plan(rates=((0, LearningRates(0.1, 0.1, 0.1)),)).lines())
    assert (
        "backbone 0.0, neck 2.5e-05, stages 1e-04" in "\n".join(some_plan().lines()) and "from step         0: lr 1e-01" in equal
    )


def test_few_steps_are_warned_about_with_the_option_that_ends_the_run():
    """A small data set with the default number of epochs makes a short run."""
    short = "\n".join(some_plan(steps_left=240, ended_by="--max-epoch 60").lines())
    assert "WARNING: 240 steps in total" in short and "raise --max-epoch" in short
    resumed = "\n".join(some_plan(steps_done=FEW_STEPS, steps_left=240).lines())
    assert "WARNING" not in resumed, "the steps of the whole run count"


@pytest.mark.parametrize(
    ("progress", "options", "left", "option"),
    [
        (Progress(), {"max_epoch": 2}, 8, "--max-epoch 2"),
        (Progress(), {"max_epoch": 2, "max_steps": 7}, 7, "--max-steps 7"),
        (Progress(), {"max_epoch": 2, "max_steps": 8}, 8, "--max-epoch 2"),
        (Progress(step=5, epoch=1, position=4), {"max_epoch": 2, "max_steps": 100}, 3, "--max-epoch 2"),
        (Progress(step=5, epoch=1, position=4), {"max_epoch": 3, "max_steps": 5}, 0, "--max-steps 5"),
        (Progress(step=8, epoch=2, position=0), {"max_epoch": 2}, 0, "--max-epoch 2"),
    ],
)
def test_the_option_that_comes_first_ends_the_run(tmp_path, progress, options, left, option):
    """Epochs of 16 samples, 4 per step."""
    stream = SimpleNamespace(num_samples=16, batch_size=4, world=1, steps_per_epoch=4)
    config = TrainConfig(records=tmp_path, out=tmp_path, batch_size=4, **options)
    assert steps_left(progress, config, stream) == left
    assert ended_by(progress, config, stream) == option


def test_past_speed_is_the_median_of_the_newest_lines(tmp_path):
    assert past_speed(tmp_path) is None
    speeds = [1.0] * 30 + [50.0] * 12 + [0.1] * 8
    lines = [json.dumps({"step": i, "imgs_per_sec": speed}) for i, speed in enumerate(speeds)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 50, "im']))
    assert past_speed(tmp_path) == 50.0


def test_free_space_is_known_for_a_folder_that_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.01)


@pytest.mark.slow
def test_a_dry_run_prints_the_plan_of_the_run_and_writes_nothing(records, tmp_path, capsys):
    out = tmp_path / "new" / "run"
    assert train(records, out, "--max-epoch", "2", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert not out.parent.exists()
    assert train(records, out, "--max-epoch", "2") == 0
    started = capsys.readouterr().out.split("compiling the first step")[0]
    # Available memory, free space and speed may change between the two.
    stable = [
        [words for words in text.splitlines() if not words.startswith(("memory", "disk", "time"))] for text in (printed, started)
    ]
    assert stable[0] == stable[1]
    _, info, tensors, _ = read_newest(out)
    num_images = json.loads((records / "manifest.json").read_text())["num_images"]
    assert f"samples     {num_images} per epoch, 64 x 64 px, 2 variants" in printed
    assert f"{info.step // 2} per epoch; {info.step} to go; ends at step {info.step} (--max-epoch 2)" in printed
    num_bytes = sum(array.nbytes for name, array in tensors.items() if not name.startswith("log."))
    assert f"{num_bytes / 1e6:,.1f} MB per checkpoint" in printed
    learned = sum(array.size for name, array in tensors.items() if name.startswith("optimizer.adam.moment1."))
    assert f"{learned / 1e6:.2f} M" in printed and (out / "schedule.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_dry_run_with_resume_changes_nothing(records, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(records, run, "--max-steps", "4") == 0
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 6, "imgs_per_sec": 3}\n')  # after the checkpoint: removed by a run that really resumes
    before = contents(tmp_path)
    capsys.readouterr()
    assert train(records, run, "--max-steps", "7", "--resume", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert (
        "4 done, 3 to go; ends at step 7 (--max-steps 7)" in printed
        and "the speed of this run" in printed
        and before == contents(tmp_path)
    )
    assert train(records, run, "--max-steps", "7", "--dry-run") == 1
    assert "--resume" in capsys.readouterr().err and before == contents(tmp_path)


def test_a_dry_run_fails_where_the_run_would(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "free_bytes", lambda folder: 0)
    monkeypatch.setattr("trainer.loop.memory.available_bytes", lambda: 1_000_000)
    assert train(records, tmp_path / "run", "--batch-size", "400000", "--dry-run") == 1
    printed = capsys.readouterr()
    assert "memory      about" in printed.out and "--batch-size" in printed.err and not list(tmp_path.iterdir())


def test_a_drawing_error_does_not_end_the_run(records, tmp_path, capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("trainer.loop.train.draw_curves", fails)
    monkeypatch.setattr("trainer.loop.outputs.draw_schedule", fails)
    assert train(records, tmp_path / "run", "--max-steps", "1") == 0
    out = capsys.readouterr().out
    assert "curves.png was not drawn: RuntimeError('no fonts')" in out and "schedule.png was not drawn" in out
    assert len(list_checkpoints(tmp_path / "run")) == 1 and not (tmp_path / "run" / "curves.png").exists()


def test_every_field_of_the_plan_is_printed():
    base = "\n".join(some_plan(imgs_per_sec=5.0).lines())
    for field in dataclasses.fields(Plan):
        value = getattr(some_plan(imgs_per_sec=5.0), field.name)
        if isinstance(value, (int, float)):
            changed = some_plan(**{"imgs_per_sec": 5.0, field.name: type(value)(value * 3 + 10**9)})
            assert "\n".join(changed.lines()) != base, field.name
