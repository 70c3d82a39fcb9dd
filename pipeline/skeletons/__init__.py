"""Skeletons from YAML or JSON files: COCO's, which ships with the project, and your own. Imports `pipeline.skeleton`."""

from pathlib import Path

import yaml

from pipeline.errors import UserError
from pipeline.skeleton import Skeleton


def read_skeleton(path: Path | None) -> Skeleton:
    """Read a skeleton from a YAML or JSON file with the fields of `Skeleton`; None returns COCO's. Raises UserError."""
    if path is None:
        return COCO18
    try:
        return Skeleton.from_dict(yaml.safe_load(Path(path).read_text()))
    except OSError as error:
        raise UserError(f"skeleton file {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"skeleton file {path}: neither YAML nor JSON: {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"skeleton file {path}: {error}") from error


COCO18 = read_skeleton(Path(__file__).with_name("coco18.yaml"))
