"""One clothed, shaded, articulated human figure: random body, pose and clothes, drawn by the painter's algorithm.

Body axes: x to the person's left, y down, z forward (where the face looks); the unit is the body's height. View axes: x and
y as in the image, z towards the viewer. Seen from the front, the person's left is at the right of the image.
Everything is made of ellipsoids: a shape is a chain of them, drawn as the outlines of neighbors joined by their convex hull.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.skeletons import COCO18

Ellipsoid = tuple[np.ndarray, np.ndarray]  # its center (3,), its half axes as columns (3, 3)
JOINTS = COCO18.source_joints
SIDES = {"left": 1.0, "right": -1.0}
_SIDED_PARTS = ("upper_arm", "forearm", "hand", "thigh", "shin", "foot", "eye", "ear")
PARTS = (
    *("torso", "pelvis", "skirt", "neck", "skull", "face", "nose", "hair", "hat", "bag"),
    *(f"{side}_{part}" for side in SIDES for part in _SIDED_PARTS),
)
# The parts that may be seen at a joint's pixel while the joint still counts as visible.
_SEEN_AT = {
    **{"eye": ("eye",), "ear": ("ear",), "shoulder": ("torso", "upper_arm"), "elbow": ("upper_arm", "forearm")},
    **{"wrist": ("forearm", "hand"), "hip": ("pelvis", "torso", "skirt", "thigh"), "knee": ("thigh", "shin", "skirt")},
    **{"ankle": ("shin", "foot"), "nose": ("nose",)},
}
# Degrees, (low, high). Arms: raised forwards, raised sideways, turned inwards about the upper arm, elbow bent.
_ARMS = (
    (0.34, ((-15, 20), (4, 18), (-10, 40), (3, 35))),  # hanging
    (0.16, ((-20, 35), (6, 30), (10, 70), (55, 110))),  # bent in front
    (0.09, ((-30, -5), (32, 50), (60, 85), (70, 95))),  # hand on the hip
    (0.11, ((-10, 30), (50, 100), (-40, 30), (0, 60))),  # stretched out sideways
    (0.11, ((40, 100), (0, 25), (0, 40), (0, 70))),  # reaching forwards
    (0.13, ((125, 172), (5, 40), (-20, 30), (0, 75))),  # raised
    (0.06, ((20, 60), (10, 40), (10, 40), (110, 138))),  # hand at the head
)
# Legs: torso leaning forwards, thigh raised forwards, spread sideways, knee bent, half the stride.
_LEGS = (
    (0.43, ((-4, 10), (-4, 6), (1, 9), (0, 10), (0, 6))),  # standing
    (0.21, ((0, 14), (0, 8), (0, 5), (4, 25), (14, 32))),  # walking
    (0.11, ((-6, 15), (0, 20), (12, 28), (0, 30), (0, 10))),  # legs apart
    (0.13, ((-12, 20), (76, 100), (2, 18), (65, 105), (0, 8))),  # sitting
    (0.05, ((15, 45), (60, 115), (5, 25), (70, 125), (0, 15))),  # crouching
    (0.04, ((40, 80), (-5, 10), (1, 12), (0, 15), (0, 6))),  # bending down
)
_UPRIGHT = 3  # the first of them
SKINS = ((244, 208, 180), (232, 186, 150), (214, 162, 122), (184, 128, 88), (140, 92, 62), (96, 62, 44))
_HAIRS = ((28, 22, 20), (58, 38, 26), (98, 62, 34), (150, 104, 54), (206, 168, 100), (150, 148, 146), (128, 52, 28))
_CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)])
_SHIFT_BITS = 4
# Each layer of shading: size of the outline, how far it moves towards the light (in radii), brightness.
_SHADING = ((1.0, 0.0, 0.58), (0.88, 0.10, 0.82), (0.70, 0.22, 1.0), (0.38, 0.42, 1.14))
BODY = np.eye(3)


def turn(axis: int, degrees: float) -> np.ndarray:
    """float64 (3, 3). Axis 0 turns down to forward, 1 forward to left, 2 left to down."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


