"""`watch` evaluates every complete checkpoint once, keeps the best, and can be stopped at any moment."""

import contextlib
import fcntl
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from job_data import write_images
from trainer_data import TINY, make_info, small_tensors

from evaluator.inference.config import InferConfig
from evaluator.jobs import watch as watch_command
from evaluator.jobs.config import RunConfig, WatchConfig
from evaluator.jobs.watch import Watch
from pipeline.cli import parse
from pipeline.errors import UserError
from pipeline.skeletons import COCO18
from trainer.run import checkpoint, layout
from trainer.run.checkpoint import read_info, save_checkpoint

FIGURES = {100: 0.2, 200: 0.5, 300: 0.5, 400: 0.1}


@pytest.fixture
def place(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "a.json").write_text("{}")
    return tmp_path


def config_of(place, **options):
    defaults = dict(
        run=place / "run", annotations=place / "a.json", images=place / "images", out=place / "out", idle_minutes=0.0,
        poll_seconds=0.1,
    )  # fmt: skip
    return WatchConfig(**{**defaults, **options})


def save(place, step, value=1.0):
    path = place / "run" / f"step-{step:08d}.safetensors"
    save_checkpoint(path, make_info(step=step), small_tensors(value))
    return path


class Evaluator:
    """Writes the metrics in FIGURES instead of evaluating; calls `before` first."""

    def __init__(self, before=lambda step: None, cause=None):
        self.steps, self.before, self.cause = [], before, cause

    def __call__(self, held, out):
        step = read_info(held).step
        self.before(step)
        self.steps.append(step)
        if self.cause is None:
            out.mkdir(exist_ok=True)
            metrics = {"figures": {"AP": FIGURES[step]}, "num_images": 2, "num_images_in_file": 2}
            (out / "metrics.json").write_text(json.dumps({**metrics, "unreadable_images": {}, "speed": {}}))
        return self.cause


def watch(config, evaluate):
    job = Watch(config, evaluate)
    with job.claimed():
        job.loop()
    return json.loads((config.out / "leaderboard.json").read_text())


def test_all_checkpoints_are_evaluated_in_order_and_the_best_is_kept(place):
    for step in FIGURES:
        save(place, step, value=step)
    evaluate = Evaluator()
    board = watch(config_of(place), evaluate)
    assert evaluate.steps == [100, 200, 300, 400]
    assert [entry["step"] for entry in board["checkpoints"]] == [200, 300, 100, 400] and board["best"] == 200
    best = place / "out" / "best.safetensors"
    assert read_info(best).step == 200
    assert best.samefile(place / "run" / "step-00000200.safetensors")
    assert not list((place / "out" / "held").iterdir())
    assert (place / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_best_checkpoint_is_kept_when_the_training_deletes_its_own(place):
    paths = [save(place, step) for step in (100, 200)]
    watch(config_of(place), Evaluator())
    for path in paths:
        path.unlink()
    save(place, 400)
    board = watch(config_of(place), evaluate := Evaluator())
    assert evaluate.steps == [400] and board["best"] == 200 and len(board["checkpoints"]) == 3
    assert checkpoint.read_checkpoint(place / "out" / "best.safetensors")[0].step == 200


def test_a_checkpoint_may_be_deleted_while_it_is_evaluated(place):
    path = save(place, 100)
    board = watch(config_of(place), Evaluator(before=lambda step: path.unlink()))
    assert board["best"] == 100 and read_info(place / "out" / "best.safetensors").step == 100


def test_outputs_that_were_edited_or_deleted_are_named(place, capsys):
    for step in (100, 200):
        save(place, step)
    board = watch(config_of(place), Evaluator())
    path, metrics = place / "out" / "leaderboard.json", place / "out" / "step-00000100" / "metrics.json"
    board["checkpoints"][1]["figures"]["AP"] = 0.9
    path.write_text(json.dumps(board))
    with pytest.raises(UserError, match=rf"{metrics}: differs from what leaderboard.json states; one of them was edited"):
        watch(config_of(place), Evaluator())
    metrics.write_text(metrics.read_text().replace("0.2", "0.9"))  # edited in the same way
    with pytest.raises(UserError, match=rf"{metrics}: differs from what leaderboard.json states"):
        watch(config_of(place), Evaluator())
    metrics.unlink()
    with pytest.raises(UserError, match=rf"{metrics}: no such file; restore the file, or choose another --out"):
        watch(config_of(place), Evaluator())
    (place / "file").touch()
    with pytest.raises(UserError, match=r"output folder .*file: is not a folder; choose another --out"):
        watch(config_of(place, out=place / "file"), Evaluator())


@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_incomplete_and_damaged_checkpoints_are_skipped_until_they_are_complete(place, cut, capsys):
    path = save(place, 100)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(cut * len(whole))])
    flipped = save(place, 200)
    data = bytearray(flipped.read_bytes())
    data[-3] ^= 4
    flipped.write_bytes(data)
    board = watch(config_of(place), evaluate := Evaluator())
    assert evaluate.steps == [] and board == {**board, "best": None, "checkpoints": []}
    assert "step-00000200.safetensors: damaged" in capsys.readouterr().err
    path.write_bytes(whole)
    assert watch(config_of(place), evaluate)["best"] == 100


