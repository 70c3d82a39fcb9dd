"""Identities of people from frame to frame.

A person's pose in the next frame is predicted by moving the whole body with constant velocity; a Kalman filter (Kalman, 1960)
estimates place and velocity. People and predictions are paired by OKS, with `scipy.optimize.linear_sum_assignment`: first the
identities of the previous frame that are certain, then all others, including lost ones. People with low scores continue
identities but start none (as in ByteTrack: Zhang et al., ECCV 2022).

The result is a pure function of the people of the frames so far: an interrupted run that is continued, and that feeds the same
people again, gives the same identities.
"""

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.grouping import body_reach
from evaluator.tracking.appearance import Appearance
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.tracks import Detections, Track
from pipeline.skeleton import Skeleton

UNTRACKED = -1
"""The identity of a person who has none, as in OpenPose's `person_id`."""
AREA_PER_HEIGHT = 0.13  # area of a person in squares of the body height, as COCO's segments of standing people have it
MIN_COMMON = 0.4  # share of the joints; fewer in common cannot give an OKS of 1: a single one would resemble anybody
CONFIDENT_OKS = 0.6  # of a person who is surely the one of the previous frame
RECENCY = 0.1
HR, CONTRA = 3.0, -0.3
UNMIX, CLOSE, MARGIN = True, 0.06, 0.06
MOTION_S = 2.0  # for longer, motion does not tell where a person may be
COLOR_WEIGHT, IMPOSSIBLE, TIGHT, LIMB_SPEED = 0.2, -1.0, 0.3, 0.4
SAME_COLOR, DISTINCT = 20.0, 0.6
NEAR, SPEED = 1.0, 2.0