def color_of_cloth(rng: np.random.Generator) -> np.ndarray:
    """float64 (3,): an RGB color; muted, dark, light or bright."""
    hsv = np.uint8([[[rng.integers(180), rng.integers(20, 220), rng.integers(35, 245)]]])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def ellipsoid(center: np.ndarray, radii, frame: np.ndarray = BODY) -> Ellipsoid:
    """The ellipsoid with these radii along the axes of `frame`."""
    return center, frame * np.broadcast_to(radii, 3)


def _between(a: Ellipsoid, b: Ellipsoid, t: float) -> Ellipsoid:
    """The ellipsoid at share t of the way from a to b."""
    return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])


class Shape(NamedTuple):
    """A chain of ellipsoids of one part, drawn in the order of depth + `bias` (body heights); a `flat` one is not shaded."""

    part: str
    color: np.ndarray
    chain: list[Ellipsoid]
    bias: float
    flat: bool


@dataclass(kw_only=True)
class Figure:
    """A figure in body axes: `camera`, float64 (3, 3), to view axes; `joints` by name, float64 (3,); `shapes` in any order."""

    camera: np.ndarray
    joints: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=list)

    def add(self, part: str, color, chain: list[Ellipsoid], bias: float = 0.0, *, flat: bool = False) -> None:
        self.shapes.append(Shape(part, np.asarray(color, np.float64), chain, bias, flat))

    def depth(self, vector: np.ndarray) -> float:
        """How far a body vector points towards the viewer."""
        return float(self.camera[2] @ vector)

    def extent(self) -> np.ndarray:
        """float64 (2, 2): least and greatest image x and y of all shapes, in body heights, the origin at the pelvis."""
        centers = np.array([center for shape in self.shapes for center, _ in shape.chain]) @ self.camera[:2].T
        return np.stack([centers.min(0) - 0.04, centers.max(0) + 0.04])


def random_figure(rng: np.random.Generator, *, yaw_degrees: float | None = None, calm: bool = False) -> Figure:
    """A random body in a random pose, seen from `yaw_degrees` (0 front, 90 facing the image's right, 180 back; None: random).

    A `calm` one stands or walks upright, and a random yaw shows its front or its back.
    """
    if yaw_degrees is None:
        views = [0.7, 0.0, 0.0, 0.3] if calm else [0.48, 0.13, 0.13, 0.26]
        yaw_degrees = rng.choice([0, 90, -90, 180], p=views) + rng.normal(0, 22 if calm else 26)
    lies = not calm and rng.random() < 0.04
    roll = rng.choice([-1, 1]) * rng.uniform(70, 110) if lies else rng.normal(0, 4)
    figure = Figure(camera=turn(2, roll) @ turn(0, -rng.normal(5, 6)) @ turn(1, yaw_degrees))
    child, girth = rng.random() < 0.15, rng.uniform(0.85, 1.3)
    look = _clothes(rng)
    legs = _pick(rng, _LEGS[:_UPRIGHT] if calm else _LEGS)
    chest = turn(1, rng.normal(0, 10)) @ turn(2, rng.normal(0, 4)) @ turn(0, -rng.uniform(*legs[0]))
    _add_legs(figure, rng, legs, girth, look)
    neck = -(0.27 if child else 0.285) * chest[:, 1]
    _add_torso(figure, rng, chest, neck, girth, look)
    arms = _pick(rng, _ARMS)
    for side in SIDES:
        _add_arm(figure, rng, side, neck, chest, arms if rng.random() < 0.4 else _pick(rng, _ARMS), girth, look)
    head = chest @ turn(1, np.clip(rng.normal(0, 20), -60, 60)) @ turn(0, rng.normal(-3, 10)) @ turn(2, rng.normal(0, 7))
    _add_head(figure, rng, neck, chest, head, 0.078 if child else rng.uniform(0.058, 0.066), look)
    return figure


def _pick(rng: np.random.Generator, table):
    weights = np.array([weight for weight, _ in table])
    return table[rng.choice(len(table), p=weights / weights.sum())][1]


