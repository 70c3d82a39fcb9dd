"""Write a shard. The only module that imports mindspore.mindrecord; `reader` does not need it.

A shard is a folder. It is written under a temporary name, flushed to disk and renamed, so it is complete or absent. (A MindRecord
file itself cannot be renamed, because the .db file next to it stores its name.)
"""

import math
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mindspore.mindrecord import FileWriter

from pipeline.errors import UserError
from pipeline.records.codec import COLUMNS, Row
from pipeline.records.manifest import SHARD_FILE, SHARD_ROWS
from pipeline.records.reader import shard_faults
from pipeline.storage.files import publish, temporary_path
from pipeline.wording import counted

HEADER_BYTES = 1 << 20  # with the default header and page sizes (16 MB and 32 MB), every small shard would take 48 MB
ROWS_PER_CALL = 16  # writing rows one by one takes two to three times as long


class ShardWriter:
    """Writes the rows of a shard; `publish` moves it into place, `discard` deletes what has not been published."""

    def __init__(self, folder: Path, *, page_bytes: int) -> None:
        self.folder = Path(folder)
        self._page_bytes = page_bytes
        # The name is unique, because a worker of a killed build may still be writing the same shard.
        self._temporary = temporary_path(self.folder)
        self._temporary.mkdir()
        self._writer: FileWriter | None = None
        self._rows: list[Row] = []
        self._index: list[dict[str, Any]] = []

    def write(self, row: Row, entry: dict[str, Any]) -> None:
        """Add a row and its entry in samples.parquet."""
        self._rows.append(row)
        self._index.append({**entry, "row": len(self._index)})
        if len(self._rows) == ROWS_PER_CALL:
            self._flush()

    def publish(self, schema: pa.Schema) -> None:
        """Finish the files, verify every row, and rename the folder into place.

        A shard without rows (all images of its range were skipped) has no MindRecord file.
        """
        self._flush()
        if self._writer is not None:
            with self._write_errors():
                self._writer.commit()
        pq.write_table(pa.Table.from_pylist(self._index, schema=schema), self._temporary / SHARD_ROWS, compression="zstd")
        if faults := shard_faults(self._temporary):
            raise OSError(f"shard {self.folder.name}: not written correctly: {faults[0]}; run the same command again")
        for path in self._temporary.iterdir():
            path.chmod(0o644)  # MindRecord creates files that only their owner can read
        try:
            publish(self._temporary, self.folder)
        except OSError:
            # On a cluster, a worker of a stopped build may have published the same shard, with the same bytes, in the meantime.
            if shard_faults(self.folder):
                raise
            self.discard()

    def _flush(self) -> None:
        """Write the buffered rows. FileWriter silently drops invalid rows, so `publish` reads all of them back."""
        if not self._rows:
            return
        self._require_below_limit()
        if self._writer is None:
            self._writer = self._open()
        with self._write_errors():
            self._writer.write_raw_data(self._rows)
        self._rows = []

    def _require_below_limit(self) -> None:
        """Raise UserError if the buffered rows may exceed the file size limit of the process, at which FileWriter can crash it."""
        if (limit := _file_size_limit()) == math.inf:
            return
        path = self._temporary / SHARD_FILE
        num_bytes = sum(len(block) for row in self._rows for block in row.values() if isinstance(block, bytes))
        # Rows do not span pages, so that a page may be half empty.
        largest = (path.stat().st_size if path.exists() else HEADER_BYTES) + 2 * num_bytes + 2 * self._page_bytes
        if largest > limit:
            raise UserError(
                f"shard {self.folder}: `ulimit -f` limits files to {limit / 1e6:,.1f} MB; raise the limit, or use more --shards, and "
                "run the same command again"
            )

    def _open(self) -> FileWriter:
        writer = FileWriter(str(self._temporary / SHARD_FILE), shard_num=1, overwrite=False)
        writer.set_header_size(HEADER_BYTES)
        writer.set_page_size(self._page_bytes)
        writer.add_schema({name: {"type": kind} for name, kind in COLUMNS.items()}, "OpenPose training samples")
        return writer

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        """Raise MindRecord's RuntimeErrors, such as for a full disk, as an OSError with one line of text."""
        try:
            yield
        except RuntimeError as error:
            lines = [line.removeprefix("[ERROR]").strip() for line in str(error).splitlines() if line.startswith("[ERROR]")]
            raise OSError(
                f"shard {self.folder}: cannot be written: {(lines or [str(error)])[0]} (no space, no inodes or a file size limit: "
                f"{_space(self._temporary)}); fix the cause and run the same command again"
            ) from error

    def discard(self) -> None:
        """Delete what has not been published."""
        shutil.rmtree(self._temporary, ignore_errors=True)


def _file_size_limit() -> float:
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _space(folder: Path) -> str:
    """Describe what is left to write in a folder: free space, free inodes if the file system counts them, and a file size limit."""
    disk, limit = os.statvfs(folder), _file_size_limit()
    left = [f"{disk.f_bavail * disk.f_frsize / 1e6:,.1f} MB free"]
    left += [f"{counted(disk.f_favail, 'inode')} free"] if disk.f_files else []
    return ", ".join(left + ([f"`ulimit -f` limits files to {limit / 1e6:,.1f} MB"] if limit < math.inf else []))
