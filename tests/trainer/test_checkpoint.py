"""Checkpoints are complete or refused, and restore the network without further options."""

import dataclasses
import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from trainer_data import TINY, make_info, small_tensors

from pipeline.cli import flatten
from pipeline.errors import UserError
from pipeline.skeletons import COCO18
from trainer.config import TrainConfig
from trainer.networks.config import NetworkConfig
from trainer.run import checkpoint
from trainer.run.checkpoint import read_checkpoint, save_checkpoint
from trainer.run.load import load_network


def network_of(preset):
    fields = {name: v for name, v in TrainConfig.PRESETS.get(preset, {}).items() if name in NetworkConfig.__dataclass_fields__}
    return NetworkConfig(**fields)


@pytest.fixture(scope="module")
def saved_network(tmp_path_factory):
    from trainer.networks.inference import build
    from trainer.networks.network import initialize

    network = build(TINY, COCO18)
    initialize(network, np.random.default_rng(0))
    path = tmp_path_factory.mktemp("run") / "step-00000007.safetensors"
    tensors = {checkpoint.NETWORK + name: p.asnumpy() for name, p in network.parameters_dict().items()}
    save_checkpoint(path, make_info(), tensors)
    return network, path


def test_a_saved_checkpoint_reads_back_equal(tmp_path):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make_info(), small_tensors())
    info, tensors = read_checkpoint(path)
    assert checkpoint.read_info(path).step == info.step == 7 and info.config == {"lr": 0.1, "lr_steps": [5]}
    assert tensors.keys() == small_tensors().keys()
    for name, tensor in small_tensors().items():
        np.testing.assert_array_equal(tensors[name], tensor)
        assert tensors[name].shape == tensor.shape
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"], "no temporary file is left"