def _clothes(rng: np.random.Generator) -> dict:
    skin = np.array(SKINS[rng.integers(len(SKINS))]) * rng.uniform(0.92, 1.05)
    return {
        **{"skin": skin, "shirt": color_of_cloth(rng), "second": color_of_cloth(rng), "trousers": color_of_cloth(rng)},
        **{"shoes": color_of_cloth(rng) * 0.7, "hair": np.array(_HAIRS[rng.integers(len(_HAIRS))], np.float64)},
        "sleeve": rng.choice([0.0, 0.55, 1.0], p=[0.12, 0.43, 0.45]),
        "legwear": rng.choice(["trousers", "shorts", "skirt"], p=[0.62, 0.22, 0.16]),
        "front": rng.choice(["plain", "logo", "buttons", "jacket"], p=[0.2, 0.3, 0.25, 0.25]),
        "stripes": int(rng.choice([0, 2, 4], p=[0.7, 0.12, 0.18])),
        "long_hair": rng.random() < 0.35,
        "hat": rng.random() < 0.12,
        "bag": rng.random() < 0.1,
    }


def _add_limb(figure: Figure, part: str, start, end, radii, colors, share: float, bias: float) -> None:
    """A tapered limb in colors[0] that shows colors[1] (skin) beyond `share` of its length."""
    a, b = ellipsoid(start, radii[0]), ellipsoid(end, radii[1])
    if share < 1:
        figure.add(part, colors[1], [_between(a, b, max(share - 0.1, 0)), b], bias)
    if share > 0:
        middle = _between(a, b, share)
        figure.add(part, colors[0], [a, (middle[0], middle[1] * (1.0 if share == 1 else 1.14))], bias + 0.001)


def _add_arm(figure: Figure, rng, side: str, neck, chest, angles, girth: float, look: dict) -> None:
    sign = SIDES[side]
    flex, spread, inwards, bend = (rng.uniform(*span) for span in angles)
    shoulder = neck + chest @ np.array([sign * (0.088 + 0.018 * girth), 0.03, 0])
    upper = chest @ turn(0, flex) @ turn(2, -sign * spread) @ turn(1, -sign * inwards)
    fore = upper @ turn(0, bend)
    elbow = shoulder + 0.165 * upper[:, 1]
    wrist = elbow + 0.145 * fore[:, 1]
    palm = wrist + 0.045 * (fore @ turn(0, rng.uniform(-10, 40)))[:, 1]
    figure.joints |= {f"{side}_shoulder": shoulder, f"{side}_elbow": elbow, f"{side}_wrist": wrist}
    thick, colors = np.array([0.036, 0.028, 0.019]) * (0.5 + 0.5 * girth), (look["shirt"], look["skin"])
    _add_limb(figure, f"{side}_upper_arm", shoulder, elbow, thick[:2], colors, min(2 * look["sleeve"], 1), 0.03)
    _add_limb(figure, f"{side}_forearm", elbow, wrist, thick[1:], colors, look["sleeve"] if look["sleeve"] > 0.9 else 0, 0.035)
    figure.add(f"{side}_hand", look["skin"], [ellipsoid(wrist, 0.017), ellipsoid(palm, 0.024)], 0.034)


