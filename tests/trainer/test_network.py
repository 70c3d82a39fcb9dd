"""The network: size of the published one, shapes of the fields, normalization, parameter groups."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from trainer_data import TINY

from trainer.config import TrainConfig
from trainer.networks.config import IMAGENET_MEAN, IMAGENET_STD, NetworkConfig
from trainer.networks.layers import Shortcut
from trainer.networks.network import Network, count_parameters, initialize


def make(config: NetworkConfig = TINY, num_heatmaps: int = 19, num_pafs: int = 38) -> Network:
    network = Network(config, num_heatmaps, num_pafs)
    initialize(network, np.random.default_rng(0))
    return network


def test_the_default_has_exactly_the_weights_of_the_published_network():
    network = Network(NetworkConfig(), 19, 38)
    # VGG19's published layers: 9 * in * out + out, summed by hand.
    vgg = 1_792 + 36_928 + 73_856 + 147_584 + 295_168 + 3 * 590_080 + 1_180_160 + 2_359_808
    neck = (9 * 512 * 256 + 256) + (9 * 256 * 128 + 128)
    first = 2 * (3 * (9 * 128 * 128 + 128) + (128 * 512 + 512)) + (512 * 19 + 19) + (512 * 38 + 38)
    seven = (49 * 185 * 128 + 128) + 4 * (49 * 128 * 128 + 128) + (128 * 128 + 128)
    later = 2 * seven + (128 * 19 + 19) + (128 * 38 + 38)
    assert count_parameters(network) == {"backbone": vgg, "neck": neck, "stages": first + 5 * later}
    assert (vgg, neck, first + 5 * later) == (5_865_536, 1_474_944, 44_970_966)
    assert sum(count_parameters(network).values()) == 52_311_446
    assert sum(p.size for p in network.get_parameters()) == 52_311_446, "every parameter has a group"


@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 80), (8, 8)])
def test_fields_have_the_joints_and_limbs_of_the_skeleton_at_stride_8(height, width):
    outputs = make(num_heatmaps=5, num_pafs=6)(ms.Tensor(np.zeros((2, height, width, 3), np.uint8)))
    assert len(outputs) == 2
    for heatmaps, pafs in outputs:
        assert heatmaps.shape == (2, 5, height // 8, width // 8) and pafs.shape == (2, 6, height // 8, width // 8)
        assert heatmaps.dtype == pafs.dtype == ms.float32


def test_the_backbone_sees_rgb_with_imagenet_normalization():
    network = make()
    seen = []
    network.backbone.construct = lambda x: (seen.append(x.asnumpy()), ms.ops.zeros((1, 4, 1, 1)))[1]
    pixel = np.array([10, 200, 90], np.uint8)
    network(ms.Tensor(np.broadcast_to(pixel, (1, 8, 8, 3)).copy()))
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = ((pixel / 255 - mean) / std)[None, :, None, None]
    np.testing.assert_allclose(seen[0], np.broadcast_to(expected, (1, 3, 8, 8)), rtol=1e-5)


def test_the_backbone_sees_the_pixels_that_the_configuration_names():
    config = dataclasses.replace(TINY, channel_order="bgr", pixel_mean=(10, 20, 30), pixel_std=(2, 4, 8))
    network = make(config)
    seen = []
    network.backbone.construct = lambda x: (seen.append(x.asnumpy()), ms.ops.zeros((1, 4, 1, 1)))[1]
    network(ms.Tensor(np.broadcast_to(np.array([12, 200, 70], np.uint8), (1, 8, 8, 3)).copy()))
    assert (seen[0] == np.array([5, 45, 1])[None, :, None, None]).all(), "blue, green, red"


def test_a_later_stage_sees_the_features_and_the_fields_of_the_stage_before_it():
    network = make()
    assert network.stages[0].heatmaps[0].weight.shape[1] == 4
    assert network.stages[1].pafs[0].weight.shape[1] == 4 + 19 + 38
    assert network.stages[1].pafs[0].weight.shape[2:] == (3, 3)


def test_initial_weights_keep_the_signal_and_depend_only_on_the_generator():
    first, second = make(), make()
    for a, b in zip(first.get_parameters(), second.get_parameters(), strict=True):
        assert a.name == b.name
        np.testing.assert_array_equal(a.asnumpy(), b.asnumpy())
    wide = make(NetworkConfig(**_small_preset()))
    images = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    features = wide.neck(wide.backbone(ms.Tensor((images.transpose(0, 3, 1, 2) / 64 - 2).astype(np.float32))))
    assert 0.1 < float(features.std()) < 10, "the signal neither fades nor explodes through twelve layers"
    heatmaps, _ = wide(ms.Tensor(images))[-1]
    assert float(heatmaps.abs().max()) < 1, "the first fields are near zero"


def test_a_residual_network_has_stride_8_and_residual_blocks_that_start_as_the_identity():
    network = make(NetworkConfig(**_small_preset())).set_train(False)
    images = np.random.default_rng(0).integers(0, 256, (1, 48, 80, 3), np.uint8)
    for heatmaps, pafs in network(ms.Tensor(images)):
        assert heatmaps.shape == (1, 19, 6, 10) and pafs.shape == (1, 38, 6, 10)
    shortcuts = [cell for _, cell in network.cells_and_names() if isinstance(cell, Shortcut)]
    x = np.random.default_rng(1).standard_normal((1, 64, 6, 10)).astype(np.float32)
    np.testing.assert_array_equal(shortcuts[0](ms.Tensor(x)).asnumpy(), np.maximum(x, 0))
    # Two in the backbone, one in the neck, one in each branch of the first stage, two in each branch of the second.
    assert len(shortcuts) == 2 + 1 + 2 * (1 + 2)


def test_batch_norm_uses_the_batch_in_training_and_the_running_averages_in_inference():
    network = make(NetworkConfig(**_small_preset())).set_train()
    norm = network.backbone.layers[1]
    x = 30 * np.random.default_rng(0).standard_normal((4, 16, 6, 6)).astype(np.float32) + 7
    out = norm(ms.Tensor(x)).asnumpy()
    np.testing.assert_allclose(out.mean((0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(out.std((0, 2, 3)), 1, atol=1e-3)
    for _ in range(200):
        norm(ms.Tensor(x))
    network.set_train(False)
    np.testing.assert_allclose(norm(ms.Tensor(x)).asnumpy(), out, atol=0.02)
    np.testing.assert_allclose(
        norm(ms.Tensor(x[:1])).asnumpy(), out[:1], atol=0.02, err_msg="does not depend on the rest of the batch"
    )
    names = network.parameters_dict().keys()
    assert {"backbone.layers.1.moving_mean", "backbone.layers.1.moving_variance"} <= names, "checkpoints hold the averages"


def _small_preset() -> dict:
    return {k: v for k, v in TrainConfig.PRESETS["small"].items() if k in NetworkConfig.__dataclass_fields__}


def test_groups_are_backbone_neck_and_stages():
    groups = make().parameter_groups()
    assert {name: {p.name.split(".")[0] for p in group} for name, group in groups.items()} == {
        "backbone": {"backbone"}, "neck": {"neck"}, "stages": {"stages"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        {"backbone_channels": (4,) * 9},
        {"kernel_size": 4},
        {"num_stages": 0},
        {"pixel_std": (1.0, 0.0, 1.0)},
        {"pixel_mean": (0.0, float("nan"), 0.0)},
        {"pixel_mean": (0.0, 300.0, 0.0)},
        {"residual": True, "backbone_channels": (4, 4)},
        {"neck_channels": ()},
        {"stage_channels": 0},
    ],
)
def test_invalid_shapes_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NetworkConfig(**wrong)


def test_mean_and_std_are_those_of_imagenet():
    np.testing.assert_allclose(np.array(IMAGENET_MEAN) / 255, [0.485, 0.456, 0.406], rtol=1e-6)
    np.testing.assert_allclose(np.array(IMAGENET_STD) / 255, [0.229, 0.224, 0.225], rtol=1e-6)
    assert (NetworkConfig().pixel_mean, NetworkConfig().pixel_std) == (IMAGENET_MEAN, IMAGENET_STD)
