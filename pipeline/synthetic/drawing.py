"""Figures in an image: draws them from back to front (painter's algorithm) and says which joints are visible."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pipeline.synthetic.figure import JOINTS, PARTS, SIDES, Figure

# A joint counts as visible if one of these parts is on top at its pixel.
_VISIBLE_PARTS = {
    **{"eye": ("eye",), "ear": ("ear",), "shoulder": ("torso", "upper_arm"), "elbow": ("upper_arm", "forearm")},
    **{"wrist": ("forearm", "hand"), "hip": ("pelvis", "torso", "skirt", "thigh"), "knee": ("thigh", "shin", "skirt")},
    **{"ankle": ("shin", "foot"), "nose": ("nose",)},
}
_CIRCLE = np.stack([np.cos(np.arange(24) * np.pi / 12), np.sin(np.arange(24) * np.pi / 12)])
SHIFT_BITS = 4  # fractional bits of the coordinates given to cv2
# Layers of shading: scale of the outline, shift toward the light (in radii), brightness.
_SHADING = ((1.0, 0.0, 0.58), (0.88, 0.10, 0.82), (0.70, 0.22, 1.0), (0.38, 0.42, 1.14))


class PlacedFigure:
    """A figure in an image: the pelvis at `origin` (x, y pixels), the body `height_px` pixels high."""

    def __init__(self, figure: Figure, origin: ArrayLike, height_px: float) -> None:
        self.figure, self.origin, self.height_px = figure, np.asarray(origin, np.float64), float(height_px)

    def joints(self) -> np.ndarray:
        """Return float64 (17, 2): x, y of the joints in pixels, in the order of COCO."""
        places = np.array([self.figure.joints[joint] for joint in JOINTS])
        return places @ self.figure.camera[:2].T * self.height_px + self.origin

    def draw(self, image: np.ndarray, owner: np.ndarray, number: int, light: ArrayLike) -> None:
        """Draw onto `image`, uint8 (H, W, 3) RGB, and write part_id(number, part) into `owner`, int32 (H, W).

        light: x, y of the direction toward the light.
        """
        shapes, camera = self.figure.shapes, self.figure.camera
        counts = [len(shape.chain) for shape in shapes]
        centers = np.array([center for shape in shapes for center, _ in shape.chain]) @ camera.T
        axes = np.array([axes for shape in shapes for _, axes in shape.chain])
        outlines, radii = _outlines(camera[:2] @ axes * self.height_px)
        middles, shift = centers[:, :2] * self.height_px + self.origin, radii[:, None] * np.asarray(light)
        shading = _SHADING if self.height_px > 60 else _SHADING[1:3]
        layers = [
            np.rint(((middles + toward * shift)[:, None] + outlines * size) * 2**SHIFT_BITS).astype(np.int32)
            for size, toward, _ in shading
        ]
        first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        depths = np.add.reduceat(centers[:, 2], first) / counts
        for at in np.argsort(depths + [shape.bias for shape in shapes], kind="stable"):
            chain = slice(first[at], first[at] + counts[at])
            _fill(owner, layers[0][chain], [part_id(number, shapes[at].part)], cv2.LINE_8)
            flat = shapes[at].flat or radii[first[at]] < 1.2
            color = shapes[at].color * (1 + 0.6 * depths[at])  # near parts are brighter, as if lit by a lamp at the viewer
            lit = [(layers[0], 0.9)] if flat else [(layer, bright) for layer, (*_, bright) in zip(layers, shading, strict=True)]
            for layer, brightness in lit:
                _fill(image, layer[chain], np.clip(color * brightness, 0, 255).tolist(), cv2.LINE_AA)

    def visible(self, owner: np.ndarray, number: int) -> np.ndarray:
        """Return bool (17,): whether the part of a joint, or a neighboring part, is on top at the joint's pixel."""
        height, width = owner.shape
        visible = np.zeros(len(JOINTS), bool)
        for i, (joint, (x, y)) in enumerate(zip(JOINTS, np.rint(self.joints()).astype(int), strict=True)):
            side, _, kind = joint.rpartition("_")
            parts = [part if part in PARTS else f"{side}_{part}" for part in _VISIBLE_PARTS[kind]]
            if 0 <= x < width and 0 <= y < height and not self._is_on_far_side(joint):
                visible[i] = owner[y, x] in [part_id(number, part) for part in parts]
        return visible

    def _is_on_far_side(self, joint: str) -> bool:
        """Whether this is the far shoulder or hip in a side view, which the torso hides."""
        side, _, kind = joint.rpartition("_")
        if kind not in ("shoulder", "hip"):
            return False
        left, right = (self.figure.joints[f"{s}_{kind}"] for s in SIDES)
        return self.figure.depth((left - right) * SIDES[side]) < -0.75 * float(np.linalg.norm(left - right))


def part_id(number: int, part: str) -> int:
    """Return the value of a part of figure `number` (from 0) in the owner map; 0 is the background."""
    return (number + 1) * len(PARTS) + PARTS.index(part)


def figure_numbers(owner: np.ndarray) -> np.ndarray:
    """Return the number of the figure at every pixel of an owner map, -1 for background and objects."""
    return owner // len(PARTS) - 1


def _outlines(axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the silhouettes (N, 24, 2) and smallest radii (N,) of ellipsoids with projected axes float64 (N, 2, 3).

    The silhouette of {A u : |u| = 1} under a projection P is the ellipse of the matrix P A (P A)^T; its Cholesky factor
    maps the unit circle onto it.
    """
    matrix = axes @ axes.transpose(0, 2, 1) + 1e-9 * np.eye(2)
    return (np.linalg.cholesky(matrix) @ _CIRCLE).transpose(0, 2, 1), np.sqrt(np.linalg.eigvalsh(matrix)[:, 0])


def _fill(image: np.ndarray, outlines: np.ndarray, color: Sequence[float], line_type: int) -> None:
    for i in range(max(len(outlines) - 1, 1)):
        cv2.fillConvexPoly(image, cv2.convexHull(outlines[i : i + 2].reshape(-1, 2)), color, line_type, SHIFT_BITS)