def _add_legs(figure: Figure, rng, angles, girth: float, look: dict) -> None:
    spans, leading = angles[1:], rng.choice(list(SIDES))
    stride = rng.uniform(*spans[3])
    bottom = {"trousers": 1.0, "shorts": 0.7, "skirt": 0.0}[look["legwear"]]
    colors, thick = (look["trousers"], look["skin"]), np.array([0.062, 0.042, 0.026]) * (0.45 + 0.55 * girth)
    thighs = []
    for side, sign in SIDES.items():
        ahead = stride if side == leading else -stride
        flex, spread, bend = (rng.uniform(*span) for span in spans[:3])
        hip = np.array([sign * (0.05 + 0.017 * girth), 0.01, 0])
        upper = turn(0, flex + ahead) @ turn(2, -sign * spread) @ turn(1, sign * rng.uniform(0, 15))
        lower = upper @ turn(0, -bend - max(-ahead, 0) * 0.8)
        knee = hip + 0.245 * upper[:, 1]
        ankle = knee + 0.235 * lower[:, 1]
        sole = lower @ turn(0, rng.uniform(-8, 12))
        figure.joints |= {f"{side}_hip": hip, f"{side}_knee": knee, f"{side}_ankle": ankle}
        _add_limb(figure, f"{side}_thigh", hip, knee, thick[:2], colors, bottom, 0.0)
        _add_limb(figure, f"{side}_shin", knee, ankle, thick[1:], colors, bottom if bottom == 1 else 0, 0.002)
        heel, toe = ankle + sole @ np.array([0, 0.022, -0.018]), ankle + sole @ np.array([0, 0.034, 0.085])
        figure.add(f"{side}_foot", look["shoes"], [ellipsoid(heel, 0.024), ellipsoid(toe, (0.024, 0.014, 0.02), sole)], 0.004)
        thighs.append(ellipsoid(hip + 0.184 * upper[:, 1], 0.07))
    waist = ellipsoid(np.array([0, -0.07, 0]), (0.088 * girth, 0.03, 0.06 * girth))
    pelvis = ellipsoid(np.array([0, -0.005, 0]), (0.075 + 0.03 * girth, 0.055, 0.068 * girth))
    figure.add("pelvis", look["trousers"], [waist, pelvis], 0.002)
    if look["legwear"] == "skirt":
        figure.add("skirt", look["trousers"], [pelvis, thighs[0]], 0.012)
        figure.add("skirt", look["trousers"], [thighs[0], thighs[1]], 0.012)
        figure.add("skirt", look["trousers"], [pelvis, thighs[1]], 0.013)


def _add_torso(figure: Figure, rng, chest, neck, girth: float, look: dict) -> None:
    def place(x, y, z):
        return neck + chest @ np.array([x, y, z])

    length = np.linalg.norm(neck)
    levels = [
        ellipsoid(place(0, 0.022, 0), ((0.078 + 0.018 * girth), 0.03, 0.045), chest),
        ellipsoid(place(0, 0.085, 0.005), ((0.07 + 0.04 * girth), 0.05, 0.066 * girth), chest),
        ellipsoid(place(0, 0.19, 0), (0.096 * girth, 0.05, 0.06 * girth), chest),
        ellipsoid(place(0, length - rng.uniform(0.0, 0.05), 0), (0.072 + 0.032 * girth, 0.035, 0.068 * girth), chest),
    ]
    shirt, second = look["shirt"], look["second"]
    figure.add("torso", shirt, levels, 0.006)
    for band in np.linspace(0.1, 0.9, look["stripes"]):
        at = 1 + 2 * band
        a, b = levels[min(int(at), 2)], levels[min(int(at), 2) + 1]
        center, axes = _between(a, b, at - min(int(at), 2))
        figure.add("torso", second, [(center, axes * np.array([1.0, 0.12, 1.0]))], 0.0065, flat=True)
    if figure.depth(chest[:, 2]) > 0.1:  # what is on the front alone, so that it tells front from back
        collar, hem = place(0, 0.035, 0.055), place(0, length - 0.05, 0.066 * girth)
        if look["front"] == "logo":
            logo = ellipsoid(place(0, 0.1, 0.066 * girth), (0.045, 0.028, 0.005), chest)
            figure.add("torso", second, [logo], 0.007, flat=True)
        elif look["front"] != "plain":
            radius = {"buttons": 0.006, "jacket": 0.028}[look["front"]]
            figure.add("torso", second, [ellipsoid(collar, radius), ellipsoid(hem, radius)], 0.007, flat=True)
        neckline = ellipsoid(place(0, 0.01, 0.04), (0.032, 0.024, 0.01), chest)
        figure.add("torso", look["skin"], [neckline], 0.008, flat=True)
    if look["bag"]:
        figure.add("bag", second * 0.8, [ellipsoid(place(0, y, -0.1), (0.085, 0.05, 0.05), chest) for y in (0.06, 0.17)], 0.0)
    figure.add("neck", look["skin"] * 0.9, [ellipsoid(place(0, 0.01, 0), 0.031), ellipsoid(place(0, -0.06, 0.008), 0.029)], 0.004)


