"""CMU's BODY_25 model (pose_iter_584000.caffemodel), the network of Cao et al. 2019 with 25 keypoints.

Facts from CMU-Perceptual-Computing-Lab/openpose: models/pose/body_25/pose_deploy.prototxt (PAF stages L2, then heatmap stages L1;
stages concatenate features, heatmaps, the last PAFs, as ours do; PReLU with one slope per channel), and
src/openpose/pose/poseParameters.cpp (POSE_BODY_25_BODY_PARTS; POSE_BODY_PART_PAIRS with the channels in POSE_MAP_INDEX).
"""

from collections.abc import Mapping

import numpy as np

from pipeline.errors import UserError
from pipeline.skeletons import read_skeleton
from trainer.networks.config import NetworkConfig
from trainer.weights.layouts.caffe_names import BACKBONE, CMU_LICENSE, NECK
from trainer.weights.layouts.conversion import CAFFE_PIXELS, Conversion, FieldOrder, Imported, Source, if_other
from trainer.weights.layouts.vgg import PLACES

SOURCE = Source(
    name="OpenPose, BODY_25 model of CMU",
    url="https://github.com/CMU-Perceptual-Computing-Lab/openpose",
    license=CMU_LICENSE,
    published="AP 0.642 on COCO test-dev, 0.651 on COCO val (Cao et al., TPAMI 2019, tables 3 and 4)",
)
ORDER = FieldOrder(
    joints=(
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist", "mid_hip",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
        "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
    ),
    limbs=(
        ("neck", "mid_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"), ("mid_hip", "right_hip"),
        ("mid_hip", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
        ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
        ("right_shoulder", "right_ear"),
        ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
        ("left_shoulder", "left_ear"),
        ("neck", "nose"), ("nose", "right_eye"), ("nose", "left_eye"), ("right_eye", "right_ear"), ("left_eye", "left_ear"),
        ("left_ankle", "left_big_toe"), ("left_big_toe", "left_small_toe"), ("left_ankle", "left_heel"),
        ("right_ankle", "right_big_toe"), ("right_big_toe", "right_small_toe"), ("right_ankle", "right_heel"),
    ),
)  # fmt: skip
SKELETON = read_skeleton("body25")
NUM_BLOCKS, CONVOLUTIONS_OF_A_BLOCK = 5, 3  # of a stage, as in trainer/networks/openpose2019.py
SUFFIXES = {"pafs": "L2", "heatmaps": "L1"}
FIRST = "Mconv1_stage0_L2_0.weight"


def recognizes(tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether these are the tensors of a network with the layer names of BODY_25."""
    return FIRST in tensors


def convert(tensors: Mapping[str, np.ndarray]) -> Imported:
    """Convert BODY_25. Raises UserError, naming the tensor, if one is missing or does not belong to 25 keypoints."""
    conversion = Conversion(source=tensors)
    for name, place in zip(BACKBONE, PLACES, strict=True):
        conversion.convolution(name, f"backbone.layers.{place}")
    conversion.slopes("prelu4_2", "neck.0")
    for number, name in enumerate(NECK, start=1):
        conversion.convolution(name, f"neck.{number}.0")
        conversion.slopes(f"prelu{name.removeprefix('conv')}", f"neck.{number}.1")
    num_stages = {branch: _take_stages(conversion, branch) for branch in SUFFIXES}
    return Imported(
        network=_network(conversion, **{f"num_{branch}": count for branch, count in num_stages.items()}),
        skeleton=SKELETON,
        tensors=conversion.tensors,
        source=SOURCE,
        unused=conversion.unused,
    )


def _take_stages(conversion: Conversion, branch: str) -> int:
    """Take the stages of one branch, PAFs first, and return their number."""
    suffix, stage = SUFFIXES[branch], 0
    num_pafs = sum(name.endswith(".pafs.6.weight") for name in conversion.tensors)
    while stage == 0 or f"Mconv1_stage{stage}_{suffix}_0.weight" in conversion.source:
        seen = ["features", *(["heatmaps"] if branch == "heatmaps" and stage else []), *(["pafs"] if stage + num_pafs else [])]
        _take_branch(conversion, f"stage{stage}_{suffix}", f"stages.{num_pafs + stage}.{branch}", branch, seen)
        stage += 1
    return stage


def _take_branch(conversion: Conversion, stage: str, ours: str, branch: str, seen: list[str]) -> None:
    for block in range(NUM_BLOCKS):
        for number in range(CONVOLUTIONS_OF_A_BLOCK):
            layer, own = f"{block + 1}_{stage}_{number}", f"{ours}.{block}.layers.{number}"
            inputs = ORDER.inputs(SKELETON, seen, conversion.width(NECK[-1])) if block == number == 0 else None
            conversion.convolution(f"Mconv{layer}", f"{own}.0", inputs=inputs)
            conversion.slopes(f"Mprelu{layer}", f"{own}.1")
    conversion.convolution(f"Mconv6_{stage}", f"{ours}.{NUM_BLOCKS}.0")
    conversion.slopes(f"Mprelu6_{stage}", f"{ours}.{NUM_BLOCKS}.1")
    outputs = ORDER.heatmaps(SKELETON) if branch == "heatmaps" else ORDER.pafs(SKELETON)
    conversion.convolution(f"Mconv7_{stage}", f"{ours}.{NUM_BLOCKS + 1}", outputs=outputs)


def _network(conversion: Conversion, *, num_pafs: int, num_heatmaps: int) -> NetworkConfig:
    """Return the network with the widths of the tensors."""
    if num_pafs < 2 and num_heatmaps < 2:
        raise UserError("tensor Mconv1_stage1_L2_0.weight is missing; the file is incomplete")
    later_stage = "stage1_L2" if num_pafs > 1 else "stage1_L1"
    first, later = conversion.width("Mconv1_stage0_L2_0"), conversion.width(f"Mconv1_{later_stage}_0")
    hidden = conversion.width(f"Mconv6_{later_stage}")
    return NetworkConfig(
        architecture="openpose-2019",
        backbone_channels=tuple(map(conversion.width, BACKBONE)),
        neck_channels=tuple(map(conversion.width, NECK)),
        num_stages=num_pafs + num_heatmaps,
        num_paf_stages=num_pafs,
        stage_channels=later,
        stage1_channels=if_other(first, later),
        stage1_hidden_channels=conversion.width("Mconv6_stage0_L2"),
        hidden_channels=if_other(hidden, later),
        **CAFFE_PIXELS,
    )