@pytest.mark.parametrize("moment", ["evaluating", "recording"])
def test_a_killed_watch_can_be_continued(place, moment, monkeypatch):
    for step in (100, 200):
        save(place, step)

    def killed(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), monkeypatch.context() as patch:
        if moment == "recording":
            job = Watch(config_of(place), Evaluator())
            with job.claimed():
                patch.setattr(job, "_write_board", killed)
                job.loop()
        watch(config_of(place), Evaluator(before=lambda step: step == 200 and killed()))
    for path in (place / "run").iterdir():
        path.unlink()
    board = watch(config_of(place), evaluate := Evaluator())
    assert evaluate.steps == ([200] if moment == "evaluating" else [100, 200])
    assert [entry["step"] for entry in board["checkpoints"]] == [200, 100]
    assert read_info(place / "out" / "best.safetensors").step == 200
    assert not list((place / "out" / "held").iterdir())


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_lost_best_checkpoint_is_restored_or_named(place, damage, capsys):
    paths = [save(place, step, value=step) for step in (100, 200)]
    watch(config_of(place), Evaluator())
    best, data = place / "out" / "best.safetensors", paths[1].read_bytes()

    def lose():
        best.unlink()
        if damage == "damaged":
            best.write_bytes(data[:-1])
        watch(config_of(place), Evaluator())

    lose()
    assert best.read_bytes() == data
    assert f"best checkpoint {best}: {damage}; restored from {paths[1]}" in capsys.readouterr().out
    paths[1].unlink()
    lose()
    assert f"warning: best checkpoint {best}: {damage}, and run folder {place / 'run'} no longer" in capsys.readouterr().err


def test_a_deleted_leaderboard_is_named(place):
    save(place, 100)
    watch(config_of(place), Evaluator())
    (place / "out" / "leaderboard.json").unlink()
    with pytest.raises(UserError, match=r"leaderboard.json: no such file, but .*out contains other output of `watch`"):
        watch(config_of(place), Evaluator())


def test_it_stops_after_max_evaluations(place):
    for step in FIGURES:
        save(place, step)
    board = watch(config_of(place, max_evaluations=2, idle_minutes=None), Evaluator())
    assert len(board["checkpoints"]) == 2


