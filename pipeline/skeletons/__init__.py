"""Skeletons: those that ship with the project, by name, and your own from YAML or JSON files. Imports `pipeline.skeleton`."""

from pathlib import Path

import yaml

from pipeline.errors import UserError
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import read_yaml

_FOLDER = Path(__file__).parent
SHIPPED = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
"""Names of the skeletons that ship with the project."""


def read_skeleton(name: Path | str | None) -> Skeleton:
    """Return the shipped skeleton of this name, or read a YAML or JSON file with the fields of `Skeleton`; None returns COCO's.

    Raises UserError for a wrong file, and for a name that is neither shipped nor that of a file. A shipped name wins over a file
    of the same name, which has no suffix.
    """
    if name is None:
        return COCO18
    path = Path(name)
    if is_shipped(name):
        path = _FOLDER / f"{name}.yaml"
    elif not path.exists():
        raise UserError(f"skeleton {name}: no such file, and no shipped skeleton; those are {', '.join(SHIPPED)}")
    where = f"skeleton file {path}"
    skeleton = Skeleton.from_dict(read_yaml(path, "skeleton file"), where)
    if pair := _unpaired(skeleton):
        raise UserError(
            f"{where}: mirror_pairs must have the pair {list(pair)}, or a mirrored image would confuse left and right"
        )
    return skeleton


def skeleton_text(skeleton: Skeleton) -> str:
    """Return a skeleton as the YAML text that `read_skeleton` reads."""
    fields = skeleton.to_dict()
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, default_flow_style=None, width=132)


def is_shipped(name: Path | str) -> bool:
    """Return whether this is the name of a shipped skeleton."""
    return str(name) in SHIPPED


def _unpaired(skeleton: Skeleton) -> tuple[str, str] | None:
    """Return the first joints, such as left_knee and right_knee, whose names are a pair of which `mirror_pairs` does not know."""
    known = {frozenset(pair) for pair in skeleton.mirror_pairs}
    for left in skeleton.joints:
        for side, other in (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT")):
            right = left.replace(side, other)
            if right != left and right in skeleton.joints and frozenset((left, right)) not in known:
                return left, right
    return None


COCO18 = read_skeleton("coco18")
