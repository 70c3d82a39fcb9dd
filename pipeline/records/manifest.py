"""The files of a record set, its manifest, and checks that all files are present.

A record set consists of manifest.json (written last), samples.parquet (one row per sample), shards/v000-s00000/ with
part.mindrecord, part.mindrecord.db and rows.parquet, and the data card: CARD.md, croissant.json, pictures/. While variants are
added, the folder growing/ holds the new files; the set stays complete.
"""

import functools
import hashlib
import itertools
import json
import operator
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from msgspec import Meta

from pipeline.datasets.boxes import DERIVED
from pipeline.documents import Count, Finite, Id, Sha256, convert, read_json
from pipeline.errors import UserError
from pipeline.files import FileFacts, file_facts, require_regular
from pipeline.folders import is_litter
from pipeline.records.codec import SCHEMA_VERSION, RecordFormat
from pipeline.samples.targets import TargetConfig
from pipeline.skeleton import Skeleton
from pipeline.wording import printable

MANIFEST = "manifest.json"
CARD = "CARD.md"
SAMPLES = "samples.parquet"
SHARDS = "shards"
ADVICE = "choose the --out folder of a `python -m pipeline build`"
REPAIR = "restore the file, or delete the folder and rebuild the records"
SHARD_FILE = "part.mindrecord"
SHARD_ROWS = "rows.parquet"
GROWING = "growing"  # only while variants are added
MAX_VARIANTS = 1_000


FileName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]  # no path leaves its folder


class Source(TypedDict):
    """The annotation file: name, size, SHA-256, the file's own description, the URLs of its licenses by id, and the names of its
    categories of people by id, if there are several."""

    name: str
    bytes: Count
    sha256: Sha256
    info: NotRequired[dict[str, str]]
    license_urls: NotRequired[dict[str, str]]
    categories: NotRequired[dict[str, str]]


class SourceSet(TypedDict):
    """One of several annotated data sets. weight: how often an epoch shows each of its images. unlabeled: the joints of the record
    set whose place in its images is unknown."""

    name: str
    weight: Annotated[float, Meta(gt=0)]
    unlabeled: list[str]
    annotations: Source


class Sources(TypedDict):
    """The files from which a record set was built. sets: of `build --sources`, whose file `annotations` describes then."""

    annotations: Source
    sets: NotRequired[list[SourceSet]]


class SkippedImage(TypedDict):
    """An unreadable image."""

    image_id: Id
    file_name: str
    reason: str


class _Settings(TypedDict):
    """The options of `build` that other code reads from `Manifest.config`, beside those of `TargetConfig`."""

    image_codec: str
    jpeg_quality: Count
    min_joints: Count
    min_area_px: Finite
    min_diagonal_px: Finite


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A published shard: the samples of one variant of a range of images. `files`: size and SHA-256 by file name."""

    name: FileName
    variant: Count
    num_rows: Count
    files: dict[FileName, FileFacts]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The contents of manifest.json.

    config: options of `build` that determine the samples. skeleton: fields of `Skeleton`. counts: images and people by selection
    rule, see `count_rules`. licenses: name by id. digest: of all samples. digests: of the samples of the first 1, 2, … variants, see
    `content_digests`; empty in sets of older builders. samples_file: size and SHA-256 of samples.parquet. shards: in the order in
    which samples are numbered, variant 0 first. images_per_source: of `sources["sets"]`, in the order in which samples are numbered.
    """

    schema_version: int
    builder_version: str
    config: dict[str, Any]
    skeleton: dict[str, Any]
    seed: Count
    num_variants: Annotated[int, Meta(ge=1, le=MAX_VARIANTS)]
    num_images: Count
    num_samples: Count
    sources: Sources
    counts: dict[str, Count]
    licenses: dict[str, str]
    skipped: list[SkippedImage]
    digest: Sha256
    samples_file: FileFacts
    shards: list[Shard]
    digests: list[Sha256] = field(default_factory=list)
    images_per_source: list[Count] = field(default_factory=list)

    @functools.cached_property
    def format(self) -> RecordFormat:
        """The row format. Raises UserError for invalid settings."""
        fields = TargetConfig.__dataclass_fields__
        targets = {name: self.config[name] for name in fields if name in self.config}
        row_format = {
            "targets": {**dict.fromkeys(fields), **targets},
            **{name: self.config.get(name) for name in ("image_codec", "jpeg_quality")},
            "skeleton": asdict(Skeleton.from_dict(self.skeleton)),
        }
        return convert(row_format, RecordFormat, "config")

    @property
    def data_set(self) -> str:
        """Name of the data set: the description in its annotation file, or the name of that file; joined for several."""
        files = [entry["annotations"] for entry in self.source_sets] or [self.sources["annotations"]]
        return " + ".join(file.get("info", {}).get("description") or file["name"] for file in files)

    @property
    def source_sets(self) -> list[SourceSet]:
        """The annotated data sets, if there are several."""
        return self.sources.get("sets", [])

    @functools.cached_property
    def labeled_channels(self) -> np.ndarray:
        """uint8 (number of sources, J + 1 + 2 L): which channels of the targets each source labels; empty for a single source."""
        channels = [self.format.skeleton.labeled_channels(entry["unlabeled"]) for entry in self.source_sets]
        return np.array(channels, np.uint8)

    def require_valid_sources(self, where: str) -> None:
        """Raise UserError, which begins with `where`, unless the sources fit the skeleton and the number of images."""
        if len(self.images_per_source) != len(self.source_sets) or (
            self.source_sets and sum(self.images_per_source) != self.num_images
        ):
            raise UserError(f"{where}: images_per_source must be one count for each of sources.sets, {self.num_images:,} in all")
        for entry in self.source_sets:
            if unknown := set(entry["unlabeled"]) - set(self.format.skeleton.joints):
                raise UserError(
                    f"{where}: sources.sets: unlabeled must be joints of the skeleton, got {printable(str(min(unknown))[:60])!r}"
                )

    def as_before(self, digest: str) -> "Manifest | None":
        """Return the manifest of the set with this digest that this one has grown from; None if it has not grown from it."""
        if digest not in self.digests:
            return None
        num_variants = self.digests.index(digest) + 1
        return replace(
            self,
            config={**self.config, "variants": num_variants},
            num_variants=num_variants,
            num_samples=self.num_images * num_variants,
            digest=digest,
            digests=self.digests[:num_variants],
            shards=[shard for shard in self.shards if shard.variant < num_variants],
        )

    def to_json(self) -> str:
        """Serialize the manifest with a checksum of all other fields, which reveals damage and edits."""
        fields = asdict(self)
        return json.dumps({**fields, "checksum": _checksum(fields)}, indent=1) + "\n"


