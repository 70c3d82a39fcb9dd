"""A person who is followed: the motion of the body, and the colors of the clothes.

The whole body moves with constant velocity; a Kalman filter (Kalman, 1960) estimates place and velocity.
"""

from dataclasses import dataclass

import numpy as np

UNTRACKED = -1
"""The identity of a person who has none, as in OpenPose's `person_id`."""
# Standard deviations of the motion model, in body heights: of a place, and of the change of velocity in a second.
PLACE_SD, ACCELERATION_SD = 0.02, 0.8
MEMORY_S = 1.0  # a joint that was not found for longer, while its person was, is not compared
RECENT, MAX_GROWTH = 0.3, 1.25  # weight of the newest frame in the logarithm of the body height, and how far that may be off
COLOR_FRAMES = 25  # weight of a new color is 1 / this


@dataclass(kw_only=True)
class Detections:
    """The people of a frame.

    keypoints: float64 (N, J, 3), x and y in pixels and confidence, 0 for joints that were not found. scores: from 0 to 1, (N,).
    heights: body heights in pixels, (N,). colors: (N, P, 3), see `Appearance`.
    """

    keypoints: np.ndarray
    scores: np.ndarray
    heights: np.ndarray
    colors: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)


class Track:
    """An identity, or a person who may become one.

    identity: UNTRACKED until it is confirmed. keypoints: float64 (J, 2), places of the joints at the last update, moved with the body
    since. age: (J,), frames with this person since each joint was found. height_px: body height. velocity: pixels per frame. variance:
    of place, of place and velocity, of velocity, in squared body heights. colors: (P, 3), NaN if never seen. num_found: frames with
    this person. lost: frames since the last one.
    """

    def __init__(self, found: Detections, person: int, dt: float) -> None:
        """dt: seconds between two frames."""
        self.identity = UNTRACKED
        self.keypoints = found.keypoints[person, :, :2].copy()
        self._memory = round(MEMORY_S / dt)
        self.age = np.where(found.keypoints[person, :, 2] > 0, 0, self._memory + 1)
        self.height_px = float(found.heights[person])
        self.velocity = np.zeros(2)
        self.variance = np.array([PLACE_SD**2, 0.0, (ACCELERATION_SD * dt) ** 2])
        self.colors = found.colors[person].copy()
        self._num_colors = np.isfinite(self.colors[:, 0]).astype(np.int64)
        self.num_found, self.lost = 1, 0
        self._dt = dt

    @property
    def known(self) -> np.ndarray:
        """bool (J,): joints that were found not too long ago."""
        return self.age <= self._memory

    @property
    def last_place(self) -> np.ndarray:
        """float64 (2,): the middle of the joints when the person was last found."""
        return self.keypoints[self.known].mean(axis=0) - self.lost * self.velocity

    def predict(self) -> None:
        """Move on by one frame."""
        self.keypoints += self.velocity
        place, mixed, speed = self.variance
        noise = (ACCELERATION_SD * self._dt * self._dt) ** 2  # of a velocity per frame
        self.variance = np.array([place + 2 * mixed + speed + noise / 4, mixed + speed + noise / 2, speed + noise])
        self.lost += 1

    def correct(self, found: Detections, person: int) -> None:
        """Update with this person of the frame."""
        keypoints, height_px = found.keypoints[person], found.heights[person]
        seen = keypoints[:, 2] > 0
        common = seen & self.known
        surprise = np.median(keypoints[common, :2] - self.keypoints[common], axis=0) if common.any() else np.zeros(2)
        place, mixed, speed = self.variance
        gain = np.array([place, mixed]) / (place + PLACE_SD**2)
        self.velocity = self.velocity + gain[1] * surprise
        self.keypoints += gain[0] * surprise
        self.keypoints[seen] = keypoints[seen, :2]
        self.variance = np.array([(1 - gain[0]) * place, (1 - gain[0]) * mixed, speed - gain[1] * mixed])
        self.age = np.where(seen, 0, self.age + 1)
        if height_px:
            self.height_px *= float(np.clip(height_px / self.height_px, 1 / MAX_GROWTH, MAX_GROWTH)) ** RECENT
        self._average(found.colors[person])
        self.num_found += 1
        self.lost = 0

    def _average(self, colors: np.ndarray) -> None:
        """Average colors over the frames that show them, exponentially in the long run."""
        visible = np.isfinite(colors[:, 0])
        self._num_colors = np.minimum(self._num_colors + visible, COLOR_FRAMES)
        before = np.where(np.isfinite(self.colors), self.colors, colors)
        step = (colors - before) / np.maximum(self._num_colors, 1)[:, None]
        self.colors = np.where(visible[:, None], before + step, self.colors)
