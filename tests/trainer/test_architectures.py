"""The architectures: published sizes, unfolded convolutions, and each of them from records to AP."""

import dataclasses
import json

import mindspore as ms
import numpy as np
import pytest
from trainer_data import make_records

from evaluator.__main__ import COMMANDS as EVALUATOR
from pipeline.cli import as_options, flatten, main
from trainer.__main__ import COMMANDS
from trainer.commands.bench_step import BenchStepConfig
from trainer.config import TrainConfig
from trainer.networks.config import NetworkConfig
from trainer.networks.cpu_convolution import unfold
from trainer.networks.inference import LastStage
from trainer.networks.layers import convolution
from trainer.networks.network import Network, convolutions, count_multiplications, count_parameters, initialize
from trainer.run.checkpoint import read_newest
from trainer.run.load import load_network
from trainer.weights.layouts import vgg

SMALLEST = {"neck_channels": (4,), "stage_channels": 4, "stage1_hidden_channels": 4}
TINY = {
    "openpose": NetworkConfig(backbone_channels=(4,) * 10, num_stages=2, kernel_size=7, **SMALLEST),
    "openpose-2019": NetworkConfig(
        architecture="openpose-2019", backbone_channels=(4,) * 10, num_stages=2, num_paf_stages=1, stage1_channels=3, **SMALLEST
    ),
    "lightweight": NetworkConfig(
        architecture="lightweight", backbone_channels=(4,) * 12, num_stages=2, hidden_channels=5, **SMALLEST
    ),
}


def preset(name: str) -> NetworkConfig:
    return NetworkConfig(**BenchStepConfig.PRESETS[name])


def make(config: NetworkConfig, num_heatmaps: int = 19, num_pafs: int = 38) -> Network:
    network = Network(config, num_heatmaps, num_pafs)
    initialize(network, np.random.default_rng(0))
    return network


def test_openpose_2019_is_the_published_body_25_model():
    # 25 joints and background, 26 limbs. The published file, pose_iter_584000.caffemodel, has 104,715,850 bytes: four per
    # weight, and 51,514 for the names and shapes of its layers.
    network = Network(preset("openpose-2019"), 26, 52)
    assert sum(count_parameters(network).values()) == 26_166_084
    assert 0 < 104_715_850 - 4 * 26_166_084 < 60_000
    # COCO's 18 joints. By hand: a block is three 3x3 convolutions with bias and PReLU; its input is the output of three others.
    network = Network(preset("openpose-2019"), 19, 38)
    block = lambda before, c: 9 * before * c + 2 * 9 * c * c + 6 * c  # noqa: E731
    branch = lambda before, c, hidden, fields: (  # noqa: E731
        block(before, c) + 4 * block(3 * c, c) + 3 * c * hidden + 2 * hidden + hidden * fields + fields
    )
    stages = branch(128, 96, 256, 38) + 3 * branch(128 + 38, 128, 512, 38)
    stages += branch(128 + 38, 96, 256, 19) + branch(128 + 38 + 19, 128, 512, 19)
    neck = 512 + (9 * 512 * 256 + 2 * 256) + (9 * 256 * 128 + 2 * 128)
    assert count_parameters(network) == {"backbone": 5_865_536, "neck": neck, "stages": stages}
    assert sum(count_parameters(network).values()) == 26_050_878
    assert count_multiplications(network, 368) == 80_329_589_504


