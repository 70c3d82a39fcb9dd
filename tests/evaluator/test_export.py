"""Exported networks return the fields of the checkpoint in ONNX Runtime and MindSpore, and contain their metadata."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import mindspore as ms
import numpy as np
import onnx
import onnxruntime
import pytest
from calibration_data import CALIBRATION
from exported_data import randomize
from mindspore import nn
from trainer_data import TINY, make_info

from evaluator.__main__ import COMMANDS
from evaluator.decoding import DecodeConfig
from evaluator.decoding.scores import score_map
from evaluator.export import export, operators
from evaluator.export.comparison import ROUNDED_TOLERANCE, TOLERANCE, Comparison
from evaluator.export.config import ExportConfig
from evaluator.inference.augmentation import image_fields
from evaluator.inference.exported import ExportedNetwork
from evaluator.inference.fields import find_people
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.images import PADDING_GRAY
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18
from trainer.networks.config import NetworkConfig
from trainer.networks.cpu_convolution import Convolution
from trainer.networks.inference import LastStage, build
from trainer.run import checkpoint
from trainer.run.load import LoadedNetwork, load_network

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "evaluator" / "export" / "find_people.py"
SMALL = {"num_stages": 2, "stage_channels": 8, "stage1_hidden_channels": 8}
NETWORKS = {
    "plain": TINY,
    "residual": NetworkConfig(
        residual=True, backbone_channels=(4, 6, 8, 8, 8), context_channels=(6, 8), neck_channels=(8, 4), kernel_size=3, **SMALL
    ),
    # PReLU, concatenation of three tensors, PAFs that are an output and the input of the heatmap stages.
    "openpose-2019": NetworkConfig(
        architecture="openpose-2019",
        backbone_channels=(4,) * 10,
        neck_channels=(8, 4),
        num_paf_stages=1,
        hidden_channels=8,
        **SMALL,
    ),
    # ELU, depthwise and dilated convolutions.
    "lightweight": NetworkConfig(architecture="lightweight", backbone_channels=(4,) * 12, neck_channels=(8,), **SMALL),
}


def command(*words):
    return main("python -m evaluator", "", COMMANDS, list(map(str, words)))


@pytest.fixture(scope="module", params=["plain", "residual"])
def saved(request, tmp_path_factory):
    """A checkpoint of one of NETWORKS with random weights."""
    config = NETWORKS[request.param]
    network = build(config, COCO18)
    randomize(network)
    path = tmp_path_factory.mktemp(request.param) / "step-00000007.safetensors"
    tensors = {checkpoint.NETWORK + name: p.asnumpy() for name, p in network.parameters_dict().items()}
    checkpoint.save_checkpoint(path, make_info(network=dataclasses.asdict(config), calibration=CALIBRATION), tensors)
    return path


def images_of(*shape):
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def assert_same_fields(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert np.abs(b).max() > 0.1, "fields near zero would prove nothing"
        np.testing.assert_allclose(a, b, atol=TOLERANCE, rtol=0)


def test_a_checkpoint_that_describes_other_pixels_than_its_network_is_refused(tmp_path, saved):
    """Otherwise the metadata of the export would tell other programs to normalize in another way."""
    info, tensors = checkpoint.read_checkpoint(saved)
    info.normalization["std"] = [1.0, 1.0, 1.0]
    checkpoint.save_checkpoint(tmp_path / "c.safetensors", info, tensors)
    with pytest.raises(UserError, match=r"c.safetensors: normalization: std is \[1.0, 1.0, 1.0\], but its network has \["):
        load_network(tmp_path / "c.safetensors")


@pytest.mark.parametrize("saved", NETWORKS, indirect=True)
@pytest.mark.slow
def test_dynamic_onnx_agrees_with_the_checkpoint_and_contains_metadata(tmp_path, saved, capsys):
    out = tmp_path / "new" / "openpose.onnx"
    assert command("export", "--checkpoint", saved, "--format", "ONNX", "--out", out) == 0
    assert [file.name for file in out.parent.iterdir()] == ["openpose.onnx"]
    assert "any x any x any x 3" in capsys.readouterr().out
    session, network = onnxruntime.InferenceSession(str(out)), load_network(saved)
    for shape in ((1, 64, 64, 3), (1, 8, 48, 3), (3, 40, 24, 3)):
        images = images_of(*shape)
        assert_same_fields(session.run(["heatmaps", "pafs"], {"images": images}), network.fields(images))
    about = session.get_modelmeta().custom_metadata_map
    assert Skeleton.from_dict(json.loads(about["skeleton"])) == COCO18
    assert (about["stride_px"], about["insize"], about["padding_gray"]) == ("8", "64", str(PADDING_GRAY))
    assert json.loads(about["normalization"])["mean"] == list(NetworkConfig().pixel_mean)
    assert DecodeConfig(**json.loads(about["decoding"])) == DecodeConfig()
    assert json.loads(about["calibration"]) == CALIBRATION


def test_onnx_with_a_fixed_size_rejects_other_sizes(tmp_path, saved):
    out = tmp_path / "o.onnx"
    words = ("--checkpoint", saved, "--format", "ONNX", "--out", out, "--height", 48, "--width", 64, "--batch-size", 2)
    words += ("--peak-threshold", 0.25)
    assert command("export", *words) == 0
    session, images = onnxruntime.InferenceSession(str(out)), images_of(2, 48, 64, 3)
    assert session.get_inputs()[0].shape == [2, 48, 64, 3]
    assert [value.shape for value in session.get_outputs()] == [[2, 19, 6, 8], [2, 38, 6, 8]]
    assert_same_fields(session.run(None, {"images": images}), load_network(saved).fields(images))
    assert json.loads(session.get_modelmeta().custom_metadata_map["decoding"])["peak_threshold"] == 0.25
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(None, {"images": images[:1]})


@pytest.mark.parametrize(("saved", "sides"), [("plain", ("--height", 48, "--width", 64)), ("residual", ())], indirect=["saved"])
@pytest.mark.slow
def test_mindir_is_loaded_by_mindspore(tmp_path, saved, sides):
    out = tmp_path / "o.mindir"
    assert command("export", "--checkpoint", saved, "--format", "MINDIR", "--out", out, *sides) == 0
    cell, images = nn.GraphCell(ms.load(str(out))), images_of(2, 48, 64, 3)
    assert_same_fields([fields.asnumpy() for fields in cell(ms.Tensor(images))], load_network(saved).fields(images))
    about = json.loads((tmp_path / "o.mindir.json").read_text())
    assert about["skeleton"]["name"] == "coco18" and about["stride_px"] == 8
    assert about["input"]["shape"] == ([None, 48, 64, 3] if sides else [None] * 3 + [3])


def test_replaced_layers_are_equivalent_and_restored():
    network = build(NETWORKS["lightweight"], COCO18)
    layers = [cell for _, cell in network.cells_and_names()]
    assert any(isinstance(cell, nn.ELU) for cell in layers)
    x = ms.Tensor(np.linspace(-30, 30, 601, dtype=np.float32))
    np.testing.assert_allclose(operators.PrimitiveELU()(x).asnumpy(), nn.ELU()(x).asnumpy(), atol=1e-6)
    with pytest.raises(KeyboardInterrupt), operators.exportable(network):
        assert not any(isinstance(cell, nn.ELU) for _, cell in network.cells_and_names())
        raise KeyboardInterrupt
    assert [id(cell) for _, cell in network.cells_and_names()] == [id(cell) for cell in layers]


@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_an_export_that_differs_from_the_checkpoint_is_not_written(tmp_path, saved, monkeypatch, capsys):
    other = build(TINY, COCO18)
    monkeypatch.setattr(export, "_cell", lambda network: LastStage(other))
    assert command("export", "--checkpoint", saved, "--format", "ONNX", "--out", tmp_path / "o.onnx") == 1
    assert "heatmaps of the exported network differ from the checkpoint's by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class RoundingConvolution(Convolution):
    """Rounds its input to the 10 bits of mantissa that HF32 and float16 have, by Veltkamp's splitting (Dekker 1971)."""

    def construct(self, x):
        scaled = x * 8193.0  # 2^13 + 1, which splits off the lower 13 of 23 bits
        y = self.conv2d(scaled - (scaled - x), self.weight)
        return self.bias_add(y, self.bias) if self.has_bias else y


