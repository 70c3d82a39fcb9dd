"""A published folder holds everything that others need, says where the network comes from, and states its own figures only."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from calibration_data import CALIBRATION
from trainer_data import TINY_OPTIONS, make_info, small_tensors, train

from evaluator.__main__ import COMMANDS
from evaluator.decoding import DecodeConfig
from evaluator.publish.card_data import slug
from evaluator.publish.config import PublishConfig
from evaluator.publish.measurement import read_measurements
from evaluator.publish.publish import write_pictures
from evaluator.publish.terms import IDENTIFIERS, choose_terms
from pipeline.cli import main, parse
from pipeline.errors import UserError
from pipeline.records.manifest import read_manifest
from pipeline.records.provenance import read_provenance
from pipeline.skeletons import COCO18, read_skeleton
from pipeline.storage.files import file_facts
from trainer.__main__ import COMMANDS as TRAINER
from trainer.config import TrainConfig
from trainer.run.checkpoint import read_checkpoint, save_checkpoint
from trainer.run.load import load_network

ROOT = Path(__file__).parents[2]
CMU = {
    "source": "OpenPose of CMU",
    "license": "CMU: noncommercial research",
    "url": "https://cmu.example",
    "file": "a.caffemodel",
}


def command(*words) -> int:
    return main("python -m evaluator", "", COMMANDS, list(map(str, words)))


@pytest.fixture(scope="module")
def work(people, records, tmp_path_factory):
    """A run of a tiny network with averaged weights, and the evaluation of its checkpoint on training images."""
    folder = tmp_path_factory.mktemp("publish")
    assert train(records, folder / "run", "--max-steps", "3", "--ema-decay", "0.5") == 0
    evaluate(folder / "run", people, folder / "ap", "--peak-threshold", "0.2", "--insize", "64", "--max-images", "4")
    return folder


def evaluate(checkpoint, people, out, *more) -> None:
    words = ["--annotations", people / "annotations/person_keypoints_train2017.json", "--images", people / "train2017"]
    assert command("run", "--checkpoint", checkpoint, *words, "--out", out, "--draw-min-score", 0, *more) == 0


@pytest.fixture(scope="module")
def published(work):
    words = ["--checkpoint", work / "run", "--evaluation", work / "ap", "--license", "CC-BY-4.0", "--name", "Tiny *network*"]
    assert command("publish", *words, "--out", work / "published") == 0
    return work / "published"


def front_of(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


@pytest.mark.slow
def test_the_folder_is_complete_and_its_checksums_are_right(published):
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=published, capture_output=True, text=True)
    listed = {line.partition(": ")[0] for line in done.stdout.splitlines()}
    files = {str(path.relative_to(published)) for path in published.rglob("*") if path.is_file()}
    assert done.returncode == 0 and listed == files - {"SHA256SUMS"}
    assert {"README.md", "model.safetensors", "model.onnx", "model.mindir", "model.mindir.json", "skeleton.yaml"} < files
    assert {"config.yaml", "example/find_people.py", "pictures/best.jpg", "pictures/worst.jpg"} < files
    text = (published / "README.md").read_text()
    listed = {name for name in files - {"README.md"} if not name.startswith(("example/evaluator", "example/pipeline"))}
    assert all(f"| `{name}` |" in text for name in listed) and "| 11 modules that" in text


@pytest.mark.slow
def test_no_file_names_a_folder_of_this_machine(work, published):
    for path in published.rglob("*"):
        assert not path.is_file() or str(work.parent).encode() not in path.read_bytes(), path


@pytest.mark.slow
def test_the_checkpoint_has_the_averaged_weights_alone(work, published):
    info, tensors = read_checkpoint(published / "model.safetensors")
    _, whole = read_checkpoint(work / "run" / "step-00000003.safetensors")
    assert all(name.startswith("network.") for name in tensors)
    name = next(name for name in whole if name.startswith("ema."))
    ours = "network." + name.removeprefix("ema.")
    np.testing.assert_array_equal(tensors[ours], whole[name])
    assert not np.array_equal(tensors[ours], whole[ours]), "raw and averaged weights differ, or this proves nothing"
    assert info.step == 3 and [run.steps for run in info.history] == [3]
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    # The folder works like a run folder.
    for ours, theirs in zip(load_network(published).fields(image), load_network(work / "run").fields(image), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow
def test_skeleton_and_options_are_files_for_other_commands(published):
    assert read_skeleton(published / "skeleton.yaml") == COCO18
    words = ["--config", str(published / "config.yaml"), "--records", "r", "--out", "o"]
    config = parse(TrainConfig, words, prog="train")
    assert (config.preset, config.batch_size, config.optim.ema_decay) == ("small", 4, 0.5)
    assert config.network == parse(TrainConfig, ["--preset", "small", *TINY_OPTIONS, *words[2:]], prog="train").network


@pytest.mark.slow
def test_the_card_is_one_of_hugging_face_with_the_measured_figures(work, published):
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(published / "README.md")
    data = card.data
    assert (data.license, data.library_name, data.pipeline_tag) == ("cc-by-4.0", "openpose-mindspore", "keypoint-detection")
    assert data.model_name == "Tiny *network*" and data.datasets == ["synthetic-people-seed-5"]
    figures = json.loads((work / "ap" / "metrics.json").read_text())["figures"]
    measured = {result.metric_type: result.metric_value for result in data.eval_results}
    assert measured == {name: value for name, value in figures.items() if value != -1} and "AP" in measured
    result = data.eval_results[0]
    assert result.dataset_name == "Synthetic people, seed 5, person_keypoints_train2017.json"
    assert [result.dataset_args[name] for name in ("num_images", "peak_threshold", "insize")] == [4, 0.2, 64]
    assert "Tiny \\*network\\*" in card.text


@pytest.mark.slow
def test_the_card_says_what_the_network_learned_from(records, published):
    text = (published / "README.md").read_text()
    manifest = json.loads((records / "manifest.json").read_text())
    assert manifest["digest"] in text and manifest["sources"]["annotations"]["sha256"] in text
    for entry in read_provenance(records, read_manifest(records)).licenses:
        assert f"| {entry.id} | {entry.name} | {entry.url} | {entry.num_images} |" in text
    assert "have no legal meaning" in text and "#### Biases and limitations" in text
    assert "a random subset of 4 of 24 images" in text
    assert "**The network was trained on images of this file" in text
    assert "| 1 | `small` | 3 | " in text and "| `lr` | 0.008 |" in text


@pytest.mark.slow
def test_the_exports_have_the_decoder_settings_of_the_evaluation(published):
    about = json.loads((published / "model.mindir.json").read_text())
    assert about["decoding"] == dataclasses.asdict(DecodeConfig(peak_threshold=0.2))
    assert about["checkpoint"]["step"] == 3


BLOCKED = """
import runpy, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        known = sys.stdlib_module_names | {"cv2", "numpy", "onnxruntime", "pipeline", "evaluator"}
        if name.split(".")[0] not in known and name.split(".")[0] in sys.argv[1].split(","):
            raise ImportError(f"{name} is not installed")
