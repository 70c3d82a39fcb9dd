"""A network's skeleton seen through an annotation file with other keypoints: joints are matched by name.

So a network over the joints of several data sets is scored on the annotations of one of them, in the order of that file.
"""

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pipeline.datasets.categories import keypoints_of
from pipeline.datasets.joints import labeled_by, renamed
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18, SHIPPED, read_skeleton
from pipeline.wording import printable

NO_NAMES: Mapping[str, str] = MappingProxyType({})


def view_of_file(entries: list[Any], skeleton: Skeleton, where: str, joints: Mapping[str, str] = NO_NAMES) -> Skeleton:
    """Return the skeleton with the keypoints of a file as `source_joints`; unchanged if they are its own.

    entries: `categories` of the file. joints: the network's names by those of the file, where they differ; the returned skeleton has
    the names of the file. The OKS constants are those of the shipped skeleton with exactly these keypoints, which are what others score
    this data with; else, by name, those of the network, else of a shipped skeleton. Keypoints that the network does not predict have
    index -1 in `source_indices`; they are missing in its results.

    Raises UserError, which begins with `where`, if the network predicts at most half of the keypoints, and for unknown `joints`.
    """
    listed = keypoints_of(entries, where)
    if not listed or (skeleton.source_joints in listed and not joints):
        return skeleton
    in_network = {tuple(joints.get(name, name) for name in names): names for names in listed}
    names = max(in_network, key=lambda names: len({*names} & {*skeleton.joints}))
    if unknown := [name for name in joints if name not in in_network[names] or joints[name] not in skeleton.joints]:
        raise UserError(
            f"{where}: --joints {printable(unknown[0])}={printable(joints[unknown[0]])}: must be a keypoint of the file, "
            f"{printable(', '.join(in_network[names])[:500])}, and a joint of the network, {', '.join(skeleton.joints)}"
        )
    lacking = [name for name in names if name not in skeleton.joints]
    if 2 * len(lacking) >= len(names):
        raise UserError(
            f"{where}: categories: {len(lacking)} of {len(names)} keypoints are not joints of skeleton {skeleton.name!r}: "
            f"{printable(', '.join(lacking)[:500])}; its joints are {', '.join(skeleton.joints)}; give those that the file calls "
            "otherwise with --joints FILE=NETWORK"
        )
    try:
        seen = labeled_by(skeleton, _skeleton_of(names, skeleton, where))
        return renamed(seen, {network: file for file, network in joints.items()})
    except ValueError as error:
        raise UserError(f"{where}: categories: {error}") from error


def shipped_skeleton_of_file(entries: list[Any], skeleton: Skeleton, where: str) -> Skeleton:
    """Return the shipped skeleton with exactly the keypoints of a file. Raises UserError, which begins with `where`, if there is none.

    entries: `categories` of the file. skeleton: not used.
    """
    listed = keypoints_of(entries, where)
    found = next((shipped for names in listed if (shipped := shipped_skeleton(names))), None)
    if found is None:
        shown = printable("; ".join(", ".join(names) for names in listed)[:500]) or "no category with keypoints"
        raise UserError(f"{where}: categories: not the keypoints of a shipped skeleton ({shown}); give yours with --skeleton")
    return found


def shipped_skeleton(names: tuple[str, ...]) -> Skeleton | None:
    """Return the first shipped skeleton with exactly these keypoints in its annotation files; of COCO's, `coco18`."""
    return next((skeleton for skeleton in _shipped() if skeleton.source_joints == names), None)


@functools.cache
def _shipped() -> tuple[Skeleton, ...]:
    """The shipped skeletons, COCO's first."""
    return (COCO18, *(read_skeleton(name) for name in SHIPPED if name != COCO18.name))


def _skeleton_of(names: tuple[str, ...], network: Skeleton, where: str) -> Skeleton:
    """Return a skeleton with exactly these keypoints. Raises UserError if one has no OKS constant."""
    if shipped := shipped_skeleton(names):
        return shipped
    sigmas: dict[str, float] = {}
    for known in (network, *_shipped()):
        sigmas = dict(zip(known.source_joints, known.sigmas, strict=True)) | sigmas
    if unknown := [name for name in names if name not in sigmas]:
        raise UserError(
            f"{where}: categories: no skeleton has an OKS constant for keypoint {printable(unknown[0])!r}; if the network calls it "
            f"otherwise, give --joints {printable(unknown[0])}=NAME"
        )
    constants = tuple(sigmas[name] for name in names)
    return Skeleton(name="file", joints=names, limbs=(), mirror_pairs=(), source_joints=names, sigmas=constants)