@pytest.fixture
def rounding_device(saved, monkeypatch):
    """The network of `saved` on a device that rounds. In this process alone, networks and MINDIR files run on it."""
    network = load_network(saved).network
    for _, cell in network.cells_and_names():
        if isinstance(cell, Convolution):
            cell.__class__ = RoundingConvolution
    device = LastStage(network)
    monkeypatch.setattr(export, "choose_device", lambda config: "Ascend")
    monkeypatch.setattr(LoadedNetwork, "fields", lambda self, images: device.fields(images))
    monkeypatch.setattr(nn, "GraphCell", lambda graph: device)
    return device


@pytest.mark.slow
@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_a_device_that_rounds_does_not_fail_an_export(tmp_path, saved, rounding_device, capsys):
    """The reference comes from a CPU, on which ONNX Runtime computes too; what runs on the device has a wider tolerance."""
    for file_format, device, least, most in (("ONNX", "CPU", 0, TOLERANCE), ("MINDIR", "Ascend", TOLERANCE, ROUNDED_TOLERANCE)):
        assert command("export", "--checkpoint", saved, "--format", file_format, "--out", tmp_path / file_format) == 0
        found = re.search(r"on the device (\w+) .* by at most (\S+) \(allowed: (\S+)\)", capsys.readouterr().out)
        assert found is not None and (found[1], float(found[3])) == (device, most)
        assert least <= float(found[2]) <= most


