"""Published weights: every source gives the fields of the original network; backbones; the command `import`."""

import functools
import json

import mindspore as ms
import numpy as np
import original_networks as originals
import pytest
from safetensors.numpy import save_file
from trainer_data import make_records

from evaluator.__main__ import COMMANDS as EVALUATOR
from pipeline.cli import main, parse
from pipeline.errors import UserError
from pipeline.images import PADDING_GRAY
from pipeline.records.manifest import read_manifest
from pipeline.skeleton import Skeleton
from trainer.__main__ import COMMANDS
from trainer.config import TrainConfig
from trainer.loop.state import State
from trainer.networks.network import Network
from trainer.run.checkpoint import read_info
from trainer.run.load import load_network, load_tensors
from trainer.weights import layouts
from trainer.weights.layouts.conversion import FieldOrder

SOURCES = {
    "model-zoo": (originals.ModelZoo, "model-zoo"),
    "model-zoo with batch normalization": (originals.ModelZooWithNorm, "model-zoo"),
    "lightweight": (originals.Lightweight, "lightweight"),
    "lightweight with 3 refinement stages": (originals.LightweightWithThree, "lightweight"),
    "caffe": (originals.Caffe, "openpose-coco"),
    "pytorch-openpose": (originals.PytorchOpenpose, "openpose-coco"),
    "body25": (originals.Body25, "openpose-body25"),
}
IMAGE = np.random.default_rng(5).integers(0, 256, (24, 40, 3), np.uint8)


@functools.cache
def make(name: str) -> tuple[originals.Original, list]:
    """Return an original network with random tensors, and its stages for IMAGE."""
    original = (originals.SmallCaffe if name == "small caffe" else SOURCES[name][0])(seed=1)
    return original, original.stages(IMAGE)


def build(imported: layouts.Imported) -> Network:
    skeleton = imported.skeleton
    network = Network(imported.network, skeleton.num_heatmaps, skeleton.num_pafs).set_train(False)
    load_tensors(network.parameters_dict(), imported.tensors, prefix="", source="imported")
    return network


def run(*words: object) -> int:
    return main("trainer", "", COMMANDS, [str(word) for word in words])


def save(path, name: str):
    """Write the tensors of an original network to a file of the format of the suffix."""
    tensors = make(name)[0].tensors
    save_file(tensors, path) if path.suffix == ".safetensors" else np.savez(path, **tensors)
    return path