def _add_head(figure: Figure, rng, neck, chest, head, size: float, look: dict) -> None:
    center = neck - 0.042 * chest[:, 1] - 1.08 * size * head[:, 1] + 0.008 * chest[:, 2]
    skin, hair = look["skin"], look["hair"]

    def blob(x, y, z, rx, ry, rz):
        return ellipsoid(center + size * head @ np.array([x, y, z]), size * np.array([rx, ry, rz]), head)

    figure.joints["nose"] = blob(0, 0.22, 1.08, 1, 1, 1)[0]
    figure.add("skull", hair, [blob(0, -0.1, -0.1, 0.9, 0.98, 0.98)], 0.010)
    figure.add("face", skin, [blob(0, 0.02, 0.3, 0.8, 0.84, 0.66), blob(0, 0.5, 0.34, 0.58, 0.62, 0.54)], 0.016)
    if look["long_hair"]:
        figure.add("hair", hair, [blob(0, 0, -0.3, 0.98, 0.9, 0.74), blob(0, 1.6, -0.5, 0.95, 0.5, 0.4)], 0.002)
    if look["hat"]:
        figure.add("hat", look["second"], [blob(0, -0.62, 0, 0.97, 0.52, 1.0)], 0.05)
        figure.add("hat", look["second"] * 0.8, [blob(0, -0.5, 0.6, 0.85, 0.12, 0.85)], 0.051)
    facing, covered = figure.depth(head[:, 2]), look["long_hair"] and rng.random() < 0.5
    for side, sign in SIDES.items():
        figure.joints |= {
            f"{side}_eye": blob(sign * 0.37, -0.06, 0.84, 1, 1, 1)[0],
            f"{side}_ear": blob(sign * 0.92, 0.1, -0.08, 1, 1, 1)[0],
        }
        if not covered:
            figure.add(f"{side}_ear", skin * 0.9, [blob(sign * 0.92, y, -0.08, 0.13, 0.16, 0.2) for y in (0, 0.22)], 0.011)
        if figure.depth(head @ np.array([sign * 0.42, 0, 0.9])) > 0.1:
            figure.add(f"{side}_eye", (238, 238, 236), [blob(sign * 0.37, -0.06, 0.84, 0.2, 0.13, 0.1)], 0.03, flat=True)
            figure.add(f"{side}_eye", (30, 24, 22), [blob(sign * 0.37, -0.06, 0.88, 0.1, 0.12, 0.1)], 0.031, flat=True)
            figure.add(f"{side}_eye", hair * 0.7, [blob(sign * x, -0.36, 0.82, 0.07, 0.06, 0.06) for x in (0.2, 0.56)], 0.03)
    if facing > -0.1:
        figure.add("nose", skin * 0.88, [blob(0, -0.04, 0.92, 0.08, 0.08, 0.08), blob(0, 0.24, 1.02, 0.17, 0.12, 0.15)], 0.032)
    if facing > 0.15:
        figure.add("face", (150, 52, 52), [blob(x, 0.62, 0.82, 0.1, 0.07, 0.08) for x in (-0.2, 0.2)], 0.031, flat=True)


