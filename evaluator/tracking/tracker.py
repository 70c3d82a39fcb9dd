"""Identities of people from frame to frame.

The pose of a person in the next frame is predicted (`tracks`), and people and predictions are paired by OKS and by the colors of their
clothes (`appearance`), with `scipy.optimize.linear_sum_assignment`: first the identities of the previous frame that are certain, then
all others, including lost ones. Who appears later or elsewhere is recognized by the colors alone. People with low scores continue
identities but start none (as in ByteTrack: Zhang et al., ECCV 2022).

The result is a pure function of the people and images of the frames so far: an interrupted run that is continued, and that feeds the
same frames again, gives the same identities.
"""

import numpy as np

from evaluator.decoding import People
from evaluator.decoding.grouping import body_reach
from evaluator.decoding.scores import ScoreMap, score_map
from evaluator.tracking.appearance import Appearance
from evaluator.tracking.config import TrackConfig
from evaluator.tracking.exchange import exchange_joints
from evaluator.tracking.tracks import UNTRACKED, Detections, Track
from pipeline.skeleton import Skeleton

AREA_PER_HEIGHT = 0.13  # area of a person in squares of the body height, as COCO's segments of standing people have it
MIN_COMMON = 0.4  # share of the joints; fewer in common cannot give an OKS of 1: a single one would resemble anybody
CONFIDENT_OKS = 0.6  # of a person who is surely the one of the previous frame
# The best pairs have the highest sum of: OKS with tolerances smaller by this factor, weighted likeness of the colors, and, of a track
# that is lost, this for each second. A fainter likeness, of a small part of the body for example, does not count.
SHARPNESS, COLOR_WEIGHT, FAINT, PER_LOST_S = 0.3, 0.2, 0.2, -0.2
LIMB_SPEED = 0.4  # of a joint relative to the body, in body heights per second: a hidden one is less and less where it was
UNLIKE = -0.2  # likeness of colors below which a person is not the lost one
MOTION_S = 2.0  # a motion that was seen longer ago does not tell where a person is
# A new person is recognized as a lost one if the distance of their colors is at most SAME_COLOR, and at most DISTINCT times that of everybody else,
# and if the lost one can have come there: NEAR body heights away, and SPEED more for each second.
SAME_COLOR, DISTINCT = 20.0, 0.6
NEAR, SPEED, MAX_HEIGHT_RATIO = 1.0, 2.0, 3.0
# Lowest score of a person who starts an identity. Without a calibration, MIN_CERTAIN_JOINTS joints with a mean confidence of at
# least CERTAIN are enough, too.
CALIBRATED_START, UNCALIBRATED_START, MIN_CERTAIN_JOINTS, CERTAIN = 0.5, 0.7, 4, 0.6
IMPOSSIBLE = -1e3


