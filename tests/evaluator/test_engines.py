"""An exported network finds what its checkpoint finds, without MindSpore and without what only Unix has."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from calibration_data import write_calibratable
from evaluator_data import write_annotations
from exported_data import NOISE_OPTIONS, export, save_network, write_photo

from evaluator import Predictor
from evaluator.__main__ import COMMANDS
from evaluator.decoding import DecodeConfig
from evaluator.export.comparison import TOLERANCE
from evaluator.inference.config import InferConfig
from evaluator.inference.decoder_options import DecodeOptions
from evaluator.inference.engines import load_engine
from evaluator.inference.exported import ExportedNetwork
from evaluator.inference.scoring import calibration_of
from evaluator.inference.tuned import decoding_of
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.skeletons import COCO18
from pipeline.storage.files import file_facts, write_json
from trainer.device import DeviceConfig
from trainer.run.load import load_network

ROOT = Path(__file__).parents[2]
SIZES = [(150, 99), (99, 150), (128, 128), (200, 90), (150, 99), (150, 99)]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """(checkpoint, exported network)"""
    folder = tmp_path_factory.mktemp("network")
    saved = save_network(folder)
    return saved, export(saved, folder / "network.onnx")


@pytest.fixture(scope="module")
def photos(network, tmp_path_factory):
    """A folder of photos, and an annotation file that says that the checkpoint is right about most joints of some people."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    predictor = Predictor(network[0], decoding=DecodeConfig(noise_factor=0), min_score=0)
    rng, images, people = np.random.default_rng(0), {}, []
    for number, size in enumerate(SIZES, start=1):
        pixels = write_photo(folder / "images" / f"{number}.png", seed=number, size=size)
        images[number] = f"{number}.png", *size
        for person in predictor(pixels).people[:4]:
            points = person.keypoints[COCO18.source_indices].astype(float)
            points[:, 2] = 2 * (points[:, 2] > 0)
            points[:, :2] += rng.normal(0, rng.uniform(0, 6), (len(points), 2)) * (points[:, 2:] > 0)
            people.append((number, points))
    write_annotations(folder / "annotations.json", images, people)
    return folder


def command(*words):
    return main("python -m evaluator", "", COMMANDS, list(map(str, words)))


def elsewhere(*words, cwd=ROOT):
    """Run a command as on Windows without MindSpore."""
    script = ROOT / "tests" / "support" / "elsewhere.py"
    words = [sys.executable, str(script), "evaluator", *map(str, words)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=cwd, env={"PYTHONPATH": str(ROOT), "PATH": ""})
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return done.stdout


def test_fields_equal_those_of_the_checkpoint(network):
    checkpoint, exported = load_network(network[0]), ExportedNetwork(network[1])
    for shape in ((1, 64, 64, 3), (3, 40, 24, 3)):
        images = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
        for found, expected in zip(exported.fields(images), checkpoint.fields(images), strict=True):
            assert found.dtype == np.float32 and np.abs(expected).max() > 0.1
            np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    assert (exported.insize, exported.stride_px, exported.skeleton) == (64, 8, COCO18)
    assert (exported.info.step, exported.info.epoch) == (7, 1) and exported.decoding == DecodeConfig(noise_factor=0)


def test_average_precision_equals_that_of_the_checkpoint(network, photos, tmp_path):
    """The exported one is evaluated where neither MindSpore nor fcntl can be imported."""
    options = ("--annotations", photos / "annotations.json", "--images", photos / "images")
    assert command("run", "--checkpoint", network[0], *options, *NOISE_OPTIONS, "--out", tmp_path / "a") == 0
    elsewhere("run", "--checkpoint", network[1], *options, "--out", tmp_path / "b")
    a, b = (json.loads((tmp_path / name / "metrics.json").read_text())["figures"] for name in "ab")
    assert 0.2 < a["AP"] < 0.98, "a bound would prove nothing"
    assert all(abs(a[name] - b[name]) < 1e-3 for name in a)
    identity = json.loads((tmp_path / "b" / "evaluation.json").read_text())
    assert identity["noise_factor"] == 0 and identity["step"] == 7, "the settings in the file"


def test_people_equal_those_of_the_checkpoint_without_mindspore(network, photos, tmp_path):
    options = ("--min-score", 0, "--openpose-json")
    (tmp_path / "list.txt").write_text(f"{photos / 'images' / '1.png'}\n\n{photos / 'images' / '2.png'}\n")
    said = elsewhere(
        "predict", "--checkpoint", network[1], *options, "--out", tmp_path / "b", f"@{tmp_path / 'list.txt'}", photos / "images"
    )
    assert "step 7, epoch 1" in said and f"to {tmp_path / 'b'}" in said
    names = [photos / "images" / "1.png", photos / "images" / "2.png", photos / "images"]
    words = ("predict", "--checkpoint", network[0], *options, *NOISE_OPTIONS, "--out", tmp_path / "a", *names)
    assert command(*words) == 0
    a, b = (json.loads((tmp_path / name / "results.json").read_text()) for name in "ab")
    assert len(a) == len(b) > 10
    for ours, theirs in zip(a, b, strict=True):
        assert ours["image_id"] == theirs["image_id"] and ours["score"] == pytest.approx(theirs["score"], abs=1e-3)
        np.testing.assert_allclose(ours["keypoints"], theirs["keypoints"], atol=0.11)


