"""Reader of MindSpore checkpoints of VGG19 trained on ImageNet. Reads the first ten convolutions."""

from pathlib import Path

import mindspore as ms
import numpy as np

from pipeline.errors import UserError

Arrays = dict[str, np.ndarray]

# Names of the layers in the model zoo, in its backbone alone, and in MindCV.
PREFIXES = ("network.backbone.layers.", "layers.", "features.")
# Indices of the ten convolutions in VGG19's list of layers. The backbone of our networks uses the same indices.
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21)
PLACES_WITH_BATCH_NORM = (0, 3, 7, 10, 14, 17, 20, 23, 27, 30)
BATCH_NORM_EPSILON = 1e-5  # default of mindspore.nn.BatchNorm2d, with which these networks were trained


def read_vgg(path: Path) -> Arrays:
    """Return `layers.N.weight` float32 (out, in, 3, 3) and `layers.N.bias` float32 (out,) for every N in PLACES.

    Missing biases are zero. Batch normalization is folded into the convolution before it. Raises UserError, naming the file and the
    tensor, if a weight is missing.
    """
    tensors = _read(path)
    prefix = next((p for p in PREFIXES if f"{p}0.weight" in tensors), None)
    if prefix is None:
        expected = ", ".join(f"{p}0.weight" for p in PREFIXES)
        first = next(iter(tensors), "none")
        raise UserError(f"--vgg-path {path}: not a VGG19 checkpoint: expected one of {expected}, but the first tensor is {first}")
    layers = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    folded = _is_convolution(layers, PLACES_WITH_BATCH_NORM[1]) and not _is_convolution(layers, PLACES[1])
    found: Arrays = {}
    for place, source in zip(PLACES, PLACES_WITH_BATCH_NORM if folded else PLACES, strict=True):
        weight = _take(layers, f"{source}.weight", path, prefix)
        bias = layers.get(f"{source}.bias", np.zeros(len(weight), np.float32))
        if folded:
            weight, bias = _fold(weight, bias, layers, source + 1, path, prefix)
        found |= {f"layers.{place}.weight": weight.astype(np.float32), f"layers.{place}.bias": bias.astype(np.float32)}
    return found


def _read(path: Path) -> Arrays:
    if not Path(path).is_file():
        raise UserError(f"--vgg-path {path}: no such file")
    try:
        return {name: p.asnumpy() for name, p in ms.load_checkpoint(str(path)).items() if isinstance(p, ms.Tensor)}
    except (ValueError, RuntimeError, OSError, TypeError) as error:
        cause = str(error).strip().splitlines()[0]
        raise UserError(f"--vgg-path {path}: not a MindSpore checkpoint ({cause})") from error


def _is_convolution(layers: Arrays, place: int) -> bool:
    return f"{place}.weight" in layers and layers[f"{place}.weight"].ndim == 4


def _take(layers: Arrays, name: str, path: Path, prefix: str) -> np.ndarray:
    if name not in layers:
        raise UserError(f"--vgg-path {path}: tensor {prefix}{name} is missing; use a complete VGG19 checkpoint")
    return layers[name]


def _fold(
    weight: np.ndarray, bias: np.ndarray, layers: Arrays, place: int, path: Path, prefix: str
) -> tuple[np.ndarray, np.ndarray]:
    """Fold batch normalization at inference (Ioffe and Szegedy, ICML 2015) into the convolution before it."""
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    gamma, beta, mean, variance = (_take(layers, f"{place}.{name}", path, prefix).astype(np.float64) for name in names)
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    return weight * scale[:, None, None, None], (bias - mean) * scale + beta
