"""Read and verify a shard: single rows, in any order and from any thread, straight from its MindRecord files. No mindspore.

MindSpore's own reader takes several copies of every row; a step of training wants rows at random and one copy. The layout is
MindRecord's, version 3.0: a header of JSON behind its length (uint64), then pages of one size. The .db beside the file is SQLite;
its table INDEXES says for every row in which page its blob lies, from where to where, and repeats the row's numbers. A blob is
its length (uint64) and the byte columns in the header's order, each behind its length (uint64, but here the high byte first).
"""

import contextlib
import json
import os
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.files import file_facts
from pipeline.records.codec import COLUMNS, DamagedRow, RecordFormat, Row, row_crc32
from pipeline.records.manifest import SHARD_FILE, SHARD_ROWS, Shard

VERSION = "3.0"
_NUMBERS = tuple(name for name, kind in COLUMNS.items() if kind != "bytes")
_LENGTH = struct.Struct("<Q")
_COLUMN_LENGTH = struct.Struct(">Q")


class ShardReader:
    """Random access to the rows of one published shard. Raises DamagedRow for files that are not a whole MindRecord shard."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._file = os.open(self.folder / SHARD_FILE, os.O_RDONLY)
        try:
            header = self._header()
            (schema,) = header["schema"]
            self._blocks = tuple(schema["blob_fields"])
            self._places, self._numbers = self._index(header["header_size"], header["page_size"])
        except (KeyError, ValueError, TypeError, struct.error, sqlite3.Error) as error:
            self.close()
            raise DamagedRow(f"{self.folder.name}: not a MindRecord shard of version {VERSION}: {error}") from error

    def __len__(self) -> int:
        return len(self._places)

    @property
    def most_bytes(self) -> int:
        """Of any row."""
        return int(np.diff(self._places).max(initial=0))

    def read(self, number: int, buffer: np.ndarray | None = None) -> Row:
        """Row `number`; its blocks are uint8 arrays over `buffer`, uint8 (most_bytes,) or more, or over memory of their own.

        Raises DamagedRow for a row whose CRC does not match.
        """
        start, end = self._places[number].tolist()
        blob = memoryview(np.empty(end - start, np.uint8) if buffer is None else buffer)[: end - start]
        if os.preadv(self._file, [blob], start) != end - start:
            raise DamagedRow(f"{self.folder.name} row {number}: the file ends before it")
        row = dict(zip(_NUMBERS, self._numbers[number].tolist(), strict=True))
        place = _LENGTH.size
        for name in self._blocks:
            (length,) = _COLUMN_LENGTH.unpack_from(blob, place) if place + 8 <= len(blob) else (len(blob),)
            place += _COLUMN_LENGTH.size + length
            if place > len(blob):
                raise DamagedRow(f"{self.folder.name} row {number}: its columns are longer than it is")
            row[name] = np.frombuffer(blob[place - length : place], np.uint8)
        if row_crc32(row) != row["crc32"]:
            raise DamagedRow(f"image {row['image_id']}, variant {row['variant']}: CRC32 does not match")
        return row

    def close(self) -> None:
        os.close(self._file)

    def _header(self) -> dict:
        (length,) = _LENGTH.unpack(os.pread(self._file, _LENGTH.size, 0))
        header = json.loads(os.pread(self._file, min(length, os.fstat(self._file).st_size), _LENGTH.size))
        if header["version"] != VERSION:
            raise ValueError(f"it is of version {header['version']}")
        return header

    def _index(self, header_bytes: int, page_bytes: int) -> tuple[np.ndarray, np.ndarray]:
        """Where each row's blob starts and ends, int64 (N, 2), and its numbers, int64 (N, len(_NUMBERS))."""
        columns = ["PAGE_ID_BLOB", "PAGE_OFFSET_BLOB", "PAGE_OFFSET_BLOB_END", *(f"{name}_0" for name in _NUMBERS)]
        # Published shards never change: no locks, no journal, also on a file system that cannot lock.
        address = f"{(self.folder / SHARD_FILE).resolve().as_uri()}.db?mode=ro&immutable=1"
        connection = sqlite3.connect(address, uri=True)
        try:
            rows = connection.execute(f"SELECT {', '.join(columns)} FROM INDEXES ORDER BY ROW_ID").fetchall()
        finally:
            connection.close()
        table = np.array(rows, np.int64).reshape(-1, len(columns))
        places = table[:, 1:3] + (header_bytes + page_bytes * table[:, :1])
        starts, ends = places.T
        if outside := np.flatnonzero((starts < header_bytes) | (starts > ends) | (ends > os.fstat(self._file).st_size)).tolist():
            raise ValueError(f"row {outside[0]} lies outside of the file")
        return places, table[:, 3:]


def read_rows(folder: Path) -> Iterator[Row]:
    """The rows of one shard in order, blocks as uint8 arrays. Raises DamagedRow at the first one that is not what was written."""
    if not pq.read_metadata(Path(folder) / SHARD_ROWS).num_rows:
        return
    with contextlib.closing(ShardReader(folder)) as reader:
        for number in range(len(reader)):
            yield reader.read(number)


def shard_faults(folder: Path, row_format: RecordFormat | None = None) -> list[str]:
    """Read every row of a shard and compare its CRC with its own and the parquet's; decode it too if `row_format` is given.

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
            return [f"{folder.name}: {len(reader)} rows, {SHARD_ROWS} lists {len(listed)}"]
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


def shard_facts(folder: Path, variant: int) -> Shard:
    """What the manifest says of a published shard; hashes every file anew."""
    files = {path.name: file_facts(path) for path in sorted(Path(folder).iterdir())}
    num_rows = pq.read_metadata(Path(folder) / SHARD_ROWS).num_rows
    return Shard(name=Path(folder).name, variant=variant, num_rows=num_rows, files=files)
