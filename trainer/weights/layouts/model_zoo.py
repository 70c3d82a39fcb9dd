"""OpenPose of MindSpore's model zoo (mindspore-ai/models, official/cv/OpenPose), also with batch normalization in VGG.

Facts from that folder: src/openposenet.py (layers, and stages that concatenate PAFs (L1), heatmaps (L2), features),
src/model_utils/config.py (channels of the fields), src/dataset.py (BGR, x / 255 - 0.5).
"""

from collections.abc import Mapping

import numpy as np

from pipeline.errors import UserError
from trainer.weights.layouts.caffe_names import BACKBONE, BRANCHES, NECK, convert_names, layer_names
from trainer.weights.layouts.conversion import Imported, Source
from trainer.weights.layouts.vgg import PLACES, backbone_layers

SOURCE = Source(
    name="OpenPose of MindSpore's model zoo",
    url="https://gitee.com/mindspore/models/tree/master/official/cv/OpenPose",
    license="Apache-2.0",
    published="AP 0.403 on COCO val2017",
)
PIXELS = {"channel_order": "bgr", "pixel_mean": (127.5,) * 3, "pixel_std": (255.0,) * 3}
VGG = "base.vgg_base.layers."


def recognizes(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the tensors of the model zoo's network."""
    return _prefix(tensors) is not None


def convert(tensors: Mapping[str, np.ndarray]) -> Imported:
    """Convert the model zoo's network, without the optimizer's moments. Raises UserError, naming the tensor, if one is missing."""
    prefix = _prefix(tensors)
    if prefix is None:
        raise UserError(f"not the model zoo's OpenPose: expected network.{VGG}0.weight")
    layers, used = backbone_layers(tensors, prefix + VGG)
    renamed: dict[str, np.ndarray] = {}
    for name, place in zip(BACKBONE, PLACES, strict=True):
        renamed |= {f"{name}.{kind}": layers[f"layers.{place}.{kind}"] for kind in ("weight", "bias")}
    for theirs, cmu in _names(tensors, prefix):
        for kind in ("weight", "bias"):
            if (name := f"{prefix}{theirs}.{kind}") not in tensors:
                raise UserError(f"tensor {name} is missing; the file is incomplete")
            renamed[f"{cmu}.{kind}"] = tensors[name]
            used.add(name)
    imported = convert_names(renamed, SOURCE, PIXELS)
    return Imported(
        network=imported.network,
        skeleton=imported.skeleton,
        tensors=imported.tensors,
        source=SOURCE,
        unused=tuple(sorted(tensors.keys() - used)),
    )


def _prefix(tensors: Mapping[str, np.ndarray]) -> str | None:
    """Return what precedes `base.`: `network.` in the model zoo's checkpoints, and more for the optimizer's moments."""
    first = f"{VGG}0.weight"
    return min((name.removesuffix(first) for name in tensors if name.endswith(first)), key=len, default=None)


def _names(tensors: Mapping[str, np.ndarray], prefix: str) -> list[tuple[str, str]]:
    """Return the model zoo's names and CMU's names of all layers behind VGG."""
    names = [(f"base.{name}", name) for name in NECK]
    stage = 0
    while stage == 0 or f"{prefix}stage_{stage + 1}.conv1_L1.weight" in tensors:
        for branch, suffix in BRANCHES.items():
            ending = f"CPM_{suffix}" if stage == 0 else suffix
            for number, cmu in enumerate(layer_names(stage, branch), start=1):
                names.append((f"stage_{stage + 1}.conv{number}_{ending}", cmu))
        stage += 1
    return names
