"""Write, verify and read one shard: the only importer of mindspore.mindrecord.

A shard is a folder. It is written beside its place, flushed to the disk and published by renaming, so it is whole or absent.
(A MindRecord file itself cannot be renamed: the .db next to it stores its name.)
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mindspore.mindrecord import FileReader, FileWriter

from pipeline.records import COLUMNS, SHARD_FILE, SHARD_ROWS, Row, Shard, file_facts, row_crc32

HEADER_BYTES = 1 << 20  # the defaults (16 MB and 32 MB) would make every small shard 48 MB
PAGE_BYTES = 1 << 22  # a row must fit a page; all files of one data set need the same


class ShardWriter:
    """Writes the rows of one shard; `publish` makes it appear, `discard` leaves nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._temporary = self.folder.with_name(f".writing-{self.folder.name}")
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._writer = FileWriter(str(self._temporary / SHARD_FILE), shard_num=1, overwrite=False)
        self._writer.set_header_size(HEADER_BYTES)
        self._writer.set_page_size(PAGE_BYTES)
        self._writer.add_schema({name: {"type": kind} for name, kind in COLUMNS.items()}, "OpenPose training samples")
        self._about: list[dict] = []

    def write(self, row: Row, about: dict) -> None:
        """Add a row; `about` is its line in samples.parquet."""
        # One row a call: FileWriter drops bad rows without an error, and only the count after the commit shows it.
        self._writer.write_raw_data([row])
        self._about.append({**about, "row": len(self._about)})

    def publish(self, schema: pa.Schema) -> None:
        """Finish the files, check that every row arrived, and rename the folder into place."""
        if not self._about:
            raise ValueError(f"shard {self.folder.name} has no rows; give fewer shards")
        self._writer.commit()
        pq.write_table(pa.Table.from_pylist(self._about, schema=schema), self._temporary / SHARD_ROWS, compression="zstd")
        arrived = sum(row_crc32(row) == row["crc32"] for row in read_rows(self._temporary))
        if arrived != len(self._about):
            raise OSError(f"shard {self.folder.name}: {len(self._about)} rows written, {arrived} arrived whole")
        for path in self._temporary.iterdir():
            path.chmod(0o644)  # MindRecord makes them private to the user
            _fsync(path)
        _fsync(self._temporary)
        os.replace(self._temporary, self.folder)
        _fsync(self.folder.parent)

    def discard(self) -> None:
        """Give up: nothing of the shard stays."""
        shutil.rmtree(self._temporary, ignore_errors=True)


def read_rows(folder: Path, columns: Iterable[str] = COLUMNS) -> Iterator[Row]:
    """The rows of one shard in order, blocks as bytes and ids as int. Raises RuntimeError for a file that cannot be read."""
    reader = FileReader(str(Path(folder) / SHARD_FILE), num_consumer=1, columns=list(columns))
    try:
        for row in reader.get_next():
            yield {name: bytes(value) if COLUMNS[name] == "bytes" else int(value) for name, value in row.items()}
    finally:
        reader.close()


def shard_facts(folder: Path, variant: int) -> Shard:
    """What the manifest says of a published shard; hashes every file anew."""
    files = {path.name: file_facts(path) for path in sorted(Path(folder).iterdir())}
    num_rows = pq.read_metadata(Path(folder) / SHARD_ROWS).num_rows
    return Shard(name=Path(folder).name, variant=variant, num_rows=num_rows, files=files)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
