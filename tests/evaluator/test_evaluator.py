"""The commands `run` and `predict` from input to output files, with a network that returns the targets and with stored fields."""

import dataclasses
import json
import os

import cv2
import numpy as np
import pytest
from evaluator_data import PerfectNetwork, stored, write_set

from evaluator.__main__ import COMMANDS
from evaluator.drawings import best_and_worst
from evaluator.inference.stored_fields import StoredFields
from evaluator.jobs.config import RunConfig
from evaluator.jobs.run import evaluate_source
from evaluator.predict import predict as predict_command
from evaluator.predict.config import PredictConfig
from evaluator.predict.listing import list_sources
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.tolerance import Tolerance


def command(*words):
    return main("evaluator", "", COMMANDS, list(map(str, words)))


@pytest.fixture
def coco_set(tmp_path):
    return write_set(tmp_path)


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


def test_a_perfect_network_scores_one(tmp_path, coco_set, capsys):
    annotations, images = coco_set
    config = RunConfig(checkpoint=tmp_path / "c", annotations=annotations, images=images, out=tmp_path / "out", pictures=1)
    assert evaluate_source(config, PerfectNetwork(annotations)) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(" Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 1.000\n")
    assert "\n{'AP': 1.0, 'AP .5': 1.0" in printed
    metrics = metrics_of(config.out)
    assert metrics["figures"]["AP"] == pytest.approx(1)
    assert metrics["figures_images_with_people"]["AP"] == pytest.approx(1)
    assert (metrics["num_images"], metrics["num_people"], metrics["num_people_found"]) == (3, 4, 4)
    assert {"read_s", "network_s", "decode_s", "score_s", "images_per_s", "overhead_share"} == set(metrics["speed"])
    drawings = sorted(file.name for file in (config.out / "pictures").iterdir())
    assert [name.split("-")[0] for name in drawings] == ["best", "worst"]
    assert cv2.imread(str(config.out / "pictures" / drawings[0])).std() > 1
    assert not list(tmp_path.glob(".out*"))


def test_stored_fields_are_scored_without_network_and_images(tmp_path, coco_set):
    annotations, _ = coco_set
    path = stored(tmp_path / "f.npz", annotations)
    assert command("run", "--fields", path, "--annotations", annotations, "--out", tmp_path / "out") == 0
    assert metrics_of(tmp_path / "out")["figures"]["AP"] == pytest.approx(1)
    assert not (tmp_path / "out" / "pictures").exists()


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"hm_20": None}, "array hm_20 is missing"),
        ({"image_id": np.array([10, 20, 31])}, "images missing from the fields: 1, for example image 30"),
        ({"orig_wh": np.ones((2, 2), int)}, "expected image_id"),
        (
            {"orig_wh": np.array([(320, 300), (400, 500), (300, 333)])},
            "the size (width, height) of image 20 is (400, 500) in the fields, but (500, 400) in the annotation file",
        ),
        (
            {"image_id": np.array([10, 20])} | {name: np.ones((2, 2), int) for name in ("orig_wh", "input_wh")},
            "images missing from the fields: 1, for example image 30",
        ),
        ({"hm_20": np.zeros((18, 46, 58))}, "b.png: heatmaps of skeleton 'coco18' must have the shape (19, height, width)"),
        ({"paf_20": np.full((38, 46, 58), np.nan)}, "b.png: pafs must be finite"),
    ],
)
def test_mismatched_fields_are_rejected(tmp_path, coco_set, capsys, changes, reason):
    path = stored(tmp_path / "f.npz", coco_set[0], **changes)
    assert command("run", "--fields", path, "--annotations", coco_set[0], "--out", tmp_path / "out") == 1
    error = capsys.readouterr().err
    assert reason in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"not numpy", b"PK\x03\x04 cut off"])
def test_files_that_are_not_stored_fields_are_rejected(tmp_path, content):
    path = tmp_path / "f.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        StoredFields(path)


@pytest.mark.parametrize(
    "fault, reason", [("missing", "No such file"), ("empty", "empty"), ("resized", "annotated as 500 x 400")]
)
def test_an_unreadable_image_is_named_and_fails_the_command_unless_allowed(tmp_path, coco_set, capsys, fault, reason):
    annotations, images = coco_set
    victim = images / "b.png"
    victim.unlink()
    if fault == "empty":
        victim.touch()
    elif fault == "resized":
        cv2.imwrite(str(victim), np.full((80, 100, 3), 80, np.uint8))
    config = RunConfig(checkpoint=tmp_path / "c", annotations=annotations, images=images, out=tmp_path / "out")
    assert evaluate_source(config, PerfectNetwork(annotations)) == 1
    error = capsys.readouterr().err
    assert "b.png" in error and reason in error and "1 image could not be read" in error
    metrics = metrics_of(config.out)
    assert list(metrics["unreadable_images"]) == ["b.png"]
    assert metrics["figures"]["AR"] == pytest.approx(0.5)
    allowed = dataclasses.replace(config, out=tmp_path / "allowed", tolerance=Tolerance(max_unreadable=0.34))
    assert evaluate_source(allowed, PerfectNetwork(annotations)) == 0


