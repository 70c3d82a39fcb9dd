"""The ceiling of encoding and decoding, on a small synthetic set and on COCO."""

import json
from pathlib import Path

import pytest
from evaluator_data import write_set

from evaluator.__main__ import COMMANDS
from pipeline.cli import main

COCO_VAL = Path(__file__).parents[3] / "shared" / "coco-annotations" / "person_keypoints_val2017_dev.json"


def oracle(*words):
    return main("evaluator", "", COMMANDS, ["oracle", *map(str, words)])


def test_separate_people_are_recovered_perfectly(tmp_path, capsys):
    annotations, _ = write_set(tmp_path)
    assert oracle("--annotations", annotations, "--out", tmp_path / "out") == 0
    assert "\n{'AP': 1.0, 'AP .5': 1.0, " in capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["num_images"], metrics["num_images_with_people"]) == (3, 2)
    assert len(json.loads((tmp_path / "out" / "results.json").read_text())) == 4
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"results.json", "metrics.json", "config.yaml"}


def test_saved_configuration_reproduces_the_results(tmp_path, capsys):
    annotations, _ = write_set(tmp_path)
    assert oracle("--annotations", annotations, "--out", tmp_path / "one", "--peak-threshold", "0.2") == 0
    assert oracle("--config", tmp_path / "one" / "config.yaml", "--out", tmp_path / "two") == 0
    assert (tmp_path / "one" / "results.json").read_bytes() == (tmp_path / "two" / "results.json").read_bytes()
    assert "peak_threshold: 0.2" in (tmp_path / "two" / "config.yaml").read_text()


def test_output_folder_that_is_not_empty_is_rejected(tmp_path, capsys):
    annotations, _ = write_set(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert oracle("--annotations", annotations, "--out", tmp_path / "out") == 1
    assert "not an empty folder" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("text, reason", [(None, "No such file"), ("{", "not JSON"), ("[]", "not COCO")])
def test_bad_annotation_file_is_reported(tmp_path, capsys, text, reason):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    assert oracle("--annotations", path, "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert str(path) in error and reason in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not COCO_VAL.exists(), reason=f"needs {COCO_VAL}")
def test_ceiling_on_coco(tmp_path):
    assert oracle("--annotations", COCO_VAL, "--out", tmp_path / "out") == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["figures"]["AP"] >= 0.93
    assert metrics["num_images"] == 267
