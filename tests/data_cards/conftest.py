"""A card and the annotations that it describes, for the tests of the data cards."""

import json
from pathlib import Path

import numpy as np
import pytest
from pipeline_data import build_config

from pipeline.__main__ import build
from pipeline.records.manifest import CARD


@pytest.fixture(scope="session")
def text(records: Path) -> str:
    return (records / CARD).read_text()


@pytest.fixture(scope="session")
def document(records: Path) -> dict:
    """croissant.json of the record set."""
    return json.loads((records / "croissant.json").read_text())


@pytest.fixture(scope="session")
def targets(annotations: Path) -> dict[int, list[np.ndarray]]:
    """Keypoints (17, 3) of the target people by image id, selected here with the default rules of the build."""
    found: dict[int, list[np.ndarray]] = {}
    for entry in json.loads(annotations.read_text())["annotations"]:
        points = np.array(entry["keypoints"]).reshape(17, 3)
        if not entry["iscrowd"] and (points[:, 2] > 0).sum() >= 5 and entry["area"] > 1024:
            found.setdefault(entry["image_id"], []).append(points)
    return found


@pytest.fixture(scope="session")
def bare(people: Path, annotations: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A record set from an annotation file without `info` and licenses."""
    folder = tmp_path_factory.mktemp("bare")
    content = json.loads(annotations.read_text())
    images = [{key: value for key, value in image.items() if key != "license"} for image in content["images"]]
    kept = {name: content[name] for name in ("annotations", "categories")}
    (folder / "own.json").write_text(json.dumps({**kept, "images": images}))
    build(build_config(people, folder / "set", annotations=folder / "own.json", variants=1))
    return folder / "set"