def difference(ours, theirs) -> float:
    """The largest difference, relative to the largest value."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", SOURCES)
def test_the_fields_of_every_stage_are_those_of_the_original(name):
    original, expected = make(name)
    assert [layout for layout, module in layouts.LAYOUTS.items() if module.recognizes(original.tensors)] == [SOURCES[name][1]]
    imported = layouts.convert(original.tensors)
    assert not imported.unused
    outputs = build(imported)(ms.Tensor(IMAGE[None]))
    assert len(outputs) == len(expected)
    for number, (fields, stage) in enumerate(zip(outputs, expected, strict=True)):
        stage = originals.in_our_order(original, *stage, imported.skeleton)
        for kind, ours, theirs in zip(("heatmaps", "pafs"), fields, stage, strict=True):
            assert (ours is None) == (theirs is None)
            if ours is None:
                continue
            ours = ours.asnumpy()[0]
            if name == "pytorch-openpose" and kind == "heatmaps" and number == len(expected) - 1:
                assert ours.min() < 0, "CMU's network has no ReLU behind its heatmaps"
                ours = np.maximum(ours, 0)
            assert difference(ours, theirs) < 1e-5, (number, kind)


def test_padding_with_gray_is_zero_for_the_original_networks():
    for name in ("caffe", "lightweight"):
        imported = layouts.convert(make(name)[0].tensors)
        network, seen = build(imported), []
        network.backbone.construct = lambda x, seen=seen, network=network: (seen.append(x.asnumpy()), x)[1]
        network.neck.construct = lambda x: ms.ops.zeros((1, imported.network.neck_channels[-1], 1, 1))  # noqa: B023
        network(ms.Tensor(np.full((1, 8, 8, 3), PADDING_GRAY, np.uint8)))
        assert not seen[0].any()


def test_channels_are_permuted_by_name():
    skeleton = Skeleton(
        name="s", joints=("a", "b", "c"), limbs=(("a", "b"), ("b", "c")), mirror_pairs=(), source_joints=("a", "b", "c"),
        sigmas=(0.1,) * 3,
    )  # fmt: skip
    order = FieldOrder(joints=("c", "a", "x", "b"), limbs=(("b", "c"), ("c", "x"), ("a", "b")))
    assert order.heatmaps(skeleton).tolist() == [1, 3, 0, 4]
    assert order.pafs(skeleton).tolist() == [4, 5, 0, 1]
    order = FieldOrder(joints=("c", "a", "b"), limbs=(("b", "c"), ("a", "b")))
    # The source's input has 4 PAF channels, 4 heatmaps and 2 features; ours 2 features, 4 heatmaps, 4 PAF channels.
    assert order.inputs(skeleton, ("pafs", "heatmaps", "features"), 2).tolist() == [8, 9, 5, 6, 4, 7, 2, 3, 0, 1]
    assert order.inputs(skeleton, ("features", "pafs"), 2).tolist() == [0, 1, 4, 5, 2, 3]


@pytest.mark.parametrize("name", SOURCES)
def test_a_missing_tensor_is_named(name):
    tensors = make(name)[0].tensors
    lost = [key for key in tensors if key.endswith(".bias")][-1]
    with pytest.raises(UserError, match=lost.split(".", 1)[1].replace(".", r"\.")):
        layouts.convert({key: value for key, value in tensors.items() if key != lost})


@pytest.mark.parametrize(
    ("name", "source"), [("lightweight", "auto"), pytest.param("body25", "openpose-body25", marks=pytest.mark.slow)]
)
def test_import_writes_a_checkpoint_that_other_commands_take(tmp_path, capsys, name, source):
    path, out = save(tmp_path / "weights.safetensors", name), tmp_path / "new" / "imported.safetensors"
    assert run("import", path, "--out", out, "--from", source) == 0
    text = capsys.readouterr().out
    imported = layouts.convert(make(name)[0].tensors)
    for expected in (imported.source.license, imported.source.url, "not measured here", f"skeleton: {imported.skeleton.name}"):
        assert expected in text
    loaded = load_network(out)
    assert loaded.skeleton == imported.skeleton and loaded.insize == 368 and loaded.info.step == 0
    assert loaded.info.normalization == {"channel_order": "bgr", "mean": [128.0] * 3, "std": [256.0] * 3}
    assert loaded.info.origin["license"] == imported.source.license and len(loaded.info.origin["sha256"]) == 64
    heatmaps, pafs = make(name)[1][-1]
    heatmaps, pafs = originals.in_our_order(make(name)[0], heatmaps, pafs, imported.skeleton)
    fields = loaded.fields(IMAGE[None])
    assert difference(fields[0][0], heatmaps) < 1e-5
    assert pafs is None or difference(fields[1][0], pafs) < 1e-5
    assert run("info", out) == 0
    text = capsys.readouterr().out
    assert "channel_order: bgr" in text and f"source {imported.source.name}" in text and "step 0" in text


def test_an_existing_file_is_replaced_only_with_overwrite(tmp_path, capsys):
    path, out = save(tmp_path / "weights.npz", "lightweight"), tmp_path / "out.safetensors"
    out.write_text("mine")
    assert run("import", path, "--out", out) == 1
    assert "exists" in capsys.readouterr().err and out.read_text() == "mine"
    assert run("import", path, "--out", out, "--overwrite") == 0
    assert read_info(out).network["architecture"] == "lightweight"
    assert run("import", path, "--out", tmp_path, "--overwrite") == 1


def test_what_cannot_be_imported_is_named(tmp_path, capsys):
    tensors = make("caffe")[0].tensors
    mpi = {name: tensor[:16] if name.startswith("conv5_5_CPM_L2") else tensor for name, tensor in tensors.items()}
    even = {name: tensor[..., :-1, :-1] if tensor.shape[-2:] == (7, 7) else tensor for name, tensor in tensors.items()}
    wide = dict(tensors)
    wide["conv4_2.weight"] = np.zeros((9000, 1, 3, 3), np.float32)
    wide["conv4_2.bias"] = np.zeros(9000, np.float32)
    for case, words, message in (
        (mpi, (), "conv5_5_CPM_L2.weight has 16 output channels; COCO's 18 joints have 19 heatmaps"),
        (wide, (), "do not fit each other"),
        (even, (), "kernel_size must be odd"),
        ({"hand.weight": np.zeros(3)}, (), "hand.weight) belong to no known network; known are"),
        (tensors, ("--from", "lightweight"), "not MobileNet v1"),
        (tensors, ("--from", "openpose-body25"), "prelu4_2.weight is missing"),
        (tensors, ("--from", "model-zoo"), "not the model zoo's OpenPose"),
        (tensors, ("--from", "vgg"), "not a VGG network"),
    ):
        np.savez(tmp_path / "weights.npz", **case)
        assert run("import", tmp_path / "weights.npz", "--out", tmp_path / "out.safetensors", *words) == 1
        error = capsys.readouterr().err
        assert message in error and str(tmp_path / "weights.npz") in error
        assert not (tmp_path / "out.safetensors").exists()


def test_tensors_that_are_not_used_are_listed(tmp_path, capsys):
    tensors = make("model-zoo")[0].tensors
    moments = {f"moment1.{name}": tensor for name, tensor in tensors.items()}
    save_file(tensors | moments, tmp_path / "zoo.safetensors")
    assert run("import", tmp_path / "zoo.safetensors", "--out", tmp_path / "out.safetensors") == 0
    assert f"not used: {len(moments)} tensors, such as moment1.network.base" in capsys.readouterr().out


def test_training_continues_from_imported_weights_with_their_pixels(tmp_path, capsys):
    records = make_records(tmp_path, num_images=2, variants=1)
    out = tmp_path / "imported.safetensors"
    assert run("import", save(tmp_path / "weights.npz", "small caffe"), "--out", out) == 0
    printed = capsys.readouterr().out.split("train further: python -m trainer train ")[1].split()
    words = [*printed[: printed.index("--records")], "--records", str(records), "--out", str(tmp_path)]
    pixels = words.index("--channel-order")

    def state(words: list[str]) -> State:
        return State(parse(TrainConfig, words, prog="train"), read_manifest(records))

    with pytest.raises(UserError, match=r"add the options --channel-order bgr --pixel-mean 128.0 128.0 128.0 --pixel-std 256.0"):
        state([*words[:pixels], *words[words.index("--records") :]])
    state(words).save({})
    info = read_info(tmp_path / "step-00000000.safetensors")
    assert info.network["channel_order"] == "bgr" and info.normalization["mean"] == [128.0] * 3
    assert info.origin == read_info(out).origin, "the license stays with the weights"
    assert state([*words, "--resume"]).origin == info.origin


@pytest.mark.slow
def test_the_exported_network_sees_the_same_pixels(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    out, exported = tmp_path / "imported.safetensors", tmp_path / "network.onnx"
    assert run("import", save(tmp_path / "weights.npz", "lightweight"), "--out", out) == 0
    words = ["export", "--checkpoint", str(out), "--format", "ONNX", "--out", str(exported)]
    assert main("evaluator", "", EVALUATOR, words) == 0
    session = onnxruntime.InferenceSession(str(exported))
    _, stages = make("lightweight")
    for ours, theirs in zip(session.run(["heatmaps", "pafs"], {"images": IMAGE[None]}), stages[-1], strict=True):
        assert difference(ours[0], theirs) < 1e-5
    about = json.loads(session.get_modelmeta().custom_metadata_map["normalization"])
    assert about["channel_order"] == "bgr" and about["std"] == [256.0] * 3