def test_a_wrong_image_folder_is_rejected_at_once(tmp_path, coco_set):
    annotations, _ = coco_set
    (tmp_path / "other").mkdir()
    config = RunConfig(checkpoint=tmp_path / "c", annotations=annotations, images=tmp_path / "other", out=tmp_path / "out")
    with pytest.raises(UserError, match="contains none of the 3 images"):
        evaluate_source(config, PerfectNetwork(annotations))
    assert not config.out.exists()


def test_annotations_with_another_skeleton_are_rejected(tmp_path, coco_set):
    annotations, images = coco_set
    network = PerfectNetwork(annotations)
    annotations.write_text(annotations.read_text().replace('"left_', '"port_').replace('"right_', '"starboard_'))
    config = RunConfig(checkpoint=tmp_path / "c", annotations=annotations, images=images, out=tmp_path / "out")
    with pytest.raises(UserError, match="16 of 17 keypoints are not joints of skeleton 'coco18': port_eye, starboard_eye"):
        evaluate_source(config, network)


def test_file_names_outside_the_image_folder_are_rejected(tmp_path, capsys):
    annotations, images = write_set(tmp_path / "set", names=("a.png", "b.png", "c.png"))
    annotations.write_text(annotations.read_text().replace('"b.png"', '"../b.png"'))
    config = RunConfig(checkpoint=tmp_path / "c", annotations=annotations, images=images, out=tmp_path / "out")
    with pytest.raises(UserError, match=r"\.\./b\.png"):
        evaluate_source(config, PerfectNetwork(annotations))


def test_wrong_options_and_paths_end_with_a_message(tmp_path, coco_set, capsys):
    annotations, images = coco_set
    common = ("run", "--annotations", annotations, "--out", tmp_path / "out")
    for words in ((), ("--checkpoint", "c"), ("--checkpoint", "c", "--fields", "f", "--images", images)):
        with pytest.raises(SystemExit) as exit_code:
            command(*common, *words)
        assert exit_code.value.code == 2
    assert command(*common, "--checkpoint", tmp_path / "c", "--images", tmp_path / "absent") == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_file_that_is_not_a_checkpoint_is_named(tmp_path, coco_set, capsys):
    annotations, images = coco_set
    path = tmp_path / "weights.safetensors"
    path.write_bytes(os.urandom(1000))
    words = ("--checkpoint", path, "--annotations", annotations, "--images", images, "--out", tmp_path / "out")
    assert command("run", *words) == 1
    assert str(path) in capsys.readouterr().err
    assert command("predict", images, "--checkpoint", path, "--out", tmp_path / "out") == 1
    assert str(path) in capsys.readouterr().err


def test_best_and_worst_images_are_ranked_and_disjoint():
    oks = {1: 0.5, 2: 0.9, 3: 0.1, 4: 0.7}
    assert [image_id for _, image_id in best_and_worst(oks, 1)] == [2, 3]
    assert [image_id for _, image_id in best_and_worst(oks, 3)] == [2, 4, 1, 3]
    assert [name.split("-")[0] for name, _ in best_and_worst(oks, 3)] == ["best"] * 3 + ["worst"]
    assert best_and_worst({}, 3) == []


def test_predict_writes_drawings_and_coco_results(tmp_path, coco_set, capsys):
    annotations, images = coco_set
    (images / "notes.txt").write_text("not an image")
    config = PredictConfig(images=(images, images / "a.png"), checkpoint=tmp_path / "c", out=tmp_path / "out")
    files = list_sources(config.images)
    assert [file.name for file in files.files] == ["a.png", "b.png", "c.png", "a.png"]
    assert predict_command.predict(config, files, PerfectNetwork(annotations)) == 0
    listed = json.loads((config.out / "images.json").read_text())
    assert [entry["drawing"] for entry in listed] == ["a.jpg", "b.jpg", "c.jpg", "a-2.jpg"]
    assert all((config.out / entry["drawing"]).is_file() for entry in listed)
    results = json.loads((config.out / "results.json").read_text())
    assert [entry["image_id"] for entry in results] == [1, 1, 2, 2, 4, 4]
    assert all(len(entry["keypoints"]) == 51 and entry["category_id"] == 1 for entry in results)


def test_predict_skips_unreadable_images_and_fails(tmp_path, coco_set, capsys):
    annotations, images = coco_set
    (images / "b.png").write_bytes(b"")
    config = PredictConfig(images=(images,), checkpoint=tmp_path / "c", out=tmp_path / "out")
    assert predict_command.predict(config, list_sources(config.images), PerfectNetwork(annotations)) == 1
    assert "b.png" in capsys.readouterr().err
    assert (config.out / "a.jpg").is_file() and not (config.out / "b.jpg").exists()
    with pytest.raises(UserError, match="no such file or folder"):
        list_sources([tmp_path / "absent.jpg"])


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_shows_an_example(name, capsys):
    with pytest.raises(SystemExit) as exit_code:
        command(name, "--help")
    text = capsys.readouterr().out
    assert exit_code.value.code == 0
    assert f"python -m evaluator {name}" in " ".join(text.replace("│", " ").split())
