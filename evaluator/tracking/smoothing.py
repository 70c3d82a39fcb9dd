"""Smooth keypoints: the One-Euro filter, which removes jitter at rest and hardly delays fast motion.

Casiez, Roussel, Vogel: "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems", CHI 2012. An
exponential filter whose cutoff frequency is min_cutoff + beta |speed| (their equations 1 to 7, 9); the speed is filtered as well.
"""

import numpy as np

from evaluator.tracking.tracks import UNTRACKED

MIN_CUTOFF_HZ = 1.5
BETA = 6.0  # Hz per body size and second
SPEED_CUTOFF_HZ = 1.0


class Smoother:
    """Smooths the joints of every identity. Speeds are relative to the size of the person, so that the distance does not matter."""

    def __init__(self, fps: float) -> None:
        """fps: frames per second of the frames that are given to `update`."""
        self._fps = fps
        self._states: dict[int, _State] = {}
        self._frame = 0

    def update(self, keypoints: np.ndarray, identities: np.ndarray, num_frames: int = 1) -> np.ndarray:
        """Return the smoothed keypoints of the next frame. num_frames: frames since the last call, more than one if some were left out.

        keypoints: float32 (N, J, 3), x and y in pixels and confidence; joints with confidence 0 are not filtered, and the filter
        of a joint restarts when the joint is found again. identities: int (N,); people without one are returned as they are.
        """
        smoothed = keypoints.copy()
        for person, identity in enumerate(identities.tolist()):
            if identity == UNTRACKED:
                continue
            state = self._states.get(identity)
            if state is None:  # new, or out of sight in between: nothing to smooth with
                state = self._states[identity] = _State(keypoints[person])
            smoothed[person, :, :2] = state.update(keypoints[person], self._fps / num_frames)
            state.frame = self._frame
        self._states = {identity: state for identity, state in self._states.items() if state.frame == self._frame}
        self._frame += 1
        return smoothed


class _State:
    """The filters of one person: places and speeds of the joints, float64 (J, 2) each."""

    def __init__(self, keypoints: np.ndarray) -> None:
        self.places = keypoints[:, :2].astype(np.float64)
        self.speeds = np.zeros_like(self.places)
        self.known = np.zeros(len(keypoints), bool)
        self.frame = -1

    def update(self, keypoints: np.ndarray, fps: float) -> np.ndarray:
        found, seen = keypoints[:, :2].astype(np.float64), keypoints[:, 2] > 0
        size_px = max(1.0, float(np.ptp(found[seen], axis=0).max())) if seen.any() else 1.0
        begin = (seen & ~self.known)[:, None]
        self.places, self.speeds = np.where(begin, found, self.places), np.where(begin, 0, self.speeds)
        speed = (found - self.places) * fps / size_px
        self.speeds += _weight(SPEED_CUTOFF_HZ, fps) * (speed - self.speeds)
        cutoff_hz = MIN_CUTOFF_HZ + BETA * np.linalg.norm(self.speeds, axis=1, keepdims=True)
        self.places = self.places + _weight(cutoff_hz, fps) * (found - self.places)
        self.known = seen
        return np.where(seen[:, None], self.places, keypoints[:, :2])


def _weight(cutoff_hz: float | np.ndarray, fps: float) -> float | np.ndarray:
    """Weight of the newest value in an exponential filter with this cutoff frequency."""
    return 1 / (1 + fps / (2 * np.pi * cutoff_hz))
