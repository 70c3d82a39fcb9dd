"""Skeletons from YAML or JSON files: COCO's, which ships with the project, and your own. Imports `pipeline.skeleton`."""

from pathlib import Path

from pipeline.documents import read_yaml
from pipeline.skeleton import Skeleton


def read_skeleton(path: Path | None) -> Skeleton:
    """Read a skeleton from a YAML or JSON file with the fields of `Skeleton`; None returns COCO's. Raises UserError."""
    if path is None:
        return COCO18
    return Skeleton.from_dict(read_yaml(Path(path), "skeleton file"), f"skeleton file {path}")


COCO18 = read_skeleton(Path(__file__).with_name("coco18.yaml"))
