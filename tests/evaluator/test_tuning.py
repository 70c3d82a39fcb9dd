"""Tuning of the decoder: the choice among settings by cross-validation, and the command `tune`."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from evaluator_data import person, write_annotations
from exported_data import save_network, write_photo

from evaluator import Predictor
from evaluator.__main__ import COMMANDS
from evaluator.decoding import DecodeConfig, People
from evaluator.inference.exported import ExportedNetwork
from evaluator.tuning.search import VALUES, candidates, choose, split
from pipeline.cli import main
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18
from trainer.run.checkpoint import read_checkpoint, save_checkpoint

PRESENT = DecodeConfig(noise_factor=0)  # random weights: the fields are noise
GOOD = DecodeConfig(noise_factor=0, relative_threshold=0, paf_threshold=0.1, fragments=False)
NUM_PHOTOS = 5


def people(*places):
    points = np.full((len(places), COCO18.num_joints, 3), 0.9, np.float32)
    for row, x in zip(points, places, strict=True):
        row[COCO18.source_indices, :2] = person(x, 40)[:, :2]
    return People(keypoints=points, scores=np.arange(len(places), 0, -1, dtype=np.float32))


def test_the_present_settings_come_first_then_those_with_few_changes():
    tried = candidates(DecodeConfig(num_samples=9))
    assert tried[0] == DecodeConfig(num_samples=9) and len(set(tried)) == len(tried)
    assert len(tried) == np.prod([len(values) for values in VALUES.values()])  # the present ones are among them
    assert all(settings.num_samples == 9 for settings in tried)
    changes = [sum(getattr(settings, name) != getattr(tried[0], name) for name in VALUES) for settings in tried]
    assert changes == sorted(changes) and changes[:2] == [0, 1]


def test_every_image_is_in_one_fold():
    folds = split(range(100, 123), 5)
    assert sorted(itertools.chain(*folds)) == list(range(100, 123)) and {len(fold) for fold in folds} == {4, 5}
    assert folds == split(range(122, 99, -1), 5)


@pytest.mark.parametrize("lucky", [False, True])
def test_gain_is_that_of_settings_chosen_on_other_images(tmp_path, lucky):
    """Settings that help everywhere keep their gain; settings of which each helps in one image only lose it."""
    images = {number: (f"{number}.png", 900, 300) for number in range(1, 5)}
    document = CocoFile(write_annotations(tmp_path / "a.json", images, [(number, person(200, 40)) for number in images]), COCO18)
    right, wrong = people(200), people(600)
    found = {number: [wrong, *(right if not lucky or number == best else wrong for best in (1, 2, 3, 4))] for number in images}
    choice = choose(document, found, COCO18, candidates(DecodeConfig())[:5], num_folds=4)
    assert choice.ap_before == 0 and choice.ap[0] == 0
    if lucky:
        assert max(choice.ap) > 0.2 and choice.ap_after == 0 and choice.chosen == 0, "the present settings stay"
    else:
        assert choice.ap[choice.chosen] == pytest.approx(1) == pytest.approx(choice.ap_after) and choice.chosen == 1


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A checkpoint, and photos in which it is right if it is decoded with the settings GOOD."""
    folder = tmp_path_factory.mktemp("tune")
    (folder / "images").mkdir()
    checkpoint = save_network(folder)
    (info, tensors), about = (
        read_checkpoint(checkpoint),
        {"annotations": "0" * 64, "inference": {}, "ap_before": 0, "ap_after": 0},
    )
    tuning = {**about, "decoding": dataclasses.asdict(PRESENT), "num_images": 3}
    save_checkpoint(checkpoint, dataclasses.replace(info, tuning=tuning), tensors)
    predictor, images, truths = Predictor(checkpoint, decoding=GOOD, min_score=0), {}, []
    for number in range(1, NUM_PHOTOS + 1):
        pixels = write_photo(folder / "images" / f"{number}.png", seed=number)
        images[number] = f"{number}.png", 150, 99
        for found in predictor(pixels).people[:12]:
            points = found.keypoints[COCO18.source_indices].astype(float)
            truths.append((number, points * (1, 1, 0) + (points[:, 2:] > 0) * (0, 0, 2)))
    write_annotations(folder / "annotations.json", images, truths)
    return folder, checkpoint


