"""The shard reader returns the same rows as MindSpore's reader, and reports damage."""

import shutil
import sqlite3

import numpy as np
import pytest
from mindspore.mindrecord import FileReader
from pipeline_data import build_config

from pipeline.__main__ import build
from pipeline.records.codec import COLUMNS, DamagedRow
from pipeline.records.manifest import SHARD_FILE, SHARDS
from pipeline.records.reader import ShardReader


def plain(row: dict) -> dict:
    return {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in row.items()}


def mindspore_rows(folder) -> list[dict]:
    reader = FileReader(str(folder / SHARD_FILE), num_consumer=1, columns=list(COLUMNS))
    rows = [{name: bytes(v) if COLUMNS[name] == "bytes" else int(v) for name, v in row.items()} for row in reader.get_next()]
    reader.close()
    return rows


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_rows_equal_those_that_mindspore_reads(people, tmp_path, codec):
    # With raw images, the rows fill several pages.
    build(build_config(people, tmp_path / "set", image_codec=codec, shards=1, variants=1))
    (folder,) = (tmp_path / "set" / SHARDS).iterdir()
    expected = mindspore_rows(folder)
    reader = ShardReader(folder)
    assert len(reader) == len(expected) > 10
    buffer = np.empty(reader.max_bytes, np.uint8)
    for number in np.random.default_rng(0).permutation(len(reader)):
        assert plain(reader.read(number)) == plain(reader.read(number, buffer)) == expected[number]
    reader.close()


@pytest.fixture
def shard(records, tmp_path):
    return shutil.copytree(records / SHARDS / "v000-s00000", tmp_path / "v000-s00000")


def test_a_truncated_file_is_a_damaged_row(shard):
    path = shard / "part.mindrecord"
    path.write_bytes(path.read_bytes()[: (1 << 20) + 100])
    with pytest.raises(DamagedRow, match="row 0 is outside the file"):
        ShardReader(shard)


def change_index(shard, statement):
    with sqlite3.connect(shard / "part.mindrecord.db") as index:
        index.execute(statement)


@pytest.mark.parametrize("by", [-1, 1, 8, 10**6, -(10**6), 2**40])
def test_a_wrong_offset_is_a_damaged_row(shard, by):
    change_index(shard, f"UPDATE INDEXES SET PAGE_OFFSET_BLOB = PAGE_OFFSET_BLOB + {by} WHERE ROW_ID = 1")
    with pytest.raises(DamagedRow):
        ShardReader(shard).read(1)


@pytest.mark.parametrize("column", ["image_id_0", "variant_0", "license_0", "crc32_0"])
def test_a_wrong_numeric_column_is_a_damaged_row(shard, column):
    change_index(shard, f"UPDATE INDEXES SET {column} = {column} + 1 WHERE ROW_ID = 1")
    with pytest.raises(DamagedRow, match="CRC32"):
        ShardReader(shard).read(1)


def test_other_files_and_versions_are_errors(shard):
    path = shard / "part.mindrecord"
    whole = path.read_bytes()
    for content in (b"", b"nonsense" * 1000, whole.replace(b'"version":"3.0"', b'"version":"9.9"')):
        path.write_bytes(content)
        with pytest.raises(DamagedRow, match=r"not a MindRecord shard of version 3\.0"):
            ShardReader(shard)
    path.write_bytes(whole)
    (shard / "part.mindrecord.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(DamagedRow, match=r"not a MindRecord shard of version 3\.0"):
        ShardReader(shard)
