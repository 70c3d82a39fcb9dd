"""What a record set is on the disk: its files, the manifest that is written last, and whether all of it is there.

RECORDS/manifest.json, samples.parquet (a line for every sample), shards/v000-s00000/part.mindrecord with its .db and rows.parquet,
and the data card CARD.md, croissant.json, pictures/.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.records.codec import SCHEMA_VERSION, RecordFormat
from pipeline.samples.targets import TargetConfig
from pipeline.skeleton import Skeleton

MANIFEST = "manifest.json"
CARD = "CARD.md"
SAMPLES = "samples.parquet"
SHARDS = "shards"
ADVICE = "give the --out folder of a `python -m pipeline build`"
SHARD_FILE = "part.mindrecord"
SHARD_ROWS = "rows.parquet"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One published shard: the rows of one variant of one range of images. `files` gives bytes and SHA-256 by file name."""

    name: str
    variant: int
    num_rows: int
    files: dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of manifest.json, written last. Rows are numbered through the shards in their order: variant 0 first."""

    schema_version: int
    builder_version: str
    config: dict[str, Any]
    skeleton: dict[str, Any]
    seed: int
    num_variants: int
    num_images: int
    num_samples: int
    sources: dict[str, Any]
    counts: dict[str, int]
    licenses: dict[str, str]
    skipped: list[dict[str, str]]
    digest: str
    samples: dict[str, Any]
    shards: list[Shard]

    @property
    def format(self) -> RecordFormat:
        fields = TargetConfig.__dataclass_fields__
        return RecordFormat(
            skeleton=Skeleton.from_dict(self.skeleton),
            targets=TargetConfig(**{name: self.config[name] for name in fields}),
            image_codec=self.config["image_codec"],
            jpeg_quality=self.config["jpeg_quality"],
        )

    def to_json(self) -> str:
        """With a checksum of everything else, so that a changed byte or an edited number does not pass for the set's own."""
        fields = asdict(self)
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n"


def count_rules(config: dict[str, Any]) -> dict[str, str]:
    """Count of the manifest -> the rule that it counts, in the order of application."""
    return {
        "images_in_file": "images in the file",
        "images_of_other_licenses": f"images left out: license not among the wanted ({', '.join(config['licenses']) or 'all'})",
        "people_crowd": "crowd regions, into the ignore mask",
        "people_unlabeled": "people without any labeled joint, into the ignore mask",
        "people_few_joints": f"people with fewer than {config['min_joints']} labeled joints, into the ignore mask",
        "people_small": f"people whose area is not above {config['min_area_px']:g} px², or the diagonal of whose joints' box is below "
        f"{config['min_diagonal_px']:g} px, into the ignore mask",
        "people_target": "target people",
        "images_without_target": "images left out: people, but no target among them",
        "images_people_free_dropped": "images left out: nobody annotated",
        "people_free": f"images without people kept (share {config['people_free_share']:g})",
        "images_selected": "images selected",
        "images_skipped": "of these left out: unreadable",
    }


def read_manifest(records: Path) -> Manifest:
    """The manifest of a record set. Raises UserError for a folder that is not a complete record set of this schema."""
    path = Path(records) / MANIFEST
    if not path.exists():
        unfinished = (Path(records) / SHARDS).exists()
        state, then = ("an unfinished build", "run the same build command again") if unfinished else ("no record set", ADVICE)
        raise UserError(f"{records}: {state} (there is no {MANIFEST}); {then}")
    fields = read_json(path, "manifest")
    version = fields.get("schema_version") if isinstance(fields, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {version}, this program reads {SCHEMA_VERSION}; build the records anew")
    if fields.pop("checksum", None) != _checksum(fields):
        raise UserError(f"{path}: edited or damaged (its checksum does not match); restore it or build the records anew")
    try:
        manifest = Manifest(**{**fields, "shards": [Shard(**shard) for shard in fields["shards"]]})
        manifest.format  # noqa: B018 - a manifest whose settings are refused is refused here
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged manifest: {error}; build the records anew") from error
    return manifest


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def check_files(records: Path, manifest: Manifest, *, hashes: bool) -> list[str]:
    """What is missing, foreign or changed in a record set: one line each, nothing if all is well.

    Sizes are always compared; SHA-256 only if `hashes` (reads everything).
    """
    expected = {SAMPLES: manifest.samples}
    for shard in manifest.shards:
        expected |= {f"{SHARDS}/{shard.name}/{name}": facts for name, facts in shard.files.items()}
    faults = []
    for name, facts in expected.items():
        path = Path(records) / name
        if not path.is_file():
            faults.append(f"{name}: missing")
        elif path.stat().st_size != facts["bytes"]:
            faults.append(f"{name}: {path.stat().st_size} bytes, the manifest says {facts['bytes']}")
        elif hashes and file_facts(path) != facts:
            faults.append(f"{name}: its SHA-256 is not the manifest's")
    present = (path for path in (Path(records) / SHARDS).rglob("*") if path.is_file())
    foreign = sorted(str(path.relative_to(records)) for path in present if str(path.relative_to(records)) not in expected)
    return faults + [f"{name}: not in the manifest" for name in foreign]


def file_facts(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file, as a manifest holds them."""
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def content_digest(rows: Iterable[tuple[int, int, int, int]]) -> str:
    """SHA-256 over (image_id, variant, bytes, crc32) of all rows in order: equal sets of records have equal digests."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(struct.pack("<qiqq", *row))
    return digest.hexdigest()
