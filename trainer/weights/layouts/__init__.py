"""Layouts of published weights: how another project names its tensors and orders its channels, one module per source.

A layout takes the file's tensors by name and returns those of our network. The names of LAYOUTS are the choices of
`python -m trainer import --from`.
"""

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from pipeline.errors import UserError
from pipeline.wording import printable
from trainer.weights.layouts import body25, caffe_names, lightweight_openpose, mobilenet, model_zoo, vgg
from trainer.weights.layouts.conversion import Imported, ImportedBackbone

# Each module has SOURCE, recognizes(tensors) and convert(tensors). Pose networks come before the backbones that they contain.
LAYOUTS: dict[str, ModuleType] = {
    "model-zoo": model_zoo,
    "lightweight": lightweight_openpose,
    "openpose-coco": caffe_names,
    "openpose-body25": body25,
    "vgg": vgg,
    "mobilenet": mobilenet,
}
MAX_NAMES, MAX_CHARACTERS = 3, 80


def convert(tensors: Mapping[str, np.ndarray], layout: str | None = None) -> Imported | ImportedBackbone:
    """Convert tensors of the given layout, or of the first one that recognizes them. Raises UserError without the file's name."""
    if layout is None:
        layout = next((name for name, module in LAYOUTS.items() if module.recognizes(tensors)), None)
    if layout is None and any(name.startswith("network.stages.") for name in tensors):
        raise UserError(
            "already a checkpoint of this project; use it as it is, for example as --pretrained-model-path of `train`"
        )
    if layout is None:
        first = ", ".join(printable(name[:MAX_CHARACTERS]) for name in list(tensors)[:MAX_NAMES]) or "none"
        raise UserError(
            f"the tensors ({len(tensors)}; the first are {first}) belong to no known network; known are "
            f"{', '.join(module.SOURCE.name for module in LAYOUTS.values())}"
        )
    try:
        result: Imported | ImportedBackbone = LAYOUTS[layout].convert(tensors)
    except ValueError as error:  # of NetworkConfig: widths, kernel size or number of stages
        raise UserError(f"no network of this project has the shape of the tensors: {error}") from error
    for name, tensor in result.tensors.items():
        if not np.isfinite(tensor).all():
            raise UserError(f"tensor {name} has values that are not finite; the file is damaged")
    return result