@contextlib.contextmanager
def training(place):
    with (place / "run" / layout.LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def test_it_stops_when_the_training_has_ended_and_not_before(place):
    boards = []
    config = config_of(place, stop_with_training=True, idle_minutes=None)
    with training(place):
        save(place, 100)
        thread = threading.Thread(target=lambda: boards.append(watch(config, Evaluator())))
        thread.start()
        time.sleep(0.5)
        save(place, 200)
        time.sleep(0.5)
        assert thread.is_alive()
        save(place, 300)
    thread.join(20)
    assert len(boards[0]["checkpoints"]) == 3


def test_a_failed_evaluation_is_recorded_and_tried_again(place, capsys):
    save(place, 100)
    board = watch(config_of(place), Evaluator(cause="no space left"))
    assert board["best"] is None and board["checkpoints"][0]["failed"] == "no space left"
    assert "step 100: failed: no space left\n" in capsys.readouterr().out, "a failed checkpoint is not the best so far"
    assert not (place / "out" / "best.safetensors").exists()
    for path in (place / "run").iterdir():  # as the training run does with old checkpoints
        path.unlink()
    assert watch(config_of(place), Evaluator())["best"] == 100, "failed evaluations are tried again"
    assert not list((place / "out" / "held").iterdir())


def test_other_settings_a_restarted_training_and_other_folders_are_rejected(place):
    save(place, 100)
    watch(config_of(place), Evaluator())
    with pytest.raises(UserError, match="metric: AP before, AR now"):
        watch(config_of(place, metric="AR"), Evaluator())
    save(place, 100, value=5.0)
    with pytest.raises(UserError, match="differs from the checkpoint of step 100"):
        watch(config_of(place), Evaluator())
    (place / "other").mkdir()
    (place / "other" / "notes.txt").touch()
    with pytest.raises(UserError, match="not the output of `watch`"):
        watch(config_of(place, out=place / "other"), Evaluator())


@pytest.mark.parametrize(
    ("run", "reason"),
    [("typo", "no such folder"), ("a.json", "is a file"), ("images", r"not the --out of a training run \(contains 'x.jpg'\)")],
)
def test_what_is_not_a_run_folder_is_refused_at_once(place, run, reason):
    (place / "images" / "x.jpg").touch()
    with pytest.raises(UserError, match=f"run folder {place / run}: {reason}"):
        watch_command.run(config_of(place, run=place / run, idle_minutes=None))
    assert not (place / "out").exists()


@pytest.mark.parametrize("options", [{}, {"stop_with_training": True, "idle_minutes": None}])
def test_a_watch_that_evaluates_nothing_fails(place, options, capsys):
    if options:
        (place / "run" / layout.CONFIG).touch()
    assert watch_command.run(config_of(place, **options)) == 1
    assert "contains no complete checkpoint; nothing was evaluated" in capsys.readouterr().err


def test_a_run_folder_that_is_deleted_ends_the_watch(place):
    job = Watch(config_of(place, idle_minutes=None), Evaluator())
    (place / "run").rmdir()
    with job.claimed(), pytest.raises(UserError, match=r"run folder .*run: no such folder"):
        job.loop()


def test_two_watches_cannot_share_a_folder(place):
    first = Watch(config_of(place), Evaluator())
    with first.claimed(), pytest.raises(UserError, match="another `watch`"):
        watch(config_of(place), Evaluator())


@pytest.mark.parametrize("folder", ["images", "-images", "null", "1e3", "--out"])
def test_all_options_reach_the_process_that_evaluates(tmp_path, monkeypatch, folder):
    """Values that look like options, or like other types, must not be lost or misread."""
    monkeypatch.chdir(tmp_path)
    config = WatchConfig(
        run=Path("run"), annotations=Path("-a.json"), images=Path(folder), out=Path("out"), batch_size=None, max_images=7,
        inference=InferConfig(scales=(0.5, 1.0, 1.5), mirror=True), pictures=0,
    ).evaluation(Path("held/step-00000007.safetensors"), Path("out/step-00000007"))  # fmt: skip
    received = []

    def run_process(command, hear):
        assert command[1:4] == ["-m", "evaluator", "run"]
        received.append(parse(RunConfig, command[4:], prog="run"))
        hear("loading")
        hear("python -m evaluator run: error: disk\x1b is full")
        return codes.pop()

    codes = [-9, 0, 3]
    monkeypatch.setattr(watch_command, "run_process", run_process)
    causes = [watch_command.evaluate_in_process(config) for _ in range(3)]
    assert causes == ["disk\\x1b is full", None, "killed by SIGKILL"]
    assert received == [config] * 3
    assert not list(Path("held").iterdir()), "the file with the options is deleted"


@pytest.mark.slow
def test_the_command_evaluates_real_checkpoints_and_stops_on_a_signal(tmp_path):
    """Runs the real processes, with a network of random weights that finds no people."""
    from trainer.networks.inference import build

    annotations, images = write_images(tmp_path, count=3)
    run, out = tmp_path / "run", tmp_path / "out"
    run.mkdir()
    network = build(TINY, COCO18)
    tensors = {checkpoint.NETWORK + name: np.asarray(p.asnumpy()) for name, p in network.parameters_dict().items()}
    save_checkpoint(run / "step-00000007.safetensors", make_info(), tensors)
    words = ["--run", run, "--annotations", annotations, "--images", images, "--out", out, "--pictures", 0, "--poll-seconds", 0.2]
    process = subprocess.Popen([sys.executable, "-m", "evaluator", "watch", *map(str, words)], stderr=subprocess.PIPE, text=True)
    board = out / "leaderboard.json"
    give_up = time.monotonic() + 90
    while not (board.exists() and json.loads(board.read_text())["best"] == 7):
        assert process.poll() is None and time.monotonic() < give_up
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143 and "Traceback" not in process.communicate()[1]
    assert {path.name for path in out.iterdir()} == {"leaderboard.json", "best.safetensors", "held", "step-00000007"}