sys.meta_path.insert(0, Blocked())
sys.path.insert(0, sys.argv[2])
sys.argv = ["find_people.py", *sys.argv[3:]]
runpy.run_path(sys.path[0] + "/find_people.py", run_name="__main__")
import evaluator.decoding, pipeline.draw
assert evaluator.__file__.startswith(sys.path[0]) and pipeline.draw.__file__.startswith(sys.path[0])
assert "mindspore" not in sys.modules
"""
NOT_NEEDED = "mindspore,trainer,data_cards,msgspec,jiter,yaml,tyro,pycocotools,pyarrow,safetensors,simplejpeg,psutil,tqdm,joblib"


@pytest.mark.slow
def test_the_example_needs_neither_mindspore_nor_this_package(published, people, tmp_path):
    photo = next((people / "train2017").iterdir())
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, NOT_NEEDED, published / "example", published / "model.onnx", photo],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("people: ")
    drawing = cv2.imread(str(tmp_path / f"{photo.stem}-people.jpg"))
    assert drawing.shape == cv2.imread(str(photo)).shape


@pytest.mark.slow
def test_pictures_of_own_photos(work, published, people, tmp_path):
    photo = next((people / "train2017").iterdir())
    config = PublishConfig(checkpoint=published, evaluation=(work / "ap",), out=tmp_path, images=(photo, photo))
    measured = read_measurements([work / "ap"], *identity_of(work), has_averages=True)
    captions = write_pictures(tmp_path, config, measured, load_network(published))
    assert [*captions] == ["pictures/photo-1.jpg", "pictures/photo-2.jpg"] and "found with a score" in captions[
        "pictures/photo-1.jpg"
    ]
    assert cv2.imread(str(tmp_path / "pictures" / "photo-2.jpg")).shape == cv2.imread(str(photo)).shape


def identity_of(work) -> tuple[Path, list[str]]:
    path = work / "run" / "step-00000003.safetensors"
    return path, [file_facts(path)["sha256"]]


@pytest.mark.slow
def test_a_calibrated_checkpoint_counts_as_the_one_that_was_evaluated(work, tmp_path):
    path, [sha256] = identity_of(work)
    info, tensors = read_checkpoint(path)
    calibrated = dataclasses.replace(info, calibration={**CALIBRATION, "checkpoint": sha256})
    save_checkpoint(tmp_path / "calibrated.safetensors", calibrated, tensors)
    words = ["--checkpoint", tmp_path / "calibrated.safetensors", "--evaluation", work / "ap", "--license", "mit"]
    assert command("publish", *words, "--out", tmp_path / "published") == 0
    assert read_checkpoint(tmp_path / "published" / "model.safetensors")[0].calibration == calibrated.calibration
    assert "is the probability that the person is right" in (tmp_path / "published" / "README.md").read_text()


def refusal(capsys, *words) -> str:
    capsys.readouterr()
    assert command("publish", *words) == 1
    return capsys.readouterr().err


@pytest.mark.slow
def test_evaluations_of_other_weights_are_refused(work, published, tmp_path, capsys):
    own = ["--license", "mit", "--out", tmp_path / "new", "--evaluation", work / "ap"]
    assert "is of another checkpoint (step 3, SHA-256" in refusal(capsys, "--checkpoint", published, *own)
    changed = json.loads((work / "ap" / "evaluation.json").read_text())
    for changes, message in (
        ({"raw_weights": True}, "was computed with --raw-weights"),
        ({"checkpoint": None}, "checkpoint: expected a text, got null"),
        ({"peak_threshold": 7}, "peak_threshold must be in (0, 1)"),
    ):
        folder = tmp_path / "evaluation"
        folder.mkdir(exist_ok=True)
        (folder / "evaluation.json").write_text(json.dumps(changed | changes))
        (folder / "metrics.json").write_bytes((work / "ap" / "metrics.json").read_bytes())
        words = ["--checkpoint", work / "run", *own[:-1], folder]
        error = refusal(capsys, *words)
        assert message in error and str(folder) in error
    del changed["checkpoint"]
    (folder / "evaluation.json").write_text(json.dumps(changed))
    assert "not one of a checkpoint, but of stored fields" in refusal(capsys, *words)
    (folder / "metrics.json").unlink()
    (folder / "evaluation.json").write_bytes((work / "ap" / "evaluation.json").read_bytes())
    assert "has no metrics.json" in refusal(capsys, *words)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_an_output_folder_in_use_and_missing_pictures_are_refused(work, published, tmp_path, capsys):
    own = ["--checkpoint", work / "run", "--license", "mit"]
    assert "not an empty folder" in refusal(capsys, *own, "--evaluation", work / "ap", "--out", published)
    shutil.copytree(work / "ap", tmp_path / "ap", ignore=lambda _, names: [name for name in names if name == "pictures"])
    words = [*own, "--evaluation", tmp_path / "ap", "--out", tmp_path / "new"]
    assert "have no pictures; pass photos with --images" in refusal(capsys, *words)
    assert "no.jpg: no such file" in refusal(capsys, *words, "--images", tmp_path / "no.jpg").lower()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ap"], "nothing is left of a folder that failed"


def test_imported_weights_keep_their_license_or_need_one():
    info = make_info(origin=CMU)
    with pytest.raises(UserError, match=r"OpenPose of CMU, whose license is 'CMU: noncommercial research'.*--license other"):
        choose_terms(None, info)
    terms = choose_terms("other", info)
    assert terms.front_matter == {
        "license": "other", "license_name": "cmu-noncommercial-research", "license_link": "https://cmu.example",
    }  # fmt: skip
    assert choose_terms(None, make_info(origin={**CMU, "license": "Apache-2.0"})).front_matter == {"license": "apache-2.0"}
    assert choose_terms("cc-by-nc-4.0", info).identifier == "cc-by-nc-4.0"


def test_the_license_of_own_weights_is_chosen_by_the_user():
    with pytest.raises(UserError, match="you choose the license"):
        choose_terms(None, make_info())
    with pytest.raises(UserError, match=r"backbone comes from VGG, license BSD"):
        choose_terms(None, make_info(backbone_origin={"source": "VGG", "license": "BSD"}))
    assert choose_terms("My Company Terms 2", make_info()).front_matter["license_name"] == "my-company-terms-2"
    assert {"apache-2.0", "mit", "cc-by-nc-4.0"} < IDENTIFIERS
    assert slug("COCO 2017 Dataset!") == "coco-2017-dataset"


def test_options_are_checked(tmp_path, capsys):
    words = ["publish", "--checkpoint", "c", "--out", tmp_path / "o", "--evaluation"]
    with pytest.raises(SystemExit, match="2"):
        command(*words)
    with pytest.raises(SystemExit, match="2"):
        command(*words, "ap", "--name", " ")
    assert "name must be 1 to 200 printable characters" in capsys.readouterr().err
    path = tmp_path / "step-00000007.safetensors"
    save_checkpoint(path, make_info(origin=CMU), small_tensors())
    assert command("publish", "--checkpoint", path, "--evaluation", tmp_path, "--out", tmp_path / "new") == 1
    assert "CMU: noncommercial research" in capsys.readouterr().err


def test_the_trainer_prints_the_origin(tmp_path, capsys):
    path = tmp_path / "step-00000007.safetensors"
    save_checkpoint(path, make_info(backbone_origin=CMU), small_tensors())
    assert main("trainer", "", TRAINER, ["info", str(path), "--json", str(tmp_path / "info.json")]) == 0
    assert "backbone imported: source OpenPose of CMU" in capsys.readouterr().out
    about = json.loads((tmp_path / "info.json").read_text())
    assert about["checkpoint"]["backbone_origin"] == CMU and about["fault"] is None
