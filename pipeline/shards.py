"""Write, verify and read one shard: the only importer of mindspore.mindrecord.

A shard is a folder. It is written beside its place, flushed to the disk and published by renaming, so it is whole or absent.
(A MindRecord file itself cannot be renamed: the .db next to it stores its name.)
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from mindspore.mindrecord import FileReader, FileWriter

from pipeline.records import COLUMNS, SHARD_FILE, SHARD_ROWS, DamagedRow, RecordFormat, Row, Shard, file_facts, row_crc32

HEADER_BYTES = 1 << 20  # the defaults (16 MB and 32 MB) would make every small shard 48 MB
ROWS_A_CALL = 16  # one by one takes two to three times as long


class ShardWriter:
    """Writes the rows of one shard; `publish` makes it appear, `discard` leaves nothing unpublished behind."""

    def __init__(self, folder: Path, *, page_bytes: int) -> None:
        self.folder = Path(folder)
        self._page_bytes = page_bytes
        # Of its own: the worker of a build that was killed may still be writing the same shard.
        self._temporary = self.folder.with_name(f".writing-{self.folder.name}-{secrets.token_hex(4)}")
        self._temporary.mkdir(parents=True)
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
            _fsync(path)
        _fsync(self._temporary)
        try:
            os.replace(self._temporary, self.folder)
        except OSError:
            # On a cluster, the worker of a build that was stopped may have finished this very shard meanwhile: the same bytes.
            if shard_faults(self.folder):
                raise
            self.discard()
        _fsync(self.folder.parent)

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


def shard_faults(folder: Path, row_format: RecordFormat | None = None) -> list[str]:
    """Read every row of a shard and compare its CRC with its own and the parquet's; decode it too if `row_format` is given.

    Returns one line per fault, naming the row.
    """
    try:
        listed = pq.read_table(Path(folder) / SHARD_ROWS, columns=["image_id", "crc32"]).to_pylist()
        rows = list(read_rows(folder)) if listed else []
    except (OSError, RuntimeError, pa.ArrowException) as error:
        return [f"{folder.name}: cannot be read: {str(error).strip().splitlines()[0]}"]
    if len(rows) != len(listed):
        return [f"{folder.name}: {len(rows)} rows, {SHARD_ROWS} lists {len(listed)}"]
    faults = []
    for number, (row, entry) in enumerate(zip(rows, listed, strict=True)):
        where = f"{folder.name} row {number} (image {entry['image_id']})"
        if row_crc32(row) != row["crc32"] or row["crc32"] != entry["crc32"]:
            faults.append(f"{where}: CRC32 does not match")
        elif row_format is not None:
            try:
                row_format.decode(row)
            except DamagedRow as error:
                faults.append(f"{where}: {error}")
    return faults


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
