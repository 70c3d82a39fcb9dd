"""What is in the folder of a record set, compared with its manifest: missing, changed and unknown files."""

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.records.manifest import GROWING, SAMPLES, SHARDS, Manifest
from pipeline.storage.files import file_facts, require_regular
from pipeline.storage.folders import is_litter

UNKNOWN = "not in the manifest"  # how a fault ends that harms nothing but is not part of the set
SHARD_NAME = re.compile(r"v(\d{3})-s(\d{5})")


def check_files(records: Path, manifest: Manifest, *, hashes: bool) -> list[str]:
    """List files that are missing, changed or unknown, one line each; empty if there are none.

    Always compares sizes; compares SHA-256 only with `hashes`, which reads every file. Ignores the files of file managers.
    """
    expected = {str(index_path(records, manifest).relative_to(records)): manifest.samples_file}
    for shard in manifest.shards:
        expected |= {f"{SHARDS}/{shard.name}/{name}": facts for name, facts in shard.files.items()}
    faults = []
    for name, facts in expected.items():
        path = Path(records) / name
        try:
            require_regular(path)
        except FileNotFoundError:
            faults.append(f"{name}: missing")
            continue
        except OSError as error:
            faults.append(f"{name}: {error.strerror or error}")
            continue
        if path.stat().st_size != facts["bytes"]:
            faults.append(f"{name}: {path.stat().st_size} bytes, expected {facts['bytes']}")
        elif hashes and file_facts(path) != facts:
            faults.append(f"{name}: SHA-256 does not match the manifest")
    return faults + [f"{name}: {UNKNOWN}" for name in _unknown_files(Path(records), manifest)]


def index_path(records: Path, manifest: Manifest) -> Path:
    """Return the path of samples.parquet. If a build that added variants was killed at its very end, it has not been moved yet."""
    paths = [Path(records) / SAMPLES, Path(records) / GROWING / SAMPLES]
    return next((path for path in paths if path.is_file() and path.stat().st_size == manifest.samples_file["bytes"]), paths[0])


def contents(folder: Path) -> list[Path]:
    """Return what is in a folder, sorted, without the files of file managers; nothing if there is no such folder."""
    return sorted(path for path in folder.iterdir() if not is_litter(path.name)) if folder.is_dir() else []


def _unknown_files(records: Path, manifest: Manifest) -> Iterator[str]:
    """Yield the paths in the folder of shards that are not part of the set, nor of variants that are being added."""
    files = {shard.name: shard.files for shard in manifest.shards}
    is_growing = (records / GROWING).is_dir()
    for path in contents(records / SHARDS):
        if path.name in files and path.is_dir():
            yield from (f"{SHARDS}/{path.name}/{inner.name}" for inner in contents(path) if inner.name not in files[path.name])
        elif not (is_growing and (match := SHARD_NAME.fullmatch(path.name)) and int(match[1]) >= manifest.num_variants):
            yield f"{SHARDS}/{path.name}"
