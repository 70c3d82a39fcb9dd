"""VGG19 and VGG16 (Simonyan and Zisserman, ICLR 2015), trained on ImageNet: torchvision, MindCV, MindSpore's model zoo."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.errors import UserError
from trainer.weights.layouts.conversion import NORMALIZATION, ImportedBackbone, Source, Tensors, take

# Prefixes of the layers in torchvision and MindCV, in the model zoo, in its backbone alone, and in files of `import`.
PREFIXES = ("features.", "network.backbone.layers.", "layers.", "backbone.layers.")
# Indices of the convolutions in VGG19's list of layers. The backbone of our networks uses the same indices.
PLACES = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21)
CONV3_4 = 16
LAYERS: dict[str, tuple[Sequence[int], Sequence[int]]] = {  # name: (indices of our convolutions, indices in the file)
    "VGG19": (PLACES, PLACES),
    "VGG16": ([place for place in PLACES if place != CONV3_4], (0, 2, 5, 7, 10, 12, 14, 17, 19)),
    "VGG19 with batch normalization": (PLACES, (0, 3, 7, 10, 14, 17, 20, 23, 27, 30)),
    "VGG16 with batch normalization": ([place for place in PLACES if place != CONV3_4], (0, 3, 7, 10, 14, 17, 20, 24, 27)),
}
BATCH_NORM_EPSILON = 1e-5  # default of PyTorch and of mindspore.nn.BatchNorm2d
SOURCE = Source(
    name="VGG, trained on ImageNet",
    url="https://pytorch.org/vision/stable/models/vgg.html or https://github.com/mindspore-lab/mindcv",
    license="BSD-3-Clause (torchvision) or Apache-2.0 (MindCV, MindSpore model zoo); ImageNet's terms apply to the images",
    published="ImageNet top-1 accuracy 72.4% (torchvision, VGG19), 71.6% (VGG16)",
)


def find_prefix(tensors: Mapping[str, np.ndarray]) -> str | None:
    """Return the prefix of VGG's layers, or None if this is not VGG."""
    for prefix in PREFIXES:
        first, second = (tensors.get(f"{prefix}{place}.weight") for place in (0, 2))
        with_norm = tensors.get(f"{prefix}3.weight")
        following = second if second is not None and second.ndim == 4 else with_norm
        if first is not None and first.ndim == 4 and following is not None and following.ndim == 4 and following.shape[1] > 1:
            return prefix
    return None


def recognizes(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the tensors of VGG, and of nothing that follows it in a pose network."""
    return find_prefix(tensors) is not None and not any("neck." in name for name in tensors)


def convert(tensors: Mapping[str, np.ndarray]) -> ImportedBackbone:
    """Convert VGG. Raises UserError, naming the tensor, if one is missing."""
    prefix = find_prefix(tensors)
    if prefix is None:
        raise UserError(f"not a VGG network: expected one of {', '.join(f'{p}0.weight' for p in PREFIXES)}")
    layers, used = backbone_layers(tensors, prefix)
    unused = tuple(sorted(tensors.keys() - used))
    return ImportedBackbone(architectures=("openpose", "openpose-2019"), tensors=layers, source=SOURCE, unused=unused)


def backbone_layers(tensors: Mapping[str, np.ndarray], prefix: str) -> tuple[Tensors, set[str]]:
    """Return `layers.N.weight` float32 (out, in, 3, 3) and `layers.N.bias` float32 (out,) for every N in PLACES, and the names used.

    Missing biases are zero. Batch normalization is folded into the convolution before it. VGG16 has no conv3_4: this layer
    becomes the identity, so that the backbone computes VGG16's conv4_2. Raises UserError, naming the tensor, if one is missing.
    """
    source = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    network = min(LAYERS, key=lambda name: sum(not _is_convolution(source, place) for place in LAYERS[name][1]))
    found: Tensors = {}
    used: set[str] = set()

    def get(name: str, num_axes: int) -> np.ndarray:
        used.add(prefix + name)
        return take(tensors, prefix + name, num_axes)

    for place, origin in zip(*LAYERS[network], strict=True):
        weight = get(f"{origin}.weight", 4)
        bias = get(f"{origin}.bias", 1) if f"{origin}.bias" in source else np.zeros(len(weight), np.float32)
        vectors = []
        if "normalization" in network:
            names = [name if f"{origin + 1}.{name}" in source else other for name, other in NORMALIZATION.items()]
            vectors = [get(f"{origin + 1}.{name}", 1) for name in names]
        if any(len(vector) != len(weight) for vector in (bias, *vectors)):
            raise UserError(f"tensor {prefix}{origin}.weight has {len(weight)} outputs, its bias or normalization another number")
        if vectors:
            weight, bias = _fold(weight, bias, *(vector.astype(np.float64) for vector in vectors))
        found |= {f"layers.{place}.weight": weight.astype(np.float32), f"layers.{place}.bias": bias.astype(np.float32)}
    if "VGG16" in network:  # its input is not negative, so that the ReLU behind it changes nothing
        channels = len(found["layers.14.bias"])
        identity = np.zeros((channels, channels, 3, 3), np.float32)
        identity[range(channels), range(channels), 1, 1] = 1
        found |= {f"layers.{CONV3_4}.weight": identity, f"layers.{CONV3_4}.bias": np.zeros(channels, np.float32)}
    return found, used


def _is_convolution(layers: Mapping[str, np.ndarray], place: int) -> bool:
    return f"{place}.weight" in layers and layers[f"{place}.weight"].ndim == 4


def _fold(
    weight: np.ndarray, bias: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fold batch normalization at inference (Ioffe and Szegedy, ICML 2015) into the convolution before it."""
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    return weight * scale[:, None, None, None], (bias - mean) * scale + beta
