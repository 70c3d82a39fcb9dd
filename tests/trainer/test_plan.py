"""The plan of a training: its numbers are those that the training then has, and telling it changes nothing."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from trainer_data import TINY_OPTIONS, make_records

from pipeline.cli import main
from trainer.__main__ import COMMANDS
from trainer.config import OptimConfig
from trainer.loop.optimizer import LearningRates, learning_rates
from trainer.run import plan
from trainer.run.checkpoint import list_checkpoints, read_newest
from trainer.run.plan import Plan, break_points, free_bytes, most_imgs_per_sec, past_speed


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


def train(records, out, *more: str) -> int:
    words = f"train --preset small --records {records} --out {out} --batch-size 4 --log-interval 2 --device-target CPU".split()
    return main("trainer", "", COMMANDS, [*words, "--lr-schedule", "steps", *TINY_OPTIONS, *more])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def some_plan(**changes) -> Plan:
    values = dict(
        num_samples=1000, num_variants=2, insize=368, batch_size=10, num_ranks=4, steps_per_epoch=25, steps_done=0, steps_left=50,
        rates=((0, LearningRates(0.0, 2.5e-5, 1e-4)),), schedule="steps", parameters={"vgg": 3, "base": 2, "stage": 5},
        memory_bytes=int(2e9), available_bytes=int(3e9), checkpoint_bytes=int(1e9), keep_checkpoint_max=5, kept_bytes=0,
        free_bytes=int(100e9), imgs_per_sec=None, most_imgs_per_sec=None,
    )  # fmt: skip
    return Plan(**{**values, **changes})


def line(made: Plan, title: str) -> str:
    (found,) = [text for text in made.lines() if text.startswith(title)]
    return found


def test_break_points_are_where_the_rates_jump_and_nowhere_else():
    optim = OptimConfig(lr=1e-3, lr_steps=(40, 70, 500), lr_warmup_steps=0, freeze_backbone_steps=25)
    points = break_points(optim, 100)
    rates = [learning_rates(step, optim, total_steps=100) for step in range(100)]
    assert points == [0] + [step for step in range(1, 100) if rates[step] != rates[step - 1]] == [0, 25, 40, 70]


def test_break_points_of_a_warm_up_and_a_cosine():
    optim = OptimConfig(lr_schedule="cosine", lr_warmup_steps=10, freeze_backbone_steps=0)
    assert break_points(optim, 101) == [0, 10, 50, 100]
    assert learning_rates(10, optim, total_steps=101).stage == pytest.approx(optim.lr * (1 + math.cos(math.pi * 10 / 101)) / 2)
    assert break_points(optim, 0) == [0]


def test_disk_is_that_of_one_checkpoint_more_than_are_kept():
    assert some_plan().disk_bytes == 6e9 and not any("WARNING" in text for text in some_plan().lines())
    assert some_plan(kept_bytes=int(5e9)).disk_bytes == 1e9, "those that are there are replaced"
    short = "\n".join(some_plan(free_bytes=int(5.9e9)).lines())
    assert "WARNING" in short and "--keep-checkpoint-max" in short


def test_time_follows_from_the_speed_of_all_ranks():
    assert "not known" in line(some_plan(), "time")
    assert "more than 0:00:10" in line(some_plan(most_imgs_per_sec=200.0), "time")
    assert "0:00:20 at 100.00 imgs/sec" in line(some_plan(imgs_per_sec=100.0), "time")


def test_what_cannot_be_known_is_not_claimed():
    assert "not estimated" in line(some_plan(memory_bytes=None), "memory")
    assert "4 ranks x 10 = 40 samples" in line(some_plan(), "batch")
    assert "25 an epoch; 7 done, 50 to go, to step 57" in line(some_plan(steps_done=7), "steps")


def test_no_network_is_faster_than_a_matrix_product_of_its_arithmetic():
    fast, slow = (most_imgs_per_sec(multiplications) for multiplications in (10**6, 10**9))
    assert fast == pytest.approx(1000 * slow, rel=0.9) and 1e9 < 6 * 10**9 * slow < 1e15


def test_the_speed_is_the_median_of_the_newest_lines(tmp_path):
    assert past_speed(tmp_path) is None
    speeds = [1.0] * 30 + [50.0] * 12 + [0.1] * 8
    lines = [json.dumps({"step": i, "imgs_per_sec": speed}) for i, speed in enumerate(speeds)]
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 50, "im']))
    assert past_speed(tmp_path) == 50.0


def test_free_disk_is_asked_of_a_folder_that_is_not_there_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.01)


def test_a_dry_run_tells_what_the_run_then_does_and_writes_nothing(records, tmp_path, capsys):
    out = tmp_path / "new" / "run"
    assert train(records, out, "--max-epoch", "2", "--dry-run") == 0
    told = capsys.readouterr().out
    assert not out.parent.exists()
    assert train(records, out, "--max-epoch", "2") == 0
    begun = capsys.readouterr().out.split("compiling the first step")[0]
    # What is available and free, and how fast the machine is, may have changed in between.
    lasting = [
        [words for words in text.splitlines() if not words.startswith(("memory", "disk", "time"))] for text in (told, begun)
    ]
    assert lasting[0] == lasting[1]
    _, info, tensors, _ = read_newest(out)
    num_images = json.loads((records / "manifest.json").read_text())["num_images"]
    assert f"samples     {num_images} an epoch, 64 x 64 px, 2 variants" in told
    assert f"{info.step // 2} an epoch; {info.step} to go, to step {info.step}" in told
    carried = sum(array.nbytes for name, array in tensors.items() if not name.startswith("report."))
    assert f"{carried / 1e6:,.1f} MB a checkpoint" in told
    learned = sum(array.size for name, array in tensors.items() if name.startswith("optimizer.adam.moment1."))
    assert f"{learned / 1e6:.2f} M" in told and (out / "schedule.png").read_bytes().startswith(b"\x89PNG")


def test_a_dry_run_of_a_run_to_be_resumed_changes_nothing_in_it(records, tmp_path, capsys):
    run = tmp_path / "run"
    assert train(records, run, "--max-steps", "4") == 0
    with open(run / "log.jsonl", "a") as file:
        file.write('{"step": 6, "imgs_per_sec": 3}\n')  # of later than the checkpoint: cut off by a run that really resumes
    before = contents(tmp_path)
    capsys.readouterr()
    assert train(records, run, "--max-steps", "7", "--resume", "--dry-run") == 0
    told = capsys.readouterr().out
    assert "4 done, 3 to go, to step 7" in told and "this run's speed" in told and before == contents(tmp_path)
    assert train(records, run, "--max-steps", "7", "--dry-run") == 1
    assert "--resume" in capsys.readouterr().err and before == contents(tmp_path)


def test_a_dry_run_fails_where_the_run_would(records, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan, "free_bytes", lambda folder: 0)
    monkeypatch.setattr("trainer.loop.memory.available_bytes", lambda: 1_000_000)
    assert train(records, tmp_path / "run", "--batch-size", "400000", "--dry-run") == 1
    told = capsys.readouterr()
    assert "memory      about" in told.out and "--batch-size" in told.err and not list(tmp_path.iterdir())


def test_a_drawing_that_fails_does_not_end_the_training(records, tmp_path, capsys, monkeypatch):
    def fails(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("trainer.loop.train.draw_curves", fails)
    monkeypatch.setattr("trainer.loop.train.draw_schedule", fails)
    assert train(records, tmp_path / "run", "--max-steps", "1") == 0
    out = capsys.readouterr().out
    assert "curves.png was not drawn: RuntimeError('no fonts')" in out and "schedule.png was not drawn" in out
    assert len(list_checkpoints(tmp_path / "run")) == 1 and not (tmp_path / "run" / "curves.png").exists()


def test_every_field_of_the_plan_is_told():
    base = "\n".join(some_plan(imgs_per_sec=5.0).lines())
    for field in dataclasses.fields(Plan):
        if field.name == "most_imgs_per_sec":  # told where there is no speed
            continue
        value = getattr(some_plan(imgs_per_sec=5.0), field.name)
        if isinstance(value, (int, float)):
            changed = some_plan(**{"imgs_per_sec": 5.0, field.name: type(value)(value * 3 + 10**9)})
            assert "\n".join(changed.lines()) != base, field.name