@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_a_wrong_network_fails_the_export_on_a_device_that_rounds(tmp_path, saved, monkeypatch, capsys):
    reference = load_network(saved)
    monkeypatch.setattr(export, "choose_device", lambda config: "Ascend")
    monkeypatch.setattr(Comparison, "_reference", lambda self, inputs: [reference.fields(images) for images in inputs])
    wrong = build(TINY, COCO18)
    for parameter, right in zip(wrong.get_parameters(), reference.network.get_parameters(), strict=True):
        parameter.set_data(ms.Tensor(right.asnumpy() * np.float32(0.99)))
    monkeypatch.setattr(export, "_cell", lambda network: LastStage(wrong))
    for file_format in ("ONNX", "MINDIR"):
        assert command("export", "--checkpoint", saved, "--format", file_format, "--out", tmp_path / "o") == 1
        assert "heatmaps of the exported network differ from the checkpoint's by" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(("saved", "file_format"), [("plain", "ONNX"), ("residual", "MINDIR")], indirect=["saved"])
def test_a_float16_network_is_compared_with_float32(tmp_path, saved, file_format, capsys):
    words = ("--checkpoint", saved, "--format", file_format, "--out", tmp_path / "o", "--precision", "O2")
    assert command("export", *words) == 0
    found = re.search(r"by at most (\S+) \(allowed: 0.01\)", capsys.readouterr().out)
    assert found is not None and 1e-5 < float(found[1]) < ROUNDED_TOLERANCE


@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_errors_are_named_and_leave_no_files(tmp_path, saved, capsys):
    def error_of(*words):
        assert command("export", "--checkpoint", saved, *words) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    existing = tmp_path / "existing.mindir"
    existing.touch()
    assert "already exists" in error_of("--format", "MINDIR", "--out", existing)
    assert "multiple of the network's stride 8, got 60" in error_of("--format", "ONNX", "--out", tmp_path / "o", "--width", 60)
    sides = ("--height", 64, "--width", 64, "--batch-size", 1)
    error = error_of("--format", "AIR", "--out", tmp_path / "o.air", *sides)
    assert "warning: AIR is deprecated by MindSpore; use --format MINDIR" in error and "on Ascend devices only" in error
    with pytest.raises(SystemExit):
        command("export", "--checkpoint", saved, "--format", "AIR", "--out", tmp_path / "o.air")
    assert "AIR needs a fixed input size" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert [file.name for file in tmp_path.iterdir()] == ["existing.mindir"]


@pytest.mark.parametrize(("option", "limit"), [("height", 8192), ("width", 8192), ("batch_size", 1024)])
@pytest.mark.parametrize("value", [0, 800_000])
def test_sizes_out_of_range_are_rejected(option, limit, value):
    with pytest.raises(ValueError, match=f"{option} must be from 1 to {limit}, got {value}"):
        ExportConfig(checkpoint=Path("c"), format="ONNX", out=Path("o"), **{option: value})


@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_a_lack_of_space_or_memory_is_named(tmp_path, saved, monkeypatch, capsys):
    def too_large(*_args, **_options):
        raise MemoryError

    words = ("export", "--checkpoint", saved, "--format", "ONNX", "--out", tmp_path / "o.onnx")
    for write, message in ((lambda *_args, **_options: None, "probably for lack of space"), (too_large, "not enough memory")):
        monkeypatch.setattr(ms.onnx, "export", write)  # MindSpore's does not raise if the disk is full
        assert command(*words) == 1
        assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_diverged_network_is_named():
    network = SimpleNamespace(path=Path("c.safetensors"), stride_px=8, fields=lambda images: [np.full(3, np.nan)] * 2)
    config = ExportConfig(checkpoint=network.path, format="ONNX", out=Path("o"))
    comparison = Comparison(network=network, config=config, device="CPU")
    with pytest.raises(UserError, match=r"heatmaps of checkpoint c.safetensors .* the network has diverged"):
        comparison.require_same(network.fields)


def test_a_missing_onnxruntime_is_named_with_the_command_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime: pip install '\.\[export\]'"):
        export.require_onnx()


