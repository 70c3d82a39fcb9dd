"""Group peaks into people by scored pairs: greedy assembly, joining of fragments, shared peaks."""

import functools
from dataclasses import dataclass

import numpy as np

from pipeline.skeleton import Skeleton

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Start peak intp (n,), end peak intp (n,) and score float32 (n,) of pairs of peaks, in the order in which to join them."""

# Joint positions of a standing adult in body heights: (sideways from the midline, down from the top of the head). Drillis and
# Contini, "Body segment parameters", 1966 (see Winter, "Biomechanics and Motor Control of Human Movement"); nose, eyes and ears
# are estimates.
STANDING = {
    "nose": (0, 0.085),
    "eye": (0.018, 0.064),
    "ear": (0.043, 0.070),
    "neck": (0, 0.182),
    "shoulder": (0.129, 0.182),
    "elbow": (0.129, 0.370),
    "wrist": (0.129, 0.515),
    "hip": (0.0955, 0.470),
    "knee": (0.0955, 0.715),
    "ankle": (0.0955, 0.961),
}

# Foreshortening makes limbs look shorter, never longer, so that the longest of several limbs indicates the size of a body.
MIN_JOINTS_FOR_SCALE = 5
MAX_STRETCH = 3.0


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """Peaks of one image, sorted by joint: joint intp (n,), x and y in cells float32 (n,), value float32 (n,)."""

    joint: np.ndarray
    x: np.ndarray
    y: np.ndarray
    value: np.ndarray


def group(
    peaks: Peaks, pairs: Pairs, skeleton: Skeleton, *, share_threshold: float, fragments: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Group peaks into people. Returns keypoints float32 (N, J, 3) and scores float64 (N,).

    A score is the sum of a person's peaks and pairs. People of any size are kept. If a pair with a score of at least
    `share_threshold` connects two people, each of them takes over the other's end of the pair if it lacks that joint.
    """
    start, end, _ = pairs
    length = np.hypot(peaks.x[end] - peaks.x[start], peaks.y[end] - peaks.y[start])
    reach = body_reach(skeleton)[peaks.joint[start], peaks.joint[end]]
    scale = np.divide(length, reach, out=np.zeros_like(length), where=reach > 0)
    person, totals, conflicts = assemble(peaks.joint, pairs, scale)
    values = np.stack([peaks.x, peaks.y, peaks.value], axis=-1)
    keypoints = np.zeros((len(totals), skeleton.num_joints, 3), np.float32)
    keypoints[person, peaks.joint] = values
    if fragments and len(totals) > 1:
        owner = join_fragments(keypoints, skeleton)
        kept, owner = np.unique(owner, return_inverse=True)
        person, totals = owner[person], np.bincount(owner, totals)
        keypoints = np.zeros((len(kept), skeleton.num_joints, 3), np.float32)
        keypoints[person, peaks.joint] = values
    totals += np.bincount(person, peaks.value, len(totals))
    joints, people, has_joint = peaks.joint.tolist(), person.tolist(), (keypoints[..., 2] > 0).tolist()
    for first, second, score in conflicts:
        if score < share_threshold:
            continue
        for taker, peak in ((people[first], second), (people[second], first)):
            if not has_joint[taker][joints[peak]]:
                has_joint[taker][joints[peak]] = True
                keypoints[taker, joints[peak]] = values[peak]
                totals[taker] += score
    return keypoints, totals


