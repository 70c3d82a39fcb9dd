"""The check of samples.parquet: values that no build writes are named with file, column and row, even if all hashes match."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from card_data import card_files, run

from data_cards.record_cards.index import read_index
from pipeline.errors import UserError
from pipeline.records.manifest import MANIFEST, SAMPLES, Manifest, read_manifest
from pipeline.records.reader import read_samples
from pipeline.storage.files import file_facts

ROW = 3
Edit = Callable[[pa.Table], pa.Table]


def craft(records: Path, folder: Path, edit: Edit, **fields) -> Manifest:
    """Write samples.parquet with an edit into `folder`; return the manifest that describes it, with other `fields`."""
    folder.mkdir(exist_ok=True)
    pq.write_table(edit(pq.read_table(records / SAMPLES)), folder / SAMPLES)
    return replace(read_manifest(records), samples_file=file_facts(folder / SAMPLES), **fields)


def with_value(name: str, value: object) -> Edit:
    """Replace the value of a column in row ROW."""

    def edit(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[ROW] = value(values[ROW]) if callable(value) else value
        number = table.schema.get_field_index(name)
        return table.set_column(number, name, pa.array(values, table.schema.field(number).type))

    return edit


def with_type(name: str, kind: pa.DataType) -> Edit:
    def edit(table: pa.Table) -> pa.Table:
        return table.set_column(table.schema.get_field_index(name), name, pa.nulls(len(table), kind))

    return edit


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("image_id", None, "null, expected an integer"),
        ("image_id", -1, "-1, expected an integer from 0 to 9,223,372,036,854,775,807"),
        ("variant", 77, "77, expected an integer from 0 to 1"),
        ("variant", -1, "-1, expected"),
        ("people", -1, "-1, expected an integer from 0"),
        ("width", 0, "0, expected an integer from 1 to 65,535"),
        ("height", -(2**31), "-2,147,483,648, expected"),
        ("bytes", -5, "-5, expected an integer from 1"),
        ("mirrored", None, "null, expected true or false"),
        ("pixels", None, "null, expected a hash"),
        ("masked", np.nan, "nan, expected a number from 0 to 1"),
        ("masked", 1.5, "1.5, expected a number from 0 to 1"),
        ("affine", [np.inf] * 6, "inf, expected a number from"),
        ("boxes", None, "null, expected a list"),
        ("boxes", lambda old: [*old, 1.0, 2.0, 3.0], "values, expected"),
        ("boxes", lambda old: [np.nan] * len(old), "nan, expected a number"),
        ("person_joints", lambda old: [*old, 1], "values, expected"),
        ("person_joints", lambda old: [-5] * len(old), "-5, expected an integer from 0 to 18"),
        ("person_joints_inside", lambda old: [2**31 - 1] * len(old), "2,147,483,647, expected an integer from 0 to 18"),
        ("labeled", [1] * 3, "3 values, expected 18"),
        ("labeled", [None] * 18, "null in the list, expected an integer"),
        ("visible", [1_000] * 18, "1,000, expected an integer from 0 to"),
        ("cut", [-1] * 18, "-1, expected an integer from 0 to"),
    ],
)
def test_an_invalid_value_is_named_with_its_row(records, tmp_path, name, value, reason):
    assert pq.read_table(records / SAMPLES)["people"][ROW].as_py() > 0
    manifest = craft(records, tmp_path, with_value(name, value))
    with pytest.raises(UserError) as raised:
        read_index(tmp_path, manifest)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / SAMPLES}: column `{name}`, row {ROW}: ") and reason in message


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda table: table.drop_columns(["license"]), r"columns missing \(license\)"),
        (with_type("image_id", pa.string()), "column `image_id`: type string, expected an integer"),
        (with_type("boxes", pa.float32()), "column `boxes`: type float, expected lists, each item a number"),
        (with_type("people", pa.list_(pa.int32())), r"column `people`: type list<.*>, expected an integer"),
        (lambda table: table.append_column("image_id", table["image_id"]), "cannot be read: .*duplicate"),
        (lambda table: table.slice(0, 2), "2 rows, but manifest.json lists 40 samples"),
        (lambda table: table.slice(0, 0), "0 rows, but manifest.json lists 40 samples"),
        (with_value("variant", lambda old: 1 - old), "column `variant`: 19 rows of variant 0, but manifest.json lists 20 images"),
    ],
)
def test_an_invalid_table_is_named(records, tmp_path, edit, reason):
    with pytest.raises(UserError, match=reason) as raised:
        read_index(tmp_path, craft(records, tmp_path, edit))
    assert str(tmp_path / SAMPLES) in str(raised.value)


@pytest.mark.parametrize(
    ("edit", "fields", "reason"),
    [
        (lambda table: table, {"num_samples": 10**12}, "lists 1,000,000,000,000 samples"),
        (lambda table: table, {"shards": []}, "shards with 0 rows"),
        (lambda table: table.slice(0, 0), {"num_samples": 0, "shards": []}, "no rows"),
    ],
)
def test_rows_must_match_the_manifest(records, tmp_path, edit, fields, reason):
    with pytest.raises(UserError, match=reason):
        read_index(tmp_path, craft(records, tmp_path, edit, **fields))


def test_only_the_columns_that_are_read_are_checked(records, tmp_path):
    manifest = craft(records, tmp_path, with_value("masked", np.nan))
    assert len(read_samples(tmp_path, manifest, ["variant", "people"])) == manifest.num_samples


def test_the_commands_report_an_invalid_index_and_keep_the_card(records, tmp_path, capsys):
    folder = tmp_path / "set"
    shutil.copytree(records, folder)
    (folder / MANIFEST).write_text(craft(records, folder, with_value("people", -1)).to_json())
    before = card_files(folder)
    for words in (["write", folder], ["compare", records, folder], ["write", records, "--against", folder]):
        assert run(*words) == 1
        assert f"{folder / SAMPLES}: column `people`, row {ROW}: -1" in capsys.readouterr().err
    assert card_files(folder) == before
