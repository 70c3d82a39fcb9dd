"""The command `verify`: check every file of a record set, the CRC and decoding of every row, and the digest."""

from pathlib import Path

import joblib
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records.codec import RecordFormat
from pipeline.records.config import VerifyConfig
from pipeline.records.contents import UNKNOWN, check_files, index_path
from pipeline.records.extras import SKIPPED, card_faults, skipped_faults
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARD_ROWS, SHARDS, Manifest, content_digests, read_manifest
from pipeline.records.reader import shard_faults
from pipeline.runtime.processes import local_workers, num_workers
from pipeline.runtime.progress import progress_bar
from pipeline.storage.files import write_json
from pipeline.wording import counted, printable


def run(config: VerifyConfig) -> int:
    """Run `verify`. Raises UserError unless the folder is a complete record set."""
    manifest = read_manifest(config.records)
    faults = check_files(config.records, manifest, hashes=True)
    # Opening a pipe in the place of a file would wait forever.
    files = {config.records / SHARDS / shard.name: shard.files for shard in manifest.shards}
    folders = [folder for folder, names in files.items() if all((folder / name).is_file() for name in names)]
    is_whole = len(folders) == len(files) and index_path(config.records, manifest).is_file()
    check = joblib.delayed(_check_shard)
    with local_workers(), progress_bar(total=manifest.num_samples, desc="verifying", unit="sample") as progress:
        parallel = joblib.Parallel(n_jobs=num_workers(config.jobs, len(folders), "shard"), return_as="generator")
        for found, num_rows in parallel(check(folder, manifest.format) for folder in folders):
            faults += found
            progress.update(num_rows)
    faults += _index_faults(config.records, manifest) if is_whole else []
    of_card, card = card_faults(config.records)
    beside = [*of_card, *skipped_faults(config.records, manifest)]
    for fault in (*faults, *beside):
        print(f"FAULT {printable(fault)}")
    if config.json is not None:
        numbers = {"num_samples": manifest.num_samples, "num_shards": len(manifest.shards), "digest": manifest.digest}
        write_json(config.json, {"ok": not (faults or beside), "faults": [*faults, *beside], **numbers})
    if faults or beside:
        print(f"{config.records}: {counted(len(faults) + len(beside), 'fault')}; {_advice(faults)}")
        return 1
    num_files = sum(len(shard.files) for shard in manifest.shards)
    print(
        f"{config.records}: no faults in {counted(manifest.num_samples, 'sample')} and {counted(len(manifest.shards), 'shard')}, "
        f"digest {manifest.digest[:16]}\n"
        f"checked: {MANIFEST}, {SAMPLES}, {counted(num_files, 'file')} of shards, {SKIPPED}, {card}"
    )
    return 0


def _advice(faults: list[str]) -> str:
    if not faults:
        return f"the records themselves are intact; `python -m data_cards write` writes the card again, and {SKIPPED} is also in {MANIFEST}"
    if all(fault.endswith(UNKNOWN) for fault in faults):
        return "the records themselves are intact; move what is not part of them out of the folder"
    return "restore these files from a copy, or delete the folder and rebuild the records"


def _check_shard(folder: Path, row_format: RecordFormat) -> tuple[list[str], int]:
    """Return the faults of a shard, and the number of its rows if it has none."""
    faults = shard_faults(folder, row_format)
    return faults, 0 if faults else pq.read_metadata(folder / SHARD_ROWS).num_rows


def _index_faults(folder: Path, manifest: Manifest) -> list[str]:
    """List the faults of samples.parquet and of the numbers in the manifest."""
    faults = []
    try:
        index = pq.read_table(index_path(folder, manifest))
        tables = [pq.read_table(folder / SHARDS / shard.name / SHARD_ROWS) for shard in manifest.shards]
        names = ("image_id", "variant", "bytes", "crc32")
        rows = zip(*(index[name].to_pylist() for name in names), strict=True)
        digests = content_digests(rows)
        if digests[-1:] != [manifest.digest] or manifest.digests not in ([], digests):
            faults.append(f"{SAMPLES}: digest of its rows does not match the manifest")
        if not pa.concat_tables([table.replace_schema_metadata() for table in tables]).equals(index.replace_schema_metadata()):
            faults.append(f"{SAMPLES}: rows differ from those of the shards")
    except (OSError, KeyError, pa.ArrowException) as error:
        return [f"{SAMPLES} or {SHARD_ROWS} of a shard: cannot be read: {error}"]
    numbers = {
        "shards": sum(shard.num_rows for shard in manifest.shards),
        "num_images x num_variants": manifest.num_images * manifest.num_variants,
        SAMPLES: len(index),
    }
    if set(numbers.values()) != {manifest.num_samples}:
        listed = ", ".join(f"{name} {number}" for name, number in numbers.items())
        faults.append(f"{MANIFEST}: num_samples is {manifest.num_samples}, but the number of rows is: {listed}")
    lengths = [(shard.name, shard.num_rows, len(table)) for shard, table in zip(manifest.shards, tables, strict=True)]
    return faults + [
        f"{name}: {actual} rows, the manifest lists {expected}" for name, expected, actual in lengths if expected != actual
    ]