def test_lightweight_has_the_published_size():
    network = Network(preset("lightweight"), 19, 38)
    # The paper says 4.1 M. The exact number is from a test of another implementation (github.com/osmr/imgclsmob, lwopenpose_cmupan.py).
    assert sum(count_parameters(network).values()) == 4_091_698
    # Table 5 of the paper, at 368 x 368: 3.7 "GFLOPs" for the backbone, 0.3 + 0.3, 1.3 and 3.4; 9 in total.
    parts = dict.fromkeys(("backbone", "neck", "stages.0", "stages.1"), 0)
    for layer, side in convolutions(network, 368):
        part = next(part for part in parts if layer.weight.name.startswith(part))
        parts[part] += layer.weight.size * side * side
    assert [round(count / 1e9, 1) for count in parts.values()] == [3.7, 0.6, 1.3, 3.4]
    assert count_multiplications(network, 368) == sum(parts.values()) == 8_881_647_616
    # Intel's version (human-pose-estimation-0001): 15.435 GFLOPs at 256 x 456, two per multiplication.
    cells_ratio = 46 * 46 / (32 * 57)
    assert count_multiplications(network, 368) / 1e9 == pytest.approx(15.435 / 2 * cells_ratio, rel=0.01)


def test_the_default_network_has_the_published_number_of_multiplications():
    # Osokin 2018, table 1: 136.1 GFLOPs for OpenPose with all stages at 368 x 368.
    assert count_multiplications(Network(NetworkConfig(), 19, 38), 368) / 1e9 == pytest.approx(136.1, rel=0.005)


@pytest.mark.parametrize("name", TINY)
def test_every_parameter_belongs_to_one_group(name):
    network = make(TINY[name])
    groups = network.parameter_groups()
    assert all(groups.values())
    assert [id(p) for group in groups.values() for p in group] == [id(p) for p in network.trainable_params()]


def test_a_vgg19_checkpoint_fits_both_vgg_backbones():
    places = {f"layers.{place}.{kind}" for place in vgg.PLACES for kind in ("weight", "bias")}
    for name in ("openpose", "openpose-2019"):
        backbone = Network(TINY[name], 19, 38).backbone
        assert {parameter.removeprefix("backbone.") for parameter in backbone.parameters_dict()} == places
        assert TINY[name].has_vgg_backbone
    assert not TINY["lightweight"].has_vgg_backbone


def test_paf_stages_come_first_and_heatmap_stages_see_the_last_pafs():
    network = make(dataclasses.replace(TINY["openpose-2019"], num_stages=3, num_paf_stages=2))
    outputs = network(ms.Tensor(np.zeros((1, 32, 48, 3), np.uint8)))
    assert [[None if f is None else f.shape for f in stage] for stage in outputs] == [
        [None, (1, 38, 4, 6)], [None, (1, 38, 4, 6)], [(1, 19, 4, 6), None],
    ]  # fmt: skip
    first, second, third = network.stages
    widths = [next(p for p in branch.get_parameters()).shape[:2] for branch in (first.pafs, second.pafs, third.heatmaps)]
    assert widths == [(3, 4), (4, 4 + 38), (3, 4 + 38)]


