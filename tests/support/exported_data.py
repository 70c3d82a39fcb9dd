"""A tiny network with random weights as a checkpoint and as an exported file, for the tests of engines and of prediction."""

import dataclasses

import cv2
import mindspore as ms
import numpy as np
from trainer_data import TINY, make_info

from evaluator.__main__ import COMMANDS
from pipeline.cli import main
from pipeline.skeletons import COCO18
from trainer.networks.inference import build
from trainer.run import checkpoint

# Fields of random weights are noise, in which the default settings find no peaks.
NOISE_OPTIONS = ("--noise-factor", "0")


def randomize(network) -> None:
    """Set weights such that fields are about 1 and batch normalization has an effect, so that differences are visible."""
    rng = np.random.default_rng(0)
    for parameter in network.get_parameters():
        fan_in = max(1, int(np.prod(parameter.shape[1:])))
        values = (
            rng.standard_normal(parameter.shape) * np.sqrt(2 / fan_in)
            if parameter.ndim > 1
            else rng.uniform(0.1, 0.4, parameter.shape)
        )
        parameter.set_data(ms.Tensor(values.astype(np.float32)))


def save_network(folder, config=TINY):
    """Write a checkpoint with random weights. Returns its path."""
    network = build(config, COCO18)
    randomize(network)
    tensors = {checkpoint.NETWORK + name: p.asnumpy() for name, p in network.parameters_dict().items()}
    path = folder / "step-00000007.safetensors"
    checkpoint.save_checkpoint(path, make_info(network=dataclasses.asdict(config)), tensors)
    return path


def export(path, out, *options):
    """Export a checkpoint with decoder settings for noise. Returns the path of the network."""
    words = ("export", "--checkpoint", path, "--format", "ONNX", "--out", out, *NOISE_OPTIONS, *options)
    assert main("python -m evaluator", "", COMMANDS, list(map(str, words))) == 0
    return out


def write_photo(path, seed=0, size=(150, 99)):
    """Write an image of smooth noise, in which random weights find people. Returns its pixels, uint8 RGB (H, W, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    image = cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return image
