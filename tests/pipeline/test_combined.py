"""Several data sets in one record set: the union of their joints, what each labels, images, licenses, and the same bytes."""

import dataclasses
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from combined_data import STICK, label_stick_figures
from pipeline_data import build_config, read_rows, tree

from pipeline.build.build import run
from pipeline.datasets.joints import labeled_by, union
from pipeline.errors import UserError
from pipeline.records.codec import SOURCE_SHIFT
from pipeline.records.manifest import read_manifest
from pipeline.skeleton import Skeleton
from pipeline.skeletons import COCO18

RENAMED = {"throat": "neck"}


def stick() -> Skeleton:
    """The stick figure with COCO's name of the neck."""
    return Skeleton.from_dict(json.loads(json.dumps(STICK).replace('"throat"', '"neck"')))


def test_the_union_has_all_joints_and_limbs_once():
    whole = union([COCO18, stick()])
    assert whole.joints == (*COCO18.joints, "head")
    new = (("head", "neck"), ("left_wrist", "left_shoulder"), ("right_shoulder", "right_wrist"))
    assert whole.limbs == (*COCO18.limbs, *new), "neck-shoulder is in both, whatever its direction"
    assert set(whole.mirror_pairs) == set(COCO18.mirror_pairs) and whole.derived == COCO18.derived
    assert whole.source_joints == (*COCO18.source_joints, "head") and whole.sigmas == (*COCO18.sigmas, 0.08)
    assert union([COCO18, COCO18]) == COCO18


def test_a_source_labels_derives_or_does_not_know_each_joint():
    whole = union([COCO18, stick()])
    coco, other = labeled_by(whole, COCO18), labeled_by(whole, stick())
    assert coco.unlabeled == ("head",) and coco.derived == COCO18.derived and coco.source_joints == COCO18.source_joints
    assert "neck" in other.source_joints and other.derived == (), "its own label, not the middle of the shoulders"
    assert set(other.unlabeled) == {*COCO18.joints} - {"neck", *STICK["joints"]}
    without_neck = Skeleton.from_dict(
        {**STICK, "joints": [*STICK["joints"][2:]], "source_joints": [*STICK["source_joints"][2:]], "limbs": [STICK["limbs"][3]],
         "sigmas": STICK["sigmas"][2:]}
    )  # fmt: skip
    derived = labeled_by(whole, without_neck)
    assert derived.derived == COCO18.derived and "neck" not in derived.unlabeled, "both shoulders are labeled"
    with pytest.raises(ValueError, match="none of the joints"):
        labeled_by(
            COCO18, Skeleton(name="dog", joints=("tail",), limbs=(), mirror_pairs=(), source_joints=("tail",), sigmas=(0.1,))
        )
    one_sided = dataclasses.replace(
        stick(), mirror_pairs=(), joints=("neck", "left_wrist"), limbs=(), source_joints=("neck", "left_wrist"), sigmas=(0.1, 0.1)
    )
    with pytest.raises(ValueError, match="only 'left_wrist' is labeled"):
        labeled_by(whole, one_sided)


def test_unlabeled_joints_hide_their_limbs_and_the_background():
    skeleton = stick()
    labeled = skeleton.labeled_channels(["head"]).tolist()
    assert labeled[:7] == [0, 1, 1, 1, 1, 1, 0], "the background is where no joint is, known or not"
    assert labeled[7:] == [0, 0, *[1] * 8]
    assert skeleton.labeled_channels([]).all() and len(skeleton.labeled_channels([])) == 7 + 10