def count_rules(config: dict[str, Any]) -> dict[str, str]:
    """Describe each entry of `Manifest.counts`, in the order in which the rules apply."""
    return {
        "images_in_file": "images in the file",
        "people_without_bbox": f"people and crowds {DERIVED['bbox']}",
        "people_without_area": f"people and crowds {DERIVED['area']}",
        "images_other_license": "images dropped: license not selected",
        "crowds": "crowd regions, ignored in the loss",
        "people_duplicate": "people annotated twice, dropped once",
        "people_unlabeled": "people without labeled joints, ignored in the loss",
        "people_few_joints": f"people with fewer than {config['min_joints']} labeled joints, ignored in the loss",
        "people_small": _small_people(config),
        "people_target": "target people",
        "images_without_target": "images dropped: people, but no target person",
        "images_without_people_dropped": "images dropped: no people",
        "images_without_people_kept": "images without people, kept",
        "images_selected": "images selected",
        "images_skipped": "selected images skipped: unreadable",
    }


def count_lines(manifest: Manifest) -> list[str]:
    """Return the counts of a record set as lines of text, one per rule."""
    rules = count_rules(manifest.config)
    width = max(map(len, rules.values()))
    return [f"  {rule:<{width}}  {manifest.counts.get(name, 0):>9,}" for name, rule in rules.items()]


def _small_people(config: dict[str, Any]) -> str:
    limits = f"area at most {config['min_area_px']:g} px²"
    if config["min_diagonal_px"]:
        limits += f" or diagonal below {config['min_diagonal_px']:g} px"
    return f"people with {limits}, ignored in the loss"


def read_manifest(records: Path) -> Manifest:
    """Read the manifest of a record set. Raises UserError unless the folder is a complete record set of this schema."""
    path = Path(records) / MANIFEST
    if not path.exists():
        if (Path(records) / SHARDS).exists():
            raise UserError(f"{records}: unfinished build (no {MANIFEST}); run the same build command again")
        raise UserError(f"{records}: not a record set (no {MANIFEST}); {ADVICE}")
    try:
        fields = read_json(path, "manifest", dict[str, Any])
    except UserError as error:
        raise UserError(f"{error}; {REPAIR}") from error
    if "schema_version" not in fields:
        raise UserError(f"manifest {path}: missing required field `schema_version`; {REPAIR}")
    version = fields["schema_version"]
    if version != SCHEMA_VERSION:
        raise UserError(f"{path}: schema version {version}, expected {SCHEMA_VERSION}; rebuild the records")
    if fields.pop("checksum", None) != _checksum(fields):
        raise UserError(f"{path}: checksum does not match; {REPAIR}")
    where = f"manifest {path}"
    manifest: Manifest = convert(fields, Manifest, where)
    Skeleton.from_dict(manifest.skeleton, f"{where}: skeleton")
    convert(manifest.config, _Settings, f"{where}: config")
    try:
        manifest.format  # noqa: B018 - raises for invalid settings
    except UserError as error:
        raise UserError(f"{where}: {error}; {REPAIR}") from error
    manifest.require_valid_sources(where)
    return manifest


def _checksum(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


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


UNKNOWN = "not in the manifest"  # how a fault ends that harms nothing but is not part of the set


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


SHARD_NAME = re.compile(r"v(\d{3})-s(\d{5})")


def content_digests(rows: Iterable[tuple[int, int, int, int]]) -> list[str]:
    """Return the SHA-256 of (image_id, variant, bytes, crc32) of the rows of the first 1, 2, … variants, in order.

    rows: those of variant 0 first. Record sets with equal rows have equal digests.
    """
    digest, digests = hashlib.sha256(), []
    for _, variant in itertools.groupby(rows, key=operator.itemgetter(1)):
        for row in variant:
            digest.update(struct.pack("<qiqq", *row))
        digests.append(digest.hexdigest())
    return digests