class Tracker:
    """Gives the people of consecutive frames identities, from 1, which are never used again."""

    def __init__(self, skeleton: Skeleton, fps: float, config: TrackConfig | None = None) -> None:
        """fps: frames per second of the frames that are given to `update`."""
        self.config = config or TrackConfig()
        self._sigmas = joint_sigmas(skeleton)
        self._reach = body_reach(skeleton).astype(np.float64)
        self._appearance = Appearance(skeleton)
        self._dt = 1 / fps
        self._tracks: list[Track] = []
        self._num_identities, self._num_frames = 0, 0

    def update(self, people: People, num_frames: int = 1, image: np.ndarray | None = None) -> np.ndarray:
        """Return the identity of each person of the next frame, int64 (N,); UNTRACKED for those without one.

        num_frames: frames since the last call; more than one if frames were left out. image: the frame, uint8 (H, W, 3) RGB, of
        which the keypoints are pixels; without it, people differ by motion and pose only.
        """
        found = self._describe(people, image)
        max_lost = round(self.config.max_lost_s / self._dt)
        self._tracks = [track for track in self._tracks if track.lost + num_frames <= max_lost + 1]
        for track in self._tracks * num_frames:
            track.predict()
        owner = self._associate(found)
        if UNMIX:
            self._exchange(found, owner)
        self.keypoints = found.keypoints
        for person, track in owner.items():
            track.correct(found, person)
        self._tracks = [track for track in self._tracks if track.lost <= (max_lost if track.identity > 0 else 0)]
        for person in range(len(found)):
            if person not in owner and found.heights[person] > 0 and found.scores[person] >= self.config.start_score:
                owner[person] = Track(found, person, self._dt)
                self._tracks.append(owner[person])
        self._num_frames += 1
        self._confirm([owner[person] for person in sorted(owner)])  # best score first
        return np.array([owner[person].identity if person in owner else UNTRACKED for person in range(len(found))], np.int64)

    def _confirm(self, tracks: list[Track]) -> None:
        """Give identities to new people who have been found often enough: that of a lost one whom they resemble, or a new one."""
        least = 1 if self._num_frames == 1 else self.config.confirm_frames
        new = [track for track in tracks if track.identity < 0 and track.num_found >= least]
        self._recognize(new)
        for track in new:
            if track.identity < 0:
                self._num_identities += 1
                track.identity = self._num_identities

    def _recognize(self, new: list[Track]) -> None:
        lost = [track for track in self._tracks if track.identity > 0 and track.lost > 0]
        if not lost or not new:
            return
        everybody = lost + [track for track in self._tracks if track.identity > 0 and track.lost == 0]
        colors = [np.stack([track.colors for track in some]) for some in (everybody, new)]
        distance = self._appearance.distances(*colors)
        distance = np.where(np.isfinite(distance), distance, np.inf)
        for column, track in enumerate(new):
            own = distance[:, column].copy()
            order = np.argsort(own, kind="stable")
            best = int(order[0])
            other = own[order[1]] if len(order) > 1 else np.inf
            if best >= len(lost) or lost[best].identity < 0 or own[best] > SAME_COLOR or own[best] > DISTINCT * other:
                continue
            old = lost[best]
            height = max(old.height_px, track.height_px)
            apart = np.linalg.norm(old.last_place - track.last_place) / height
            if apart > NEAR + SPEED * old.lost * self._dt or not 1 / HR < old.height_px / track.height_px < HR:
                continue
            track.identity = old.identity
            self._tracks.remove(old)
            distance[best] = np.inf

    def _describe(self, people: People, image: np.ndarray | None) -> Detections:
        found = people.keypoints.astype(np.float64)
        heights = self._heights(found)
        if image is None or not self.config.appearance:
            colors = np.full((len(found), self._appearance.num_colors, 3), np.nan)
        else:
            colors = self._appearance(found, heights, image)
        return Detections(keypoints=found, scores=people.scores, heights=heights, colors=colors)

    def _heights(self, found: np.ndarray) -> np.ndarray:
        """Body heights in pixels, (N,): the largest that any two joints indicate, because limbs look shorter than they are."""
        seen = found[..., 2] > 0
        one, other = np.nonzero(np.triu(self._reach))
        distance = np.linalg.norm(found[:, one, :2] - found[:, other, :2], axis=-1)
        return (distance / self._reach[one, other] * (seen[:, one] & seen[:, other])).max(axis=1, initial=0)

    def _exchange(self, found: Detections, owner: dict[int, Track]) -> None:
        """Give joints that the decoder has given to the wrong one of two people to the other one."""
        active = [person for person, track in owner.items() if track.lost == 1 and track.identity > 0]
        for place, a in enumerate(active):
            for b in active[place + 1 :]:
                one, other = owner[a], owner[b]
                scale = max(one.height_px, other.height_px)
                if np.abs(one.last_place - other.last_place).max() > scale:
                    continue
                fresh = (one.age == 0) & (other.age == 0)
                ka, kb = found.keypoints[a], found.keypoints[b]
                has_a, has_b = ka[:, 2] > 0, kb[:, 2] > 0
                def cost(points, track, has):
                    return np.where(has, np.linalg.norm(points[:, :2] - track.keypoints, axis=1) / scale, 0)
                keep = cost(ka, one, has_a) + cost(kb, other, has_b)
                swap = cost(kb, one, has_b) + cost(ka, other, has_a)
                wrong = fresh & (has_a | has_b) & (swap < CLOSE * (0.0 + has_a + has_b)) & (keep > swap + MARGIN)
                if wrong.any():
                    found.keypoints[a], found.keypoints[b] = np.where(wrong[:, None], kb, ka), np.where(wrong[:, None], ka, kb)
                    found.colors[[a, b]] = np.nan

    def _associate(self, found: Detections) -> dict[int, Track]:
        """Pair people and tracks. Returns the track of each person who has one."""
        owner: dict[int, Track] = {}
        near = [track for track in self._tracks if track.lost * self._dt <= MOTION_S]
        confirmed = [track for track in near if track.identity > 0]
        active = [track for track in confirmed if track.lost == 1]
        self._pair(active, found, CONFIDENT_OKS, owner)
        self._pair(confirmed, found, self.config.min_oks, owner)
        self._pair(near, found, self.config.min_oks, owner)
        return owner

    def _pair(self, tracks: list[Track], found: Detections, min_oks: float, owner: dict[int, Track]) -> None:
        """Add the best pairs of tracks and people who are not in `owner` yet to it."""
        from scipy.optimize import linear_sum_assignment  # which single images do not need

        taken = {id(track) for track in owner.values()}
        tracks = [track for track in tracks if id(track) not in taken]
        free = np.array([person for person in range(len(found)) if person not in owner], np.intp)
        if not tracks or not len(free):
            return
        similarity, rank = (x[:, free] for x in self._similarity(tracks, found))
        alike = self._appearance.evidence(np.stack([track.colors for track in tracks]), found.colors[free])
        hidden = np.array([track.lost > 1 for track in tracks])[:, None]
        possible = (similarity >= min_oks) & ~(hidden & (alike < CONTRA))
        score = np.where(possible, rank + COLOR_WEIGHT * alike, IMPOSSIBLE)
        for row, column in zip(*linear_sum_assignment(score, maximize=True), strict=True):
            if possible[row, column]:
                owner[int(free[column])] = tracks[row]

    def _similarity(self, tracks: list[Track], found: Detections) -> np.ndarray:
        """OKS of predicted poses and people, float64 (T, N), over the joints that both have; lower for people of other colors.

        The uncertainty of the predicted place widens the tolerance of every joint.
        """
        predicted = np.stack([track.keypoints for track in tracks])
        known = np.stack([track.known for track in tracks])
        scale = np.array([track.height_px for track in tracks])[:, None]
        scale = np.maximum(scale, 0.5 * found.heights)  # a track of a fragment is smaller than its person
        uncertain = np.array([track.variance[0] for track in tracks])[:, None]
        stale = np.stack([(LIMB_SPEED * self._dt * (track.age + track.lost - 1)) ** 2 for track in tracks])
        uncertain = (uncertain + stale)[:, None] * scale[..., None] ** 2
        squared = ((predicted[:, None] - found.keypoints[None, :, :, :2]) ** 2).sum(axis=-1)
        tolerance = AREA_PER_HEIGHT * scale[..., None] ** 2 * (2 * self._sigmas) ** 2 
        common = known[:, None] & (found.keypoints[None, ..., 2] > 0)
        count = np.maximum(common.sum(axis=-1), MIN_COMMON * common.shape[-1])
        wide = (np.exp(-squared / (2 * (tolerance + uncertain) + np.spacing(1))) * common).sum(axis=-1) / count
        tolerance = TIGHT * tolerance + np.spacing(1)
        tight = (np.exp(-squared / (2 * (tolerance + uncertain))) * common).sum(axis=-1) / count
        tight -= RECENCY * self._dt * np.array([track.lost - 1 for track in tracks])[:, None]
        return wide, tight


def joint_sigmas(skeleton: Skeleton) -> np.ndarray:
    """Return the OKS constant of every joint, float64 (J,); that of a derived joint is the larger one of its two sources."""
    constants = dict(zip(skeleton.source_joints, skeleton.sigmas, strict=True))
    for joint, first, second in skeleton.derived:
        constants[joint] = max(constants[first], constants[second])
    return np.array([constants[joint] for joint in skeleton.joints])