def test_scores_of_an_exported_network_can_be_calibrated(network, tmp_path, capsys):
    folder, out = write_calibratable(tmp_path / "set"), tmp_path / "calibrated.onnx"
    identity = json.loads((folder / "ap" / "evaluation.json").read_text())
    write_json(folder / "ap" / "evaluation.json", {**identity, "checkpoint": file_facts(network[1])["sha256"]})
    words = ("calibrate", "--evaluation", folder / "ap", "--annotations", folder / "annotations.json", "--checkpoint", network[1])
    assert command(*words, "--out", tmp_path / "wrong.safetensors") == 1
    assert "the name of an exported network ends in .onnx" in capsys.readouterr().err
    assert command(*words, "--out", out) == 0
    calibrated, before = ExportedNetwork(out), ExportedNetwork(network[1])
    calibration = calibration_of(calibrated)
    assert calibration is not None and calibration.num_people == 120 and calibration_of(before) is None
    assert (calibrated.decoding, calibrated.skeleton, calibrated.insize) == (before.decoding, before.skeleton, before.insize)
    images = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for found, expected in zip(calibrated.fields(images), before.fields(images), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_augmentation_works_with_an_exported_network(network, photos):
    options = {"scales": (0.5, 1, 1.5), "mirror": True, "min_score": 0}
    image = photos / "images" / "1.png"
    a = Predictor(network[0], **options, decoding=DecodeConfig(noise_factor=0))(image)
    b = Predictor(network[1], **options)(image)
    assert len(a.people) == len(b.people) > 1
    np.testing.assert_allclose(a.keypoints, b.keypoints, atol=0.11)


def test_a_network_with_a_fixed_size_shrinks_what_does_not_fit(network, photos, tmp_path):
    exported = export(network[0], tmp_path / "fixed.onnx", "--height", 64, "--width", 96, "--batch-size", 2)
    shapes, predictor = [], Predictor(exported, min_score=0)
    compute = predictor.network.fields
    predictor.network.fields = lambda images: shapes.append(images.shape) or compute(images)
    found = predictor([photos / "images" / f"{number}.png" for number in range(1, 7)])
    assert {shape[1:] for shape in shapes} == {(64, 96, 3)} and all(len(prediction.people) for prediction in found)
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 96, 3), dtype=np.uint8)  # one and a half batches
    for found, expected in zip(compute(images), ExportedNetwork(network[1]).fields(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    wide, size = predictor(photos / "images" / "1.png"), predictor._augmented.sizes((150, 99))
    assert size == (((96, 63), (96, 64)),) and wide.size_wh == (150, 99) and wide.keypoints[..., 0].max() > 96
    with pytest.raises(UserError, match="--scales: the exported network has a fixed input size"):
        Predictor(exported, scales=(1, 2))


def test_settings_left_at_their_defaults_are_those_in_the_file(network):
    exported, given = decoding_of(ExportedNetwork(network[1])), DecodeOptions(peak_threshold=0.2)
    assert given.over(exported) == DecodeConfig(peak_threshold=0.2, noise_factor=0)
    assert given.over(decoding_of(load_network(network[0]))) == DecodeConfig(peak_threshold=0.2)
    usual = DecodeOptions(**vars(DecodeConfig()))  # given, although it is the usual one
    assert usual.over(exported) == DecodeConfig()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "not an ONNX file, or damaged"),
        (lambda path: path.write_bytes(b"text"), "not an ONNX file, or damaged"),
        (lambda path: path.write_bytes(b""), "not an ONNX file, or damaged|another project"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: rewrite(path, format=None), "an ONNX file of another project"),
        (lambda path: rewrite(path, version="99"), "version 99 of the format, expected 2"),
        (lambda path: rewrite(path, skeleton="{"), "skeleton: not JSON"),
        (lambda path: rewrite(path, stride_px='"x"'), "stride_px: expected an integer"),
        (lambda path: rewrite(path, insize=None), "missing required field `insize`"),
        (lambda path: rewrite(path, decoding='{"peak_threshold": 7}'), "decoding: .*peak_threshold must be in"),
        (lambda path: rewrite(path, skeleton=without_a_limb(path)), "expected the input images .* 19 and 36 channels"),
    ],
)
def test_a_file_that_is_no_exported_network_is_named(network, tmp_path, change, message):
    path = Path(shutil.copy(network[1], tmp_path / "network.onnx"))
    change(path)
    with pytest.raises(UserError, match=rf"network {path}: .*{message}|network {path}: {message}"):
        Predictor(path)


def rewrite(path, **properties):
    model = onnx.load(str(path))
    entries = {entry.key: entry.value for entry in model.metadata_props} | properties
    onnx.helper.set_model_props(model, {name: value for name, value in entries.items() if value is not None})
    onnx.save(model, str(path))


def without_a_limb(path):
    about = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    skeleton = json.loads(about["skeleton"])
    skeleton["limbs"].pop()
    return json.dumps(skeleton)


def test_options_of_another_engine_are_refused(network):
    for device, inference, message in (
        (DeviceConfig(device_target="Ascend"), InferConfig(), "--device-target Ascend: ONNX Runtime runs"),
        (DeviceConfig(), InferConfig(precision="O2"), "--precision: .* give the option to `export`"),
        (DeviceConfig(), InferConfig(raw_weights=True), "--raw-weights: "),
    ):
        with pytest.raises(UserError, match=message):
            load_engine(network[1], device, inference)


def test_a_checkpoint_without_mindspore_is_an_error_that_says_what_runs(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "mindspore", None)
    with pytest.raises(UserError, match=r"needs MindSpore, which is not installed; .* export --format ONNX"):
        Predictor(network[0])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="needs ONNX Runtime: pip install onnxruntime"):
        Predictor(network[1])
