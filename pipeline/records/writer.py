"""Write one shard: the only importer of mindspore.mindrecord. (`reader` reads it.)

A shard is a folder. It is written beside its place, flushed to the disk and published by renaming, so it is whole or absent.
(A MindRecord file itself cannot be renamed: the .db next to it stores its name.)
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mindspore.mindrecord import FileWriter

from pipeline.files import publish, temporary_path
from pipeline.records.codec import COLUMNS, Row
from pipeline.records.manifest import SHARD_FILE, SHARD_ROWS
from pipeline.records.reader import shard_faults

HEADER_BYTES = 1 << 20  # the defaults (16 MB and 32 MB) would make every small shard 48 MB
ROWS_A_CALL = 16  # one by one takes two to three times as long


class ShardWriter:
    """Writes the rows of one shard; `publish` makes it appear, `discard` leaves nothing unpublished behind."""

    def __init__(self, folder: Path, *, page_bytes: int) -> None:
        self.folder = Path(folder)
        self._page_bytes = page_bytes
        # A unique name: a worker of a build that was killed may still be writing the same shard.
        self._temporary = temporary_path(self.folder)
        self._temporary.mkdir()
        self._writer: FileWriter | None = None
        self._rows: list[Row] = []
        self._about: list[dict] = []

    def write(self, row: Row, about: dict) -> None:
        """Add a row; `about` is its line in samples.parquet."""
        if self._writer is None:
            self._writer = FileWriter(str(self._temporary / SHARD_FILE), shard_num=1, overwrite=False)
            self._writer.set_header_size(HEADER_BYTES)
            self._writer.set_page_size(self._page_bytes)
            self._writer.add_schema({name: {"type": kind} for name, kind in COLUMNS.items()}, "OpenPose training samples")
        self._rows.append(row)
        self._about.append({**about, "row": len(self._about)})
        if len(self._rows) == ROWS_A_CALL:
            self._flush()

    def publish(self, schema: pa.Schema) -> None:
        """Finish the files, check that every row arrived, and rename the folder into place.

        A shard without rows (every image of its range was skipped) has no MindRecord file.
        """
        if self._writer is not None:
            self._flush()
            with self._explained():
                self._writer.commit()
        pq.write_table(pa.Table.from_pylist(self._about, schema=schema), self._temporary / SHARD_ROWS, compression="zstd")
        if faults := shard_faults(self._temporary):
            raise OSError(f"shard {self.folder.name} was not written whole: {faults[0]}")
        for path in self._temporary.iterdir():
            path.chmod(0o644)  # MindRecord makes them private to the user
        try:
            publish(self._temporary, self.folder)
        except OSError:
            # On a cluster, the worker of a build that was stopped may have finished this very shard meanwhile: the same bytes.
            if shard_faults(self.folder):
                raise
            self.discard()

    def _flush(self) -> None:
        """Hand rows over. FileWriter drops bad ones without an error: `publish` reads all of them back."""
        if self._rows:
            with self._explained():
                self._writer.write_raw_data(self._rows)
            self._rows = []

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """MindRecord reports a full disk, among many lines, as a RuntimeError."""
        try:
            yield
        except RuntimeError as error:
            lines = [line.removeprefix("[ERROR]").strip() for line in str(error).splitlines() if line.startswith("[ERROR]")]
            free_mb = shutil.disk_usage(self._temporary).free / 1e6
            raise OSError(
                f"shard {self.folder}: cannot be written: {(lines or [str(error)])[0]} ({free_mb:.1f} MB are free there); "
                f"run the same command again when that is mended"
            ) from error

    def discard(self) -> None:
        """Give up what has not been published."""
        shutil.rmtree(self._temporary, ignore_errors=True)
