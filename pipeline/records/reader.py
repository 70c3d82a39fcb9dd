"""Read and verify shards: single rows, in any order and from any thread, directly from the MindRecord files, without mindspore.

MindSpore's reader copies every row several times; this one copies it once and supports random access. It reads MindRecord 3.0:
the file has a JSON header, preceded by its length (uint64, little-endian), then pages of equal size. The .db file next to it is
SQLite; its table INDEXES holds the page, start and end of each row's blob, and the row's numeric columns. A blob is its length
(uint64, little-endian) and the bytes columns in the order of the header, each preceded by its length (uint64, big-endian).
"""

import contextlib
import os
import sqlite3
import struct
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import Meta

from pipeline.errors import UserError
from pipeline.records.codec import COLUMNS, DamagedRow, RecordFormat, Row, row_crc32
from pipeline.records.contents import contents, index_path
from pipeline.records.manifest import SHARD_FILE, SHARD_ROWS, Manifest, Shard, SkippedImage
from pipeline.records.samples import require_valid
from pipeline.storage.documents import Count, parse_json
from pipeline.storage.files import file_facts

VERSION = "3.0"
_NUMBERS = tuple(name for name, kind in COLUMNS.items() if kind != "bytes")
_LENGTH = struct.Struct("<Q")
_COLUMN_LENGTH = struct.Struct(">Q")


class _Schema(TypedDict):
    """The columns of a file. blob_fields: those in the blob, in their order."""

    blob_fields: list[str]


class _Header(TypedDict):
    """The entries of a MindRecord header that are used. header_size, page_size: bytes."""

    version: str
    header_size: Count
    page_size: Count
    schema: Annotated[list[_Schema], Meta(min_length=1, max_length=1)]


class ShardReader:
    """Random access to the rows of a published shard. Raises DamagedRow if the files are not a complete MindRecord shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._file = os.open(self.folder / SHARD_FILE, os.O_RDONLY)
        try:
            header = self._header()
            (schema,) = header["schema"]
            self._blocks = tuple(schema["blob_fields"])
            if sorted(self._blocks) != sorted(set(COLUMNS).difference(_NUMBERS)):
                raise ValueError(f"blob_fields are {self._blocks}")
            self._spans, self._numbers = self._index(header["header_size"], header["page_size"])
        except (UserError, ValueError, TypeError, OverflowError, struct.error, sqlite3.Error) as error:
            self.close()
            raise DamagedRow(f"{self.folder.name}: not a MindRecord shard of version {VERSION}: {error}") from error

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def max_bytes(self) -> int:
        """Size of the largest row in bytes."""
        return int(np.diff(self._spans).max(initial=0))

    def read(self, number: int, buffer: np.ndarray | None = None) -> Row:
        """Read row `number`. Its blocks are uint8 views of `buffer`, uint8 (max_bytes,) or larger, or of new memory.

        Raises DamagedRow if the CRC does not match.
        """
        start, end = self._spans[number].tolist()
        blob = (np.empty(end - start, np.uint8) if buffer is None else buffer)[: end - start].data
        if os.preadv(self._file, [blob], start) != end - start:
            raise DamagedRow(f"{self.folder.name} row {number}: beyond the end of the file")
        row = dict(zip(_NUMBERS, self._numbers[number].tolist(), strict=True))
        offset = _LENGTH.size
        for name in self._blocks:
            (length,) = _COLUMN_LENGTH.unpack_from(blob, offset) if offset + 8 <= len(blob) else (len(blob),)
            offset += _COLUMN_LENGTH.size + length
            if offset > len(blob):
                raise DamagedRow(f"{self.folder.name} row {number}: columns exceed the row")
            row[name] = np.frombuffer(blob[offset - length : offset], np.uint8)
        if row_crc32(row) != row["crc32"]:
            raise DamagedRow(f"image {row['image_id']}, variant {row['variant']}: CRC32 does not match")
        return row

    def close(self) -> None:
        """Close the file. Views of rows that were read stay valid."""
        os.close(self._file)

    def _header(self) -> _Header:
        (length,) = _LENGTH.unpack(os.pread(self._file, _LENGTH.size, 0))
        text = os.pread(self._file, min(length, os.fstat(self._file).st_size), _LENGTH.size)
        header: _Header = parse_json(text, "header", _Header)
        if header["version"] != VERSION:
            raise ValueError(f"version is {header['version']}")
        return header

    def _index(self, header_bytes: int, page_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        """Return start and end of each row's blob in the file, int64 (N, 2), and its numeric columns, int64 (N, len(_NUMBERS))."""
        columns = ["PAGE_ID_BLOB", "PAGE_OFFSET_BLOB", "PAGE_OFFSET_BLOB_END", *(f"{name}_0" for name in _NUMBERS)]
        # Published shards never change, so SQLite needs no locks or journal, which some network file systems do not support.
        address = f"{(self.folder / SHARD_FILE).resolve().as_uri()}.db?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True)
        try:
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM INDEXES ORDER BY ROW_ID").fetchall()
        finally:
            connection.close()
        table = np.array(rows, np.int64).reshape(-1, len(columns))
        spans = table[:, 1:3] + (header_bytes + page_bytes * table[:, :1])
        starts, ends = spans.T
        if outside := np.flatnonzero((starts < header_bytes) | (starts > ends) | (ends > os.fstat(self._file).st_size)).tolist():
            raise ValueError(f"row {outside[0]} is outside the file")
        return spans, table[:, 3:]


