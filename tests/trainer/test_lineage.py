"""Checkpoints list what their network has learned from: through resuming, and through further training from them."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from trainer_data import TINY_OPTIONS, make_info, make_records

from data_cards.__main__ import COMMANDS as CARDS
from data_cards.__main__ import with_command
from pipeline.cli import main, parse
from pipeline.records.manifest import read_manifest
from pipeline.records.provenance import read_provenance
from trainer.__main__ import COMMANDS
from trainer.config import TrainConfig
from trainer.loop.state import State
from trainer.run.checkpoint import read_info, save_checkpoint
from trainer.run.history import history_of
from trainer.weights.layouts import vgg
from trainer.weights.origin import origin_of


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return make_records(tmp_path_factory.mktemp("lineage"), num_images=6)


def state(records: Path, out: Path, *more: object) -> State:
    words = ["--preset", "small", "--records", str(records), "--out", str(out), *TINY_OPTIONS, *map(str, more)]
    return State(parse(TrainConfig, words, prog="train"), read_manifest(records))


def save(run: State, step: int) -> Path:
    """Save a checkpoint as if the run had taken these steps."""
    run.config.out.mkdir(exist_ok=True)
    run.progress.step = step
    run.save({})
    return run.config.out / f"step-{step:08d}.safetensors"


def test_resuming_extends_a_run_and_further_training_adds_one(data, tmp_path):
    first = save(state(data, tmp_path / "a"), 3)
    again = save(state(data, tmp_path / "a", "--resume"), 5)
    further = save(state(data, tmp_path / "b", "--pretrained-model-path", again), 2)
    last = save(state(data, tmp_path / "b", "--resume"), 4)
    steps = [[run.steps for run in read_info(path).history] for path in (first, again, further, last)]
    assert steps == [[3], [5], [5, 2], [5, 4]]
    runs = read_info(last).history
    assert [run.records for run in runs] == [read_provenance(data, read_manifest(data))] * 2
    assert {run.preset for run in runs} == {"small"}


def test_checkpoints_of_older_versions_have_a_run_without_records(data, tmp_path):
    path = save(state(data, tmp_path / "a"), 3)
    info = dataclasses.replace(read_info(path), history=())
    assert [(run.steps, run.records_digest, run.records) for run in history_of(info)] == [(3, info.records_digest, None)]
    assert history_of(dataclasses.replace(info, records_digest="")) == (), "imported weights"


VGG = {"backbone_channels": (64, 64, 128, 128, 256, 256, 256, 256, 512, 512)}


def backbone(path: Path) -> Path:
    sizes = zip(vgg.PLACES, (3, *VGG["backbone_channels"]), VGG["backbone_channels"], strict=False)
    weights = {f"features.{place}.weight": np.zeros((after, before, 3, 3), np.float32) for place, before, after in sizes}
    np.savez(path, **weights)
    return path


def test_the_origin_of_a_backbone_stays_with_the_weights(data, tmp_path):
    original, imported = backbone(tmp_path / "vgg19.npz"), tmp_path / "vgg.safetensors"
    assert main("trainer", "", COMMANDS, ["import", str(original), "--out", str(imported)]) == 0
    origin = origin_of(original, vgg.SOURCE)
    assert origin["license"] == vgg.SOURCE.license and origin["file"] == "vgg19.npz"
    shape = [
        *("--no-residual", "--backbone-channels", *VGG["backbone_channels"], "--freeze-backbone-steps", 1),
        *("--neck-channels", 4, 4),
    ]
    path = save(state(data, tmp_path / "a", *shape, "--backbone-path", imported), 1)
    assert read_info(path).backbone_origin == origin, "that of the original file, not of the extracted one"
    further = save(state(data, tmp_path / "b", *shape, "--pretrained-model-path", path), 1)
    assert read_info(further).backbone_origin == origin and read_info(further).origin == {}
    assert read_info(save(state(data, tmp_path / "b", "--resume", *shape), 2)).backbone_origin == origin


def lineage(*words: object) -> int:
    return main("python -m data_cards", "", CARDS, with_command(["lineage", *map(str, words)]))


def test_the_lineage_is_printed_and_written(data, tmp_path, capsys):
    first = save(state(data, tmp_path / "a"), 3)
    save(state(data, tmp_path / "b", "--pretrained-model-path", first), 2)
    capsys.readouterr()
    assert lineage(tmp_path / "b", "--json", tmp_path / "lineage.json") == 0
    printed = capsys.readouterr().out
    provenance = read_provenance(data, read_manifest(data))
    assert "training 1: preset small, 3 steps" in printed and "training 2: preset small, 2 steps" in printed
    assert f"SHA-256 {provenance.annotations_sha256}" in printed and f"digest {provenance.digest}" in printed
    assert all(f"{entry.id}: " in printed and entry.name in printed for entry in provenance.licenses)
    assert "(data_cards/synthetic.md)" in printed and "no legal meaning" in printed
    document = json.loads((tmp_path / "lineage.json").read_text())
    assert [training["steps"] for training in document["trainings"]] == [3, 2]
    assert document["trainings"][0]["records"]["num_images"] == provenance.num_images
    assert document["trainings"][0]["source"]["card"] == "synthetic.md"
    assert main("trainer", "", COMMANDS, ["info", str(tmp_path / "b"), "--json", str(tmp_path / "info.json")]) == 0
    about = json.loads((tmp_path / "info.json").read_text())
    assert about["checkpoint"]["history"] == [
        {name: value for name, value in training.items() if name != "source"} for training in document["trainings"]
    ]


def test_text_of_a_checkpoint_is_printed_on_its_line(tmp_path, capsys):
    evil = "\x1b]0;title\x07\n\u202e"
    path = tmp_path / "step-00000007.safetensors"
    info = make_info(origin={"source": evil, evil: evil}, backbone_origin={"license": evil}, records_digest=evil)
    save_checkpoint(path, info, {"network.a": np.ones(1, np.float32)})
    assert lineage(tmp_path) == 0
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.splitlines()) and "\\x1b" in printed
    assert lineage(tmp_path / "gone") == 1
    (tmp_path / "empty").mkdir()
    assert lineage(tmp_path / "empty") == 1
    assert "no readable checkpoint in this folder (it has none)" in capsys.readouterr().err
