"""Networks of other projects, computed literally in NumPy with their own tensor names: the reference for `import`.

Each class has `tensors` (random, narrow) and `stages(pixels)`, which returns heatmaps and PAFs of every stage in the original's
channel order. Structure, order of concatenation, activations and pixel normalization follow the projects' files named below.
"""

import numpy as np

EPSILON = 1e-5  # torch.nn.BatchNorm2d, mindspore.nn.BatchNorm2d


def _words(text: str) -> list[str]:
    return text.split()


# CMU-Perceptual-Computing-Lab/openpose, src/openpose/pose/poseParameters.cpp: parts, pairs, and the channels of each pair.
CMU_COCO_PARTS = _words(
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar"
)
CMU_COCO_PAIRS = [
    1, 2, 1, 5, 2, 3, 3, 4, 5, 6, 6, 7, 1, 8, 8, 9, 9, 10, 1, 11, 11, 12, 12, 13, 1, 0, 0, 14, 14, 16, 0, 15, 15, 17, 2, 16, 5, 17,
]  # fmt: skip
CMU_COCO_CHANNELS = [
    12, 13, 20, 21, 14, 15, 16, 17, 22, 23, 24, 25, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 28, 29, 30, 31, 34, 35, 32, 33, 36, 37,
    18, 19, 26, 27,
]  # fmt: skip
BODY_25_PARTS = _words(
    "Nose Neck RShoulder RElbow RWrist LShoulder LElbow LWrist MidHip RHip RKnee RAnkle LHip LKnee LAnkle REye LEye REar LEar "
    "LBigToe LSmallToe LHeel RBigToe RSmallToe RHeel"
)
BODY_25_PAIRS = [
    1, 8, 1, 2, 1, 5, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9, 10, 10, 11, 8, 12, 12, 13, 13, 14, 1, 0, 0, 15, 15, 17, 0, 16, 16, 18,
    2, 17, 5, 18, 14, 19, 19, 20, 14, 21, 11, 22, 22, 23, 11, 24,
]  # fmt: skip
BODY_25_CHANNELS = [
    0, 1, 14, 15, 22, 23, 16, 17, 18, 19, 24, 25, 26, 27, 6, 7, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13, 30, 31, 32, 33, 36, 37, 34, 35,
    38, 39, 20, 21, 28, 29, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51,
]  # fmt: skip
# mindspore-ai/models, official/cv/OpenPose/src/model_utils/config.py: JointType, limbs_point.
ZOO_PARTS = _words(
    "Nose Neck RightShoulder RightElbow RightHand LeftShoulder LeftElbow LeftHand RightWaist RightKnee RightFoot LeftWaist "
    "LeftKnee LeftFoot RightEye LeftEye RightEar LeftEar"
)
ZOO_PAIRS = _words(
    "Neck RightWaist RightWaist RightKnee RightKnee RightFoot Neck LeftWaist LeftWaist LeftKnee LeftKnee LeftFoot "
    "Neck RightShoulder RightShoulder RightElbow RightElbow RightHand RightShoulder RightEar "
    "Neck LeftShoulder LeftShoulder LeftElbow LeftElbow LeftHand LeftShoulder LeftEar "
    "Neck Nose Nose RightEye Nose LeftEye RightEye RightEar LeftEye LeftEar"
)
# Daniil-Osokin/lightweight-human-pose-estimation.pytorch, modules/keypoints.py: BODY_PARTS_KPT_IDS, BODY_PARTS_PAF_IDS.
LIGHTWEIGHT_PAIRS = [
    1, 2, 1, 5, 2, 3, 3, 4, 5, 6, 6, 7, 1, 8, 8, 9, 9, 10, 1, 11, 11, 12, 12, 13, 1, 0, 0, 14, 14, 16, 0, 15, 15, 17, 2, 16, 5, 17,
]  # fmt: skip
LIGHTWEIGHT_CHANNELS = [
    12, 13, 20, 21, 14, 15, 16, 17, 22, 23, 24, 25, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 28, 29, 30, 31, 34, 35, 32, 33, 36, 37,
    18, 19, 26, 27,
]  # fmt: skip


