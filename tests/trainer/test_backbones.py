"""Backbones trained on ImageNet: every naming scheme gives the original's features; other files are refused by name."""

import mindspore as ms
import numpy as np
import original_networks as originals
import pytest
from trainer_data import make_records, train

from pipeline.cli import as_options, main, parse
from pipeline.errors import UserError
from pipeline.records.manifest import read_manifest
from trainer.__main__ import COMMANDS
from trainer.config import TrainConfig
from trainer.loop.state import State
from trainer.networks import lightweight, openpose
from trainer.run.checkpoint import read_newest
from trainer.run.load import load_tensors
from trainer.weights import layouts
from trainer.weights.backbone import read_backbone
from trainer.weights.layouts import vgg

MOBILENET = originals.Lightweight.widths
KINDS = {  # name: (architecture, original's features of x, prefix of its tensors)
    "VGG19": ("openpose", lambda net, x: originals.vgg(net, x, originals.VGG19, "")),
    "VGG16": ("openpose", lambda net, x: originals.vgg(net, x, originals.VGG16, "")),
    "VGG19 of PyTorch with normalization": ("openpose", lambda net, x: originals.vgg(net, x, originals.VGG19, "", norm="torch")),
    "VGG16 of PyTorch with normalization": ("openpose", lambda net, x: originals.vgg(net, x, originals.VGG16, "", norm="torch")),
    "VGG19 of MindSpore with normalization": ("openpose", lambda net, x: originals.vgg(net, x, originals.VGG19, "", norm="mindspore")),
    "MobileNet of PyTorch": (
        "lightweight", lambda net, x: originals.mobilenet(net, x, MOBILENET, "model.0.0", "model.0.1", "model.{}.{}"),
    ),
    "MobileNet of MindCV": ("lightweight", lambda net, x: mindcv_mobilenet(net, x)),
}  # fmt: skip


def mindcv_mobilenet(net, x):
    """mindcv/models/mobilenet_v1.py: `features` holds convolution, normalization, ReLU, then the separable convolutions."""
    shifted = type("Shifted", (), {"format": lambda _, number, place: f"features.{number + 2}.{place}"})()
    return originals.mobilenet(net, x, MOBILENET, "features.0", "features.1", shifted, torch=False)


def make(kind: str, *, prefix: str | None = None):
    """Return an original with random tensors, an input and its features."""
    _, features = KINDS[kind]
    net = originals.Original(seed=2, prefix=("features." if "VGG" in kind else "") if prefix is None else prefix)
    x = np.random.default_rng(3).normal(size=(3, 16, 24))
    return net, x, features(net, x)


def build(architecture: str, tensors):
    widths = MOBILENET if architecture == "lightweight" else tuple(len(tensors[f"layers.{place}.bias"]) for place in vgg.PLACES)
    network = {"lightweight": lightweight, "openpose": openpose}[architecture].Backbone(widths).set_train(False)
    load_tensors(network.parameters_dict(), tensors, prefix="", source="backbone")
    return network