class Tracker:
    """Gives the people of consecutive frames identities, from 1, which are never used again.

    keypoints: float32 (N, J, 3), those of the people of the last frame, with the joints that the decoder mixed up exchanged.
    """

    def __init__(
        self, skeleton: Skeleton, fps: float, config: TrackConfig | None = None, to_scores: ScoreMap | None = None
    ) -> None:
        """fps: frames per second of the frames that are given to `update`. to_scores: the map of the network from raw scores to scores."""
        self.config = config or TrackConfig()
        self.keypoints = np.zeros((0, skeleton.num_joints, 3), np.float32)
        self._to_scores = to_scores or score_map(skeleton)
        self._sigmas = joint_sigmas(skeleton)
        self._reach = body_reach(skeleton).astype(np.float64)
        self._appearance = Appearance(skeleton)
        self._dt = 1 / fps
        self._tracks: list[Track] = []
        self._num_identities, self._num_frames = 0, 0

    def update(self, people: People, num_frames: int = 1, image: np.ndarray | None = None) -> np.ndarray:
        """Return the identity of each person of the next frame, int64 (N,); UNTRACKED for those without one.

        num_frames: frames since the last call; more than one if frames were left out. image: the frame, uint8 (H, W, 3) RGB, whose
        pixels are the unit of the keypoints; without it, people differ by motion and pose only.
        """
        found = self._describe(people, image)
        max_lost = round(self.config.max_lost_s / self._dt)
        self._tracks = [track for track in self._tracks if track.lost + num_frames <= max_lost + 1]
        for track in self._tracks * num_frames:
            track.predict()
        owner = self._associate(found)
        exchange_joints(found, owner)
        self.keypoints = found.keypoints.astype(np.float32)
        for person, track in owner.items():
            track.correct(found, person)
        self._tracks = [track for track in self._tracks if track.lost <= (max_lost if track.identity > 0 else 0)]
        for person in np.flatnonzero(self._may_start(found)).tolist():
            if person not in owner:
                owner[person] = Track(found, person, self._dt)
                self._tracks.append(owner[person])
        self._num_frames += 1
        self._confirm([owner[person] for person in sorted(owner)])  # best score first
        return np.array([owner[person].identity if person in owner else UNTRACKED for person in range(len(found))], np.int64)

    def _describe(self, people: People, image: np.ndarray | None) -> Detections:
        keypoints = people.keypoints.astype(np.float64)
        heights = self._heights(keypoints)
        colors = self._appearance.nothing(len(keypoints))
        if image is not None and self.config.appearance:
            colors = self._appearance(keypoints, heights, image)
        return Detections(keypoints=keypoints, scores=self._to_scores(people.scores), heights=heights, colors=colors)

    def _heights(self, keypoints: np.ndarray) -> np.ndarray:
        """Body heights in pixels, (N,): the largest that any two joints indicate, because limbs look shorter than they are."""
        seen = keypoints[..., 2] > 0
        one, other = np.nonzero(np.triu(self._reach))
        distance = np.linalg.norm(keypoints[:, one, :2] - keypoints[:, other, :2], axis=-1)
        return (distance / self._reach[one, other] * (seen[:, one] & seen[:, other])).max(axis=1, initial=0)

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
        oks = self._oks(tracks, found)[:, free]
        sharp = self._oks(tracks, found, SHARPNESS)[:, free]
        likeness = self._appearance.likeness(np.stack([track.colors for track in tracks]), found.colors[free])
        lost = np.array([track.lost - 1 for track in tracks])[:, None]
        possible = (oks >= min_oks) & ((lost == 0) | (likeness >= UNLIKE))
        decisive = np.sign(likeness) * np.maximum(np.abs(likeness) - FAINT, 0) / (1 - FAINT)
        value = np.where(possible, sharp + COLOR_WEIGHT * decisive + PER_LOST_S * self._dt * lost, IMPOSSIBLE)
        for row, column in zip(*linear_sum_assignment(value, maximize=True), strict=True):
            if possible[row, column]:
                owner[int(free[column])] = tracks[row]

    def _oks(self, tracks: list[Track], found: Detections, sharpness: float = 1.0) -> np.ndarray:
        """OKS of predicted poses and people, float64 (T, N), over the joints that both have, with tolerances times `sharpness`.

        The uncertainty of the predicted place, and that of joints that were hidden, widen the tolerances.
        """
        predicted = np.stack([track.keypoints for track in tracks])
        known = np.stack([track.known for track in tracks])
        scale = np.array([track.height_px for track in tracks])[:, None]
        scale = np.maximum(scale, 0.5 * found.heights)[..., None]  # a track of a fragment is smaller than its person
        hidden_s = np.stack([self._dt * (track.age + track.lost - 1) for track in tracks])
        uncertain = np.array([track.variance[0] for track in tracks])[:, None] + (LIMB_SPEED * hidden_s) ** 2
        squared = ((predicted[:, None] - found.keypoints[None, :, :, :2]) ** 2).sum(axis=-1)
        tolerance = (AREA_PER_HEIGHT * sharpness * (2 * self._sigmas) ** 2 + uncertain[:, None]) * scale**2
        common = known[:, None] & (found.keypoints[None, ..., 2] > 0)
        similarity = (np.exp(-squared / (2 * tolerance + np.spacing(1))) * common).sum(axis=-1)
        return similarity / np.maximum(common.sum(axis=-1), MIN_COMMON * common.shape[-1])

    def _may_start(self, found: Detections) -> np.ndarray:
        """Whether the score of each person is high enough for a new identity, bool (N,).

        Uncalibrated scores are sums over joints: of half hidden people, they are low, but the joints may be certain.
        """
        least, certain = self.config.start_score, np.zeros(len(found), bool)
        if least is None and self._to_scores.is_calibrated:
            least = CALIBRATED_START
        elif least is None:
            least = UNCALIBRATED_START
            confidences = found.keypoints[..., 2]
            num_joints = (confidences > 0).sum(axis=1)
            certain = (num_joints >= MIN_CERTAIN_JOINTS) & (confidences.sum(axis=1) >= CERTAIN * num_joints)
        return ((found.scores >= least) | certain) & (found.heights > 0)

    def _confirm(self, tracks: list[Track]) -> None:
        """Give identities to new people who have been found often enough: that of the lost one whom they resemble, or a new one."""
        least = 1 if self._num_frames == 1 else self.config.confirm_frames
        for track in tracks:
            if track.identity == UNTRACKED and track.num_found >= least:
                old = self._recognize(track)
                if old is None:
                    self._num_identities += 1
                    track.identity = self._num_identities
                else:
                    track.identity = old.identity
                    self._tracks.remove(old)

    def _recognize(self, track: Track) -> Track | None:
        """Return the lost track of a new person; None if none has the same colors, or somebody else has them as well."""
        everybody = [other for other in self._tracks if other.identity > 0]
        if not any(other.lost for other in everybody):
            return None
        distance = self._appearance.distances(np.stack([other.colors for other in everybody]), track.colors[None])[:, 0]
        order = np.argsort(distance, kind="stable")
        best = everybody[order[0]]
        next_distance = distance[order[1]] if len(order) > 1 else np.inf
        is_alike = distance[order[0]] <= min(SAME_COLOR, DISTINCT * next_distance)
        heights = sorted((best.height_px, track.height_px))
        apart = np.linalg.norm(best.last_place - track.last_place) / heights[1]
        is_near = apart <= NEAR + SPEED * best.lost * self._dt and heights[1] <= MAX_HEIGHT_RATIO * heights[0]
        return best if best.lost and is_alike and is_near else None


def joint_sigmas(skeleton: Skeleton) -> np.ndarray:
    """Return the OKS constant of every joint, float64 (J,); that of a derived joint is the larger one of its two sources."""
    constants = dict(zip(skeleton.source_joints, skeleton.sigmas, strict=True))
    for joint, first, second in skeleton.derived:
        constants[joint] = max(constants[first], constants[second])
    return np.array([constants[joint] for joint in skeleton.joints])
