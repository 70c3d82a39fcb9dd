"""Joints that the decoder gave to the wrong one of two people, who are at the same place of the image."""

import numpy as np

from evaluator.tracking.tracks import Detections, Track

# Distances in body heights: of an exchanged joint from where it is expected, and how much nearer it must be than before.
NEAR, GAIN = 0.06, 0.06


def exchange_joints(found: Detections, owner: dict[int, Track]) -> None:
    """Exchange joints between people of `found`, in place, where the motion of both tells that the decoder mixed them up.

    A joint that only one of them has is moved. The colors of people whose joints change become unknown.
    owner: the track of each person who has one.
    """
    certain = [person for person, track in sorted(owner.items()) if track.identity > 0 and track.lost == 1]
    for place, one in enumerate(certain):
        for other in certain[place + 1 :]:
            _exchange(found, (one, other), (owner[one], owner[other]))


def _exchange(found: Detections, people: tuple[int, int], tracks: tuple[Track, Track]) -> None:
    scale = max(track.height_px for track in tracks)
    if np.abs(tracks[0].last_place - tracks[1].last_place).max() > scale:
        return
    keypoints = found.keypoints[list(people)]
    exists = keypoints[..., 2] > 0
    expected = np.stack([track.keypoints for track in tracks])

    def distances(places: np.ndarray, exists: np.ndarray) -> np.ndarray:
        """Sum over both people of the distances of their joints from where they are expected, in body heights, (J,)."""
        return (np.linalg.norm(places[..., :2] - expected, axis=-1) * exists).sum(axis=0) / scale

    kept, exchanged = distances(keypoints, exists), distances(keypoints[::-1], exists[::-1])
    fresh = (tracks[0].age == 0) & (tracks[1].age == 0)
    wrong = fresh & (exchanged < NEAR * exists.sum(axis=0)) & (kept > exchanged + GAIN)
    corrected = np.where(wrong[:, None], keypoints[::-1], keypoints)
    if wrong.any() and (corrected[..., 2] > 0).any(axis=1).all():
        found.keypoints[list(people)] = corrected
        found.colors[list(people)] = np.nan
