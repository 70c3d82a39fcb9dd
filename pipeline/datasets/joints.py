"""Skeletons of data sets that name or label their joints differently: renamed joints, the union, what one data set labels."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.skeleton import MAX_NAME, Skeleton


def renamed(skeleton: Skeleton, names: Mapping[str, str]) -> Skeleton:
    """Return the skeleton with other names of joints. names: new by old. Raises ValueError if two have the same name then."""

    def new(joint: str) -> str:
        return names.get(joint, joint)

    return replace(
        skeleton,
        joints=tuple(map(new, skeleton.joints)),
        limbs=tuple((new(a), new(b)) for a, b in skeleton.limbs),
        mirror_pairs=tuple((new(a), new(b)) for a, b in skeleton.mirror_pairs),
        source_joints=tuple(map(new, skeleton.source_joints)),
        derived=tuple((new(joint), new(a), new(b)) for joint, a, b in skeleton.derived),
        unlabeled=tuple(map(new, skeleton.unlabeled)),
    )


def union(skeletons: Sequence[Skeleton]) -> Skeleton:
    """Return the skeleton with all joints and limbs of several ones. What they share is taken from the first that has it."""
    derived = {entry[0]: entry for skeleton in reversed(skeletons) for entry in skeleton.derived}
    sigmas = {
        joint: sigma
        for skeleton in reversed(skeletons)
        for joint, sigma in zip(skeleton.source_joints, skeleton.sigmas, strict=True)
    }
    # A joint that one source labels and another one derives is derived here; `labeled_by` prefers the label.
    source_joints = [joint for joint in dict.fromkeys(j for s in skeletons for j in s.source_joints) if joint not in derived]
    limbs = {frozenset(limb): limb for skeleton in reversed(skeletons) for limb in skeleton.limbs}
    order = dict.fromkeys(frozenset(limb) for skeleton in skeletons for limb in skeleton.limbs)
    pairs = {frozenset(pair): pair for skeleton in skeletons for pair in skeleton.mirror_pairs}
    return Skeleton(
        name="+".join(dict.fromkeys(skeleton.name for skeleton in skeletons))[:MAX_NAME],
        joints=tuple(dict.fromkeys(joint for skeleton in skeletons for joint in skeleton.joints)),
        limbs=tuple(limbs[limb] for limb in order),
        mirror_pairs=tuple(pairs.values()),
        source_joints=tuple(source_joints),
        sigmas=tuple(sigmas[joint] for joint in source_joints),
        derived=tuple(derived.values()),
    )


def labeled_by(whole: Skeleton, own: Skeleton) -> Skeleton:
    """Return `whole` with the keypoints of an annotation file that has those of `own`. Joints are matched by name.

    A joint that `own` neither labels nor derives is derived as in `whole` if both of its ends are labeled; otherwise it is
    unlabeled. Raises ValueError if only one joint of a mirror pair is labeled, or none at all.
    """
    labeled = set(own.source_joints)
    derived = {entry[0]: entry for entry in own.derived if entry[0] in whole.joints}
    for joint, first, second in whole.derived:
        if joint not in labeled and {first, second} <= labeled:
            derived.setdefault(joint, (joint, first, second))
    unlabeled = tuple(joint for joint in whole.joints if joint not in labeled and joint not in derived)
    if len(unlabeled) == len(whole.joints):
        raise ValueError(f"has none of the joints {', '.join(whole.joints)}; rename its joints with `joints: {{old: new}}`")
    return replace(
        whole, source_joints=own.source_joints, sigmas=own.sigmas, derived=tuple(derived.values()), unlabeled=unlabeled
    )
