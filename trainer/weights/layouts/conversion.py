"""What all layouts share: their result, and the functions that rename tensors and permute channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.skeleton import Pairs, Skeleton
from trainer.networks.config import NetworkConfig

Tensors = dict[str, np.ndarray]
OUR_INPUTS = ("features", "heatmaps", "pafs")  # order in which `trainer.networks.network.Network` concatenates
# Names of batch normalization's tensors here and in PyTorch.
NORMALIZATION = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
# (x - 128) / 256 = x / 256 - 0.5 of images that OpenCV has read.
CAFFE_PIXELS: dict[str, Any] = {"channel_order": "bgr", "pixel_mean": (128.0,) * 3, "pixel_std": (256.0,) * 3}


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where weights come from. published: the accuracy that their authors state; it was not measured here."""

    name: str
    url: str
    license: str
    published: str


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A pose network. tensors: float32, named as the parameters of `Network`. unused: names of the file's other tensors."""

    network: NetworkConfig
    skeleton: Skeleton
    tensors: Tensors
    source: Source
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImportedBackbone:
    """A backbone that was trained to classify images. tensors: float32, named `layers.N.…` as the parameters of a backbone.

    architectures: the architectures whose backbone it fits.
    """

    architectures: tuple[str, ...]
    tensors: Tensors
    source: Source
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FieldOrder:
    """Channels of a source's fields: `joints` of the heatmaps, then the background; x and y of each of `limbs`."""

    joints: tuple[str, ...]
    limbs: Pairs

    def heatmaps(self, skeleton: Skeleton) -> np.ndarray:
        """intp (J + 1,): the source's channel of each heatmap of `skeleton`."""
        return np.array([*(self.joints.index(joint) for joint in skeleton.joints), len(self.joints)])

    def pafs(self, skeleton: Skeleton) -> np.ndarray:
        """intp (2 L,): the source's channel of each PAF channel of `skeleton`."""
        limbs = [self.limbs.index(limb) for limb in skeleton.limbs]
        return np.array([2 * limb + component for limb in limbs for component in (0, 1)])

    def inputs(self, skeleton: Skeleton, order: Sequence[str], num_features: int) -> np.ndarray:
        """The source's input channel of each of ours, for a stage of the source that concatenates its inputs in `order`."""
        blocks = {
            "features": np.arange(num_features),
            "heatmaps": self.heatmaps(skeleton),
            "pafs": self.pafs(skeleton),
        }
        starts = {name: sum(len(blocks[before]) for before in order[:place]) for place, name in enumerate(order)}
        return np.concatenate([starts[name] + blocks[name] for name in OUR_INPUTS if name in order])


# CMU's POSE_COCO_BODY_PARTS, and POSE_BODY_PART_PAIRS sorted by POSE_MAP_INDEX (src/openpose/pose/poseParameters.cpp). The model
# zoo (src/model_utils/config.py: JointType, limbs_point) and Lightweight OpenPose (datasets/coco.py: BODY_PARTS_KPT_IDS) use the
# same order.
COCO_ORDER = FieldOrder(
    joints=(
        "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
        "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
        "right_eye", "left_eye", "right_ear", "left_ear",
    ),
    limbs=(
        ("neck", "right_hip"), ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
        ("neck", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
        ("neck", "right_shoulder"), ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
        ("right_shoulder", "right_ear"),
        ("neck", "left_shoulder"), ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
        ("left_shoulder", "left_ear"),
        ("neck", "nose"), ("nose", "right_eye"), ("nose", "left_eye"), ("right_eye", "right_ear"), ("left_eye", "left_ear"),
    ),
)  # fmt: skip


@dataclass(kw_only=True)
class Conversion:
    """Takes tensors of a source by name and collects those of our network in `tensors`.

    All methods raise UserError, naming the tensor, if one is missing or has another number of axes or channels.
    """

    source: Mapping[str, np.ndarray]
    tensors: Tensors = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def take(self, name: str, num_axes: int) -> np.ndarray:
        """Return a tensor of the source as float32."""
        tensor = take(self.source, name, num_axes)
        self.used.add(name)
        return tensor

    def width(self, name: str) -> int:
        """Return the number of output channels of the convolution `name`."""
        return len(self.take(f"{name}.weight", 4))

    def convolution(
        self,
        name: str,
        ours: str,
        *,
        has_bias: bool = True,
        inputs: np.ndarray | None = None,
        outputs: np.ndarray | None = None,
    ) -> None:
        """Take the convolution `name`. inputs, outputs: the source's channel of each of our channels; None keeps the order."""
        weight = self.take(f"{name}.weight", 4)
        for axis, channels in ((0, outputs), (1, inputs)):
            if channels is not None:
                if weight.shape[axis] != len(channels):
                    kind = ("output", "input")[axis]
                    raise UserError(f"tensor {name}.weight must have {len(channels)} {kind} channels, got {weight.shape[axis]}")
                weight = weight.take(channels, axis)
        self.tensors[f"{ours}.weight"] = np.ascontiguousarray(weight)
        if has_bias:
            bias = self.take(f"{name}.bias", 1)
            if len(bias) != len(weight):
                raise UserError(f"tensor {name}.bias must have {len(weight)} numbers, got {len(bias)}")
            self.tensors[f"{ours}.bias"] = bias if outputs is None else bias[outputs]

    def normalization(self, name: str, ours: str) -> None:
        """Take a batch normalization, named as in PyTorch or in MindSpore. Both add 1e-5 to the variance."""
        for own, other in NORMALIZATION.items():
            found = own if f"{name}.{own}" in self.source else other
            self.tensors[f"{ours}.{own}"] = self.take(f"{name}.{found}", 1)

    def slopes(self, name: str, ours: str) -> None:
        """Take the slopes of a PReLU."""
        self.tensors[f"{ours}.w"] = self.take(f"{name}.weight", 1)

    @property
    def unused(self) -> tuple[str, ...]:
        """Names of the source's tensors that were not taken, without PyTorch's counters of batches, which only training uses."""
        return tuple(sorted(name for name in self.source.keys() - self.used if not name.endswith(".num_batches_tracked")))


def take(source: Mapping[str, np.ndarray], name: str, num_axes: int) -> np.ndarray:
    """Return a tensor as float32. Raises UserError, naming it, if it is missing or is no weight with this number of axes."""
    if name not in source:
        raise UserError(f"tensor {name} is missing; the file is incomplete or belongs to another network")
    tensor = np.asarray(source[name])
    if tensor.ndim != num_axes or not tensor.size or tensor.dtype.kind not in "fiu":
        raise UserError(f"tensor {name} must be numbers with {num_axes} axes, got {tensor.dtype} {tensor.shape}")
    return tensor.astype(np.float32, copy=False)


def if_other(value: int, default: int) -> int | None:
    """Return `value` for an option of NetworkConfig whose default is another one; None if both are equal."""
    return None if value == default else value