def assemble(joint: np.ndarray, pairs: Pairs, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, float]]]:
    """Merge peaks into people by the pairs, in their order. At first, each peak is a person.

    Two people merge only if they have no joint in common. A pair that is far too long for a body of MIN_JOINTS_FOR_SCALE or
    more joints is skipped: it runs through a row of people.

    joint: intp (n,), the joint of each peak. scale: float (pairs,), the body height that each pair's length corresponds to.
    Returns the person of each peak intp (n,), the sum of each person's pair scores float64 (N,), and the pairs that would
    give a person the same joint twice, in the same order.
    """
    joints = joint.tolist()
    person = list(range(len(joints)))
    members = [[peak] for peak in person]
    joint_bits = [1 << joint for joint in joints]
    totals = [0.0] * len(joints)
    scales = [0.0] * len(joints)  # largest scale among each person's limbs
    limits = [np.inf] * len(joints)
    conflicts = []
    for start, end, score, size in zip(*(values.tolist() for values in (*pairs, scale)), strict=True):
        one, other = person[start], person[end]
        if one == other:
            totals[one] += score
        elif size > limits[one] or size > limits[other]:
            continue
        elif not joint_bits[one] & joint_bits[other]:
            joint_bits[one] |= joint_bits[other]
            totals[one] += totals[other] + score
            scales[one] = max(size, scales[one], scales[other])
            for peak in members[other]:
                person[peak] = one
            members[one] += members[other]
            if len(members[one]) >= MIN_JOINTS_FOR_SCALE:
                limits[one] = MAX_STRETCH * scales[one]
        else:
            conflicts.append((start, end, score))
    kept, renumbered = np.unique(np.array(person, np.intp), return_inverse=True)
    return renumbered, np.array(totals)[kept], conflicts