def read_samples(records: Path, manifest: Manifest, columns: list[str]) -> pa.Table:
    """Read samples.parquet of a record set and check these columns.

    Raises UserError if the file is not the one that the manifest describes, or if a column is missing or has invalid values.
    """
    path = index_path(records, manifest)
    check = f"run `python -m pipeline verify {records}` for all faults"
    try:
        if file_facts(path) != manifest.samples_file:
            raise UserError(f"{path}: SHA-256 does not match the manifest; {check}")
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}; {check}") from error
    if missing := [name for name in columns if name not in table.column_names]:
        raise UserError(
            f"{path}: columns missing ({', '.join(missing)}): the file is incomplete, or an older builder wrote it (version "
            f"{manifest.builder_version} wrote this set); rebuild the records"
        )
    require_valid(path, table, manifest, columns)
    return table


def shard_faults(folder: Path, row_format: RecordFormat | None = None) -> list[str]:
    """Read every row of a shard and compare its CRC with the stored one and that in rows.parquet; with `row_format`, decode it.

    Returns one line per fault, naming the row.
    """
    folder = Path(folder)
    try:
        listed = pq.read_table(folder / SHARD_ROWS, columns=["image_id", "crc32"]).to_pylist()
        if not listed:
            return []
        reader = ShardReader(folder)
    except (OSError, DamagedRow, pa.ArrowException) as error:
        return [f"{folder.name}: cannot be read: {str(error).strip().splitlines()[0]}"]
    with contextlib.closing(reader):
        if len(reader) != len(listed):
            return [f"{folder.name}: {len(reader)} rows, but {SHARD_ROWS} lists {len(listed)}"]
        faults = []
        for number, entry in enumerate(listed):
            try:
                row = reader.read(number)
                if row["crc32"] != entry["crc32"]:
                    raise DamagedRow("CRC32 does not match")
                if row_format is not None:
                    row_format.decode(row)
            except DamagedRow as error:
                faults.append(f"{folder.name} row {number} (image {entry['image_id']}): {error}")
        return faults


def read_skipped(schema: pa.Schema, where: str) -> list[SkippedImage]:
    """Return the unreadable images in the metadata of a rows.parquet. Raises UserError, which begins with `where`."""
    text = (schema.metadata or {}).get(b"skipped", b"[]")
    skipped: list[SkippedImage] = parse_json(text, f"{where}: metadata `skipped`", list[SkippedImage])
    return skipped


def shard_facts(folder: Path, variant: int) -> Shard:
    """Hash the files of a published shard and return its entry for the manifest."""
    files = {path.name: file_facts(path) for path in contents(Path(folder))}
    num_rows = pq.read_metadata(Path(folder) / SHARD_ROWS).num_rows
    return Shard(name=Path(folder).name, variant=variant, num_rows=num_rows, files=files)