@pytest.mark.slow
@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_the_example_finds_the_same_people_as_the_evaluator_without_mindspore(tmp_path, saved):
    run = f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    blocked = f"import sys, runpy; sys.modules['mindspore'] = None; sys.argv = sys.argv[1:]; {run}"
    out, picture = tmp_path / "o.onnx", tmp_path / "picture.png"
    assert command("export", "--checkpoint", saved, "--format", "ONNX", "--out", out) == 0
    # Fields of random weights are noise, in which the default settings find no peaks. The example uses the settings in the file.
    decoding, model = DecodeConfig(noise_factor=0), onnx.load(str(out))
    image = cv2.resize(images_of(9, 11, 3), (150, 99), interpolation=cv2.INTER_CUBIC)
    people = find_people(image_fields(load_network(saved), image), COCO18, decoding)
    middle = float(np.median(people.scores)) - 0.01
    knots = [[0, 0.01], [middle, 0.5], [middle + 50, 0.9]]  # half of the people are more probably right than wrong
    texts = {"decoding": dataclasses.asdict(decoding), "calibration": {**CALIBRATION, "knots": knots}}
    onnx.helper.set_model_props(model, _properties(model) | {name: json.dumps(text) for name, text in texts.items()})
    onnx.save(model, str(out))
    cv2.imwrite(str(picture), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    done = subprocess.run(
        [sys.executable, "-c", blocked, EXAMPLE, out, picture], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *lines, total = done.stdout.splitlines()
    scores = score_map(COCO18, knots)(people.scores)
    count = int((scores >= 0.5).sum())
    assert 0 < count < len(people) and total == f"people: {count} with a score of at least 0.5; picture-people.jpg"
    for line, person, score in zip(lines, people.keypoints[:count], scores[:count], strict=True):
        text, joints = line.split(" ", 1)
        assert float(text) == pytest.approx(float(score), abs=2e-3)
        joints = ast.literal_eval(joints)
        assert set(joints) == {COCO18.joints[j] for j in np.flatnonzero(person[:, 2])}
        for name, place in joints.items():
            # The evaluator clips joints to the image.
            np.testing.assert_allclose(np.clip(place, 0, (149, 98)), person[COCO18.index(name), :2], atol=0.11)


@pytest.mark.slow
@pytest.mark.parametrize("saved", ["plain"], indirect=True)
def test_the_example_names_a_missing_image_and_shows_its_usage(tmp_path, saved):
    out = tmp_path / "o.onnx"
    assert command("export", "--checkpoint", saved, "--format", "ONNX", "--out", out) == 0
    for words, message in (([], "python find_people.py model.onnx photo.jpg"), ([out, "no.jpg"], "no.jpg: no such file")):
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), *map(str, words)], capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


def _properties(model):
    return {entry.key: entry.value for entry in model.metadata_props}


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", ROUNDED_TOLERANCE), ("int8", 0.5)])
def test_smaller_numbers_keep_the_fields(tmp_path, saved, kind, tolerance, capsys):
    pictures, options = tmp_path / "pictures", ["--quantize", kind]
    pictures.mkdir()
    for number in range(4):
        cv2.imwrite(str(pictures / f"{number}.png"), images_of(64 + 8 * number, 72, 3))
    (pictures / "bad.png").write_bytes(b"text")
    if kind == "int8":
        options += ["--calibration-images", pictures]
    out = tmp_path / "o.onnx"
    assert command("export", "--checkpoint", saved, "--format", "ONNX", "--out", out, *options) == 0
    assert ("on 4 images" in capsys.readouterr().out) == (kind == "int8")
    network, checkpoint_network = ExportedNetwork(out), load_network(saved)
    assert network._session.get_modelmeta().custom_metadata_map["quantization"] == kind
    types = {tensor.data_type for tensor in onnx.load(str(out)).graph.initializer}
    assert {"float16": onnx.TensorProto.FLOAT16, "int8": onnx.TensorProto.INT8}[kind] in types
    images = images_of(2, 40, 24, 3)
    for found, expected in zip(network.fields(images), checkpoint_network.fields(images), strict=True):
        assert found.dtype == np.float32 and 0 < np.abs(found - expected).max() < tolerance * max(1, np.abs(expected).max())


def test_options_of_smaller_numbers_are_checked(tmp_path):
    for options, message in (
        ({"format": "MINDIR", "quantize": "float16"}, "only with --format ONNX and --precision O0"),
        ({"format": "ONNX", "precision": "O2", "quantize": "float16"}, "only with --format ONNX and --precision O0"),
        ({"format": "ONNX", "quantize": "int8"}, "int8 needs --calibration-images"),
        ({"format": "ONNX", "calibration_images": tmp_path}, "int8 needs --calibration-images"),
    ):
        with pytest.raises(ValueError, match=message):
            ExportConfig(checkpoint=tmp_path, out=tmp_path / "o", **options)