def join_fragments(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Find people that are fragments of one body. Returns intp (N,): the person into which each person is merged.

    Two people without a common joint can be one body if the distance of any joint of one to any joint of the other is at most
    the length of the limbs between the two joints; the closest people are joined first. The scale of a person is the largest
    ratio of a distance to that length, because limbs look shorter, never longer, than they are. The larger scale of two people
    counts; people with a single joint get the largest scale in the image. A lone left joint and a lone right joint of the
    same kind are joined last, at any distance.
    """
    seen = keypoints[..., 2] > 0
    reach = body_reach(skeleton)
    scale = _scales(keypoints, seen, reach)
    lone = scale == 0
    scale = np.where(lone, scale.max() or 1.0, scale)
    apart = ~(seen.astype(np.float32) @ seen.T.astype(np.float32)).astype(bool)
    one, other = np.nonzero(np.triu(apart))
    # One joint each rules out most pairs of people cheaply.
    first = seen.argmax(axis=1)
    ratio = _ratios(keypoints, reach, np.maximum(scale[one], scale[other]), one, first[one], other, first[other])
    # Two lone hands or ears of a body close to the camera: nothing limits their distance.
    both_sides = lone[one] & lone[other] & (skeleton.mirror[first[one]] == first[other]) & np.isfinite(ratio)
    possible = (ratio <= 1) | both_sides
    one, other, both_sides = one[possible], other[possible], both_sides[possible]
    largest, smallest = _extremes(keypoints, seen, scale, reach, one, other)
    order = np.flatnonzero((largest <= 1) | both_sides)
    order = order[np.argsort(smallest[order], kind="stable")]
    return _join(len(keypoints), one[order].tolist(), other[order].tolist())


def _scales(keypoints: np.ndarray, seen: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """(N,): largest ratio of a distance between two joints of a person to the limbs between them; 0 for a single joint."""
    one, other = np.nonzero(np.triu(reach))
    distance = np.hypot(*(keypoints[:, one, :2] - keypoints[:, other, :2]).transpose(2, 0, 1))
    return (distance / reach[one, other] * (seen[:, one] & seen[:, other])).max(axis=1, initial=0)


def _ratios(
    keypoints: np.ndarray,
    reach: np.ndarray,
    scale: np.ndarray,
    one: np.ndarray,
    joint: np.ndarray,
    other: np.ndarray,
    other_joint: np.ndarray,
) -> np.ndarray:
    """(n,): distance between a joint of `one` and a joint of `other`, relative to the limbs between them at that scale."""
    apart = keypoints[one, joint, :2] - keypoints[other, other_joint, :2]
    size = scale * reach[joint, other_joint]
    return np.divide(np.hypot(*apart.T), size, out=np.full(len(size), np.inf, np.float32), where=size > 0)


def _extremes(
    keypoints: np.ndarray, seen: np.ndarray, scale: np.ndarray, reach: np.ndarray, one: np.ndarray, other: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) twice: largest and smallest ratio between the joints of person one[i] and the joints of person other[i]."""
    if not len(one):
        return np.zeros(0), np.zeros(0)
    joints, count = np.nonzero(seen)[1], seen.sum(axis=1)
    start = np.cumsum(count) - count
    size = count[one] * count[other]
    pair = np.repeat(np.arange(len(one)), size)
    row, column = np.divmod(ranges(size), count[other][pair])
    a, b = one[pair], other[pair]
    ratio = _ratios(keypoints, reach, np.maximum(scale[a], scale[b]), a, joints[start[a] + row], b, joints[start[b] + column])
    first = np.cumsum(size) - size
    return np.maximum.reduceat(ratio, first), np.minimum.reduceat(ratio, first)


def ranges(lengths: np.ndarray) -> np.ndarray:
    """Concatenate the ranges of these lengths: (2, 3) -> 0 1 0 1 2."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _join(count: int, one: list[int], other: list[int]) -> np.ndarray:
    """Merge groups of people along the pairs, in order, if all pairs between two groups are listed. Returns each one's group."""
    friends = [0] * count
    for i, j in zip(one, other, strict=True):
        friends[i] |= 1 << j
        friends[j] |= 1 << i
    members = [1 << i for i in range(count)]
    owner = list(range(count))
    for i, j in zip(one, other, strict=True):
        a, b = owner[i], owner[j]
        if a != b and members[b] & friends[a] == members[b]:
            friends[a] &= friends[b]
            members[a] |= members[b]
            owner = [a if group == b else group for group in owner]
    return np.array(owner, np.intp)


@functools.lru_cache(maxsize=8)
def body_reach(skeleton: Skeleton) -> np.ndarray:
    """Return float32 (J, J): length in body heights of the shortest chain of limbs between two joints, 0 if there is no chain.

    Limbs with a joint that STANDING does not list get the mean length of the others.
    """
    places = np.array([_standing(joint) for joint in skeleton.joints])
    lengths = np.linalg.norm(np.diff(places[skeleton.limb_joints], axis=1)[:, 0], axis=-1)
    typical = np.nanmean(lengths) if np.isfinite(lengths).any() else 1.0
    reach = np.full((skeleton.num_joints, skeleton.num_joints), np.inf)
    np.fill_diagonal(reach, 0)
    for (start, end), length in zip(skeleton.limb_joints, lengths, strict=True):
        reach[start, end] = reach[end, start] = typical if np.isnan(length) else length
    for through in range(skeleton.num_joints):
        reach = np.minimum(reach, reach[:, through, None] + reach[through])
    reach = np.where(np.isfinite(reach), reach, 0).astype(np.float32)
    reach.setflags(write=False)
    return reach


def body_heights(keypoints: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return float32 (N,): height of each standing person in the unit of keypoints (N, J, 3), 0 for those with one joint.

    The largest that any two joints indicate, because limbs look shorter, never longer, than they are.
    """
    return _scales(keypoints, keypoints[..., 2] > 0, body_reach(skeleton))


def standing_heights(skeleton: Skeleton) -> np.ndarray:
    """Return float64 (J,): distance of each joint from the top of the head of a standing person in body heights, 0.5 if unknown."""
    return np.nan_to_num([_standing(joint)[1] for joint in skeleton.joints], nan=0.5)


def _standing(joint: str) -> tuple[float, float]:
    side, _, part = joint.rpartition("_")
    sideways, down = STANDING.get(part, (np.nan, np.nan))
    return (-sideways if side == "right" else sideways), down