class Placed:
    """A figure at a place in an image: its pelvis at `origin` (x, y pixels), its body `height_px` high."""

    def __init__(self, figure: Figure, origin, height_px: float) -> None:
        self.figure, self.origin, self.height_px = figure, np.asarray(origin, np.float64), float(height_px)

    def joints(self) -> np.ndarray:
        """float64 (17, 2): x, y of the joints in pixels, in COCO's order."""
        places = np.array([self.figure.joints[joint] for joint in JOINTS])
        return places @ self.figure.camera[:2].T * self.height_px + self.origin

    def draw(self, image: np.ndarray, owner: np.ndarray, number: int, light) -> None:
        """Draw onto `image`, uint8 (H, W, 3) RGB, and write part_id(number, part) into `owner`, int32 (H, W).

        `light`: x, y of the direction towards the light.
        """
        shapes, camera = self.figure.shapes, self.figure.camera
        counts = [len(shape.chain) for shape in shapes]
        centers = np.array([center for shape in shapes for center, _ in shape.chain]) @ camera.T
        axes = np.array([axes for shape in shapes for _, axes in shape.chain])
        outlines, radii = _outlines(camera[:2] @ axes * self.height_px)
        middles, shift = centers[:, :2] * self.height_px + self.origin, radii[:, None] * np.asarray(light)
        shading = _SHADING if self.height_px > 60 else _SHADING[1:3]
        layers = [
            np.rint(((middles + toward * shift)[:, None] + outlines * size) * 2**_SHIFT_BITS).astype(np.int32)
            for size, toward, _ in shading
        ]
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        depths = np.add.reduceat(centers[:, 2], first) / counts
        for at in np.argsort(depths + [shape.bias for shape in shapes], kind="stable"):
            span = slice(first[at], first[at] + counts[at])
            _fill(owner, layers[0][span], part_id(number, shapes[at].part), cv2.LINE_8)
            flat = shapes[at].flat or radii[first[at]] < 1.2
            color = shapes[at].color * (1 + 0.6 * depths[at])  # near parts brighter than far ones, as by a lamp at the viewer
            for outline, brightness in (
                [(layers[0], 0.9)] if flat else [(o, b) for o, (*_, b) in zip(layers, shading, strict=True)]
            ):
                _fill(image, outline[span], tuple(np.clip(color * brightness, 0, 255).tolist()), cv2.LINE_AA)

    def visible(self, owner: np.ndarray, number: int) -> np.ndarray:
        """bool (17,): whether a joint's own part, or a neighbor of it, is what is seen at its pixel."""
        height, width = owner.shape
        seen = np.zeros(len(JOINTS), bool)
        for i, (joint, (x, y)) in enumerate(zip(JOINTS, np.rint(self.joints()).astype(int), strict=True)):
            side, _, kind = joint.rpartition("_")
            parts = [part if part in PARTS else f"{side}_{part}" for part in _SEEN_AT[kind]]
            if 0 <= x < width and 0 <= y < height and not self._turned_away(joint):
                seen[i] = owner[y, x] in [part_id(number, part) for part in parts]
        return seen

    def _turned_away(self, joint: str) -> bool:
        """A shoulder or hip on the far side of a body seen from the side lies behind the torso that is seen there."""
        side, _, kind = joint.rpartition("_")
        if kind not in ("shoulder", "hip"):
            return False
        left, right = (self.figure.joints[f"{s}_{kind}"] for s in SIDES)
        return self.figure.depth((left - right) * SIDES[side]) < -0.75 * np.linalg.norm(left - right)


def part_id(number: int, part: str) -> int:
    """What figure `number` (from 0) writes into the owner map for a part; 0 is whatever is not a figure."""
    return (number + 1) * len(PARTS) + PARTS.index(part)


def figure_of(owner: np.ndarray) -> np.ndarray:
    """Number of the figure at every pixel of an owner map, -1 where there is none."""
    return owner // len(PARTS) - 1


def _outlines(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Silhouettes about the origin of ellipsoids whose projected axes are float64 (N, 2, 3): (N, 24, 2), least radii (N,).

    The silhouette of {A u : |u| = 1} under a projection P is the ellipse of the matrix P A (P A)^T; its Cholesky factor
    maps the unit circle onto it.
    """
    matrix = axes @ axes.transpose(0, 2, 1) + 1e-9 * np.eye(2)
    return (np.linalg.cholesky(matrix) @ _CIRCLE).transpose(0, 2, 1), np.sqrt(np.linalg.eigvalsh(matrix)[:, 0])


def _fill(image: np.ndarray, outlines: np.ndarray, color, line_type: int) -> None:
    for i in range(max(len(outlines) - 1, 1)):
        cv2.fillConvexPoly(image, cv2.convexHull(outlines[i : i + 2].reshape(-1, 2)), color, line_type, _SHIFT_BITS)
