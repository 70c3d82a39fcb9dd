"""`run` on files with other keypoints than the network's, with the metrics of other data sets, and for images without annotations."""

import dataclasses
import json

import numpy as np
import pytest
from evaluator_data import PerfectNetwork, write_set

from evaluator.jobs import merge
from evaluator.jobs.config import MergeConfig, RunConfig
from evaluator.jobs.run import evaluate_source
from evaluator.metrics.config import MetricConfig
from pipeline.datasets.joints import union
from pipeline.errors import UserError
from pipeline.skeletons import COCO18, read_skeleton


@pytest.fixture(scope="module")
def coco_set(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set"))


def config_of(coco_set, out, **options):
    defaults = {"checkpoint": out / "c", "annotations": coco_set[0], "images": coco_set[1], "pictures": 0}
    return RunConfig(out=out, **{**defaults, **options})


def read(path):
    return json.loads(path.read_text())


def reordered(coco_set, path, names, **renamed):
    """Write the annotations with the keypoints in the order of `names`, some of them called otherwise."""
    document = read(coco_set[0])
    document["categories"][0]["keypoints"] = [renamed.get(name, name) for name in names]
    columns = [COCO18.source_joints.index(name) for name in names]
    for entry in document["annotations"]:
        entry["keypoints"] = np.reshape(entry["keypoints"], (-1, 3))[columns].ravel().tolist()
    path.write_text(json.dumps(document))
    return path


def test_joints_are_matched_by_name(coco_set, tmp_path, capsys):
    """A file with another order has the same people and figures; the pictures and `results.json` follow its order."""
    names = sorted(COCO18.source_joints)
    other = reordered(coco_set, tmp_path / "sorted.json", names)
    for annotations, out in ((coco_set[0], "own"), (other, "other")):
        assert (
            evaluate_source(config_of(coco_set, tmp_path / out, annotations=annotations, pictures=1), PerfectNetwork(coco_set[0]))
            == 0
        )
    assert "does not predict" not in capsys.readouterr().out
    own, found = (read(tmp_path / out / "results.json") for out in ("own", "other"))
    columns = [COCO18.source_joints.index(name) for name in names]
    assert [np.reshape(entry["keypoints"], (-1, 3))[columns].tolist() for entry in own] == [
        np.reshape(entry["keypoints"], (-1, 3)).tolist() for entry in found
    ]
    assert read(tmp_path / "own" / "metrics.json")["figures"] == read(tmp_path / "other" / "metrics.json")["figures"]


def test_a_network_over_two_sources_is_scored_on_each_of_them(coco_set, tmp_path):
    """The second file has the neck, and calls it throat; nobody's head is labeled."""
    crowdpose = read_skeleton("crowdpose14")
    network = PerfectNetwork(coco_set[0], union([COCO18, crowdpose]))
    document = read(coco_set[0])
    for entry in document["annotations"]:
        points = dict(zip(COCO18.source_joints, np.reshape(entry["keypoints"], (-1, 3)), strict=True))
        points |= {"neck": (points["left_shoulder"] + points["right_shoulder"]) / 2, "head": np.zeros(3)}
        entry["keypoints"] = np.concatenate([points[joint] for joint in crowdpose.source_joints]).tolist()
    names = [{"neck": "throat"}.get(joint, joint) for joint in crowdpose.source_joints]
    document["categories"][0]["keypoints"] = names
    (tmp_path / "throat.json").write_text(json.dumps(document))
    for annotations, joints in ((coco_set[0], ()), (tmp_path / "throat.json", ("throat=neck",))):
        config = config_of(coco_set, tmp_path / annotations.stem, annotations=annotations, joints=joints)
        assert evaluate_source(config, network) == 0
        assert read(config.out / "metrics.json")["figures"]["AP"] == pytest.approx(1)
    skeleton = read(config.out / "evaluation.json")["skeleton"]
    assert skeleton["source_joints"] == names and "throat" in skeleton["joints"] and "neck" not in skeleton["joints"]
    throat = names.index("throat")
    assert all(entry["keypoints"][3 * throat + 2] == 1 for entry in read(config.out / "results.json"))
    with pytest.raises(UserError, match="--joints gorge=neck: must be a keypoint of the file, left_shoulder"):
        evaluate_source(dataclasses.replace(config, out=tmp_path / "no", joints=("gorge=neck",)), network)


def test_keypoints_that_the_network_lacks_are_said_and_count_as_not_found(coco_set, tmp_path, capsys):
    renamed = {"left_ear": "left_big_toe", "right_ear": "right_big_toe"}
    toes = reordered(coco_set, tmp_path / "toes.json", COCO18.source_joints, **renamed)
    config = config_of(coco_set, tmp_path / "out", annotations=toes)
    assert evaluate_source(config, PerfectNetwork(coco_set[0])) == 0
    said = "the network does not predict left_big_toe, right_big_toe: 8 labeled keypoints count as not found"
    assert said in capsys.readouterr().out.splitlines()
    results, places = read(config.out / "results.json"), [COCO18.source_joints.index(name) for name in renamed]
    for entry in results:
        points = np.reshape(entry["keypoints"], (-1, 3))
        found = points[points[:, 2] > 0, :2]
        assert (
            (points[places, 2] == 0).all()
            and (points[places, :2] >= found.min(axis=0)).all()
            and (points[places, :2] <= found.max(axis=0)).all()
        )
    figures = read(config.out / "metrics.json")["figures"]
    assert figures["AP .75"] == pytest.approx(1) and figures["AP"] < 0.9, "15 of 17 joints: OKS from 0.88"


def test_other_metrics_are_written_and_printed_again(coco_set, tmp_path, capsys):
    config = config_of(coco_set, tmp_path / "out", metrics=MetricConfig(metric=("coco", "pck", "ochuman")))
    assert evaluate_source(config, PerfectNetwork(coco_set[0])) == 0
    printed = capsys.readouterr().out
    others = read(config.out / "metrics.json")["others"]
    assert others["pck"]["figures"]["PCK@0.2 best"] == others["ochuman"]["figures"]["AP"] == 1
    assert set(others["pck"]["joints"]["PCK@0.2 top"]) == set(COCO18.source_joints)
    lines = [line for line in printed.splitlines() if line.startswith(("PCK", "nose", "{'PCK", "OCHuman"))]
    assert len(lines) == 4
    assert evaluate_source(config, PerfectNetwork(coco_set[0])) == 0
    assert set(lines) <= set(capsys.readouterr().out.splitlines())
    parts = tuple(tmp_path / f"part{number}" for number in (1, 2))
    for number, part in enumerate(parts, 1):
        shard = dataclasses.replace(config, out=part, shard=f"{number}/2", metrics=MetricConfig())
        assert evaluate_source(shard, PerfectNetwork(coco_set[0])) == 0
    assert merge.run(MergeConfig(parts=parts, annotations=coco_set[0], out=tmp_path / "merged", metrics=config.metrics)) == 0
    assert read(tmp_path / "merged" / "metrics.json")["others"] == others
    with pytest.raises(UserError, match=r"metric: \['coco', 'pck', 'ochuman'\] before, \['coco'\] now"):
        evaluate_source(dataclasses.replace(config, metrics=MetricConfig()), PerfectNetwork(coco_set[0]))
    with pytest.raises(UserError, match="--metric pckh needs people with head_box"):
        evaluate_source(
            config_of(coco_set, tmp_path / "other", metrics=MetricConfig(metric=("pckh",))), PerfectNetwork(coco_set[0])
        )
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("has_file", [True, False], ids=["image_info", "folder"])
def test_a_submission_has_the_results_of_an_evaluation(coco_set, tmp_path, has_file):
    assert evaluate_source(config_of(coco_set, tmp_path / "run"), PerfectNetwork(coco_set[0])) == 0
    expected = read(tmp_path / "run" / "results.json")
    info = tmp_path / "image_info.json"
    info.write_text(json.dumps({"images": read(coco_set[0])["images"], "categories": [{"id": 1, "name": "person"}]}))
    config = config_of(coco_set, tmp_path / "out", annotations=info if has_file else None, submission=True)
    assert evaluate_source(config, PerfectNetwork(coco_set[0])) == 0
    files = ["config.yaml", "evaluation.json", *([] if has_file else ["images.json"]), "results.json"]
    assert sorted(file.name for file in config.out.iterdir()) == files
    ids = {10: 1, 20: 2}  # a.png, b.png: names that are no numbers
    uploaded = [
        {
            "image_id": entry["image_id"] if has_file else ids[entry["image_id"]],
            "category_id": 1,
            "keypoints": entry["keypoints"],
            "score": entry["score"],
        }
        for entry in expected
    ]
    assert read(config.out / "results.json") == uploaded
    assert evaluate_source(config, PerfectNetwork(coco_set[0])) == 0, "complete already"
    parts = tuple(tmp_path / f"part{number}" for number in (1, 2))
    for number, part in enumerate(parts, 1):
        assert evaluate_source(dataclasses.replace(config, out=part, shard=f"{number}/2"), PerfectNetwork(coco_set[0])) == 0
    merged = MergeConfig(parts=parts, out=tmp_path / "merged", annotations=config.annotations, images=config.images)
    assert merge.run(merged) == 0
    assert sorted(file.name for file in merged.out.iterdir()) == files
    for name in set(files) - {"config.yaml"}:
        assert (merged.out / name).read_bytes() == (config.out / name).read_bytes()
    with pytest.raises(UserError, match="not the images that .*part1 was computed for" if has_file else "part1: of a submission"):
        other = {"annotations": coco_set[0]} if has_file else {"metrics": MetricConfig(metric=("pck",))}
        merge.run(dataclasses.replace(merged, out=tmp_path / "no", **other))


def test_the_names_of_images_are_their_ids_if_they_are_numbers(tmp_path, capsys):
    annotations, images = write_set(tmp_path / "set", names=("000000000010.png", "000000000020.png", "000000000030.png"))
    (images / "000000000040.jpg").write_bytes(b"no image")
    config = config_of((None, images), tmp_path / "out", submission=True)
    assert evaluate_source(config, PerfectNetwork(annotations)) == 1, "too many unreadable images"
    assert "unreadable image 000000000040.jpg" in capsys.readouterr().err
    assert [image["id"] for image in read(config.out / "images.json")] == [10, 20, 30]
    assert {entry["image_id"] for entry in read(config.out / "results.json")} == {10, 20}


def test_options_of_a_submission(tmp_path):
    for options, reason in (
        ({}, "give --annotations, or --submission"),
        ({"submission": True, "max_images": 2}, "omit --max-images, --video and --metric"),
        ({"submission": True, "checkpoint": None, "fields": tmp_path}, "--submission needs --checkpoint"),
    ):
        with pytest.raises(ValueError, match=reason):
            config_of((None, tmp_path), tmp_path / "out", **options)
    with pytest.raises(ValueError, match="joints must be FILE=NETWORK, such as throat=neck, got 'neck'"):
        config_of((tmp_path, tmp_path), tmp_path, joints=("neck",))
    with pytest.raises(ValueError, match="use `merge --metric` after --shard"):
        config_of((tmp_path, tmp_path), tmp_path, shard="1/2", metrics=MetricConfig(metric=("pck",)))


def test_a_list_without_images_is_refused(coco_set, tmp_path):
    (tmp_path / "i.json").write_text('{"images": []}')
    for annotations, folder, reason in (
        (tmp_path / "i.json", coco_set[1], "image list .*i.json: expected an object with a list `images`"),
        (None, tmp_path, "contains no image"),
    ):
        with pytest.raises(UserError, match=reason):
            evaluate_source(config_of((annotations, folder), tmp_path / "out", submission=True), PerfectNetwork(coco_set[0]))
