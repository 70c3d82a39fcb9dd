"""croissant.json: complete, valid, and readable by mlcroissant."""

import hashlib
import json

import croissant_check
import mlcroissant
import pyarrow.parquet as pq
import pytest

from data_cards.record_cards import croissant
from pipeline.records.codec import COLUMNS
from pipeline.records.manifest import CARD, MANIFEST, read_manifest


def test_every_file_is_listed_with_size_and_hash(document, records):
    objects = {part["@id"]: part for part in document["distribution"] if part["@type"] == "cr:FileObject"}
    files = [path for path in records.rglob("*") if path.is_file() and "shards" in path.parts]
    assert set(objects) == {str(path.relative_to(records)) for path in files} | {MANIFEST, "samples.parquet"}
    for name, part in objects.items():
        data = (records / name).read_bytes()
        assert part["sha256"] == hashlib.sha256(data).hexdigest() and part["contentSize"] == f"{len(data)} B"
    described = {record["@id"]: [field["name"] for field in record["field"]] for record in document["recordSet"]}
    assert described["samples"] == pq.read_schema(records / "samples.parquet").names
    assert set(described["rows"]) == set(COLUMNS)


@pytest.mark.parametrize("name", croissant_check.REQUIRED)
def test_the_check_reports_a_missing_field(document, name):
    assert croissant_check.problems(document) == []
    assert croissant_check.problems({key: value for key, value in document.items() if key != name})


@pytest.mark.parametrize("need", ["sha256", "contentUrl", "encodingFormat"])
def test_the_check_covers_every_file(document, need):
    worse = json.loads(json.dumps(document))
    del worse["distribution"][1][need]
    assert croissant_check.problems(worse) == [f"samples.parquet: {need}: required, missing or empty"]


def test_mlcroissant_validates_and_reads_the_samples(records, document):
    dataset = mlcroissant.Dataset(records / "croissant.json")
    issues = dataset.metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    index = pq.read_table(records / "samples.parquet")
    assert [row["samples/image_id"] for row in dataset.records("samples")] == index["image_id"].to_pylist()
    broken = json.loads(json.dumps(document))
    broken["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "nowhere"
    with pytest.raises(mlcroissant.ValidationError):
        mlcroissant.Dataset(broken)


def test_an_unknown_source_gets_a_complete_card(bare):
    text, document = (bare / CARD).read_text(), json.loads((bare / "croissant.json").read_text())
    assert "No card describes this source data set" in text and "# OpenPose records of own.json" in text
    assert croissant_check.problems(document) == [] and document["license"] == ["not stated by the source"]
    assert document["datePublished"] == croissant.UNKNOWN_DATE and read_manifest(bare).digest in document["url"]


def test_mlcroissant_accepts_an_unknown_source(bare):
    assert not mlcroissant.Dataset(bare / "croissant.json").metadata.ctx.issues.errors


def test_synthetic_images_have_the_license_of_the_program(text, document):
    assert "are random" in text and document["license"] == ["https://www.apache.org/licenses/LICENSE-2.0"]
    assert "They show no real people" in text
