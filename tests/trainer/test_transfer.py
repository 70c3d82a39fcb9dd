"""Weights of another skeleton, number of stages or width: fields follow names, and what is taken computes what it did before."""

import dataclasses
import json

import mindspore as ms
import numpy as np
import pytest
from trainer_data import TINY, make_records, train

from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18
from trainer.config import TrainConfig
from trainer.networks.channels import layers
from trainer.networks.config import NetworkConfig
from trainer.networks.inference import build
from trainer.networks.network import initialize
from trainer.run import checkpoint
from trainer.weights.transfer import LayerTransfer, summary, transfer

PUPPET = Skeleton(
    name="puppet",
    joints=("tail", "left_wrist", "left_elbow", "nose", "neck"),
    # COCO18 has the first limb in the other direction, and lacks the last one.
    limbs=(("left_wrist", "left_elbow"), ("neck", "nose"), ("neck", "tail")),
    mirror_pairs=(),
    source_joints=("tail", "left_wrist", "left_elbow", "nose", "neck"),
    sigmas=(0.1,) * 5,
)
ARCHITECTURES = {
    "openpose": TINY,
    "small": dataclasses.replace(TINY, residual=True, backbone_channels=(4, 4, 6, 6, 6), context_channels=(5, 7), stage_channels=6),
    "lightweight": NetworkConfig(
        architecture="lightweight", backbone_channels=(4,) * 12, neck_channels=(4,), num_stages=2, stage_channels=4,
        stage1_hidden_channels=6,
    ),
    "openpose-2019": NetworkConfig(
        architecture="openpose-2019", backbone_channels=(4,) * 10, neck_channels=(4,), num_stages=4, num_paf_stages=2, stage_channels=3,
        stage1_channels=2, stage1_hidden_channels=5, hidden_channels=4,
    ),
}  # fmt: skip
WIDER = {"neck_channels": (7,), "stage_channels": 9, "stage1_channels": 8, "stage1_hidden_channels": 9, "hidden_channels": 9}
IMAGES = np.random.default_rng(5).integers(0, 256, (1, 32, 40, 3), np.uint8)
Fields = list[tuple[np.ndarray | None, np.ndarray | None]]


def make(config: NetworkConfig, skeleton: Skeleton, seed: int):
    """A network in which every parameter is random, also biases and running averages."""
    network = build(config, skeleton)
    initialize(network, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        if parameter.ndim == 1:
            parameter.set_data(ms.Tensor(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32)))
    return network.set_train(False)


def arrays(network) -> dict[str, np.ndarray]:
    return {name: parameter.asnumpy().copy() for name, parameter in network.parameters_dict().items()}


def fields(network) -> Fields:
    return [tuple(None if part is None else part.asnumpy()[0] for part in stage) for stage in network(ms.Tensor(IMAGES))]


def transferred(old, old_config, old_skeleton, config, skeleton) -> tuple[Fields, list[LayerTransfer]]:
    """Fields of every stage of a network that took its weights from `old`, and the report."""
    new = make(config, skeleton, seed=2)
    tensors, report = transfer(arrays(old), layers(old, old_config, old_skeleton), arrays(new), layers(new, config, skeleton))
    for name, parameter in new.parameters_dict().items():
        parameter.set_data(ms.Tensor(tensors[name]))
    return fields(new), report


def by_name(stage, skeleton: Skeleton) -> dict[str, np.ndarray]:
    """Heatmaps by joint, and PAFs by limb from the end that sorts first."""
    heatmaps, pafs = stage
    found = {}
    if heatmaps is not None:
        found |= dict(zip((*skeleton.joints, "background"), heatmaps, strict=True))
    if pafs is not None:
        for (start, end), paf in zip(skeleton.limbs, pafs.reshape(-1, 2, *pafs.shape[1:]), strict=True):
            found["-".join(sorted((start, end)))] = paf if start < end else -paf
    return found


