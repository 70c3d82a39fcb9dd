"""Skeletons from YAML or JSON files: COCO's, which ships with the project, and your own. Imports `pipeline.skeleton`."""

from pathlib import Path

from pipeline.documents import read_yaml
from pipeline.errors import UserError
from pipeline.skeleton import Skeleton


def read_skeleton(path: Path | None) -> Skeleton:
    """Read a skeleton from a YAML or JSON file with the fields of `Skeleton`; None returns COCO's. Raises UserError."""
    if path is None:
        return COCO18
    where = f"skeleton file {path}"
    skeleton = Skeleton.from_dict(read_yaml(Path(path), "skeleton file"), where)
    if pair := _unpaired(skeleton):
        raise UserError(
            f"{where}: mirror_pairs must have the pair {list(pair)}, or a mirrored image would confuse left and right"
        )
    return skeleton


def _unpaired(skeleton: Skeleton) -> tuple[str, str] | None:
    """Return the first joints, such as left_knee and right_knee, whose names are a pair of which `mirror_pairs` does not know."""
    known = {frozenset(pair) for pair in skeleton.mirror_pairs}
    for left in skeleton.joints:
        for side, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
            right = left.replace(side, other)
            if right != left and right in skeleton.joints and frozenset((left, right)) not in known:
                return left, right
    return None


COCO18 = read_skeleton(Path(__file__).with_name("coco18.yaml"))
