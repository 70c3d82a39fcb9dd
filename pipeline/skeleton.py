"""The skeleton: joints, limbs, mirror pairs, keypoint order of the annotation file, OKS sigmas, colors.

Targets, network, decoder, metrics and drawings all take a `Skeleton`; no other code contains joint numbers.
"""

import colorsys
import dataclasses
import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.wording import printable

MAX_JOINTS, MAX_NAME = 500, 100  # COCO-WholeBody has 133 keypoints
MIN_SIGMA, MAX_SIGMA = 1e-3, 10.0

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """Joints and limbs of one kind of body.

    `source_joints` are the keypoints in the order of the annotation file; `joints` are those that the network predicts.
    A joint that the file does not contain is the midpoint of two others: `derived` holds (joint, first, second).
    `sigmas` are the OKS constants of `source_joints` (for COCO: pycocotools, `Params.kpt_oks_sigmas`).
    `unlabeled` are joints that the annotation file neither contains nor allows to derive, but another source of the same record set
    does: where they are in its images is unknown.
    """

    name: str
    joints: tuple[str, ...]
    limbs: Pairs
    mirror_pairs: Pairs
    source_joints: tuple[str, ...]
    sigmas: tuple[float, ...]
    derived: tuple[tuple[str, str, str], ...] = ()
    unlabeled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_names()
        if not self.joints or len(set(self.joints)) != len(self.joints):
            raise ValueError(f"joints of skeleton {self.name!r} must be distinct names, got {self.joints}")
        if len(self.sigmas) != len(self.source_joints):
            raise ValueError(
                f"sigmas must hold one OKS constant per source joint, {len(self.source_joints)} in all, got {len(self.sigmas)}"
            )
        if not all(isinstance(sigma, (int, float)) and MIN_SIGMA <= sigma <= MAX_SIGMA for sigma in self.sigmas):
            raise ValueError(f"sigmas must be numbers from {MIN_SIGMA:g} to {MAX_SIGMA:g}, got {self.sigmas}")
        if len(set(self.source_joints)) != len(self.source_joints):
            raise ValueError(f"source_joints must be distinct names, got {self.source_joints}")
        known = set(self.joints)
        for what, pairs in (("limbs", self.limbs), ("mirror_pairs", self.mirror_pairs)):
            for pair in pairs:
                if len(set(pair)) != 2 or not set(pair) <= known:
                    raise ValueError(f"{what} must be pairs of two different joints of {sorted(known)}, got {pair}")
        mirrored = [joint for pair in self.mirror_pairs for joint in pair]
        if len(set(mirrored)) != len(mirrored):
            raise ValueError(f"mirror_pairs must name each joint at most once, got {self.mirror_pairs}")
        derived = {joint for joint, _, _ in self.derived}
        if len(derived) != len(self.derived) or not derived <= known:
            raise ValueError(f"derived must name different joints of {sorted(known)}, got {sorted(d[0] for d in self.derived)}")
        for joint in self.joints:
            if (joint in self.source_joints) + (joint in derived) + (joint in self.unlabeled) != 1:
                raise ValueError(f"joint {joint!r} must be either in source_joints or in derived")
        for pair in self.mirror_pairs:
            if len(known_of_pair := set(pair) - set(self.unlabeled)) == 1:
                raise ValueError(f"of the mirror pair {pair}, only {known_of_pair.pop()!r} is labeled; label both or neither")
        for joint, first, second in self.derived:
            if not {first, second} <= set(self.source_joints):
                raise ValueError(f"derived joint {joint!r} must come from two source_joints, got {first!r}, {second!r}")

    def _check_names(self) -> None:
        for what in ("joints", "source_joints", "limbs", "mirror_pairs"):
            if len(getattr(self, what)) > MAX_JOINTS:
                raise ValueError(f"{what} must be at most {MAX_JOINTS}, got {len(getattr(self, what))}")
        for what, names in {"name": (self.name,), "joints": self.joints, "source_joints": self.source_joints}.items():
            for name in names:
                if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
                    raise ValueError(
                        f"{what}: a name must have 1 to {MAX_NAME} printable characters, got {name[: 2 * MAX_NAME]!r}"
                    )

    @property
    def num_joints(self) -> int:
        """Number of joints that the network predicts."""
        return len(self.joints)

    @property
    def num_limbs(self) -> int:
        """Number of limbs."""
        return len(self.limbs)

    @property
    def num_heatmaps(self) -> int:
        """Number of heatmaps: one per joint, and the background."""
        return self.num_joints + 1

    @property
    def num_pafs(self) -> int:
        """Number of PAF channels: x and y for each limb."""
        return 2 * self.num_limbs

    def index(self, joint: str) -> int:
        """Return the index of a joint. Raises ValueError for an unknown name."""
        return self.joints.index(joint)

    @functools.cached_property
    def mirror(self) -> np.ndarray:
        """intp (J,): `keypoints[:, mirror]` are the joints of the mirrored image. It is its own inverse."""
        swap = {a: b for a, b in self.mirror_pairs} | {b: a for a, b in self.mirror_pairs}
        return np.array([self.index(swap.get(joint, joint)) for joint in self.joints])

    @functools.cached_property
    def limb_joints(self) -> np.ndarray:
        """intp (L, 2): start joint and end joint of each limb."""
        return np.array([[self.index(a), self.index(b)] for a, b in self.limbs], np.intp).reshape(-1, 2)

    @functools.cached_property
    def source_indices(self) -> np.ndarray:
        """intp (S,): index in `joints` of each keypoint of the annotation file, -1 if the network does not predict it."""
        return np.array([self.joints.index(j) if j in self.joints else -1 for j in self.source_joints])

    def labeled_channels(self, unlabeled: Collection[str]) -> np.ndarray:
        """Return which channels of the targets are known if these joints are unlabeled, uint8 (J + 1 + 2 L,): 1 = known.

        The PAF of a limb is unknown if one of its joints is unlabeled, and the background if any joint is.
        """
        labeled = np.array([joint not in unlabeled for joint in self.joints], np.uint8)
        return np.concatenate([labeled, labeled.min(keepdims=True), np.repeat(labeled[self.limb_joints].min(axis=1), 2)])

    @functools.cached_property
    def joint_colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each joint: red to yellow on the right, cyan to violet on the left, green in the middle."""
        sides = [self.side(joint) for joint in self.joints]
        colors = {side: iter(_hues(sides.count(side), *limits)) for side, limits in _SIDE_HUES.items()}
        return tuple(next(colors[side]) for side in sides)

    def side(self, joint: str) -> str:
        """Return "left", "right" or "middle". The first joint of a mirror pair is the left one, unless its name says otherwise."""
        for first, second in self.mirror_pairs:
            if joint in (first, second):
                swapped = "right" in first.lower() or "left" in second.lower()
                return "left" if (joint == first) != swapped else "right"
        return "middle"

    @functools.cached_property
    def limb_colors(self) -> tuple[tuple[int, int, int], ...]:
        """RGB of each limb: the color of its end joint."""
        return tuple(self.joint_colors[end] for _, end in self.limb_joints)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved in a manifest, a checkpoint or a JSON file."""
        fields = dataclasses.asdict(self)
        return fields if self.unlabeled else {name: value for name, value in fields.items() if name != "unlabeled"}

    @classmethod
    def from_dict(cls, fields: Any, where: str = "skeleton") -> "Skeleton":
        """Build a skeleton with limbs from what `to_dict` returned, before or after JSON.

        Raises UserError, which begins with `where`, naming the wrong field.
        """
        from pipeline.storage.documents import convert  # not needed by the decoder, which runs with NumPy and OpenCV alone

        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(fields, dict):
            raise UserError(f"{where}: a skeleton has the fields {sorted(names)}, got {type(fields).__name__}")
        missing, unknown = names - set(fields) - {"derived", "unlabeled"}, set(fields) - names
        if missing or unknown:
            listed = printable(str(sorted(map(str, unknown)))[: 2 * MAX_NAME])
            raise UserError(f"{where}: a skeleton has the fields {sorted(names)}; missing {sorted(missing)}, unknown {listed}")
        skeleton: Skeleton = convert(fields, cls, where)
        if not skeleton.limbs:
            raise UserError(f"{where}: limbs must have at least one pair of joints; the decoder connects joints along limbs")
        return skeleton


