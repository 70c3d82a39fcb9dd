"""Lightweight OpenPose (Osokin 2018): checkpoints of Daniil-Osokin/lightweight-human-pose-estimation.pytorch.

Facts from that repository: models/with_mobilenet.py (layers, and stages that concatenate features, heatmaps, PAFs, as ours do),
datasets/coco.py (channels of the fields), README.md (BGR, mean 128, scale 1 / 256).
"""

from collections.abc import Mapping

import numpy as np

from pipeline.skeletons import COCO18
from trainer.networks.config import NetworkConfig
from trainer.weights.layouts.conversion import CAFFE_PIXELS, COCO_ORDER, Conversion, Imported, Source, if_other
from trainer.weights.layouts.mobilenet import take_layers

SOURCE = Source(
    name="Lightweight OpenPose",
    url="https://github.com/Daniil-Osokin/lightweight-human-pose-estimation.pytorch",
    license="Apache-2.0",
    published="AP 0.40 on COCO val2017, single scale",
)
INPUTS = ("features", "heatmaps", "pafs")
NUM_BLOCKS = 5


def recognizes(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the tensors of Lightweight OpenPose."""
    return "cpm.align.0.weight" in tensors and "initial_stage.trunk.0.0.weight" in tensors


def convert(tensors: Mapping[str, np.ndarray]) -> Imported:
    """Convert Lightweight OpenPose with any number of refinement stages. Raises UserError, naming the tensor."""
    conversion = Conversion(source=tensors)
    backbone = take_layers(conversion, "backbone.layers")
    _take_neck(conversion)
    num_features = conversion.width("cpm.conv.0")
    _take_first_stage(conversion)
    num_stages = 1
    while f"refinement_stages.{num_stages - 1}.trunk.0.initial.0.weight" in tensors:
        _take_later_stage(conversion, num_stages, num_features)
        num_stages += 1
    first = conversion.width("initial_stage.trunk.2.0")
    first_hidden = conversion.width("initial_stage.heatmaps.0.0")
    later = conversion.width("refinement_stages.0.trunk.0.initial.0") if num_stages > 1 else first
    later_hidden = conversion.width("refinement_stages.0.heatmaps.0.0") if num_stages > 1 else later
    network = NetworkConfig(
        architecture="lightweight",
        backbone_channels=backbone,
        neck_channels=(num_features,),
        num_stages=num_stages,
        stage_channels=later,
        stage1_channels=if_other(first, later),
        stage1_hidden_channels=first_hidden,
        hidden_channels=if_other(later_hidden, later),
        **CAFFE_PIXELS,
    )
    return Imported(network=network, skeleton=COCO18, tensors=conversion.tensors, source=SOURCE, unused=conversion.unused)


def _take_neck(conversion: Conversion) -> None:
    conversion.convolution("cpm.align.0", "neck.align.0")
    for number in range(3):
        for place in (0, 2):  # each convolution is followed by ELU
            conversion.convolution(f"cpm.trunk.{number}.{place}", f"neck.residual.{4 * number + place}", has_bias=False)
    conversion.convolution("cpm.conv.0", "neck.layers.0")


def _take_first_stage(conversion: Conversion) -> None:
    for number in range(3):
        conversion.convolution(f"initial_stage.trunk.{number}.0", f"stages.0.shared.{2 * number}")
    _take_branches(conversion, "initial_stage", "stages.0")


def _take_later_stage(conversion: Conversion, stage: int, num_features: int) -> None:
    theirs, ours = f"refinement_stages.{stage - 1}", f"stages.{stage}"
    for number in range(NUM_BLOCKS):
        block, own = f"{theirs}.trunk.{number}", f"{ours}.shared.{number}"
        inputs = None if number else COCO_ORDER.inputs(COCO18, INPUTS, num_features)
        conversion.convolution(f"{block}.initial.0", f"{own}.first.0", inputs=inputs)
        for place in (0, 1):
            conversion.convolution(f"{block}.trunk.{place}.0", f"{own}.residual.{3 * place}")
            conversion.normalization(f"{block}.trunk.{place}.1", f"{own}.residual.{3 * place + 1}")
    _take_branches(conversion, theirs, ours)


def _take_branches(conversion: Conversion, theirs: str, ours: str) -> None:
    for name, outputs in (("heatmaps", COCO_ORDER.heatmaps(COCO18)), ("pafs", COCO_ORDER.pafs(COCO18))):
        conversion.convolution(f"{theirs}.{name}.0.0", f"{ours}.{name}.0")
        conversion.convolution(f"{theirs}.{name}.1.0", f"{ours}.{name}.2", outputs=outputs)
