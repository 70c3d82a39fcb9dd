"""Every command can write its output to a mounted volume, and refuses at once one that cannot be written."""

import json
import subprocess
from pathlib import Path

import pytest
from evaluator_data import PerfectNetwork, write_set
from job_data import NoiseNetwork, write_images
from pipeline_data import build_config, tree, words_of
from volumes import read_only, volume

from data_cards.__main__ import COMMANDS as CARD_COMMANDS
from evaluator.__main__ import COMMANDS as EVALUATOR_COMMANDS
from evaluator.inference.config import InferConfig
from evaluator.jobs import run
from evaluator.jobs.config import RunConfig
from evaluator.predict import predict
from evaluator.predict.config import PredictConfig
from evaluator.predict.listing import list_sources
from pipeline.__main__ import COMMANDS as PIPELINE_COMMANDS
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.storage.files import TEMPORARY
from trainer.run import claim

PROGRAMS = {"pipeline": PIPELINE_COMMANDS, "evaluator": EVALUATOR_COMMANDS, "data_cards": CARD_COMMANDS}
EXACT = InferConfig(size_step_px=1)


def command(program, *words):
    return main(program, "", PROGRAMS[program], [str(word) for word in words])


def evaluate(folder, out, **options):
    annotations, images = folder / "noise" / "annotations.json", folder / "noise" / "images"
    config = RunConfig(checkpoint=Path("c"), annotations=annotations, images=images, out=out, pictures=0, **options)
    return run.evaluate_source(config, NoiseNetwork()) if run.evaluate_source else run.run(config)


def run_predict(folder, out):
    files = sorted((folder / "set" / "images").iterdir())
    config = PredictConfig(images=tuple(files), checkpoint=Path("c"), out=out, inference=EXACT)
    if not predict.predict:
        return predict.run(config)
    return predict.predict(config, list_sources(files), PerfectNetwork(folder / "set" / "annotations.json"))


def run_merge(folder, out):
    return command(
        "evaluator", "merge", folder / "1", folder / "2", "--annotations", folder / "noise/annotations.json", "--out", out
    )


def run_report(folder, out):
    words = "--annotations", folder / "noise" / "annotations.json", "--out", out / "report.html"
    return command("evaluator", "report", folder / "whole", *words)


WRITERS = {
    "synthesize": lambda folder, out: command("pipeline", "synthesize", "--num-images", 2, "--jobs", 1, "--out", out),
    "build": lambda folder, out: command("pipeline", *words_of(build_config(folder / "people", out))),
    "preview": lambda folder, out: command("pipeline", "preview", folder / "records", "--out", out),
    "predict": run_predict,
    "run": evaluate,
    "shard": lambda folder, out: evaluate(folder, out, shard="1/2"),
    "merge": run_merge,
    "report": run_report,
    "oracle": lambda folder, out: command(
        "evaluator", "oracle", "--annotations", folder / "noise/annotations.json", "--out", out
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, people, records):
    """Return a folder with the inputs of all WRITERS."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "people").symlink_to(people)
    (folder / "records").symlink_to(records)
    write_set(folder / "set")
    write_images(folder / "noise")
    assert [evaluate(folder, folder / f"{i}", shard=f"{i}/2") for i in (1, 2)] == [0, 0]
    assert evaluate(folder, folder / "whole") == 0
    return folder


def content(out):
    """Return the files of an output without what is different in each run: times and the name of the folder."""
    files = {name: data for name, data in tree(out).items() if not name.endswith((".html", ".yaml", ".parquet"))}
    if "metrics.json" in files:
        files["metrics.json"] = json.loads(files["metrics.json"])["figures"]
    if "manifest.json" in files:
        files["manifest.json"] = json.loads(files["manifest.json"])["digest"]
    return files


@pytest.mark.parametrize("name", WRITERS)
def test_a_volume_gets_the_same_files_as_a_new_folder(inputs, tmp_path, name):
    absent = tmp_path / "absent"
    assert WRITERS[name](inputs, absent) == 0
    with volume(tmp_path / "volume") as mount:
        assert WRITERS[name](inputs, mount) == 0
        (mount / "lost+found").rmdir()
        assert content(mount) == content(absent) and sorted(tree(mount)) == sorted(tree(absent))
        assert not [path.name for path in mount.iterdir() if path.name.startswith(TEMPORARY)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["absent", "volume"]


@pytest.mark.parametrize("name", WRITERS)
def test_a_volume_that_cannot_be_written_is_refused(inputs, tmp_path, name, capsys, monkeypatch):
    monkeypatch.setattr(run, "evaluate_source", None)  # the commands themselves check, before they load the network
    monkeypatch.setattr(predict, "predict", None)
    with read_only(tmp_path / "volume") as mount:
        try:
            assert WRITERS[name](inputs, mount) == 1
            message = capsys.readouterr().err
        except UserError as error:
            message = str(error)
    assert str(mount) in message and "Read-only file system" in message and message.count("\n") <= 1


def test_a_card_can_be_written_in_a_volume(records, tmp_path, capsys):
    with volume(tmp_path / "volume") as mount:
        for path, data in tree(records).items():
            (mount / path).parent.mkdir(parents=True, exist_ok=True)
            (mount / path).write_bytes(data)
        (mount / "CARD.md").unlink()
        assert command("data_cards", "write", mount) == 0
        assert (mount / "CARD.md").read_bytes() == (records / "CARD.md").read_bytes()
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        assert command("data_cards", "write", mount) == 1
    assert f"record set {mount}: cannot be written: Read-only file system; change its perm" in capsys.readouterr().err


def test_a_run_folder_can_be_a_volume(tmp_path):
    with volume(tmp_path / "volume") as mount, claim.claimed(mount, resume=False):
        (mount / "checkpoint").touch()
    with read_only(tmp_path / "other") as mount, pytest.raises(UserError, match="other: cannot be written: Read-only"):
        claim.refuse_foreign(mount, resume=False)
