"""Colors of clothes, by which the tracker tells people apart.

A person has one color per kind of limb, such as the thighs: the median of pixels along these limbs, in CIELAB, where distances are about
as large as people see them (CIE 1976). Pixels that somebody else may cover are left out. Limbs are those of the skeleton, so that
skeletons of other bodies have colors, too.
"""

import cv2
import numpy as np

from evaluator.decoding.grouping import body_reach
from pipeline.skeleton import Skeleton

MIN_LENGTH = 0.1  # of a limb, in body heights; shorter ones show more hair and background than clothes
SAMPLES = np.linspace(0.15, 0.85, 8)[:, None]  # places of the pixels along a limb
MIN_PIXELS = 4  # of a color
COVER = 0.06  # distance from somebody else's limb, in body heights, at which this person may cover a pixel
MIDDLE = 25.0  # distance of two colors that tells neither that two people are one nor that they are not
LARGEST = 50.0  # distance that counts: one limb with a wrong color does not outweigh all others


class Appearance:
    """Describes people by colors. num_colors: number P of kinds of limbs."""

    def __init__(self, skeleton: Skeleton) -> None:
        reach = body_reach(skeleton)[tuple(skeleton.limb_joints.T)]
        kinds: dict[frozenset[int], list[int]] = {}
        for limb in np.flatnonzero(reach >= MIN_LENGTH).tolist():
            joints = skeleton.limb_joints[limb]
            mirrored = frozenset(skeleton.mirror[joints].tolist())
            kinds.setdefault(mirrored if mirrored in kinds else frozenset(joints.tolist()), []).append(limb)
        self.num_colors = len(kinds)
        self._joints = skeleton.limb_joints
        self._kinds = np.array([(limbs * 2)[:2] for limbs in kinds.values()], np.intp).reshape(
            -1, 2
        )  # a single limb counts twice
        self._weights = reach[self._kinds[:, 0]].astype(np.float64)

    def nothing(self, num_people: int) -> np.ndarray:
        """Return the colors of people of whom no image is known."""
        return np.full((num_people, self.num_colors, 3), np.nan)

    def __call__(self, keypoints: np.ndarray, heights: np.ndarray, image: np.ndarray) -> np.ndarray:
        """Return the colors of people, float64 (N, P, 3), NaN where too little of a limb is visible.

        keypoints: (N, J, 3), x and y in pixels of the image and confidence, 0 for joints that were not found. heights: (N,), body
        heights in pixels. image: uint8 (H, W, 3) RGB.
        """
        if not len(keypoints) or not self.num_colors:
            return self.nothing(len(keypoints))
        start, end = np.moveaxis(keypoints[:, self._joints].astype(np.float64), 2, 0)
        found = (start[..., 2] > 0) & (end[..., 2] > 0)  # (N, L)
        start, end = start[..., :2], end[..., :2]
        first = start[:, self._kinds, None]
        points = first + SAMPLES * (end[:, self._kinds, None] - first)  # (N, P, 2, samples, 2)
        last = np.array(image.shape[1::-1]) - 1
        visible = found[:, self._kinds, None] & ((points >= 0) & (points <= last)).all(axis=-1)
        for person in range(len(keypoints)):
            others = found & (np.arange(len(keypoints)) != person)[:, None]
            if others.any():
                radius = np.broadcast_to(COVER * heights[:, None], found.shape)[others]
                covered = _near(points[person].reshape(-1, 2), start[others], end[others], radius)
                visible[person] &= ~covered.reshape(visible.shape[1:])
        x, y = np.moveaxis(np.clip(np.rint(points), 0, last).astype(np.intp), -1, 0)
        colors = cv2.cvtColor(image[y, x].reshape(1, -1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        shape = (len(keypoints), self.num_colors, -1)
        return _medians(colors.reshape(*shape, 3), visible.reshape(shape))

    def distances(self, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Return the distances of people, float64 (T, N): root mean square over the colors that both have, by length of the limbs.

        ours: (T, P, 3); theirs: (N, P, 3). Infinite for people without a common color.
        """
        squared = np.minimum(((ours[:, None] - theirs) ** 2).sum(axis=-1), LARGEST**2)
        weights = np.isfinite(squared) * self._weights
        total = weights.sum(axis=-1)
        mean = np.full(total.shape, np.inf)
        return np.sqrt(np.divide((np.nan_to_num(squared) * weights).sum(axis=-1), total, out=mean, where=total > 0))

    def likeness(self, ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Return how alike people are, float64 (T, N): from 1, the same colors, to -1, other ones. Unknown colors count as 0.

        ours: (T, P, 3); theirs: (N, P, 3).
        """
        apart = np.sqrt(((ours[:, None] - theirs) ** 2).sum(axis=-1))
        alike = np.nan_to_num(np.clip(1 - apart / MIDDLE, -1, 1))
        return (alike * self._weights).sum(axis=-1) / max(self._weights.sum(), 1e-9)


def _near(points: np.ndarray, start: np.ndarray, end: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return which points (S, 2) are within radius (M,) of any of the lines from start to end, (M, 2): bool (S,)."""
    line = end - start
    length = np.maximum((line * line).sum(axis=1), 1e-9)  # squared
    along = points @ line.T - (start * line).sum(axis=1)
    share = np.clip(along / length, 0, 1)
    apart = (points * points).sum(axis=1)[:, None] - 2 * points @ start.T + (start * start).sum(axis=1)  # from the start, squared
    return (apart + share * (share * length - 2 * along) < radius * radius).any(axis=1)


def _medians(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the medians over the third axis of the chosen values: float64 (N, P, 3) of (N, P, S, 3) and bool (N, P, S)."""
    count = chosen.sum(axis=2)
    ordered = np.sort(np.where(chosen[..., None], values, np.inf), axis=2)
    middle = np.take_along_axis(ordered, np.maximum(count - 1, 0)[..., None, None] // 2, axis=2)[:, :, 0]
    return np.where((count >= MIN_PIXELS)[..., None], middle, np.nan).astype(np.float64)
