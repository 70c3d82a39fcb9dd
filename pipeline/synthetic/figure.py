"""A figure: joints and shapes in body coordinates, seen by a camera.

Body axes: x to the person's left, y down, z forward (the direction in which the face points); the unit is the body height. View axes:
x and y as in the image, z toward the viewer. In a front view the person's left is at the right of the image.
Every shape is a chain of ellipsoids, drawn as the convex hulls of the outlines of neighboring ellipsoids.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from pipeline.skeletons import COCO18

Ellipsoid = tuple[np.ndarray, np.ndarray]  # center (3,) and half axes as columns (3, 3)
JOINTS = COCO18.source_joints
SIDES = {"left": 1.0, "right": -1.0}
_PAIRED_PARTS = ("upper_arm", "forearm", "hand", "thigh", "shin", "foot", "eye", "ear")
PARTS = (
    *("torso", "pelvis", "skirt", "neck", "skull", "face", "nose", "hair", "hat", "bag"),
    *(f"{side}_{part}" for side in SIDES for part in _PAIRED_PARTS),
)
BODY_AXES = np.eye(3)


def turn(axis: int, degrees: float) -> np.ndarray:
    """Return a rotation matrix, float64 (3, 3). Axis 0 turns down to forward, axis 1 forward to left, axis 2 left to down."""
    i, j = (axis + 1) % 3, (axis + 2) % 3
    sin, cos = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    return matrix


def ellipsoid(center: np.ndarray, radii: ArrayLike, frame: np.ndarray = BODY_AXES) -> Ellipsoid:
    """Return the ellipsoid with these radii (one, or one per axis) along the axes of `frame`."""
    return center, frame * np.broadcast_to(radii, 3)


def interpolate(a: Ellipsoid, b: Ellipsoid, t: float) -> Ellipsoid:
    """Return the ellipsoid at fraction t of the way from a to b."""
    return a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])


class Shape(NamedTuple):
    """A chain of ellipsoids of one body part. Shapes are drawn in the order of depth + `bias` (body heights).

    A flat shape has no shading.
    """

    part: str
    color: np.ndarray
    chain: list[Ellipsoid]
    bias: float
    flat: bool


@dataclass(kw_only=True)
class Figure:
    """A figure in body axes.

    camera: float64 (3, 3), from body axes to view axes; joints: float64 (3,) by name; shapes: in any order.
    """

    camera: np.ndarray
    joints: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=list)

    def add(self, part: str, color: ArrayLike, chain: list[Ellipsoid], bias: float = 0.0, *, flat: bool = False) -> None:
        """Add a shape. color: RGB, 0 to 255."""
        self.shapes.append(Shape(part, np.asarray(color, np.float64), chain, bias, flat))

    def depth(self, vector: np.ndarray) -> float:
        """Return the component toward the viewer of a vector in body axes."""
        return float(self.camera[2] @ vector)

    def extent(self) -> np.ndarray:
        """Return float64 (2, 2): minimum and maximum x and y of all shapes in the image, in body heights from the pelvis."""
        centers = np.array([center for shape in self.shapes for center, _ in shape.chain]) @ self.camera[:2].T
        return np.stack([centers.min(0) - 0.04, centers.max(0) + 0.04])