def assert_same_fields(old: Fields, old_skeleton: Skeleton, new: Fields, skeleton: Skeleton, names: set[str]) -> None:
    for before, after in zip(old, new, strict=True):
        expected, found = by_name(before, old_skeleton), by_name(after, skeleton)
        shared = expected.keys() & found.keys()
        assert shared and shared == {name for name in found if name in names or name in expected}
        for name in shared:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5 * np.abs(expected[name]).max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_network_takes_everything(name):
    config = ARCHITECTURES[name]
    old, new = make(config, COCO18, 1), make(config, COCO18, 2)
    tensors, report = transfer(arrays(old), layers(old, config, COCO18), arrays(new), layers(new, config, COCO18))
    assert {entry.taken for entry in report} == {"taken"} and len(summary(report)) == 1
    assert tensors.keys() == arrays(old).keys()
    for parameter, value in arrays(old).items():
        np.testing.assert_array_equal(tensors[parameter], value)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_fields_follow_names_into_a_larger_skeleton_and_a_wider_network(name):
    """New joints and channels change nothing of what the old ones compute, at any stage."""
    config = ARCHITECTURES[name]
    old = make(config, PUPPET, 1)
    shuffled = (*np.random.default_rng(0).permutation(COCO18.joints).tolist(), "tail")
    limbs = (("neck", "tail"), *COCO18.limbs[::-1])
    larger = dataclasses.replace(
        COCO18, joints=shuffled, limbs=limbs, mirror_pairs=(), derived=(), source_joints=shuffled, sigmas=(0.1,) * 19
    )
    wider = dataclasses.replace(
        config, **{key: value for key, value in WIDER.items() if not (key == "hidden_channels" and name != "openpose-2019")}
    )
    found, report = transferred(old, config, PUPPET, wider, larger)
    assert_same_fields(fields(old), PUPPET, found, larger, {*PUPPET.joints, "background"})
    assert {entry.taken for entry in report} == {"taken", "in part"}
    heads = [entry for entry in report if entry.new]
    assert heads and all("right_hip" in entry.new or "neck-right_hip" in entry.new for entry in heads)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_first_fields_of_a_smaller_skeleton_are_those_of_the_larger_one(name):
    """Later stages no longer see the joints that are gone, so their fields differ."""
    config = ARCHITECTURES[name]
    old = make(config, COCO18, 1)
    found, report = transferred(old, config, COCO18, config, PUPPET)
    before, after = by_name(fields(old)[0], COCO18), by_name(found[0], PUPPET)
    shared = before.keys() & after.keys()
    assert shared >= {"left_elbow-left_wrist", "neck-nose"} and "neck-tail" not in shared
    for field in shared:
        np.testing.assert_allclose(after[field], before[field], rtol=1e-5, atol=1e-6)
    assert all(set(entry.new) <= {"tail", "neck-tail"} for entry in report)
    assert any("tail" in line and "left_wrist" in line for line in summary(report))


def test_a_reversed_limb_changes_the_sign_of_its_weights():
    config = ARCHITECTURES["openpose"]
    old, new = make(config, COCO18, 1), make(config, PUPPET, 2)
    tensors, _ = transfer(arrays(old), layers(old, config, COCO18), arrays(new), layers(new, config, PUPPET))
    limb = COCO18.limbs.index(("left_elbow", "left_wrist"))
    for parameter in ("stages.0.pafs.8.weight", "stages.0.pafs.8.bias"):
        np.testing.assert_array_equal(tensors[parameter][:2], -arrays(old)[parameter][2 * limb : 2 * limb + 2])
    features = config.neck_channels[-1]
    taken, seen = tensors["stages.1.heatmaps.0.weight"], arrays(old)["stages.1.heatmaps.0.weight"]
    np.testing.assert_array_equal(taken[:, features + 2], seen[:, features + COCO18.index("left_elbow")])
    np.testing.assert_array_equal(taken[:, features + PUPPET.num_heatmaps], -seen[:, features + COCO18.num_heatmaps + 2 * limb])
    assert not taken[:, features + PUPPET.index("tail")].any(), "a joint that the old network did not see"


@pytest.mark.parametrize(("before", "after"), [((4, 2), (3, 1)), ((3, 1), (5, 2)), ((4, 2), (4, 2))])
def test_stages_of_each_kind_keep_their_number(before, after):
    """openpose-2019: the first heatmap stage takes from the first heatmap stage, however many PAF stages precede it."""
    config = ARCHITECTURES["openpose-2019"]
    few, many = (dataclasses.replace(config, num_stages=a, num_paf_stages=b) for a, b in (before, after))
    old = make(few, COCO18, 1)
    new = make(many, COCO18, 2)
    tensors, report = transfer(arrays(old), layers(old, few, COCO18), arrays(new), layers(new, many, COCO18))
    name = "stages.{}.heatmaps.6.weight"
    np.testing.assert_array_equal(tensors[name.format(after[1])], arrays(old)[name.format(before[1])])
    new_stages = {entry.layer.split(".")[1] for entry in report if entry.taken == "initialized"}
    kept = min(before[1], after[1]), min(before[0] - before[1], after[0] - after[1])
    expected = [*range(kept[0], after[1]), *range(after[1] + kept[1], after[0])]
    assert new_stages == set(map(str, expected))


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def puppet_checkpoint(tmp_path_factory):
    """A checkpoint of a run on puppets, without optimizer state."""
    network = make(TINY, PUPPET, 1)
    path = tmp_path_factory.mktemp("puppet") / "puppet.safetensors"
    from trainer_data import make_info

    info = make_info(skeleton=PUPPET.to_dict(), network=dataclasses.asdict(TINY))
    checkpoint.save_checkpoint(path, info, {checkpoint.NETWORK + name: value for name, value in arrays(network).items()})
    return path