@pytest.mark.parametrize(("size", "height", "width"), [(7, 6, 9), (3, 8, 5), (7, 2, 1)])
def test_an_unfolded_convolution_has_the_same_outputs_and_gradients(size, height, width):
    layer = convolution(4, 5, size)
    rng = np.random.default_rng(0)
    for p in layer.trainable_params():
        p.set_data(ms.Tensor(rng.normal(size=p.shape).astype(np.float32)))
    x, dy = (ms.Tensor(rng.normal(size=(2, count, height, width)).astype(np.float32)) for count in (4, 5))

    def results():
        gradients_of = ms.value_and_grad(lambda x: (layer(x) * dy).sum(), 0, layer.trainable_params())
        _, (dx, dw) = gradients_of(x)
        return [t.asnumpy() for t in (layer(x), dx, *dw)]

    plain = results()
    layer.unfolded = layer.can_unfold
    assert layer.unfolded
    for before, after in zip(plain, results(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-4)


def test_an_unfolded_network_predicts_the_same_fields_for_images_of_any_size():
    network = make(TINY["openpose"])
    images = np.random.default_rng(0).integers(0, 256, (2, 48, 80, 3), np.uint8)

    def fields():
        infer = LastStage(network)
        return [f for part in (images, images[:1, :24, :32]) for f in infer.fields(part)]

    names = [(p.name, p.shape) for p in network.get_parameters()]
    plain = fields()
    unfold(network)
    for before, after in zip(plain, fields(), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-6)
    assert [(p.name, p.shape) for p in network.get_parameters()] == names, "checkpoints do not depend on unfolding"


def test_only_wide_networks_in_which_every_convolution_unfolds_are_unfolded():
    assert [name for name in TrainConfig.PRESETS if preset(name).unfolds] == ["openpose", "openpose-8p", "openpose-2019"]
    for name in ("openpose", "openpose-2019"):
        network = Network(preset(name), 19, 38)
        unfold(network)
        assert all(layer.unfolded or layer.size == 1 for layer, _ in convolutions(network, 368))
    assert not any(config.unfolds for config in TINY.values())


def test_depthwise_and_dilated_convolutions_are_not_unfolded():
    network = make(TINY["lightweight"])
    unfold(network)
    left = {layer.weight.name for layer, _ in convolutions(network, 64) if layer.size > 1 and not layer.unfolded}
    depthwise = {name for name in left if name.startswith("backbone")}
    assert "backbone.layers.0.weight" in depthwise and len(depthwise) == 12
    assert {name for name in left if "stages" in name} == {f"stages.1.shared.{i}.residual.3.weight" for i in range(5)}, "dilated"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"architecture": "lightweight"}, "backbone_channels must have 12"),
        ({"architecture": "openpose-2019"}, "num_paf_stages"),
        ({"architecture": "openpose-2019", "num_paf_stages": 6}, "num_paf_stages"),
        ({"architecture": "openpose-2019", "num_paf_stages": 4, "kernel_size": 5}, "kernel_size"),
        ({"num_paf_stages": 1}, "num_paf_stages"),
        ({"architecture": "lightweight", "backbone_channels": (4,) * 12}, "neck_channels"),
        ({"architecture": "lightweight", "backbone_channels": (4,) * 12, "neck_channels": (4,), "residual": True}, "residual"),
        ({"hidden_channels": 0}, "hidden_channels"),
    ],
)
def test_options_that_do_not_fit_the_architecture_are_refused_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        NetworkConfig(**wrong)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"), num_images=8, variants=1)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("name", ["openpose-2019", "lightweight"])
def test_from_records_to_ap(name, records, tmp_path):
    run = tmp_path / "run"
    shape = {field: value for field, value in flatten(TINY[name]).items() if value is not None}
    words = f"train --preset {name} --records {records} --out {run} --batch-size 4 --device-target CPU --lr 0.02".split()
    words += ["--max-steps", "40", "--log-interval", "5", "--freeze-backbone-steps", "0", "--lr-steps", "1000"]
    assert main("trainer", "", COMMANDS, [*words, *as_options(shape)]) == 0
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    absent = {"openpose-2019": [[True, False], [False, True]], "lightweight": [[False, False]] * 2}[name]
    assert all([[loss is None for loss in stage] for stage in entry["stage_losses"]] == absent for entry in log)
    assert log[-1]["loss"] < 0.7 * log[0]["loss"], "the network fits the eight images"

    assert read_newest(run)[1].network["architecture"] == name
    loaded = load_network(run)
    heatmaps, pafs = loaded.fields(np.zeros((1, 64, 72, 3), np.uint8))
    assert heatmaps.shape == (1, 19, 8, 9) and pafs.shape == (1, 38, 8, 9)
    people = records.parent / "people"
    truth = ["--annotations", str(people / "annotations/person_keypoints_train2017.json"), "--images", str(people / "train2017")]
    assert main("evaluator", "", EVALUATOR, ["run", "--checkpoint", str(run), *truth, "--out", str(tmp_path / "ap")]) == 0
    assert json.loads((tmp_path / "ap" / "metrics.json").read_text())["num_images"] == 8


def test_presets_are_valid_and_have_the_architecture_of_their_name():
    for name in TrainConfig.PRESETS:
        assert preset(name).architecture == ("openpose" if name.startswith(("small", "openpose-8p")) else name)
    assert preset("openpose-8p") == preset("openpose"), "only the optimizer differs"
