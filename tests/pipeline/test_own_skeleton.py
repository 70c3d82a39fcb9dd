"""Keypoints other than COCO's, from the skeleton file to metrics and pictures."""

import functools
import json

import numpy as np
import pytest
import yaml
from pipeline_data import PUPPET
from trainer_data import TINY_OPTIONS

from evaluator.__main__ import COMMANDS as EVALUATOR
from pipeline.__main__ import COMMANDS as PIPELINE
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.records.manifest import read_manifest
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18, read_skeleton
from trainer.__main__ import COMMANDS as TRAINER

pipeline, trainer, evaluator = (functools.partial(main, "test", "", commands) for commands in (PIPELINE, TRAINER, EVALUATOR))

COCO_NAMES = {"right_string": "right_wrist", "left_string": "left_wrist", "right_hook": "right_hip", "left_hook": "left_hip"}


@pytest.fixture(scope="module")
def puppets(annotations, tmp_path_factory):
    """The synthetic people with only their wrists and hips, renamed and in another order."""
    folder = tmp_path_factory.mktemp("puppets")
    document = json.loads(annotations.read_text())
    places = [COCO18.source_joints.index(COCO_NAMES[joint]) for joint in PUPPET["source_joints"]]
    document["categories"] = [{"id": 3, "name": "puppet", "keypoints": PUPPET["source_joints"], "skeleton": []}]
    for entry in document["annotations"]:
        points = np.array(entry["keypoints"]).reshape(-1, 3)[places]
        entry |= {"category_id": 3, "keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}
    (folder / "puppets.json").write_text(json.dumps(document))
    (folder / "puppet.yaml").write_text(yaml.safe_dump(PUPPET))
    return folder


def words(**options) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.mark.slow
def test_from_file_to_metrics(puppets, people, tmp_path):
    annotations, skeleton = puppets / "puppets.json", puppets / "puppet.yaml"
    source = words(annotations=annotations, images=people / "train2017")
    small = words(insize=128, min_joints=2, jobs=1)
    assert pipeline(["build", *source, *words(out=tmp_path / "records", skeleton=skeleton), *small]) == 0
    assert pipeline(["verify", str(tmp_path / "records")]) == 0
    assert pipeline(["preview", str(tmp_path / "records"), *words(out=tmp_path / "pictures")]) == 0
    assert pipeline(["info", str(tmp_path / "records")]) == 0
    manifest = read_manifest(tmp_path / "records")
    assert manifest.format.skeleton == Skeleton.from_dict(PUPPET) and manifest.num_samples > 10
    run = words(records=tmp_path / "records", out=tmp_path / "run", batch_size=4, max_steps=2)
    assert trainer(["train", *run, *TINY_OPTIONS]) == 0
    assert evaluator(["run", *source, *words(checkpoint=tmp_path / "run", out=tmp_path / "ap")]) == 0
    metrics = json.loads((tmp_path / "ap" / "metrics.json").read_text())
    assert set(metrics["figures"]) >= {"AP", "AR"} and list((tmp_path / "ap" / "pictures").iterdir())
    picture = next((people / "train2017").iterdir())
    assert evaluator(["predict", str(picture), *words(checkpoint=tmp_path / "run", out=tmp_path / "found")]) == 0


def test_the_oracle_finds_the_puppets(puppets, tmp_path):
    options = words(annotations=puppets / "puppets.json", skeleton=puppets / "puppet.yaml", out=tmp_path / "oracle")
    assert evaluator(["oracle", *options]) == 0
    assert json.loads((tmp_path / "oracle" / "metrics.json").read_text())["figures"]["AP"] > 0.9


def test_a_record_set_with_another_skeleton_is_not_continued(puppets, people, tmp_path, capsys):
    source = words(annotations=puppets / "puppets.json", images=people / "train2017", out=tmp_path / "records")
    small = words(insize=128, min_joints=2, jobs=1)
    assert pipeline(["build", *source, *words(skeleton=puppets / "puppet.yaml"), *small]) == 0
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({**PUPPET, "sigmas": [0.05] * 4}))
    assert pipeline(["build", *source, *words(skeleton=tmp_path / "other.yaml"), *small]) == 1
    assert "started with other settings or inputs (sigmas: was" in capsys.readouterr().err


def test_coco_keypoints_do_not_match_another_skeleton(puppets, people, annotations, tmp_path, capsys):
    options = words(annotations=annotations, images=people / "train2017", out=tmp_path / "r", skeleton=puppets / "puppet.yaml")
    assert pipeline(["build", *options]) == 1
    assert "not keypoints of skeleton 'puppet5'" in capsys.readouterr().err


def test_the_default_skeleton_is_cocos():
    assert read_skeleton(None) is COCO18


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[1, 2", "not YAML: line 1"),
        ("just words", "a skeleton has the fields"),
        (yaml.safe_dump({**PUPPET, "bones": []}), r"unknown \['bones'\]"),
        (yaml.safe_dump({k: v for k, v in PUPPET.items() if k != "sigmas"}), r"missing \['sigmas'\]"),
        (yaml.safe_dump({**PUPPET, "sigmas": ["a"] * 4}), r"sigmas\[0\]: expected a number, got 'a'"),
        (yaml.safe_dump({**PUPPET, "limbs": [["middle", "tail"]]}), "limbs must be pairs of two different joints"),
        (yaml.safe_dump({**PUPPET, "joints": 5}), "joints: expected a list, got 5"),
        (yaml.safe_dump({**PUPPET, "limbs": []}), "limbs must have at least one pair"),
        (yaml.safe_dump({**PUPPET, "name": "a\x1b[31m"}), r"printable characters, got 'a\\x1b"),
        (yaml.safe_dump({**PUPPET, "name": "a" * 101}), "1 to 100 printable characters"),
        (yaml.safe_dump({**PUPPET, "sigmas": [1e-300] * 4}), "sigmas must be numbers from 0.001 to 10"),
        (
            yaml.safe_dump({**PUPPET, "derived": [*PUPPET["derived"], ["middle", "left_string", "left_hook"]]}),
            "derived must name different joints",
        ),
        (yaml.safe_dump({**PUPPET, "mirror_pairs": []}), r"must have the pair \['left_string', 'right_string'\], or a mirrored"),
        (yaml.safe_dump({**PUPPET, "mirror_pairs": PUPPET["mirror_pairs"][:1]}), r"the pair \['left_hook', 'right_hook'\]"),
        (
            yaml.safe_dump(PUPPET)
            .replace("left_string", "StringLeft")
            .replace("right_string", "StringRight")
            .replace("- - StringLeft\n  - StringRight", "- - StringLeft\n  - middle"),
            r"the pair \['StringLeft', 'StringRight'\]",
        ),
        (yaml.safe_dump({**PUPPET, "joints": [f"j{n}" for n in range(501)]}), "joints must be at most 500"),
    ],
)
def test_bad_skeleton_files_are_errors_that_name_the_file(tmp_path, content, named):
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(UserError, match=named) as error:
        read_skeleton(tmp_path / "s.yaml")
    assert "s.yaml" in str(error.value)
