"""CMU's COCO model (pose_iter_440000.caffemodel), and its conversion pytorch-openpose (body_pose_model.pth): the same layer names.

Facts from models/pose/coco/pose_deploy_linevec.prototxt of CMU-Perceptual-Computing-Lab/openpose: stages concatenate PAFs (L1),
heatmaps (L2), features; pixels are BGR / 256 - 0.5. No activation follows the fields of a stage. (The code of pytorch-openpose,
src/model.py, applies a ReLU to the heatmaps of stage 6. Its weights are CMU's, and this is CMU's network: max(heatmaps, 0) gives
what that code returns.)
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.skeletons import COCO18
from trainer.networks.config import NetworkConfig
from trainer.weights.layouts.conversion import CAFFE_PIXELS, COCO_ORDER, Conversion, Imported, Source, if_other
from trainer.weights.layouts.vgg import PLACES

CMU_LICENSE = "CMU OpenPose license: academic or non-profit organizations, noncommercial research use only, no distribution"
SOURCE = Source(
    name="OpenPose, COCO model of CMU",
    url="https://github.com/CMU-Perceptual-Computing-Lab/openpose",
    license=CMU_LICENSE,
    published="AP 0.584 on 1,160 images of COCO val; 0.618 on test-dev, refined with a second network (Cao et al., CVPR 2017)",
)
BACKBONE = (
    "conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv3_4", "conv4_1", "conv4_2",
)  # fmt: skip
NECK = ("conv4_3_CPM", "conv4_4_CPM")
BRANCHES = {"pafs": "L1", "heatmaps": "L2"}
INPUTS = ("pafs", "heatmaps", "features")
NUM_LAYERS, NUM_LATER_LAYERS = 5, 7  # of a branch of the first stage, and of a later one


def recognizes(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the tensors of a network with the layer names of CMU's COCO model."""
    names = _without_modules(tensors)
    return "conv4_3_CPM.weight" in names and "conv5_1_CPM_L1.weight" in names


def convert(tensors: Mapping[str, np.ndarray]) -> Imported:
    """Convert CMU's COCO model. Raises UserError, naming the tensor; also for CMU's MPI model, whose skeleton is another one."""
    return convert_names(_without_modules(tensors), SOURCE)


def convert_names(tensors: Mapping[str, np.ndarray], source: Source, pixels: Mapping[str, Any] = CAFFE_PIXELS) -> Imported:
    """Convert tensors with CMU's layer names."""
    conversion = Conversion(source=tensors)
    for name, place in zip(BACKBONE, PLACES, strict=True):
        conversion.convolution(name, f"backbone.layers.{place}")
    for number, name in enumerate(NECK):
        conversion.convolution(name, f"neck.{2 * number}")
    num_features = conversion.width(NECK[-1])
    num_stages = 1
    _take_stage(conversion, 0, num_features)
    while f"Mconv1_stage{num_stages + 1}_L1.weight" in tensors:
        _take_stage(conversion, num_stages, num_features)
        num_stages += 1
    return Imported(
        network=_network(conversion, num_stages, pixels),
        skeleton=COCO18,
        tensors=conversion.tensors,
        source=source,
        unused=conversion.unused,
    )


def _without_modules(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Remove the prefixes `model0.`, `model1_1.` … of pytorch-openpose's modules, which a saved state of the network has."""
    return {re.sub(r"^model\d(_\d)?\.", "", name): tensor for name, tensor in tensors.items()}


def layer_names(stage: int, branch: str) -> list[str]:
    """Return CMU's names of the layers of a branch. stage: from 0."""
    suffix = BRANCHES[branch]
    if stage == 0:
        return [f"conv5_{number}_CPM_{suffix}" for number in range(1, NUM_LAYERS + 1)]
    return [f"Mconv{number}_stage{stage + 1}_{suffix}" for number in range(1, NUM_LATER_LAYERS + 1)]


def _take_stage(conversion: Conversion, stage: int, num_features: int) -> None:
    outputs = {"heatmaps": COCO_ORDER.heatmaps(COCO18), "pafs": COCO_ORDER.pafs(COCO18)}
    for branch, fields in outputs.items():
        names = layer_names(stage, branch)
        if (width := conversion.width(names[-1])) != len(fields):
            raise UserError(
                f"tensor {names[-1]}.weight has {width} output channels; COCO's 18 joints have {len(fields)} {branch}"
            )
        for number, name in enumerate(names):
            conversion.convolution(
                name,
                f"stages.{stage}.{branch}.{2 * number}",
                inputs=COCO_ORDER.inputs(COCO18, INPUTS, num_features) if stage and not number else None,
                outputs=fields if name == names[-1] else None,
            )


def _network(conversion: Conversion, num_stages: int, pixels: Mapping[str, Any]) -> NetworkConfig:
    """Return the network with the widths of the tensors."""
    first_names = layer_names(0, "pafs")
    first, first_hidden = conversion.width(first_names[0]), conversion.width(first_names[3])
    later, hidden, kernel_size = first, first, NetworkConfig.kernel_size
    if num_stages > 1:
        names = layer_names(1, "pafs")
        later, hidden = conversion.width(names[0]), conversion.width(names[5])
        kernel_size = conversion.take(f"{names[0]}.weight", 4).shape[-1]
    return NetworkConfig(
        backbone_channels=tuple(map(conversion.width, BACKBONE)),
        neck_channels=tuple(map(conversion.width, NECK)),
        num_stages=num_stages,
        stage_channels=later,
        stage1_channels=if_other(first, later),
        stage1_hidden_channels=first_hidden,
        hidden_channels=if_other(hidden, later),
        kernel_size=kernel_size,
        **pixels,
    )
