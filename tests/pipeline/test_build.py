"""Real builds: equal bytes for any number of jobs and after any interruption, clear errors, nothing left behind by bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from pipeline_data import PIPELINE, build_config, tree, words_of

from pipeline.__main__ import build
from pipeline.build import claim
from pipeline.build.build import summary
from pipeline.commands import info
from pipeline.datasets.selection import PersonFilter
from pipeline.errors import UserError
from pipeline.records import verify
from pipeline.records.contents import check_files
from pipeline.records.manifest import MANIFEST, read_manifest
from pipeline.records.rules import count_rules
from pipeline.records.verify import VerifyConfig
from pipeline.samples.config import AugmentConfig
from pipeline.samples.targets import TargetConfig
from pipeline.tolerance import Tolerance


def test_a_record_set_matches_its_manifest(records, annotations):
    manifest = read_manifest(records)
    assert check_files(records, manifest, hashes=True) == []
    assert verify.run(VerifyConfig(records=records, jobs=1)) == 0
    assert manifest.num_samples == 2 * manifest.num_images == sum(shard.num_rows for shard in manifest.shards)
    table = pq.read_table(records / "samples.parquet").to_pydict()
    assert len(table["image_id"]) == manifest.num_samples
    half = manifest.num_images
    assert table["variant"] == [0] * half + [1] * half, "variant by variant"
    assert table["image_id"][:half] == table["image_id"][half:] == sorted(table["image_id"][:half])
    assert table["affine"][:half] != table["affine"][half:], "variants differ"
    licenses = {image["id"]: image["license"] for image in json.loads(annotations.read_text())["images"]}
    assert table["license"] == [licenses[i] for i in table["image_id"]]


def test_keypoints_are_the_annotated_ones_transformed_by_the_stored_matrix(records, annotations):
    from pipeline_data import read_rows

    manifest = read_manifest(records)
    truth = {}
    for entry in json.loads(annotations.read_text())["annotations"]:
        truth.setdefault(entry["image_id"], []).append(np.array(entry["keypoints"]).reshape(-1, 3))
    index = pq.read_table(records / "samples.parquet").to_pylist()
    rows = [row for shard in manifest.shards for row in read_rows(records / "shards" / shard.name)]
    compared = 0
    for row, entry in zip(rows, index, strict=True):
        matrix = np.array(entry["affine"]).reshape(2, 3)
        skeleton = manifest.format.skeleton
        nose = skeleton.index("nose")
        wrist = skeleton.index("right_wrist" if entry["mirrored"] else "left_wrist")
        people = manifest.format.decode(row).keypoints
        annotated = np.stack(truth[row["image_id"]])
        for joint, place in ((nose, 0), (wrist, 9)):
            for point in people[people[:, joint, 2] > 0, joint]:
                moved = annotated[annotated[:, place, 2] > 0, place][:, :2] @ matrix[:, :2].T + matrix[:, 2]
                assert np.abs(moved - point[:2]).max(axis=1).min() < 1e-2
                compared += 1
    assert compared > 20


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [2, 4])
def test_bytes_do_not_depend_on_the_number_of_jobs(records, people, tmp_path, jobs):
    build(build_config(people, tmp_path / "again", jobs=jobs))
    assert tree(tmp_path / "again") == tree(records)


def test_more_variants_do_not_change_the_first_ones(records, people, tmp_path):
    build(build_config(people, tmp_path / "more", variants=3))
    first, more = (pq.read_table(folder / "samples.parquet")["crc32"].to_pylist() for folder in (records, tmp_path / "more"))
    assert more[: len(first)] == first


def test_adding_variants_gives_the_bytes_of_a_new_build(records, people, tmp_path):
    build(build_config(people, tmp_path / "whole", variants=3))
    shutil.copytree(records, tmp_path / "grown")
    before = (tmp_path / "grown/shards/v000-s00000/part.mindrecord").stat().st_mtime_ns
    build(build_config(people, tmp_path / "grown", variants=3))
    assert tree(tmp_path / "grown") == tree(tmp_path / "whole")
    assert (tmp_path / "grown/shards/v000-s00000/part.mindrecord").stat().st_mtime_ns == before, "existing shards are kept"
    with pytest.raises(UserError, match="variants: was 3, now 2"):
        build(build_config(people, tmp_path / "grown", variants=2))


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        (("commercial",), {4, 5, 6, 7, 8}),
        (("adaptable",), {1, 2, 4, 5, 7, 8}),
        (("3", "8"), {3, 8}),
        (("3", "commercial"), {3, 4, 5, 6, 7, 8}),
    ],
)
def test_only_images_with_the_selected_licenses_are_kept(people, records, tmp_path, wanted, kept):
    build(replace(build_config(people, tmp_path / "set", variants=1), people=PersonFilter(licenses=wanted)))
    manifest = read_manifest(tmp_path / "set")
    found, all_of = (pq.read_table(folder / "samples.parquet")["license"].to_pylist() for folder in (tmp_path / "set", records))
    assert found == [license for license in all_of[: len(all_of) // 2] if license in kept] and found
    assert manifest.counts["images_other_license"] > 0 and manifest.config["licenses"] == list(wanted)


def test_an_unknown_license_is_an_error_that_lists_the_known_ones(people, tmp_path):
    with pytest.raises(
        UserError, match=r"--licenses 99: choose commercial, adaptable or license ids .*4 \(Attribution License\)"
    ):
        build(replace(build_config(people, tmp_path / "set"), people=PersonFilter(licenses=("99",))))


def test_info_summarizes_source_size_settings_licenses_and_counts(records, capsys):
    assert info.run(info.InfoConfig(records=records)) == 0
    output = capsys.readouterr().out
    manifest = read_manifest(records)
    table = pq.read_table(records / "samples.parquet").to_pydict()
    assert manifest.digest in output and "person_keypoints_train2017.json" in output and "coco18: 18 joints, 19 limbs" in output
    assert f"{manifest.num_samples:,} samples of {manifest.num_images:,} images, 2 variants" in output
    assert f"mean {np.mean(table['bytes']) / 1e3:.1f} KB" in output
    assert f"{sum(table['people'][: manifest.num_images])} target people" in output
    lines = {" ".join(line.split()) for line in output.splitlines()}
    assert {"insize 128 (default 368)", "stride_px 8"} <= lines
    assert f"4 Attribution License {table['license'][: manifest.num_images].count(4)}" in lines


RULES = count_rules({"min_joints": 5, "min_area_px": 1024, "min_diagonal_px": 0}).values()


def test_columns_of_info_and_summary_are_separate_and_numbers_match_their_nouns(records):
    manifest = read_manifest(records)
    single = replace(manifest, num_images=1, num_samples=1, num_variants=1, shards=manifest.shards[:1])
    lines = summary(records, single)
    assert lines[-1].startswith(f"{records}: 1 sample of 1 image, 1 variant, 1 shard, ")
    for printed in (lines, info.describe(records, manifest)):
        for rule in RULES:
            assert any(re.fullmatch(rf"  {re.escape(rule)} {{2,}}\d+", line) for line in printed), rule


def test_seed_augmentation_and_codec_change_the_digest(records, people, tmp_path):
    digests = {read_manifest(records).digest}
    for name, options in (
        ("seed", dict(seed=1)),
        ("plain", dict(augmentation=AugmentConfig(augment="none"))),
        ("raw", dict(image_codec="raw")),
    ):
        build(build_config(people, tmp_path / name, **options))
        digests.add(read_manifest(tmp_path / name).digest)
    assert len(digests) == 4


def test_several_categories_of_people_are_named_in_summary_and_card(people, tmp_path, annotations, capsys):
    content = json.loads(annotations.read_text())
    (category,) = content["categories"]
    content["categories"].append({**category, "id": 2, "name": "rider | x"})
    for entry in content["annotations"][::2]:
        entry["category_id"] = 2
    (tmp_path / "a.json").write_text(json.dumps(content))
    build(build_config(people, tmp_path / "set", annotations=tmp_path / "a.json"))
    assert "people of 2 categories with the same keypoints: 1 (person), 2 (rider | x)" in capsys.readouterr().out
    manifest, card = read_manifest(tmp_path / "set"), (tmp_path / "set" / "CARD.md").read_text()
    assert re.search(r"\| categories whose people are used \| 1 \(person\), 2 \(rider .*x\) \|", card)
    build(build_config(people, tmp_path / "one"))
    one = read_manifest(tmp_path / "one")
    assert manifest.digest == one.digest and manifest.counts == one.counts, "all people are used as before"


def test_a_file_without_areas_and_boxes_is_built_and_the_card_says_what_took_their_place(people, tmp_path, annotations, capsys):
    content = json.loads(annotations.read_text())
    labeled = [entry for entry in content["annotations"] if entry["num_keypoints"]]
    for entry in labeled:
        del entry["area"], entry["bbox"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    build(build_config(people, tmp_path / "set", annotations=tmp_path / "a.json", variants=1))
    rule = f"people and crowds without an area: 0.53 x the area of their box +{len(labeled)}"
    assert info.run(info.InfoConfig(records=tmp_path / "set")) == 0
    assert len(re.findall(rule, capsys.readouterr().out)) == 2, "summary of build, and info"
    card = (tmp_path / "set" / "CARD.md").read_text()
    assert re.search(rf"without a box: the box around their keypoints \| {len(labeled)} \|", card)


def group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_leaves_no_worker_and_no_partial_files(records, people, tmp_path, stop):
    config = build_config(people, tmp_path / "stopped", jobs=2)
    process = subprocess.Popen([*PIPELINE, *words_of(config)], start_new_session=True, stderr=subprocess.PIPE, text=True)
    while not list(config.out.glob("shards/.unfinished-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(stop)
    _, errors = process.communicate(timeout=30)
    assert process.returncode in (0, 128 + stop)  # 0: it finished before the signal
    assert "Traceback" not in errors
    time.sleep(0.5)
    assert not [
        p for p in psutil.process_iter(["status"]) if group_of(p.pid) == process.pid and p.status() != psutil.STATUS_ZOMBIE
    ]
    if config.out.exists():
        assert not list(config.out.rglob(".*")), "a partial shard is left"
    assert build(config) == 0
    assert tree(config.out) == tree(records)


def test_a_damaged_shard_is_rebuilt_on_resume(records, people, tmp_path):
    config = build_config(people, tmp_path / "set")
    build(config)
    (config.out / MANIFEST).unlink()
    manifest = read_manifest(records)
    plan = {
        "builder_version": manifest.builder_version,
        "schema_version": manifest.schema_version,
        "config": manifest.config,
        "skeleton": manifest.skeleton,
        "sources": manifest.sources,
    }
    (config.out / claim.PLAN).write_text(json.dumps(plan))
    shard = config.out / "shards" / "v000-s00000" / "part.mindrecord"
    data = bytearray(shard.read_bytes())
    data[data.find(b"\xff\xd9") - 1] ^= 1  # the last byte of the first row's JPEG
    shard.write_bytes(data)
    build(config)
    assert tree(config.out) == tree(records)


def test_a_build_with_other_settings_is_an_error(records, people, tmp_path):
    shutil.copytree(records, tmp_path / "set")
    with pytest.raises(UserError, match="insize: was 128, now 64"):
        build(build_config(people, tmp_path / "set", targets=TargetConfig(insize=64)))
    assert tree(tmp_path / "set") == tree(records)
    assert build(build_config(people, tmp_path / "set")) == 0, "the same command finds it complete"


def test_a_folder_with_other_files_is_not_touched(people, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        build(build_config(people, tmp_path))
    assert tree(tmp_path) == {"letter.txt": b"mine"}


def test_a_folder_without_manifest_is_not_a_record_set(records, tmp_path):
    with pytest.raises(UserError, match="not a record set"):
        read_manifest(tmp_path)
    shutil.copytree(records, tmp_path / "set")
    (tmp_path / "set" / MANIFEST).unlink()
    with pytest.raises(UserError, match="unfinished build"):
        read_manifest(tmp_path / "set")


DAMAGES = {
    "missing": (Path.unlink, "No such file"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-2000]), "truncated"),
    "no image": (lambda path: path.write_bytes(b"hello" * 100), "not an image"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_an_unreadable_image_is_skipped_and_listed(records, people, tmp_path, kind):
    shutil.copytree(people, tmp_path / "people")
    victim = pq.read_table(records / "samples.parquet")["file_name"][0].as_py()
    damage, reason = DAMAGES[kind]
    damage(tmp_path / "people" / "train2017" / victim)
    with pytest.raises(UserError, match=f"{victim}: .*{reason}"):
        build(build_config(tmp_path / "people", tmp_path / "strict", strict=True, shards=1))
    assert not (tmp_path / "strict").exists()
    build(build_config(tmp_path / "people", tmp_path / "set", tolerance=Tolerance(max_unreadable=0.05)))
    manifest = read_manifest(tmp_path / "set")
    assert manifest.counts["images_skipped"] == 1 and manifest.num_images == read_manifest(records).num_images - 1
    assert (tmp_path / "set" / "skipped.tsv").read_text().splitlines()[1].split("\t")[1] == victim
    assert manifest.skipped[0]["file_name"] == victim and reason in manifest.skipped[0]["reason"]
    assert verify.run(VerifyConfig(records=tmp_path / "set", jobs=1)) == 0


def test_an_image_of_another_size_is_skipped(people, tmp_path, annotations):
    content = json.loads(annotations.read_text())
    for image in content["images"]:
        image["width"] += 1
    for entry in content["annotations"]:
        entry["segmentation"] = [] if isinstance(entry["segmentation"], dict) else entry["segmentation"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="320 x 240 pixels, annotated as 321 x 240"):
        build(build_config(people, tmp_path / "set", annotations=tmp_path / "a.json"))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--min-joints", "18"], "relax --min-joints"),
        (["--images", "nowhere"], "nowhere"),
        (["--annotations", __file__], "not JSON"),
    ],
)
def test_bad_input_is_a_message_and_exit_code_1(people, tmp_path, options, named):
    config = build_config(people, tmp_path / "out")
    done = subprocess.run([*PIPELINE, *words_of(config), *options], capture_output=True, text=True)
    assert done.returncode == 1 and named in done.stderr and "Traceback" not in done.stderr
    assert not config.out.exists()


@pytest.mark.parametrize("words", [["--insize", "370"], ["--variants", "0"], ["--variants", "x"], ["--color", "1"]])
def test_wrong_options_exit_with_2(people, tmp_path, words):
    config = build_config(people, tmp_path / "out")
    done = subprocess.run([*PIPELINE, *words_of(config), *words], capture_output=True, text=True)
    named = words[0].strip("-")
    assert done.returncode == 2 and named in done.stderr and "Traceback" not in done.stderr and not config.out.exists()
