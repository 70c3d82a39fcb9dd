"""VGG19 weights: three naming schemes, with and without batch normalization and biases; missing tensors are reported."""

import mindspore as ms
import numpy as np
import pytest

from pipeline.errors import UserError
from trainer.networks.openpose import Backbone
from trainer.weights import vgg19

CHANNELS = (3, 4, 4, 6, 6, 8, 8, 8, 8, 10, 10)


def make_layers(places, *, biases=True, batch_norm=False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    layers = {}
    for place, before, after in zip(places, CHANNELS, CHANNELS[1:], strict=False):
        layers[f"{place}.weight"] = rng.normal(size=(after, before, 3, 3)).astype(np.float32)
        if biases:
            layers[f"{place}.bias"] = rng.normal(size=after).astype(np.float32)
        if batch_norm:
            for name in ("gamma", "beta", "moving_mean"):
                layers[f"{place + 1}.{name}"] = rng.normal(size=after).astype(np.float32)
            layers[f"{place + 1}.moving_variance"] = rng.uniform(0.5, 2, after).astype(np.float32)
    return layers


def save(path, layers, prefix, extra=("classifier.0.weight",)):
    tensors = {prefix + name: value for name, value in layers.items()} | dict.fromkeys(extra, np.zeros((2, 2), np.float32))
    ms.save_checkpoint([{"name": n, "data": ms.Tensor(v)} for n, v in tensors.items()], str(path))
    return path


@pytest.mark.parametrize("prefix", vgg19.PREFIXES)
def test_every_naming_scheme_fills_the_whole_backbone(tmp_path, prefix):
    layers = make_layers(vgg19.PLACES)
    found = vgg19.read_vgg(save(tmp_path / "vgg.ckpt", layers, prefix))
    assert found.keys() == {p.name for p in Backbone(CHANNELS[1:]).trainable_params()}
    for name, value in layers.items():
        np.testing.assert_array_equal(found[f"layers.{name}"], value)


def test_missing_biases_are_zero(tmp_path):
    found = vgg19.read_vgg(save(tmp_path / "vgg.ckpt", make_layers(vgg19.PLACES, biases=False), "features."))
    assert all(not found[f"layers.{place}.bias"].any() for place in vgg19.PLACES) and len(found) == 20


@pytest.mark.parametrize("biases", [True, False])
def test_batch_norm_is_folded_into_the_convolution(tmp_path, biases):
    layers = make_layers(vgg19.PLACES_WITH_BATCH_NORM, biases=biases, batch_norm=True)
    found = vgg19.read_vgg(save(tmp_path / "vgg.ckpt", layers, "features."))
    source, place = vgg19.PLACES_WITH_BATCH_NORM[3], vgg19.PLACES[3]
    x = ms.Tensor(np.random.default_rng(1).normal(size=(1, 6, 5, 5)).astype(np.float32))
    convolve = lambda w, b: ms.ops.conv2d(x, ms.Tensor(w), ms.Tensor(b), pad_mode="same").asnumpy()  # noqa: E731
    plain = convolve(layers[f"{source}.weight"], layers.get(f"{source}.bias", np.zeros(6, np.float32)))
    gamma, beta, mean, variance = (
        layers[f"{source + 1}.{name}"][:, None, None] for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    expected = (plain - mean) / np.sqrt(variance + 1e-5) * gamma + beta
    got = convolve(found[f"layers.{place}.weight"], found[f"layers.{place}.bias"])
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("places", "lost"), [(vgg19.PLACES, "12.weight"), (vgg19.PLACES_WITH_BATCH_NORM, "18.moving_variance")])
def test_a_missing_tensor_is_named(tmp_path, places, lost):
    layers = make_layers(places, batch_norm=places is vgg19.PLACES_WITH_BATCH_NORM)
    del layers[lost]
    with pytest.raises(UserError, match=rf"tensor features\.{lost} is missing"):
        vgg19.read_vgg(save(tmp_path / "vgg.ckpt", layers, "features."))


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="not a VGG19"):
        vgg19.read_vgg(save(tmp_path / "other.ckpt", {"0.weight": np.zeros((2, 2), np.float32)}, "backbone."))
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(UserError, match="text"):
        vgg19.read_vgg(tmp_path / "text.ckpt")
    with pytest.raises(UserError, match="no such file"):
        vgg19.read_vgg(tmp_path / "absent.ckpt")
