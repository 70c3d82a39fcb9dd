"""Identities of people from frame to frame.

A person's pose in the next frame is predicted by moving the whole body with constant velocity; a Kalman filter (Kalman, 1960)
estimates place and velocity. People and predictions are paired by OKS, with `scipy.optimize.linear_sum_assignment`: first the
identities of the previous frame that are certain, then all others, including lost ones. People with low scores continue
identities but start none (as in ByteTrack: Zhang et al., ECCV 2022).

The result is a pure function of the people of the frames so far: an interrupted run that is continued, and that feeds the same
people again, gives the same identities.
"""

from dataclasses import dataclass

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.grouping import body_reach
from evaluator.tracking.config import TrackConfig
from pipeline.skeleton import Skeleton

UNTRACKED = -1
"""The identity of a person who has none, as in OpenPose's `person_id`."""
AREA_PER_HEIGHT = 0.13  # area of a person in squares of the body height, as COCO's segments of standing people have it
MIN_COMMON = 0.4  # share of the joints; fewer in common cannot give an OKS of 1: a single one would resemble anybody
MEMORY_S = 1.0  # a joint that was not found for longer, while its person was, is not compared
# Standard deviations of the motion model, in body heights: of a place, and of the change of velocity in a second.
PLACE_SD, ACCELERATION_SD = 0.02, 0.8
CONFIDENT_OKS = 0.6  # of a person who is surely the one of the previous frame
RECENT, MAX_GROWTH = 0.3, 1.25  # weight of the newest frame in the logarithm of the body height, and how far that may be off


@dataclass(kw_only=True)
class _Track:
    """An identity, or a person who may become one.

    keypoints: float64 (J, 2), places of the joints at the last update, moved with the body since; age: frames with this person since
    each joint was found, (J,); velocity: pixels per frame; variance: of place, of place and velocity, of velocity, in squared body
    heights; num_found: frames with this person; lost: frames since the last one.
    """

    identity: int
    keypoints: np.ndarray
    age: np.ndarray
    height_px: float
    velocity: np.ndarray
    variance: np.ndarray
    num_found: int = 1
    lost: int = 0