def test_every_flipped_byte_and_every_truncation_is_refused(tmp_path):
    path, bad = tmp_path / "c.safetensors", tmp_path / "bad.safetensors"
    save_checkpoint(path, make_info(), small_tensors())
    whole = path.read_bytes()
    info, _ = read_checkpoint(path)
    rng = np.random.default_rng(0)
    padding = len(whole[: 8 + int.from_bytes(whole[:8], "little")].rstrip()), 8 + int.from_bytes(whole[:8], "little")
    for place in rng.choice(len(whole), 300, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        bad.write_bytes(flipped)
        if padding[0] <= place < padding[1]:
            continue  # padding after the header has no meaning
        with pytest.raises(UserError, match="bad"):
            read_checkpoint(bad)
    for length in [0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1]:
        bad.write_bytes(whole[:length])
        with pytest.raises(UserError, match="bad"):
            read_checkpoint(bad)
    bad.write_bytes(whole)
    assert read_checkpoint(bad)[0] == info


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "thing.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"thing\.ckpt"):
        load_network(path)
    with pytest.raises(UserError, match="absent"):
        load_network(tmp_path / "absent.ckpt")
    with pytest.raises(UserError, match="no complete checkpoint"):
        load_network(tmp_path)


def test_the_newest_is_found_by_its_content_and_damaged_ones_are_skipped(tmp_path):
    for name, step in (("zzz", 1), ("aaa", 30), ("mmm", 20)):
        save_checkpoint(tmp_path / f"{name}.safetensors", make_info(step=step), small_tensors(step))
    (tmp_path / "broken.safetensors").write_bytes(b"half")
    path, info, tensors, faults = checkpoint.read_newest(tmp_path)
    assert (path.stem, info.step, tensors["network.a"][0, 0]) == ("aaa", 30, 30.0)
    assert len(faults) == 1 and "broken" in faults[0]
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    path, info, _, faults = checkpoint.read_newest(tmp_path)
    assert (path.stem, info.step) == ("mmm", 20) and len(faults) == 2 and "aaa" in faults[1]


def test_pruning_keeps_the_newest(tmp_path):
    for step in (5, 40, 3, 20):
        save_checkpoint(tmp_path / f"{100 - step}.safetensors", make_info(step=step), small_tensors())
    checkpoint.prune_checkpoints(tmp_path, keep=2)
    assert [checkpoint.read_info(p).step for p in checkpoint.list_checkpoints(tmp_path)] == [40, 20]


def test_a_failed_save_leaves_only_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    save_checkpoint(path, make_info(step=1), small_tensors())
    monkeypatch.setattr("pipeline.storage.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(UserError, match=r"c.safetensors: cannot be written \(disk\); fix the cause, then continue with --resume"):
        save_checkpoint(path, make_info(step=2), small_tensors())
    monkeypatch.undo()
    assert read_checkpoint(path)[0].step == 1 and len(list(tmp_path.iterdir())) == 1


def test_a_limit_of_the_file_size_while_saving_is_a_named_error(tmp_path):
    path, limits = tmp_path / "c.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError, match=r"c.safetensors: cannot be written \(.*File too large"):
            save_checkpoint(path, make_info(), small_tensors())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_that_is_gone_is_not_created_again(tmp_path):
    with pytest.raises(UserError, match=r"the folder .*/gone was deleted or renamed"):
        save_checkpoint(tmp_path / "gone" / "c.safetensors", make_info(), small_tensors())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["_crc32", "save_file"])
def test_a_run_folder_that_is_renamed_while_saving_is_not_created_again(tmp_path, monkeypatch, moment):
    run, called = tmp_path / "run", getattr(checkpoint, moment)
    run.mkdir()

    def rename_then_call(*args):
        run.rename(tmp_path / "renamed")
        return called(*args)

    monkeypatch.setattr(checkpoint, moment, rename_then_call)
    with pytest.raises(UserError, match=r"the folder .*/run was deleted or renamed; restore it, then continue with --resume"):
        save_checkpoint(run / "c.safetensors", make_info(), small_tensors())
    assert [path.name for path in tmp_path.iterdir()] == ["renamed"]


def test_loading_a_folder_skips_a_damaged_checkpoint_and_notes_it(saved_network, tmp_path, capsys):
    """Library code prints nothing; the command prints the notes."""
    saved = Path(shutil.copy(saved_network[1], tmp_path))
    (tmp_path / "step-99999999.safetensors").write_bytes(saved.read_bytes()[:-100])
    loaded = load_network(tmp_path)
    assert loaded.path == saved
    (note,) = loaded.notes
    assert note.startswith("skipped checkpoint") and "step-99999999.safetensors" in note
    assert capsys.readouterr() == ("", "")


def test_averaged_weights_are_noted_and_used_unless_refused(saved_network, tmp_path, capsys):
    info, tensors = read_checkpoint(saved_network[1])
    averages = {checkpoint.AVERAGE + name.removeprefix(checkpoint.NETWORK): tensor + 1 for name, tensor in tensors.items()}
    path = tmp_path / "averaged.safetensors"
    save_checkpoint(path, info, {**tensors, **averages})
    with_averages, without = load_network(path), load_network(path, average=False)
    assert with_averages.notes == [f"{path}: using the averaged weights"] and without.notes == []
    for name, p in with_averages.network.parameters_dict().items():
        np.testing.assert_array_equal(p.asnumpy(), tensors[checkpoint.NETWORK + name] + 1)
    assert capsys.readouterr() == ("", "")


def test_load_network_returns_the_same_fields_for_a_file_and_its_folder(saved_network):
    network, path = saved_network
    images = np.random.default_rng(1).integers(0, 256, (2, 48, 64, 3), np.uint8)
    import mindspore as ms

    heatmaps, pafs = (t.asnumpy() for t in network(ms.Tensor(images))[-1])
    for place in (path, path.parent):
        loaded = load_network(place)
        assert (loaded.skeleton, loaded.insize, loaded.stride_px, loaded.config["lr"]) == (COCO18, 64, 8, 0.1)
        got = loaded.fields(images)
        assert got[0].shape == (2, 19, 6, 8) and got[1].shape == (2, 38, 6, 8) and got[0].dtype == np.float32
        np.testing.assert_allclose(got[0], heatmaps, atol=1e-5)
        np.testing.assert_allclose(got[1], pafs, atol=1e-5)
        assert loaded.fields(images[:1, :32])[0].shape == (1, 19, 4, 8), "another input size needs no option"
    with pytest.raises(ValueError, match="multiples of 8"):
        loaded.fields(images[:, :47])


def test_tensors_of_another_network_are_refused_by_name(saved_network, tmp_path):
    _, path = saved_network
    info, tensors = read_checkpoint(path)
    name = next(n for n in tensors if "stages.1" in n and n.endswith("weight"))
    for changed, message in (
        ({n: t for n, t in tensors.items() if n != name}, "lacks"),
        ({**tensors, "network.extra": tensors[name]}, "unknown extra"),
        ({**tensors, name: tensors[name][:1]}, "shape"),
    ):
        save_checkpoint(tmp_path / "c.safetensors", info, changed)
        with pytest.raises(UserError, match=message):
            load_network(tmp_path / "c.safetensors")


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"step": "seven"}, "step: expected an integer, got 'seven'"),
        ({"step": -1}, "step: expected an integer >= 0, got -1"),
        ({"step": 10**30}, "step: [Ii]nteger|step: expected an integer"),
        ({"position": None}, "position: expected an integer, got null"),
        ({"loss_scale": float("nan")}, "loss_scale: expected a number"),
        ({"seed": 1.5}, "seed: expected an integer, got 1.5"),
        ({"config": ["lr"]}, "config: expected an object, got"),
        ({"skeleton": None}, "skeleton: expected an object, got null"),
        ({"skeleton": {**COCO18.to_dict(), "limbs": []}}, "skeleton: limbs must have at least one"),
        ({"targets": {"insize": 64, "stride_px": 0}}, "targets: stride_px must divide insize, got 0"),
        ({"targets": {"insize": 64}}, "targets: stride_px: expected an integer, got null"),
        ({"targets": {"insize": 64, "stride_px": 4}}, "targets: stride_px must be 8, got 4"),
        ({"normalization": {"mean": "gray"}}, "normalization"),
        ({"network": {"group_channels": 8}}, "network: this version has no option 'group_channels'"),
        ({"network": {"\x1b[31m": 8}}, r"network: this version has no option '\\\\x1b\[31m'"),
        ({"network": {"num_stages": 0}}, "network: num_stages must be 1 to 100, got 0"),
        ({"network": {"num_stages": 1_000_000}}, "network: num_stages must be 1 to 100, got 1000000"),
        ({"network": {"stage_channels": 10_000_000}}, "network: stage_channels must be 1 to 16,384, got 10000000"),
        ({"network": {"architecture": "resnet"}}, "network: architecture: invalid enum value 'resnet'"),
        ({"network": {"kernel_size": 10**6 + 1}}, "network: kernel_size must be odd"),
        (
            {"network": {"backbone_channels": [1] * 10_000, "residual": True}},
            "network: backbone_channels must be 1 to 100 numbers",
        ),
        ({"network": {"backbone_channels": [16_384] * 10}}, "network: needs at least .* weights, the file has 6"),
        ({"network": {"num_stages": 100, "stage_channels": 16_384}}, "network: needs at least .* weights, the file has 6"),
        ({"network": {"kernel_size": 99, "stage_channels": 500}}, "network: needs at least .* weights, the file has 6"),
    ],
)
def test_a_crafted_description_is_refused_by_the_name_of_its_field(tmp_path, changes, problem):
    """The CRC32 is right. Nothing is allocated for the network: each case takes milliseconds."""
    path = tmp_path / "step.safetensors"
    if "network" in changes:
        changes = {"network": {**dataclasses.asdict(TINY), **changes["network"]}}
    save_checkpoint(path, make_info(**changes), small_tensors())
    with pytest.raises(UserError, match=f"checkpoint {path}: .*{problem}.*; use another checkpoint") as error:
        load_network(path)
    assert str(error.value).isprintable() and len(str(error.value)) < 500