@functools.lru_cache(maxsize=8)
def mirror_channels(skeleton: Skeleton) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how the channels of a mirrored image's fields map to those of the image.

    Returns channel indices of the heatmaps, intp (J + 1,), and of the PAFs, intp (2 L,), and the sign of each PAF channel,
    float32 (2 L,). Mirroring negates x. If the skeleton defines the mirrored limb in the opposite direction, both components
    are negated once more: x keeps its sign and y changes it. Raises ValueError naming a limb whose mirror image is not a limb.
    """
    joints = skeleton.mirror
    limbs = [tuple(limb) for limb in skeleton.limb_joints.tolist()]
    channels, signs = [], []
    for name, (start, end) in zip(skeleton.limbs, limbs, strict=True):
        mirrored = int(joints[start]), int(joints[end])
        if mirrored not in limbs and mirrored[::-1] not in limbs:
            raise ValueError(f"limb {name[0]}-{name[1]} of skeleton {skeleton.name!r} has no mirrored limb")
        same_direction = mirrored in limbs
        limb = limbs.index(mirrored if same_direction else mirrored[::-1])
        channels += [2 * limb, 2 * limb + 1]
        signs += [-1, 1] if same_direction else [1, -1]
    heatmaps = np.append(joints, skeleton.num_joints)
    return heatmaps, np.array(channels, np.intp), np.array(signs, np.float32)


_SIDE_HUES = {"left": (0.5, 0.83), "right": (-0.06, 0.17), "middle": (0.28, 0.4)}


def _hues(count: int, low: float, high: float) -> list[tuple[int, int, int]]:
    """Return RGB colors with hues from low to high, fractions of the color circle."""
    spread = (low + (high - low) * (i + 0.5) / max(count, 1) for i in range(count))
    colors = (colorsys.hsv_to_rgb(hue % 1, 0.85, 1.0) for hue in spread)
    return [(round(255 * red), round(255 * green), round(255 * blue)) for red, green, blue in colors]
