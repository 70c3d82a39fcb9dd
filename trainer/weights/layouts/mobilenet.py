"""MobileNet v1 (Howard et al., 2017), trained on ImageNet: pytorch-mobilenet, with which Lightweight OpenPose starts, and MindCV."""

from collections.abc import Mapping

import numpy as np

from pipeline.errors import UserError
from trainer.networks.config import NUM_MOBILENET_LAYERS
from trainer.weights.layouts.conversion import Conversion, ImportedBackbone, Source

SOURCE = Source(
    name="MobileNet v1, trained on ImageNet",
    url="https://github.com/marvis/pytorch-mobilenet or https://github.com/mindspore-lab/mindcv",
    license="Apache-2.0 (MindCV); pytorch-mobilenet states no license; ImageNet's terms apply to the images",
    published="ImageNet top-1 accuracy 68.8% (pytorch-mobilenet)",
)
OURS = "backbone.layers."  # in files of `import`


def _layers(tensors: Mapping[str, np.ndarray]) -> tuple[str, str, list[str]] | None:
    """Return the names of the first convolution and its normalization, and the prefixes of the separable convolutions."""
    numbers = range(1, NUM_MOBILENET_LAYERS)
    if "model.0.0.weight" in tensors and "model.1.3.weight" in tensors:  # pytorch-mobilenet and Lightweight OpenPose
        return "model.0.0", "model.0.1", [f"model.{number}." for number in numbers]
    if "features.0.weight" in tensors and "features.3.3.weight" in tensors:  # MindCV
        return "features.0", "features.1", [f"features.{number + 2}." for number in numbers]
    return None


def recognizes(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the tensors of MobileNet v1, and of nothing that follows it in a pose network."""
    pose = any(name.startswith(("cpm.", "neck.")) for name in tensors)
    return not pose and (_layers(tensors) is not None or _is_imported(tensors))


def _is_imported(tensors: Mapping[str, np.ndarray]) -> bool:
    depthwise = tensors.get(f"{OURS}3.weight")
    return depthwise is not None and depthwise.ndim == 4 and depthwise.shape[1] == 1


def convert(tensors: Mapping[str, np.ndarray]) -> ImportedBackbone:
    """Convert MobileNet v1. Raises UserError, naming the tensor, if one is missing."""
    if _is_imported(tensors):
        layers = {name.removeprefix("backbone."): np.asarray(value) for name, value in tensors.items() if name.startswith(OURS)}
        return ImportedBackbone(architectures=("lightweight",), tensors=layers, source=SOURCE)
    conversion = Conversion(source=tensors)
    take_layers(conversion, "layers")
    return ImportedBackbone(architectures=("lightweight",), tensors=conversion.tensors, source=SOURCE, unused=conversion.unused)


def take_layers(conversion: Conversion, ours: str) -> tuple[int, ...]:
    """Take the twelve layers up to conv5_5, and return their output channels. Raises UserError if this is not MobileNet."""
    found = _layers(conversion.source)
    if found is None:
        raise UserError(
            "not MobileNet v1: expected model.0.0.weight and model.1.3.weight, or features.0.weight and features.3.3.weight"
        )
    first, norm, blocks = found
    conversion.convolution(first, f"{ours}.0", has_bias=False)
    conversion.normalization(norm, f"{ours}.1")
    for number, block in enumerate(blocks):
        start = 3 + 6 * number  # after convolution, normalization and ReLU, and six layers for each separable convolution
        for place in (0, 3):
            conversion.convolution(f"{block}{place}", f"{ours}.{start + place}", has_bias=False)
            conversion.normalization(f"{block}{place + 1}", f"{ours}.{start + place + 1}")
    return (conversion.width(first), *(conversion.width(f"{block}3") for block in blocks))
