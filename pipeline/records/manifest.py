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
import struct
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
from msgspec import Meta

from pipeline.errors import UserError
from pipeline.records.codec import SCHEMA_VERSION, RecordFormat
from pipeline.samples.targets import TargetConfig
from pipeline.skeleton import Skeleton
from pipeline.storage.documents import Count, Finite, Id, Sha256, convert, read_json
from pipeline.storage.files import FileFacts
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