class Tracker:
    """Gives the people of consecutive frames identities, from 1, which are never used again."""

    def __init__(self, skeleton: Skeleton, fps: float, config: TrackConfig | None = None) -> None:
        """fps: frames per second of the frames that are given to `update`."""
        self.config = config or TrackConfig()
        self._sigmas = joint_sigmas(skeleton)
        self._reach = body_reach(skeleton).astype(np.float64)
        self._dt, self._max_lost, self._memory = 1 / fps, round(self.config.max_lost_s * fps), round(MEMORY_S * fps)
        self._tracks: list[_Track] = []
        self._num_identities, self._num_frames = 0, 0

    def update(self, people: People, num_frames: int = 1) -> np.ndarray:
        """Return the identity of each person of the next frame, int64 (N,); UNTRACKED for those without one.

        num_frames: frames since the last call; more than one if frames were left out.
        """
        found = people.keypoints.astype(np.float64)
        heights = self._heights(found)
        self._tracks = [track for track in self._tracks if track.lost + num_frames <= self._max_lost + 1]
        for track in self._tracks * num_frames:
            self._predict(track)
        owner = self._associate(found, heights)
        for person, track in owner.items():
            self._correct(track, found[person], heights[person])
        self._tracks = [track for track in self._tracks if track.lost <= (self._max_lost if track.identity > 0 else 0)]
        for person in range(len(found)):
            if person not in owner and heights[person] > 0 and people.scores[person] >= self.config.start_score:
                owner[person] = self._start(found[person], heights[person])
        self._num_frames += 1
        identities = np.full(len(found), UNTRACKED, np.int64)
        for person, track in sorted(owner.items()):  # best score first
            if track.identity < 0 and (track.num_found >= self.config.confirm_frames or self._num_frames == 1):
                self._num_identities += 1
                track.identity = self._num_identities
            identities[person] = track.identity
        return identities

    def _heights(self, found: np.ndarray) -> np.ndarray:
        """Body heights in pixels, (N,): the largest that any two joints indicate, because limbs look shorter than they are."""
        seen = found[..., 2] > 0
        one, other = np.nonzero(np.triu(self._reach))
        distance = np.linalg.norm(found[:, one, :2] - found[:, other, :2], axis=-1)
        return (distance / self._reach[one, other] * (seen[:, one] & seen[:, other])).max(axis=1, initial=0)

    def _start(self, keypoints: np.ndarray, height_px: float) -> _Track:
        track = _Track(
            identity=UNTRACKED,
            keypoints=keypoints[:, :2].copy(),
            age=np.where(keypoints[:, 2] > 0, 0, self._memory + 1),
            height_px=height_px,
            velocity=np.zeros(2),
            variance=np.array([PLACE_SD**2, 0.0, (ACCELERATION_SD * self._dt) ** 2]),
        )
        self._tracks.append(track)
        return track

    def _predict(self, track: _Track) -> None:
        """Move a track on by one frame."""
        track.keypoints += track.velocity
        place, mixed, speed = track.variance
        noise = (ACCELERATION_SD * self._dt * self._dt) ** 2  # of a velocity per frame
        track.variance = np.array([place + 2 * mixed + speed + noise / 4, mixed + speed + noise / 2, speed + noise])
        track.lost += 1

    def _correct(self, track: _Track, keypoints: np.ndarray, height_px: float) -> None:
        """Update a track with its person in this frame."""
        seen = keypoints[:, 2] > 0
        common = seen & (track.age <= self._memory)
        surprise = np.median(keypoints[common, :2] - track.keypoints[common], axis=0)
        place, mixed, speed = track.variance
        gain = np.array([place, mixed]) / (place + PLACE_SD**2)
        track.velocity = track.velocity + gain[1] * surprise
        track.keypoints += gain[0] * surprise
        track.keypoints[seen] = keypoints[seen, :2]
        track.variance = np.array([(1 - gain[0]) * place, (1 - gain[0]) * mixed, speed - gain[1] * mixed])
        track.age = np.where(seen, 0, track.age + 1)
        if height_px:
            track.height_px *= float(np.clip(height_px / track.height_px, 1 / MAX_GROWTH, MAX_GROWTH)) ** RECENT
        track.num_found += 1
        track.lost = 0

    def _associate(self, found: np.ndarray, heights: np.ndarray) -> dict[int, _Track]:
        """Pair people and tracks. Returns the track of each person who has one."""
        owner: dict[int, _Track] = {}
        confirmed = [track for track in self._tracks if track.identity > 0]
        active = [track for track in confirmed if track.lost == 1]
        self._pair(active, found, heights, CONFIDENT_OKS, owner)
        self._pair(confirmed, found, heights, self.config.min_oks, owner)
        self._pair(self._tracks, found, heights, self.config.min_oks, owner)
        return owner

    def _pair(
        self, tracks: list[_Track], found: np.ndarray, heights: np.ndarray, min_oks: float, owner: dict[int, _Track]
    ) -> None:
        """Add the best pairs of tracks and people who are not in `owner` yet to it."""
        from scipy.optimize import linear_sum_assignment  # which single images do not need

        taken = {id(track) for track in owner.values()}
        tracks = [track for track in tracks if id(track) not in taken]
        free = np.array([person for person in range(len(found)) if person not in owner], np.intp)
        if not tracks or not len(free):
            return
        similarity = self._similarity(tracks, found[free], heights[free])
        for row, column in zip(*linear_sum_assignment(similarity, maximize=True), strict=True):
            if similarity[row, column] >= min_oks:
                owner[int(free[column])] = tracks[row]

    def _similarity(self, tracks: list[_Track], found: np.ndarray, heights: np.ndarray) -> np.ndarray:
        """OKS of predicted poses and people, float64 (T, N), over the joints that both have.

        The uncertainty of the predicted place widens the tolerance of every joint.
        """
        predicted = np.stack([track.keypoints for track in tracks])
        known = np.stack([track.age <= self._memory for track in tracks])
        scale = np.array([track.height_px for track in tracks])[:, None]
        scale = np.maximum(scale, 0.5 * heights)  # a track of a fragment is smaller than its person
        uncertain = np.array([track.variance[0] for track in tracks])[:, None] * scale**2
        squared = ((predicted[:, None] - found[None, :, :, :2]) ** 2).sum(axis=-1)
        tolerance = AREA_PER_HEIGHT * scale[..., None] ** 2 * (2 * self._sigmas) ** 2 + uncertain[..., None]
        common = known[:, None] & (found[None, ..., 2] > 0)
        similarity = (np.exp(-squared / (2 * tolerance + np.spacing(1))) * common).sum(axis=-1)
        return similarity / np.maximum(common.sum(axis=-1), MIN_COMMON * common.shape[-1])


def joint_sigmas(skeleton: Skeleton) -> np.ndarray:
    """Return the OKS constant of every joint, float64 (J,); that of a derived joint is the larger one of its two sources."""
    constants = dict(zip(skeleton.source_joints, skeleton.sigmas, strict=True))
    for joint, first, second in skeleton.derived:
        constants[joint] = max(constants[first], constants[second])
    return np.array([constants[joint] for joint in skeleton.joints])