def save(path, tensors, extra=("classifier.0.weight",)):
    np.savez(path, **tensors, **dict.fromkeys(extra, np.zeros((2, 2), np.float32)))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_the_features_are_those_of_the_original(tmp_path, kind):
    architecture = KINDS[kind][0]
    net, x, expected = make(kind)
    found = read_backbone(save(tmp_path / "weights.npz", net.tensors), architecture, "--backbone-path")
    assert found.unused == ("classifier.0.weight",)
    features = build(architecture, found.tensors)(ms.Tensor(x[None].astype(np.float32))).asnumpy()[0]
    assert np.abs(features - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("prefix", vgg.PREFIXES)
def test_every_naming_scheme_of_vgg_fills_the_whole_backbone(tmp_path, prefix):
    net, *_ = make("VGG19", prefix=prefix)
    weights = [{"name": name, "data": ms.Tensor(value)} for name, value in net.tensors.items()]
    ms.save_checkpoint(weights, str(tmp_path / "vgg.ckpt"))
    found = read_backbone(tmp_path / "vgg.ckpt", "openpose-2019", "--vgg-path").tensors
    assert found.keys() == {f"layers.{place}.{kind}" for place in vgg.PLACES for kind in ("weight", "bias")}
    for name, value in net.tensors.items():
        np.testing.assert_array_equal(found[f"layers.{name.removeprefix(prefix)}"], value)


def test_missing_biases_are_zero(tmp_path):
    net, *_ = make("VGG19")
    tensors = {name: value for name, value in net.tensors.items() if not name.endswith("bias")}
    found = read_backbone(save(tmp_path / "vgg.npz", tensors), "openpose", "--vgg-path").tensors
    assert all(not found[f"layers.{place}.bias"].any() for place in vgg.PLACES) and len(found) == 20


@pytest.mark.parametrize(
    ("kind", "lost"),
    [
        ("VGG19", "features.12.weight"),
        ("VGG19 of MindSpore with normalization", "features.18.moving_variance"),
        ("MobileNet of MindCV", "features.5.3.weight"),
        ("MobileNet of PyTorch", "model.7.1.running_mean"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path, kind, lost):
    net, *_ = make(kind)
    if lost.endswith("moving_variance"):
        lost = lost.replace("moving_variance", "running_var")  # the last name that was tried
        del net.tensors["features.18.moving_variance"]
    else:
        del net.tensors[lost]
    with pytest.raises(UserError, match=rf"--backbone-path .*tensor {lost} is missing"):
        read_backbone(save(tmp_path / "vgg.npz", net.tensors), KINDS[kind][0], "--backbone-path")


@pytest.mark.parametrize("kind", ["VGG16", "MobileNet of MindCV"])
def test_an_imported_backbone_is_the_same(tmp_path, capsys, kind):
    architecture = KINDS[kind][0]
    path, out = save(tmp_path / "weights.npz", make(kind)[0].tensors), tmp_path / "new" / "backbone.safetensors"
    assert main("trainer", "", COMMANDS, ["import", str(path), "--out", str(out)]) == 0
    assert "--backbone-path" in capsys.readouterr().out
    original, imported = (read_backbone(file, architecture, "--backbone-path").tensors for file in (path, out))
    assert original.keys() == imported.keys()
    for name, tensor in original.items():
        np.testing.assert_array_equal(imported[name], tensor)


def test_other_files_are_refused(tmp_path):
    vgg19, mobilenet = (save(tmp_path / f"{kind[:3]}.npz", make(kind)[0].tensors) for kind in ("VGG19", "MobileNet of MindCV"))
    for path, architecture, message in (
        (vgg19, "lightweight", "VGG, trained on ImageNet fits architecture openpose and openpose-2019, not lightweight"),
        (mobilenet, "openpose", "MobileNet v1, trained on ImageNet fits architecture lightweight, not openpose"),
        (
            save(tmp_path / "other.npz", {"backbone.0.weight": np.zeros((2, 2))}),
            "openpose",
            "backbone.0.weight.*no known network",
        ),
        (tmp_path / "absent.ckpt", "openpose", "No such file"),
    ):
        with pytest.raises(UserError, match=f"--backbone-path {path}: .*{message}"):
            read_backbone(path, architecture, "--backbone-path")
    pose = originals.Lightweight(seed=0)
    pose.stages(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="whole pose network"):
        read_backbone(save(tmp_path / "pose.npz", pose.tensors), "lightweight", "--backbone-path")


def test_damaged_tensors_are_refused_by_name():
    for kind in ("VGG19", "MobileNet of PyTorch", "VGG16 of PyTorch with normalization"):
        tensors = make(kind)[0].tensors
        name = next(name for name in tensors if name.endswith(("0.bias", "0.1.bias")))
        for bad in (tensors[name][None], tensors[name].astype("U3"), np.zeros(0, np.float32)):
            with pytest.raises(UserError, match=name):
                layouts.convert(tensors | {name: bad})
        with pytest.raises(UserError, match="not finite"):
            layouts.convert(tensors | {name: tensors[name] * np.float32(np.nan)})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backbone-path", "a.pth", "--vgg-path", "b.pth"), "backbone_path and vgg_path are the same option"),
        (("--backbone-path", "a.pth", "--residual", "--backbone-channels", "4", "4", "4"), "no published weights fit a residual"),
    ],
)
def test_backbone_options_that_cannot_be_used_are_refused(tmp_path, capsys, words, message):
    with pytest.raises(SystemExit):
        train(tmp_path / "records", tmp_path / "run", *(("--no-residual",) if "--residual" not in words else ()), *words)
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.long
def test_training_starts_with_the_backbone_of_a_published_file(tmp_path, capsys):
    records = make_records(tmp_path, num_images=4, variants=1)
    path = save(tmp_path / "mobilenet.pth.npz", make("MobileNet of PyTorch")[0].tensors)
    shape = {
        "architecture": "lightweight",
        "backbone_channels": MOBILENET,
        "neck_channels": (4,),
        "kernel_size": 7,
        "num_stages": 1,
    }
    words = [
        "--no-residual",
        *as_options(shape),
        "--backbone-path",
        str(path),
        "--max-steps",
        "1",
        "--freeze-backbone-steps",
        "5",
    ]
    assert train(records, tmp_path / "run", *words) == 0
    assert f"backbone loaded from {path} (MobileNet v1, trained on ImageNet)" in capsys.readouterr().out
    tensors = read_newest(tmp_path / "run")[2]
    for name, tensor in read_backbone(path, "lightweight", "--backbone-path").tensors.items():
        if not name.endswith(("moving_mean", "moving_variance")):  # which follow the batches, also while it is frozen
            np.testing.assert_array_equal(tensors[f"network.backbone.{name}"], tensor)


def test_the_schedule_of_lightweight_without_its_backbone_is_a_warning(tmp_path):
    records = make_records(tmp_path, num_images=2, variants=1)
    shape = as_options({"backbone_channels": MOBILENET, "neck_channels": (4,), "stage_channels": 4, "stage1_hidden_channels": 4})
    words = ["--records", str(records), "--out", str(tmp_path / "run"), "--preset", "lightweight", *shape]
    path = save(tmp_path / "mobilenet.npz", make("MobileNet of MindCV")[0].tensors)
    for more, warned in (((), True), (("--lr", "0.01"), False), (("--backbone-path", str(path)), False)):
        config = parse(TrainConfig, [*words, *more], prog="train")
        notes = State(config, read_manifest(records)).notes
        assert any("use --backbone-path, or raise --lr" in note for note in notes) == warned
