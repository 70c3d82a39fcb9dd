"""Two record sets: leakage between them, and the command `compare`."""

import json
import shutil
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from card_data import card_files, run
from pipeline_data import build_config

from data_cards import compare
from data_cards.config import CompareConfig
from data_cards.record_cards import leakage, statistics
from data_cards.record_cards.index import read_index
from pipeline.__main__ import build
from pipeline.records.manifest import CARD, read_manifest
from pipeline.synthetic import synthesize
from pipeline.synthetic.config import SynthesizeConfig


@pytest.fixture(scope="module")
def others(people, annotations, targets, tmp_path_factory) -> tuple[Path, int, int]:
    """A record set of two images: one has the id of an image of `people` but other pixels, the other has the pixels of a second
    image, as PNG, with a new id and name. Returns the folder and the ids of both images of `people`."""
    folder = tmp_path_factory.mktemp("others")
    content = json.loads(annotations.read_text())
    same_id, same_pixels = sorted(targets)[3], sorted(targets)[5]
    images = {image["id"]: image for image in content["images"]}
    first, second = (images[id] for id in (same_id, same_pixels))
    source = people / "train2017"
    changed = cv2.imread(str(source / first["file_name"]))
    changed[8, 7] ^= 255
    cv2.imwrite(str(folder / "a.png"), changed)
    cv2.imwrite(str(folder / "b.png"), cv2.imread(str(source / second["file_name"])))
    kept = [entry for entry in content["annotations"] if entry["image_id"] in (same_id, same_pixels)]
    moved = [{**entry, "image_id": 900_001 if entry["image_id"] == same_pixels else same_id} for entry in kept]
    listed = [{**first, "file_name": "a.png"}, {**second, "file_name": "b.png", "id": 900_001}]
    (folder / "a.json").write_text(json.dumps({**content, "images": listed, "annotations": moved}))
    build(build_config(people, folder / "set", annotations=folder / "a.json", images=folder, variants=1, shards=1))
    return folder / "set", same_id, same_pixels


@pytest.fixture(scope="module")
def unrelated(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unrelated")
    settings = dict(num_images=6, seed=6, width=320, height=240, jobs=1, split="val")
    synthesize.run(SynthesizeConfig(out=folder / "people", **settings))
    path = folder / "people/annotations/person_keypoints_val2017.json"
    where = dict(annotations=path, images=folder / "people/val2017", variants=1, shards=1)
    build(build_config(folder, folder / "set", **where))
    return folder / "set"


def test_shared_ids_and_shared_pixels_are_found(records, others, unrelated):
    index = read_index(records, read_manifest(records))
    other, same_id, same_pixels = others
    found = leakage.check(index, other)
    assert found.found and found.ids == (same_id,) and found.same_pixels == ((same_pixels, 900_001),)
    assert not leakage.check(index, unrelated).found


def test_leakage_is_a_warning_on_the_card_and_a_failure_of_the_command(records, others, unrelated, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "set")
    other, same_id, same_pixels = others
    assert run(tmp_path / "set", "--against", unrelated) == 0
    text = (tmp_path / "set" / CARD).read_text()
    assert "no shared image ids, no shared pixels" in text and "Warning" not in text
    assert run(tmp_path / "set", "--against", unrelated, other) == 1
    text, printed = (tmp_path / "set" / CARD).read_text(), capsys.readouterr().out
    warning = text.split("---\n")[2].split("![")[0]
    assert "**Warning: this record set shares images with another one.**" in warning
    for words in (f"1 shared image id: {same_id}", f"1 image with identical pixels: {same_pixels} (there 900001)"):
        assert words in warning and words in printed
    assert run(tmp_path / "set") == 0 and card_files(tmp_path / "set") == card_files(records)


def test_compare_shows_two_sets_side_by_side(records, others, capsys):
    other, same_id, _ = others
    assert compare.run(CompareConfig(first=records, second=other)) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    mine, theirs = read_manifest(records), read_manifest(other)
    assert f"samples {mine.num_samples} {theirs.num_samples}" in lines
    assert f"digest {mine.digest[:16]} {theirs.digest[:16]}" in lines
    assert "shards 2 1" in lines and "variants 2 1" in lines and not [line for line in lines if line.startswith("insize")]
    people = [pq.read_table(folder / "samples.parquet")["people"].to_pylist()[: m.num_images] for folder, m in
              ((records, mine), (other, theirs))]  # fmt: skip
    assert f"target people {sum(people[0])} {sum(people[1])}" in lines
    joint = [statistics.histograms(read_index(f, m), m.licenses)[1].shares("labeled")[0] for f, m in
             ((records, mine), (other, theirs))]  # fmt: skip
    assert f"nose {joint[0]:.1%} {joint[1]:.1%}" in lines
    assert any(f"1 shared image id: {same_id}" in line for line in lines)