@pytest.mark.slow
def test_training_starts_from_what_fits_and_says_so_layer_by_layer(records, puppet_checkpoint, tmp_path, capsys):
    options = ("--load-pretrain", str(puppet_checkpoint), "--num-stages", "3")
    assert train(records, tmp_path / "run", *options, "--dry-run") == 0
    plan = capsys.readouterr().out
    assert "skeleton puppet to coco18, num stages 2 to 3" in plan
    assert (
        "stages.0.heatmaps.8: 5 of 19 outputs; taken nose, neck, left_elbow, left_wrist, background; new right_shoulder" in plan
    )
    assert "initialized stages.2.heatmaps.0 to stages.2.pafs.12 (14 layers)" in plan
    assert train(records, tmp_path / "run", *options, "--max-steps", "1", "--lr", "1e-30") == 0
    assert plan.splitlines()[:8] == capsys.readouterr().out.splitlines()[:8]
    report = json.loads((tmp_path / "run" / "transfer.json").read_text())
    tensors = checkpoint.read_newest(tmp_path / "run")[2]
    old = checkpoint.read_path(puppet_checkpoint)[2]
    names = {name.rpartition(".")[0] for name in tensors if name.startswith(checkpoint.NETWORK)}
    assert {checkpoint.NETWORK + entry["layer"] for entry in report} == names
    for entry in report:
        weight = f"{checkpoint.NETWORK}{entry['layer']}.weight"
        assert (entry["taken"] == "taken") == (weight in old and np.array_equal(tensors[weight], old[weight]))


@pytest.mark.slow
def test_nothing_fits_between_a_residual_network_and_vgg(records, puppet_checkpoint, tmp_path, capsys):
    assert (
        train(
            records,
            tmp_path / "run",
            "--residual",
            "--backbone-channels",
            "4",
            "4",
            "4",
            "--load-pretrain",
            str(puppet_checkpoint),
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "nothing fits: its network is openpose, this one is openpose with a residual backbone" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.long
def test_frozen_parts_do_not_change_and_the_others_do(records, tmp_path, capsys):
    residual = ("--residual", "--backbone-channels", "4", "4", "4", "4", "--stage-channels", "6")
    frozen = ("--freeze", "backbone", "stages:1")
    assert train(records, tmp_path / "start", *residual, "--max-steps", "3", "--ema-decay", "0.5") == 0
    run = tmp_path / "run"
    start = ("--load-pretrain", str(tmp_path / "start"), "--ema-decay", "0.5")
    capsys.readouterr()
    assert train(records, run, *residual, *frozen, *start, "--max-steps", "2") == 0
    assert " frozen" in capsys.readouterr().out
    before, after = (checkpoint.read_newest(folder)[2] for folder in (tmp_path / "start", run))
    before = {
        checkpoint.NETWORK + k.removeprefix(checkpoint.AVERAGE): v for k, v in before.items() if k.startswith(checkpoint.AVERAGE)
    }
    assert before.keys() == {name for name in after if name.startswith(checkpoint.NETWORK)}
    for name, value in before.items():
        is_frozen = name.startswith(("network.backbone.", "network.stages.0."))
        assert np.array_equal(value, after[name]) == is_frozen, name
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert log[-1]["vgglr"] == 0 and log[-1]["baselr"] > 0 and log[-1]["stagelr"] > 0
    assert train(records, run, *residual, *start, "--resume", "--max-steps", "4") == 1
    assert "the run was started with --freeze backbone stages:1, now off" in capsys.readouterr().err
    assert train(records, run, *residual, *frozen, *start, "--resume", "--max-steps", "4") == 0


def test_wrong_parts_are_refused(tmp_path):
    options = {"records": tmp_path, "out": tmp_path}
    for freeze, words in (
        (("head",), "freeze must be backbone, neck, stages, or stages:1 to stages:5, got 'head'"),
        (("stages:6",), "got 'stages:6'"),
        (("stages:0",), "got 'stages:0'"),
        (("backbone", "neck", "stages"), "nothing to train"),
    ):
        with pytest.raises(ValueError, match=words):
            TrainConfig(**options, freeze=freeze)
