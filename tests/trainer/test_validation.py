"""Validation while training: the AP of the evaluator, the best checkpoint, early stopping, also after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from launch_jobs import train_words
from trainer_data import make_records, train
from validation_data import calls, write_stand_in

from evaluator.jobs.config import RunConfig
from evaluator.jobs.run import run as evaluate
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.skeletons import COCO18
from trainer.run.checkpoint import list_checkpoints, prune_checkpoints, read_checkpoint, read_info
from trainer.run.curves import read_curves
from trainer.run.layout import BEST, checkpoint_path
from trainer.run.log import read_log
from trainer.run.validations import Validation, best_of, num_without_gain
from trainer.validation.config import ValidateConfig
from trainer.validation.evaluation import evaluating

ROOT = Path(__file__).parents[2]
APS = {1: 0.0, 2: 0.3, 3: None, 4: 0.2, 5: 0.3, 6: 0.9}  # fails at 3; no gain at 4 and 5
EARLY = ("--validate-interval", "1", "--patience", "2", "--max-steps", "6", "--keep-checkpoint-max", "2")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


def data(records: Path) -> list[str]:
    people = records.parent / "people"
    annotations = people / "annotations" / "person_keypoints_train2017.json"
    return ["--validate-annotations", str(annotations), "--validate-images", str(people / "train2017")]


def contents(run: Path) -> dict:
    """What a resumed run must have in common with an uninterrupted one."""
    timeless = [
        {name: value for name, value in entry.items() if name in ("step", "epoch", "loss", "validation", "validation_data")}
        for entry in read_log(run)
    ]
    checkpoints = {path.name: read_checkpoint(path) for path in run.glob("*.safetensors")}
    return {"log": timeless} | {
        name: (info.step, info.position, info.validations, {key: tensor.tobytes() for key, tensor in tensors.items()})
        for name, (info, tensors) in checkpoints.items()
    }


@pytest.fixture(scope="module")
def ended_early(records, tmp_path_factory):
    """A folder with a run that ended early, and the states in which it would have been killed during each validation."""
    folder = write_stand_in(tmp_path_factory.mktemp("stand-in"), APS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train(records, folder / "run", *data(records), *EARLY) == 0
    return folder


def validation(step: int, ap: float) -> Validation:
    return Validation(step=step, figures={"AP": ap, "AP .5": ap}, data="")


def test_the_first_of_the_highest_is_the_best_and_validations_count_from_the_first_ap_above_0():
    made = [validation(step, ap) for step, ap in enumerate((0.0, 0.0, 0.2, 0.5, 0.5, 0.4))]
    assert best_of(made) == made[3] and best_of(made[:2]) == made[1] and best_of([]) is None
    assert [num_without_gain(made[:count]) for count in range(7)] == [0, 0, 0, 0, 0, 1, 2]


def test_it_ends_early_and_keeps_the_best_checkpoint(ended_early):
    run, names = ended_early / "run", {"AP": "validation/AP", "AP .5": "validation/AP.5"}
    assert calls(ended_early) == [1, 2, 3, 4, 5], "the failure at step 3 does not count"
    entries = [entry for entry in read_log(run) if "validation" in entry]
    assert {entry["step"]: entry["validation"]["AP"] for entry in entries} == {1: 0.0, 2: 0.3, 4: 0.2, 5: 0.3}
    curves = read_curves(run)
    assert curves[names["AP"]] == ([1, 2, 4, 5], [0.0, 0.3, 0.2, 0.3]) and names["AP .5"] in curves
    assert "validation/AP_L" not in curves, "undefined"
    assert {path.name for path in list_checkpoints(run)} == {checkpoint_path(run, 4).name, checkpoint_path(run, 5).name, BEST}
    assert read_info(run / BEST).step == 2 and [v.step for v in read_info(checkpoint_path(run, 5)).validations] == [1, 2, 4]
    assert (run / "curves.png").exists() and not [path for path in run.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, pytest.param(5, marks=pytest.mark.long)])
def test_a_run_that_is_killed_during_a_validation_ends_with_the_same_bytes(records, ended_early, tmp_path, monkeypatch, step):
    monkeypatch.chdir(write_stand_in(tmp_path / "again", APS))
    run = shutil.copytree(ended_early / f"killed-{step}", tmp_path / "run")
    (run / "log.jsonl").write_bytes((run / "log.jsonl").read_bytes() + b'{"epoch": 0, "st')  # killed while writing
    assert train(records, run, *data(records), *EARLY, "--resume") == 0
    assert calls(tmp_path / "again") == list(range(step, 6)), "begins with the validation that was not completed"
    assert contents(run) == contents(ended_early / "run")


@pytest.mark.slow
@pytest.mark.long
def test_a_run_that_ended_early_stays_so_until_patience_is_raised(records, ended_early, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(write_stand_in(tmp_path / "again", APS))
    run = shutil.copytree(ended_early / "run", tmp_path / "run")
    (run / BEST).unlink()
    assert train(records, run, *data(records), *EARLY, "--resume") == 0
    said = capsys.readouterr()
    assert f"early stopping: no higher AP in 2 validations (--patience 2); {run / BEST} is the checkpoint of step 2" in said.out
    assert (
        "unchanged at step 5" in said.out and "is missing; the best checkpoint is that of step 2, which was deleted" in said.err
    )
    assert train(records, run, *data(records), *EARLY, "--resume", "--patience", "3") == 0
    assert calls(tmp_path / "again") == [6] and read_info(run / BEST).step == 6


def test_data_that_cannot_be_used_is_refused_before_training(records, tmp_path, capsys):
    def refused(annotations: Path, images: Path, *more: str) -> str:
        words = ("--validate-annotations", str(annotations), "--validate-images", str(images))
        assert train(records, tmp_path / "run", *words, *more) == 1
        assert not (tmp_path / "run").exists()
        return capsys.readouterr().err

    _, annotations, _, images = data(records)
    document = json.loads(Path(annotations).read_text())
    document["annotations"][0]["keypoints"] = [1, 2]
    (tmp_path / "bad.json").write_text(json.dumps(document))
    for more in ((), ("--dry-run",)):
        assert "bad.json: annotation 100: keypoints must be 51 numbers" in refused(tmp_path / "bad.json", Path(images), *more)
    assert "absent.json: No such file" in refused(tmp_path / "absent.json", Path(images), "--dry-run")
    (tmp_path / "empty").mkdir()
    assert "lacks 16 of 16 images" in (error := refused(Path(annotations), tmp_path / "empty", "--dry-run")) and ".jpg" in error
    document["annotations"] = []
    (tmp_path / "nobody.json").write_text(json.dumps(document))
    assert "no person has labeled keypoints" in refused(tmp_path / "nobody.json", Path(images), "--dry-run")


def test_options_need_each_other():
    data = {"validate_annotations": Path("a"), "validate_images": Path("i")}
    with pytest.raises(ValueError, match="give --validate-annotations and --validate-images"):
        ValidateConfig(patience=1)
    with pytest.raises(ValueError, match="need each other"):
        ValidateConfig(validate_images=Path("i"))
    with pytest.raises(ValueError, match="device_id 1 needs --validate-device-target Ascend"):
        ValidateConfig(**data, validate_device_id=1)


@pytest.mark.slow
def test_the_figures_are_those_of_the_evaluator(records, ended_early, tmp_path):
    _, annotations, _, images = data(records)
    config = ValidateConfig(validate_annotations=Path(annotations), validate_images=Path(images), validate_max_images=3)
    checkpoint = shutil.copy(ended_early / "run" / BEST, tmp_path)
    with evaluating(config, Path(checkpoint)) as evaluation:
        evaluation.process.wait(120)
        figures = evaluation.figures()
    assert os.listdir(tmp_path) == [BEST], "nothing is left behind"
    common = dict(annotations=Path(annotations), images=Path(images), max_images=3, pictures=0)
    assert evaluate(RunConfig(checkpoint=Path(checkpoint), out=tmp_path / "ap", **common)) == 0
    assert figures == json.loads((tmp_path / "ap" / "metrics.json").read_text())["figures"]
    assert len(choose_images(CocoFile(Path(annotations), COCO18), 3)) == 3


def test_the_best_checkpoint_is_not_pruned(ended_early, tmp_path):
    run = shutil.copytree(ended_early / "run", tmp_path / "run")
    prune_checkpoints(run, 1)
    assert {path.name for path in list_checkpoints(run)} == {BEST, checkpoint_path(run, 5).name}


def start(folder: Path, *words: str) -> subprocess.Popen:
    """Start a command of the trainer in a folder with a stand-in for the evaluator."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *words], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def wait_for_evaluation(folder: Path, process: subprocess.Popen) -> psutil.Process:
    while not (folder / "pid").exists() or not (text := (folder / "pid").read_text()):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    (folder / "pid").unlink()
    return psutil.Process(int(text))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_and_killed_during_a_validation(records, tmp_path, workers):
    """The evaluation ends with the run; the run ends at once, at the step of the validation, and repeats it."""
    folder = write_stand_in(tmp_path, {10: 0.2, 20: 0.1, 30: 0.2, 40: 0.9})
    job = ["launch", "--workers", "2", "--"] if workers == 2 else []
    train_job = train_words(records, folder / "run", 2, *data(records), "--validate-interval", "10", "--patience", "2")
    (folder / "hangs").touch()
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = start(folder, *job, *train_job)
        evaluation = wait_for_evaluation(folder, process)
        process.send_signal(number)
        started_s = time.monotonic()
        output, _ = process.communicate(timeout=60)
        assert process.returncode in (143, -signal.SIGKILL), output
        evaluation.wait(10)
        assert number == signal.SIGKILL or (time.monotonic() - started_s < 30 and "run: saved at step 10 (" in output), output
        assert list_checkpoints(folder / "run")[0] == checkpoint_path(folder / "run", 10)
        time.sleep(2 * (workers - 1))  # for the ranks of a launcher that was killed
    (folder / "hangs").unlink()
    output, _ = (process := start(folder, *job, *train_job)).communicate(timeout=240)
    assert process.returncode == 0 and "early stopping: no higher AP in 2 validations" in output, output
    assert calls(folder) == [10, 10, 10, 20, 30] and read_info(folder / "run" / BEST).step == 10
    assert "saved at step 30 " in output and [e["step"] for e in read_log(folder / "run") if "validation" in e] == [10, 20, 30]
