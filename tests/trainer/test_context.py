"""Coarser levels of a residual backbone: sizes, start as the identity, what they see, transfer."""

import dataclasses

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from pipeline.skeletons import COCO18
from trainer.networks.channels import layers
from trainer.networks.config import NetworkConfig
from trainer.networks.context import Context, Upsample
from trainer.networks.inference import LastStage
from trainer.networks.layers import convolution
from trainer.networks.network import Network, convolutions, initialize

CONFIG = NetworkConfig(
    residual=True, backbone_channels=(4, 4, 6), context_channels=(5, 7), neck_channels=(4,), num_stages=1, stage_channels=4,
    stage1_hidden_channels=4,
)  # fmt: skip


def make(config: NetworkConfig) -> Network:
    network = Network(config, COCO18.num_heatmaps, COCO18.num_pafs)
    initialize(network, np.random.default_rng(0))
    return network


def test_upsampling_takes_one_channel_of_each_part_for_the_four_cells():
    """So that `trainer.networks.channels` may count the channels of each part."""
    x = np.arange(8, dtype=np.float32).reshape(1, 8, 1, 1)
    y = Upsample()(ms.Tensor(x)).asnumpy()
    assert y.tolist() == [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]
    expanded = [layer for name, layer in layers(make(CONFIG), CONFIG, COCO18).items() if ".expand.0" in name]
    assert [[channel.part for channel in layer.outputs] for layer in expanded] == [
        [part for part in range(4) for _ in range(count)] for count in (5, 6)
    ], "inner level first"


def test_a_new_context_changes_nothing_and_a_trained_one_sees_far():
    context = Context(3, (4, 4))
    context.set_train(False)
    rng = np.random.default_rng(0)
    for parameter in context.trainable_params():
        if parameter.ndim > 1:
            parameter.set_data(ms.Tensor(rng.standard_normal(parameter.shape, np.float32)))
    x = np.abs(rng.standard_normal((1, 3, 33, 34), np.float32))
    assert np.array_equal(context(ms.Tensor(x)).asnumpy(), x)
    for parameter in context.trainable_params():
        if parameter.name.endswith("gamma"):
            parameter.set_data(ms.Tensor(np.ones(parameter.shape, np.float32)))
    other = x.copy()
    other[..., 0, 0] += 10
    moved = np.abs((context(ms.Tensor(other)) - context(ms.Tensor(x))).asnumpy()).max(axis=(0, 1)) > 0
    assert moved[:24, :24].any(axis=1).all(), "24 cells away, with 3x3 convolutions"


def test_one_network_takes_images_of_any_whole_cells():
    last = LastStage(make(CONFIG))
    for rows, columns in ((1, 1), (5, 7), (6, 4)):
        heatmaps, pafs = last.fields(np.zeros((2, 8 * rows, 8 * columns, 3), np.uint8))
        assert heatmaps.shape == (2, 19, rows, columns) and pafs.shape == (2, 38, rows, columns)


def test_the_sides_of_all_convolutions_are_known():
    network = make(CONFIG)
    sides = {layer.weight.name: side for layer, side in convolutions(network, 40)}
    found: dict[str, int] = {}
    for _, layer in network.cells_and_names():
        if isinstance(layer, type(convolution(1, 1, 1))):
            layer.register_forward_hook(lambda cell, _, output: found.update({cell.weight.name: output.shape[-1]}))
    network.set_train(False)
    network(ms.Tensor(np.zeros((1, 40, 40, 3), np.uint8)))
    assert found == sides and set(sides.values()) == {20, 10, 5, 3, 2}
    assert isinstance(network, nn.Cell) and sum(p.size for p in network.trainable_params()) > CONFIG.min_weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"residual": False, "backbone_channels": (4,) * 10}, "context_channels needs residual, got"),
        ({"context_channels": (4,) * 7}, "context_channels must be at most 6 numbers, got 7"),
        ({"context_channels": (4, 0)}, "context_channels must be 1 to 16,384 each"),
    ],
)
def test_impossible_levels_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)