def convolve(x: np.ndarray, weight: np.ndarray, bias=0.0, *, stride=1, dilation=1, groups=1) -> np.ndarray:
    """A square convolution in float64, padded such that the size stays: (C, H, W) -> (C', H', W')."""
    size = weight.shape[-1]
    margin = dilation * (size // 2)
    x = np.pad(x, ((0, 0), (margin, margin), (margin, margin)))
    reach = dilation * (size - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(x, (reach, reach), (1, 2))[:, ::stride, ::stride, ::dilation, ::dilation]
    parts = zip(np.split(windows, groups), np.split(weight.astype(np.float64), groups), strict=True)
    y = np.concatenate([np.einsum("chwij,ocij->ohw", part, filters) for part, filters in parts])
    return y + np.reshape(bias, (-1, 1, 1))


def pool(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), x.shape[1] // 2, 2, x.shape[2] // 2, 2).max((2, 4))


def relu(x):
    return np.maximum(x, 0)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


class Original:
    """Tensors by name, created when a layer is first used."""

    def __init__(self, seed: int, *, prefix: str = "") -> None:
        self.rng, self.prefix = np.random.default_rng(seed), prefix
        self.tensors: dict[str, np.ndarray] = {}

    def tensor(self, name: str, make) -> np.ndarray:
        name = self.prefix + name
        if name not in self.tensors:
            self.tensors[name] = np.asarray(make(), np.float32)
        return self.tensors[name]

    def conv(self, x, name, channels, size, *, bias=True, **shape):
        """A convolution whose weights keep the signal's size; 0.3 is a large bias."""
        fan_in = size**2 * len(x) // shape.get("groups", 1)
        dims = (channels, len(x) // shape.get("groups", 1), size, size)
        weight = self.tensor(f"{name}.weight", lambda: self.rng.normal(0, np.sqrt(2 / fan_in), dims))
        return convolve(x, weight, self.tensor(f"{name}.bias", lambda: self.rng.normal(0, 0.3, channels)) if bias else 0, **shape)

    def norm(self, x, name, *, torch=True):
        names = (
            ("weight", "bias", "running_mean", "running_var") if torch else ("gamma", "beta", "moving_mean", "moving_variance")
        )
        ranges = ((0.5, 1.5), (-0.3, 0.3), (-0.5, 0.5), (1e-5, 2.0))  # variances near 0 make epsilon visible
        gamma, beta, mean, variance = (
            self.tensor(f"{name}.{kind}", lambda low=low, high=high: self.rng.uniform(low, high, len(x)))[:, None, None].astype(
                float
            )
            for kind, (low, high) in zip(names, ranges, strict=True)
        )
        return (x - mean) / np.sqrt(variance + EPSILON) * gamma + beta

    def prelu(self, x, name):
        slopes = self.tensor(f"{name}.weight", lambda: self.rng.uniform(-0.2, 0.5, len(x)))[:, None, None]
        return np.where(x > 0, x, slopes * x)


VGG19 = (3, 4, "M", 5, 4, "M", 5, 4, 6, 5, "M", 6, 7)
VGG16 = (3, 4, "M", 5, 4, "M", 5, 4, 6, "M", 6, 7)


def vgg(net: Original, x, widths, prefix: str, *, norm: str | None = None):
    """torchvision/models/vgg.py and the model zoo's Vgg: a list of layers. norm: "torch" or "mindspore"."""
    place = 0
    for width in widths:
        if width == "M":
            x, place = pool(x), place + 1
            continue
        x = net.conv(x, f"{prefix}{place}", width, 3)
        if norm:
            x, place = net.norm(x, f"{prefix}{place + 1}", torch=norm == "torch"), place + 1
        x, place = relu(x), place + 2
    return x


def bgr(pixels, mean, scale):
    """RGB pixels (H, W, 3) as an image from OpenCV, normalized, (3, H, W)."""
    return ((pixels[..., ::-1].astype(np.float64)) * scale - mean).transpose(2, 0, 1)


class Caffe(Original):
    """CMU's COCO model (models/pose/coco/pose_deploy_linevec.prototxt), narrow, with three stages."""

    parts, pairs, channels = CMU_COCO_PARTS, CMU_COCO_PAIRS, CMU_COCO_CHANNELS
    blocks = ("conv1_1", "conv1_2", "M", "conv2_1", "conv2_2", "M", "conv3_1", "conv3_2", "conv3_3", "conv3_4", "M", "conv4_1")
    blocks += ("conv4_2", "conv4_3_CPM", "conv4_4_CPM")
    widths = (3, 4, 5, 4, 5, 4, 6, 5, 6, 7, 8, 9)
    num_stages, kernel_size = 3, 7

    def trunk(self, x):
        widths = iter(self.widths)
        for name in self.blocks:
            x = pool(x) if name == "M" else relu(self.conv(x, name, next(widths), 3))
        return x

    def branch(self, x, stage, suffix, fields):
        if stage == 1:
            layers = [(f"conv5_{i}_CPM_{suffix}", width, size) for i, width, size in ((1, 5, 3), (2, 5, 3), (3, 5, 3), (4, 7, 1))]
            last = f"conv5_5_CPM_{suffix}"
        else:
            layers = [(f"Mconv{i}_stage{stage}_{suffix}", 6, self.kernel_size) for i in range(1, 6)] + [
                (f"Mconv6_stage{stage}_{suffix}", 4, 1)
            ]
            last = f"Mconv7_stage{stage}_{suffix}"
        for name, width, size in layers:
            x = relu(self.conv(x, name, width, size))
        return self.conv(x, last, fields, 1)

    def pixels(self, image):
        return bgr(image, 0.5, 1 / 256)

    def stages(self, image):
        features = self.trunk(self.pixels(image))
        x, outputs = features, []
        for stage in range(1, self.num_stages + 1):
            pafs, heatmaps = self.branch(x, stage, "L1", 38), self.branch(x, stage, "L2", 19)
            outputs.append((heatmaps, pafs))
            x = np.concatenate([pafs, heatmaps, features])
        return outputs


class SmallCaffe(Caffe):
    """Fewer stages and smaller kernels than CMU's, for training."""

    num_stages, kernel_size = 2, 3


class PytorchOpenpose(Caffe):
    """Hzzone/pytorch-openpose, src/model.py: a ReLU behind the heatmaps of the last stage; names with or without the module."""

    def tensor(self, name, make):
        layer = name.split(".")[0]
        if layer.startswith("Mconv"):
            stage, suffix = layer.split("stage")[1].split("_L")
        else:
            stage, suffix = ("1", layer[-1]) if "_CPM_L" in layer else ("0", "")
        return super().tensor(f"model{stage}{'_' + suffix if suffix else ''}.{name}", make)

    def stages(self, image):
        *others, (heatmaps, pafs) = super().stages(image)
        return [*others, (relu(heatmaps), pafs)]


class ModelZoo(Original):
    """mindspore-ai/models, official/cv/OpenPose/src/openposenet.py, narrow, with three stages; VGG with or without normalization."""

    parts, pairs, channels = ZOO_PARTS, ZOO_PAIRS, list(range(38))
    vgg_norm: str | None = None

    def __init__(self, seed: int) -> None:
        super().__init__(seed, prefix="network.")

    def stage(self, x, number, suffix, fields):
        first = number == 1
        for i in range(1, 5 if first else 7):
            width, size = ((7 if i == 4 else 5), (1 if i == 4 else 3)) if first else ((4 if i == 6 else 6), (1 if i == 6 else 7))
            x = relu(self.conv(x, f"stage_{number}.conv{i}_{'CPM_' if first else ''}{suffix}", width, size))
        return self.conv(x, f"stage_{number}.conv{5 if first else 7}_{'CPM_' if first else ''}{suffix}", fields, 1)

    def stages(self, image):
        x = vgg(self, bgr(image, 0.5, 1 / 255), VGG19, "base.vgg_base.layers.", norm=self.vgg_norm)
        for name, width in (("conv4_3_CPM", 8), ("conv4_4_CPM", 9)):
            x = relu(self.conv(x, f"base.{name}", width, 3))
        features, outputs = x, []
        for number in range(1, 4):
            h1, h2 = self.stage(x, number, "L1", 38), self.stage(x, number, "L2", 19)
            outputs.append((h2, h1))
            x = np.concatenate([h1, h2, features])
        return outputs


class ModelZooWithNorm(ModelZoo):
    vgg_norm = "mindspore"


class Lightweight(Original):
    """Daniil-Osokin/lightweight-human-pose-estimation.pytorch, models/with_mobilenet.py, narrow."""

    parts, pairs, channels = CMU_COCO_PARTS, LIGHTWEIGHT_PAIRS, LIGHTWEIGHT_CHANNELS
    widths = (3, 4, 5, 6, 5, 4, 7, 8, 6, 5, 6, 7)
    num_refinement_stages = 1

    def layer(self, x, name, width, *, size=3, bn=True, relu_=True, **shape):
        """modules/conv.py, conv: convolution with bias, normalization, ReLU."""
        x = self.conv(x, f"{name}.0", width, size, **shape)
        x = self.norm(x, f"{name}.1") if bn else x
        return relu(x) if relu_ else x

    def heads(self, x, name, hidden):
        outputs = []
        for kind, fields in (("heatmaps", 19), ("pafs", 38)):
            y = self.layer(x, f"{name}.{kind}.0", hidden, size=1, bn=False)
            outputs.append(self.layer(y, f"{name}.{kind}.1", fields, size=1, bn=False, relu_=False))
        return tuple(outputs)

    def stages(self, image):
        x = mobilenet(self, (bgr(image, 0, 1) - 128) / 256, self.widths, "model.0.0", "model.0.1", "model.{}.{}")
        x = self.layer(x, "cpm.align", 5, size=1, bn=False)
        y = x
        for i in range(3):
            y = elu(self.conv(y, f"cpm.trunk.{i}.0", 5, 3, bias=False, groups=5))
            y = elu(self.conv(y, f"cpm.trunk.{i}.2", 5, 1, bias=False))
        features = self.layer(x + y, "cpm.conv", 5, bn=False)
        x = features
        for i in range(3):
            x = self.layer(x, f"initial_stage.trunk.{i}", 5, bn=False)
        outputs = [self.heads(x, "initial_stage", 8)]
        for stage in range(self.num_refinement_stages):
            x = np.concatenate([features, *outputs[-1]])
            for i in range(5):
                block = f"refinement_stages.{stage}.trunk.{i}"
                x = self.layer(x, f"{block}.initial", 6, size=1, bn=False)
                y = self.layer(x, f"{block}.trunk.0", 6)
                x = x + self.layer(y, f"{block}.trunk.1", 6, dilation=2)
            outputs.append(self.heads(x, f"refinement_stages.{stage}", 4))
        return outputs


class LightweightWithThree(Lightweight):
    num_refinement_stages = 3


def mobilenet(net: Original, x, widths, first: str, norm: str, block: str, *, torch=True):
    """MobileNet v1 up to conv5_5; conv5_1 has dilation 2 instead of stride 2, as in Lightweight OpenPose."""
    x = relu(net.norm(net.conv(x, first, widths[0], 3, bias=False, stride=2), norm, torch=torch))
    for i, width in enumerate(widths[1:], start=1):
        name = lambda place, i=i: block.format(i, place)  # noqa: E731
        stride, dilation = (2 if i in (2, 4) else 1), (2 if i == 7 else 1)
        x = net.conv(x, name(0), len(x), 3, bias=False, groups=len(x), stride=stride, dilation=dilation)
        x = relu(net.norm(x, name(1), torch=torch))
        x = relu(net.norm(net.conv(x, name(3), width, 1, bias=False), name(4), torch=torch))
    return x


class Body25(Original):
    """CMU's BODY_25 (models/pose/body_25/pose_deploy.prototxt), narrow, with two PAF stages and two heatmap stages."""

    parts, pairs, channels = BODY_25_PARTS, BODY_25_PAIRS, BODY_25_CHANNELS
    num_paf_stages = 2

    def stage(self, x, name, width, hidden, fields):
        for block in range(1, 6):
            outputs = []
            for i in range(3):
                x = self.prelu(self.conv(x, f"Mconv{block}_{name}_{i}", width, 3), f"Mprelu{block}_{name}_{i}")
                outputs.append(x)
            x = np.concatenate(outputs)
        x = self.prelu(self.conv(x, f"Mconv6_{name}", hidden, 1), f"Mprelu6_{name}")
        return self.conv(x, f"Mconv7_{name}", fields, 1)

    def stages(self, image):
        x, widths = bgr(image, 0.5, 1 / 256), iter(Caffe.widths)
        for name in Caffe.blocks:
            if name == "M":
                x = pool(x)
                continue
            x = self.conv(x, name, next(widths), 3)
            x = (
                self.prelu(x, f"prelu{name.removeprefix('conv')}")
                if name in ("conv4_2", "conv4_3_CPM", "conv4_4_CPM")
                else relu(x)
            )
        features, outputs = x, []
        for number in range(self.num_paf_stages):
            pafs = self.stage(x, f"stage{number}_L2", 5 if number else 4, 6 if number else 7, 52)
            outputs.append((None, pafs))
            x = np.concatenate([features, pafs])
        heatmaps = self.stage(x, "stage0_L1", 4, 7, 26)
        outputs.append((heatmaps, None))
        heatmaps = self.stage(np.concatenate([features, heatmaps, pafs]), "stage1_L1", 5, 6, 26)
        return [*outputs, (heatmaps, None)]


def our_joint(part: str) -> str:
    """The name of a part of any source in our skeletons."""
    part = part.replace("Hand", "Wrist").replace("Waist", "Hip").replace("Foot", "Ankle")
    for side, letter in (("Left", "L"), ("Right", "R")):
        if part.startswith(side):
            part = part.removeprefix(side)
        elif part[0] == letter and part[1].isupper():
            part = part[1:]
        else:
            continue
        return f"{side.lower()}_{_snake(part)}"
    return _snake(part)


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name))


def in_our_order(original: Original, heatmaps, pafs, skeleton):
    """Sort the fields of a source by the names of our joints and limbs; the background stays last."""
    parts, pairs = original.parts, original.pairs
    names = [our_joint(pair if isinstance(pair, str) else parts[pair]) for pair in pairs]
    if heatmaps is not None:
        ours = [our_joint(part) for part in parts]
        heatmaps = heatmaps[[*(ours.index(joint) for joint in skeleton.joints), len(parts)]]
    if pafs is not None:
        places = [list(zip(names[::2], names[1::2], strict=True)).index(limb) for limb in skeleton.limbs]
        pafs = pafs[[original.channels[2 * place + i] for place in places for i in (0, 1)]]
    return heatmaps, pafs
