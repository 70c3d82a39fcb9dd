"""The one description of a body: joints, limbs, mirror pairs, order in the JSON, OKS sigmas, colors.

Encoder, network, decoder, metrics and drawings all take a `Skeleton`; nothing else knows a joint number.
"""

import colorsys
import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """Joints and limbs of one kind of body.

    `source_joints` are the keypoints in the order of the annotation file; `joints` are those the network predicts.
    A joint that is not in the source is the middle of two others: `derived` holds (joint, first, second).
    `sigmas` are the OKS constants of `source_joints` (COCO's are published in pycocotools, `Params.kpt_oks_sigmas`).
    """

    name: str
    joints: tuple[str, ...]
    limbs: Pairs
    mirror_pairs: Pairs
    source_joints: tuple[str, ...]
    sigmas: tuple[float, ...]
    derived: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        if not self.joints or len(set(self.joints)) != len(self.joints):
            raise ValueError(f"joints of skeleton {self.name!r} must be distinct names, got {self.joints}")
        if len(self.sigmas) != len(self.source_joints):
            raise ValueError(
                f"sigmas must give one OKS constant for each of {len(self.source_joints)} source_joints, got {len(self.sigmas)}"
            )
        if not all(isinstance(sigma, (int, float)) and 0 < sigma < float("inf") for sigma in self.sigmas):
            raise ValueError(f"sigmas must be positive numbers, got {self.sigmas}")
        if len(set(self.source_joints)) != len(self.source_joints):
            raise ValueError(f"source_joints must be distinct names, got {self.source_joints}")
        known = set(self.joints)
        for what, pairs in (("limbs", self.limbs), ("mirror_pairs", self.mirror_pairs)):
            for pair in pairs:
                if len(set(pair)) != 2 or not set(pair) <= known:
                    raise ValueError(f"{what} must join two different joints of {sorted(known)}, got {pair}")
        mirrored = [joint for pair in self.mirror_pairs for joint in pair]
        if len(set(mirrored)) != len(mirrored):
            raise ValueError(f"mirror_pairs must name each joint at most once, got {self.mirror_pairs}")
        made = {joint for joint, _, _ in self.derived}
        for joint in self.joints:
            if (joint in self.source_joints) == (joint in made):
                raise ValueError(f"joint {joint!r} must be either in source_joints or in derived")
        for joint, first, second in self.derived:
            if not {first, second} <= set(self.source_joints):
                raise ValueError(f"derived joint {joint!r} must come from two source_joints, got {first!r}, {second!r}")

    @property
    def num_joints(self) -> int:
        return len(self.joints)

    @property
    def num_limbs(self) -> int:
        return len(self.limbs)

    @property
    def num_heatmaps(self) -> int:
        """One heatmap per joint, and the background."""
        return self.num_joints + 1

    @property
    def num_pafs(self) -> int:
        """An x and a y channel per limb."""
        return 2 * self.num_limbs

    def index(self, joint: str) -> int:
        """Place of a joint by name. Raises ValueError for an unknown name."""
        return self.joints.index(joint)

    @functools.cached_property
    def mirror(self) -> np.ndarray:
        """intp (J,): `keypoints[:, mirror]` are the joints of the mirrored image. Its own inverse."""
        swap = {a: b for a, b in self.mirror_pairs} | {b: a for a, b in self.mirror_pairs}
        return np.array([self.index(swap.get(joint, joint)) for joint in self.joints])

    @functools.cached_property
    def limb_joints(self) -> np.ndarray:
        """intp (L, 2): the joint each limb starts from and the one it points to."""
        return np.array([[self.index(a), self.index(b)] for a, b in self.limbs], np.intp).reshape(-1, 2)

    @functools.cached_property
    def source_indices(self) -> np.ndarray:
        """intp (S,): for each joint of the annotation file, its place in `joints`, -1 where the network has none."""
        return np.array([self.joints.index(j) if j in self.joints else -1 for j in self.source_joints])

    @functools.cached_property
    def joint_colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB per joint: hues spread over the circle, so that left and right never share one."""
        return _hues(self.num_joints)

    @functools.cached_property
    def limb_colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB per limb: the color of the joint that it points to."""
        return tuple(self.joint_colors[end] for _, end in self.limb_joints)

    def to_dict(self) -> dict:
        """Plain lists and strings, for a manifest, a checkpoint or a JSON file."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, fields: dict) -> "Skeleton":
        """The inverse of `to_dict`, also after JSON. Raises ValueError, naming the field, for anything else."""
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict):
            raise ValueError(f"a skeleton has the fields {sorted(names)}, got {type(fields).__name__}")
        missing, unknown = names - set(fields) - {"derived"}, set(fields) - names
        if missing or unknown:
            raise ValueError(f"a skeleton has the fields {sorted(names)}; missing {sorted(missing)}, unknown {sorted(unknown)}")
        return cls(**{key: value if key == "name" else _tuples(value) for key, value in fields.items()})


@functools.lru_cache(maxsize=8)
def mirror_channels(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which channels of a mirror image's fields show what each channel of the image shows.

    Returns intp (J + 1,) for heatmaps, intp (2 L,) for PAFs, and the sign of each PAF channel float32 (2 L,): x turns round, and
    so does a limb whose mirror image the skeleton runs through the other way (x then keeps its sign, and y changes it).
    Raises ValueError naming a limb whose mirror image is not a limb.
    """
    joints = skeleton.mirror
    limbs = [tuple(limb) for limb in skeleton.limb_joints.tolist()]
    channels, signs = [], []
    for name, (start, end) in zip(skeleton.limbs, limbs, strict=True):
        image = int(joints[start]), int(joints[end])
        if image not in limbs and image[::-1] not in limbs:
            raise ValueError(f"limb {name[0]}-{name[1]} of skeleton {skeleton.name!r} has no limb for its mirror image")
        same_way = image in limbs
        limb = limbs.index(image if same_way else image[::-1])
        channels += [2 * limb, 2 * limb + 1]
        signs += [-1, 1] if same_way else [1, -1]
    heatmaps = np.append(joints, skeleton.num_joints)
    return heatmaps, np.array(channels, np.intp), np.array(signs, np.float32)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _hues(count: int) -> tuple[tuple[int, int, int], ...]:
    rgb = (colorsys.hsv_to_rgb(i / count, 0.85, 1.0) for i in range(count))
    return tuple(tuple(round(255 * channel) for channel in color) for color in rgb)
