"""Prove that a record set is what its manifest says: hashes, every row's CRC, every block decoded, the digest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import joblib
import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from pipeline.progress import progress_bar
from pipeline.records import codec
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARD_ROWS, SHARDS, Manifest, check_files, content_digest, read_manifest
from pipeline.records.reader import shard_faults


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Re-hash every file of a record set, re-read and decode every row. Exit code 1 and the names if anything is wrong.

    Example: python -m pipeline verify records
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Folder made by `build`."""
    jobs: int = -1
    """Processes; -1 = one per core."""

    def __post_init__(self) -> None:
        if self.jobs == 0 or self.jobs < -1:
            raise ValueError(f"jobs must be -1 (one per core) or at least 1, got {self.jobs}")


def run(config: VerifyConfig) -> int:
    """The command `verify`. Raises UserError for a folder that is no complete record set."""
    manifest = read_manifest(config.records)
    faults = check_files(config.records, manifest, hashes=True)
    folders = [config.records / SHARDS / shard.name for shard in manifest.shards]
    check = joblib.delayed(_shard_faults)
    parallel = joblib.Parallel(n_jobs=config.jobs, return_as="generator")
    with progress_bar(total=manifest.num_samples, desc="verifying", unit="sample") as progress:
        results = parallel(check(folder, manifest.format) for folder in folders if folder.is_dir())
        for shard_faults, num_rows in results:
            faults += shard_faults
            progress.update(num_rows)
    faults += _index_faults(config.records, manifest)
    for fault in faults:
        print(f"FAULT {fault}")
    if faults:
        print(f"{config.records}: {len(faults)} faults; delete the folder and build it anew")
        return 1
    print(
        f"{config.records}: {manifest.num_samples:,} rows in {len(manifest.shards)} shards are whole, digest {manifest.digest[:16]}"
    )
    return 0


def _shard_faults(folder: Path, row_format: codec.RecordFormat) -> tuple[list[str], int]:
    faults = shard_faults(folder, row_format)
    return faults, 0 if faults else pq.read_metadata(folder / SHARD_ROWS).num_rows


def _index_faults(folder: Path, manifest: Manifest) -> list[str]:
    """Faults of samples.parquet and of the manifest's own numbers."""
    faults = []
    try:
        index = pq.read_table(folder / SAMPLES)
        tables = [pq.read_table(folder / SHARDS / shard.name / SHARD_ROWS) for shard in manifest.shards]
        names = ("image_id", "variant", "bytes", "crc32")
        rows = zip(*(index[name].to_pylist() for name in names), strict=True)
        if content_digest(rows) != manifest.digest:
            faults.append(f"{SAMPLES}: its rows do not give the manifest's digest")
        if not pa.concat_tables([table.replace_schema_metadata() for table in tables]).equals(index.replace_schema_metadata()):
            faults.append(f"{SAMPLES}: not the rows of the shards in the manifest's order")
    except (OSError, KeyError, pa.ArrowException) as error:
        return [f"{SAMPLES} or a shard's {SHARD_ROWS}: cannot be read: {error}"]
    counted = (sum(shard.num_rows for shard in manifest.shards), manifest.num_images * manifest.num_variants, len(index))
    if set(counted) != {manifest.num_samples}:
        faults.append(f"{MANIFEST}: num_samples is {manifest.num_samples}, shards, images x variants, index give {counted}")
    lengths = [(shard.name, shard.num_rows, len(table)) for shard, table in zip(manifest.shards, tables, strict=True)]
    return faults + [
        f"{name}: the manifest says {said} rows, there are {there}" for name, said, there in lengths if said != there
    ]