def command(*words):
    return main("python -m evaluator", "", COMMANDS, list(map(str, words)))


@pytest.mark.slow
def test_run_and_export_use_the_settings_that_were_found(photos, tmp_path, capsys):
    folder, checkpoint = photos
    inputs = ("--annotations", folder / "annotations.json", "--images", folder / "images")
    tuned = tmp_path / "tuned.safetensors"
    assert command("tune", "--checkpoint", checkpoint, *inputs, "--out", tuned, "--json", tmp_path / "t.json", "--folds", 3) == 0
    found = json.loads((tmp_path / "t.json").read_text())
    tuning, before = read_checkpoint(tuned)[0].tuning, read_checkpoint(checkpoint)
    assert tuning["decoding"] == found["decoding"] and tuning["decoding"]["relative_threshold"] == 0
    assert found["ap_before"] + 0.2 < found["ap_after"] <= max(entry["AP"] for entry in found["tried"])
    assert all((before[1][name] == tensor).all() for name, tensor in read_checkpoint(tuned)[1].items())
    assert "expect this gain" in capsys.readouterr().out
    best = max(entry["AP"] for entry in found["tried"])
    for checkpoint_, options, ap in ((tuned, (), best), (checkpoint, (), found["ap_before"]),
                                     (tuned, ("--relative-threshold", 0.2, "--paf-threshold", 0.05, "--peak-threshold", 0.03), None)):  # fmt: skip
        out = tmp_path / f"ap-{len(options)}-{checkpoint_ == tuned}"
        assert command("run", "--checkpoint", checkpoint_, *inputs, *options, "--out", out, "--pictures", 0) == 0
        figures, settings = (json.loads((out / "metrics.json").read_text())[name] for name in ("figures", "settings"))
        assert figures["AP"] == pytest.approx(ap, abs=1e-9) if ap is not None else settings["relative_threshold"] == 0.2
        said = capsys.readouterr().out
        assert (f"decoder: settings tuned on {NUM_PHOTOS} images\n" in said) == (checkpoint_ == tuned)
    assert (
        command("predict", "--checkpoint", tuned, "--insize", 96, "--out", tmp_path / "found", folder / "images" / "1.png") == 0
    )
    assert "(insize: None then, 96 now)" in capsys.readouterr().out
    assert command("export", "--checkpoint", tuned, "--format", "ONNX", "--out", tmp_path / "t.onnx", "--max-peaks", 99) == 0
    assert ExportedNetwork(tmp_path / "t.onnx").decoding == DecodeConfig(**{**tuning["decoding"], "max_peaks": 99})


@pytest.mark.slow
def test_what_cannot_be_tuned_is_refused_by_name(photos, tmp_path, capsys):
    folder, checkpoint = photos
    few = write_annotations(tmp_path / "few.json", {1: ("1.png", 900, 300)}, [(1, person(200, 40))])
    out = tmp_path / "tuned.safetensors"

    def refused(annotations, images, out=out):
        words = ("--checkpoint", checkpoint, "--annotations", annotations, "--images", images, "--out", out)
        assert command("tune", *words) == 1 and not out.exists()
        return capsys.readouterr().err

    assert "few.json: tuning needs at least 50 people with keypoints, got 1 in 1 image" in refused(few, folder / "images")
    assert "ends in .safetensors" in refused(few, folder / "images", tmp_path / "tuned.onnx")
    (tmp_path / "empty").mkdir()
    assert f"none of the {NUM_PHOTOS} images can be read" in refused(folder / "annotations.json", tmp_path / "empty")