@pytest.fixture(scope="module")
def sources(people, tmp_path_factory):
    """A file with two sources: drawn people, and others of whom only the joints of the stick figure are labeled."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "stick.yaml").write_text(yaml.safe_dump(STICK))
    shutil.copytree(people, folder / "sticks")
    label_stick_figures(folder / "sticks/annotations/person_keypoints_train2017.json")
    entries = [
        {"name": "drawn", "annotations": str(people / "annotations/person_keypoints_train2017.json"), "images": str(people / "train2017")},
        {"name": "sticks", "annotations": "sticks/annotations/person_keypoints_train2017.json", "images": "sticks/train2017",
         "skeleton": "stick.yaml", "joints": RENAMED, "weight": 0.5},
    ]  # fmt: skip
    (folder / "sources.yaml").write_text(yaml.safe_dump({"sources": entries}))
    return folder / "sources.yaml"


def config(sources, out, **options):
    return dataclasses.replace(build_config(sources.parent, out), annotations=None, images=None, sources=sources, **options)


@pytest.fixture(scope="module")
def records(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "records"
    assert run(config(sources, out)) == 0
    return out


def rows(records):
    manifest = read_manifest(records)
    found = [row for shard in manifest.shards for row in read_rows(records / "shards" / shard.name)]
    return manifest, found


@pytest.mark.slow
def test_every_sample_knows_its_source_and_only_the_joints_of_it(records, people, tmp_path):
    manifest, found = rows(records)
    skeleton = manifest.format.skeleton
    assert [entry["name"] for entry in manifest.source_sets] == ["drawn", "sticks"]
    assert sum(manifest.images_per_source) == manifest.num_images and min(manifest.images_per_source) > 0
    first = [row for row in found if row["variant"] == 0]
    numbers = [row["image_id"] >> SOURCE_SHIFT for row in first]
    assert numbers == sorted(numbers) and np.bincount(numbers).tolist() == manifest.images_per_source
    for row in found:
        entry = manifest.source_sets[row["image_id"] >> SOURCE_SHIFT]
        decoded = manifest.format.decode(row)
        unknown = [skeleton.index(joint) for joint in entry["unlabeled"]]
        assert not decoded.keypoints[:, unknown, 2].any() and not decoded.heatmaps[unknown].any()
    alone = build_config(people, tmp_path / "alone")
    assert run(alone) == 0
    own, own_rows = rows(tmp_path / "alone")
    matching = {(row["image_id"], row["variant"]): row for row in found if row["image_id"] >> SOURCE_SHIFT == 0}
    for row in own_rows:
        same = matching.pop((row["image_id"], row["variant"]))
        assert bytes(row["image"]) == bytes(same["image"])
        joints = [skeleton.index(joint) for joint in own.format.skeleton.joints]
        np.testing.assert_array_equal(own.format.decode(row).keypoints, manifest.format.decode(same).keypoints[:, joints])
    assert not matching


@pytest.mark.slow
def test_licenses_of_different_files_stay_apart(records):
    manifest, found = rows(records)
    names = {0: set(), 1: set()}
    for row in found:
        names[row["image_id"] >> SOURCE_SHIFT].add(manifest.licenses[str(row["license"])])
    index = pq.read_table(records / "samples.parquet", columns=["image_id", "license"]).to_pylist()
    used = [{row["license"] for row in index if row["image_id"] >> SOURCE_SHIFT == number} for number in (0, 1)]
    assert used[0].isdisjoint(used[1]) and all(names.values())


@pytest.mark.slow
def test_the_bytes_are_the_same_for_any_number_of_jobs_and_when_grown(records, sources, tmp_path, capsys):
    assert run(config(sources, tmp_path / "parallel", jobs=2)) == 0
    assert tree(records) == tree(tmp_path / "parallel")
    assert run(config(sources, tmp_path / "grown", variants=1)) == 0
    assert run(config(sources, tmp_path / "grown")) == 0
    assert tree(records) == tree(tmp_path / "grown")
    capsys.readouterr()
    assert run(config(sources, tmp_path / "grown")) == 0 and "already complete" in capsys.readouterr().out


@pytest.mark.slow
def test_one_source_gives_the_samples_of_a_build_without_a_file(sources, people, tmp_path):
    entries = yaml.safe_load(sources.read_text())["sources"][:1]
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({"sources": entries}))
    assert run(config(tmp_path / "one.yaml", tmp_path / "one")) == 0
    assert run(build_config(people, tmp_path / "plain")) == 0
    assert read_manifest(tmp_path / "one").digest == read_manifest(tmp_path / "plain").digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight": 0}, "weight"),
        ({"weight": "often"}, "weight"),
        ({"name": "drawn"}, "name drawn occurs twice"),
        ({"name": "a b"}, "name"),
        ({"joints": {"knee": "left_knee"}}, "sticks: joints: 'knee' is not a joint of skeleton 'stick'"),
        ({"joints": {"throat": "head"}}, "sticks: joints"),
        ({"skeleton": "absent.yaml"}, "absent.yaml"),
        ({"annotations": "absent.json"}, "absent.json"),
        ({"images": "absent"}, "absent"),
        ({"wieght": 2}, "wieght"),
    ],
)
def test_wrong_entries_are_named(sources, tmp_path, change, words):
    entries = yaml.safe_load(sources.read_text())["sources"]
    entries[1] |= change
    path = sources.with_name(f"wrong-{abs(hash(str(change)))}.yaml")
    path.write_text(yaml.safe_dump({"sources": entries}))
    with pytest.raises(UserError) as error:
        run(config(path, tmp_path / "records"))
    assert words in str(error.value) and not (tmp_path / "records").exists()


def test_either_one_data_set_or_a_file_of_sources(sources, people, tmp_path):
    plain = build_config(people, tmp_path)
    with pytest.raises(ValueError, match="required, or --sources"):
        dataclasses.replace(plain, images=None)
    with pytest.raises(ValueError, match="one or the other"):
        dataclasses.replace(plain, sources=sources)
