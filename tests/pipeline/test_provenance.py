"""Provenance of a record set: what its manifest, samples.parquet and card say."""

import hashlib
import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest

from pipeline.errors import UserError
from pipeline.records.manifest import CARD, SAMPLES, read_manifest
from pipeline.records.provenance import read_provenance


def test_images_people_and_licenses_are_counted_once(records):
    manifest = read_manifest(records)
    found = read_provenance(records, manifest)
    rows = [row for row in pq.read_table(records / SAMPLES).to_pylist() if row["variant"] == 0]
    assert manifest.num_variants > 1 and found.num_images == len(rows) == manifest.num_images
    assert found.num_people == sum(row["people"] for row in rows)
    assert {entry.id: entry.num_images for entry in found.licenses} == Counter(row["license"] for row in rows)
    assert all(entry.name == manifest.licenses[str(entry.id)] and entry.url.startswith("http") for entry in found.licenses)
    assert (found.name, found.annotations) == ("Synthetic people, seed 5", "person_keypoints_train2017.json")
    assert found.digest == manifest.digest and found.annotations_sha256 == manifest.sources["annotations"]["sha256"]


def test_the_card_is_quoted(records):
    found = read_provenance(records, read_manifest(records))
    assert found.card_sha256 == hashlib.sha256((records / CARD).read_bytes()).hexdigest()
    assert "### Biases and limitations" in found.limitations and "## Citation" not in found.limitations
    assert found.license_notes.startswith("The images are output of this program") and "## " not in found.license_notes


def test_a_set_without_card_or_with_damaged_samples(records, tmp_path):
    shutil.copytree(records, tmp_path / "set")
    (tmp_path / "set" / CARD).unlink()
    manifest = read_manifest(records)
    found = read_provenance(tmp_path / "set", manifest)
    assert (found.card_sha256, found.license_notes, found.limitations) == (None, "", "")
    (tmp_path / "set" / SAMPLES).write_bytes(b"x")
    with pytest.raises(UserError, match=r"samples.parquet: SHA-256 does not match"):
        read_provenance(tmp_path / "set", manifest)