@pytest.mark.parametrize("config", [TINY, *map(network_of, ("openpose", *TrainConfig.PRESETS))], ids=str)
def test_the_lower_bound_of_the_weights_holds(config):
    from trainer.networks.network import Network, count_parameters

    num_weights = sum(count_parameters(Network(config, COCO18.num_heatmaps, COCO18.num_pafs)).values())
    assert num_weights / 20 <= config.min_weights <= num_weights


def test_tensors_of_another_type_are_refused_by_name(saved_network, tmp_path):
    info, tensors = read_checkpoint(saved_network[1])
    name = next(iter(tensors))
    for dtype in (np.float64, np.int32, np.bool_):
        save_checkpoint(tmp_path / "c.safetensors", info, {**tensors, name: tensors[name].astype(dtype)})
        with pytest.raises(UserError, match=f"{name.removeprefix('network.')} is {np.dtype(dtype)}, expected Float32"):
            load_network(tmp_path / "c.safetensors")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "c.safetensors")
    for read in (checkpoint.read_info, load_network):
        with pytest.raises(UserError, match="is a pipe, socket or device, not a file"):
            read(tmp_path / "c.safetensors")


def test_network_settings_that_an_older_checkpoint_lacks_take_their_defaults(saved_network, tmp_path):
    network, path = saved_network
    _, tensors = read_checkpoint(path)
    old = {
        name: getattr(TINY, name)
        for name in (
            "backbone_channels",
            "neck_channels",
            "num_stages",
            "stage_channels",
            "stage1_hidden_channels",
            "kernel_size",
        )
    }
    save_checkpoint(tmp_path / "old.safetensors", make_info(network={**old, "residual": False}), tensors)
    loaded = load_network(tmp_path / "old.safetensors")
    assert loaded.info.network == flatten(TINY), "as in a new checkpoint, so that a run can continue from it"
    names = [p.name for p in network.get_parameters()]
    assert [p.name for p in loaded.network.get_parameters()] == names


def test_a_foreign_safetensors_file_is_not_called_a_checkpoint_of_another_version(tmp_path):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors: not a checkpoint of this trainer"):
        read_checkpoint(tmp_path / "other.safetensors")
