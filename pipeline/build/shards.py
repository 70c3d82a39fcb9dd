"""The shards that a build finds: which of them it can keep, and which images they were made from."""

import functools
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.build.config import BuildConfig
from pipeline.datasets.selection import Sample
from pipeline.errors import UserError
from pipeline.images import UnreadableImage, read_image
from pipeline.records.contents import contents
from pipeline.records.manifest import GROWING, SHARD_FILE, SHARD_ROWS, SHARDS, Manifest, SkippedImage
from pipeline.records.reader import read_skipped, shard_faults

SHARD_FILES = {SHARD_FILE, f"{SHARD_FILE}.db", SHARD_ROWS}


def shard_name(variant: int, number: int) -> str:
    """Return the folder name of a shard, such as v000-s00000."""
    return f"v{variant:03d}-s{number:05d}"


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the shards of a range were made from.

    pixels: hash of the original image (`measures.pixel_hash`) by image id. skipped: the unreadable images.
    """

    pixels: dict[int, bytes]
    skipped: list[SkippedImage]


@dataclass(frozen=True, kw_only=True)
class Shards:
    """The shards of a build.

    plan: identifies the settings and inputs that determine the rows. complete: the record set that gets more variants, whose shards
    are never changed; None if new.
    """

    out: Path
    plan: str
    complete: Manifest | None = None

    @functools.cached_property
    def _trusted(self) -> set[str]:
        return {shard.name for shard in self.complete.shards} if self.complete is not None else set()

    @property
    def folder(self) -> Path:
        """Where new shards are written."""
        return self.out / SHARDS if self.complete is None else self.out / GROWING / SHARDS

    def find(self, name: str) -> Path | None:
        """Return the folder of a shard; None if it has not been built."""
        places = (self.folder / name, self.out / SHARDS / name)
        return next((path for path in places if path.is_dir()), None)

    def require_known(self, names: set[str]) -> None:
        """Raise UserError for anything that does not belong to these shards. The files of file managers are ignored."""
        for folder in {self.out / SHARDS, self.folder}:
            for path in contents(folder):
                is_known = path.name in names and path.is_dir() and not path.is_symlink()
                unknown = [path]
                if is_known:
                    unknown = [inner for inner in contents(path) if inner.name not in SHARD_FILES or not inner.is_file()]
                if unknown:
                    raise UserError(f"{unknown[0]}: not part of this build; move it away and run the same command again")

    def of_range(self, config: BuildConfig, number: int, samples: list[Sample]) -> tuple[list[int], Made | None]:
        """Return the variants of a range of images whose shards are missing, and what the existing ones were made from.

        Reads existing shards completely, except those of a complete record set, and deletes those that cannot be used.
        """
        found = {v: path for v in range(config.variants) if (path := self.find(shard_name(v, number)))}
        made: dict[int, Made] = {}
        for variant, path in found.items():
            is_trusted = path.name in self._trusted
            fault = "" if is_trusted else self._fault(path, config, samples, variant)
            if not fault:
                made[variant] = _made(path)
                if made[variant] != next(iter(made.values())) and not is_trusted:
                    fault = "made from other images than the other variants"
            if fault:
                print(f"{path}: {fault}; building this shard again")
                shutil.rmtree(path)
                made.pop(variant, None)
        first = next(iter(made.values()), None)
        if first is not None and self.complete is None and any(_is_readable(config, entry, samples) for entry in first.skipped):
            print(f"{self.folder}: images of range {number} were unreadable and are readable now; building its shards again")
            for variant in made:
                shutil.rmtree(found[variant])
            made, first = {}, None
        return [v for v in range(config.variants) if v not in made], first

    def _fault(self, folder: Path, config: BuildConfig, samples: list[Sample], variant: int) -> str:
        """Return why a shard cannot be used; empty if it can."""
        if faults := shard_faults(folder, config.format):
            return f"damaged ({faults[0]})"
        try:
            table = pq.read_table(folder / SHARD_ROWS, columns=["image_id", "variant", "shard", "pixels"])
            skipped = {entry["image_id"] for entry in read_skipped(table.schema, SHARD_ROWS)}
            plan = (table.schema.metadata or {}).get(b"plan", b"").decode()
        except UserError as error:
            return f"damaged ({error})"
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            return f"damaged ({SHARD_ROWS}: {' '.join(str(error).split())})"
        if plan not in ("", self.plan):  # older builders wrote none
            return "made with other settings or inputs"
        wanted = [(sample.image_id, variant, folder.name) for sample in samples if sample.image_id not in skipped]
        rows = [(row["image_id"], row["variant"], row["shard"]) for row in table.to_pylist()]
        if rows != wanted or not skipped <= {sample.image_id for sample in samples}:
            return "contains the samples of another shard"
        return ""


def has_rows(folder: Path) -> bool:
    """Return whether a folder is a shard that has rows."""
    try:
        return (folder / SHARD_ROWS).is_file() and pq.read_metadata(folder / SHARD_ROWS).num_rows > 0
    except (OSError, pa.ArrowException):
        return False


def _made(folder: Path) -> Made:
    table = pq.read_table(folder / SHARD_ROWS, columns=["image_id", "pixels"])
    pixels = dict(zip(table["image_id"].to_pylist(), table["pixels"].to_pylist(), strict=True))
    return Made(pixels=pixels, skipped=read_skipped(table.schema, str(folder / SHARD_ROWS)))


def _is_readable(config: BuildConfig, entry: SkippedImage, samples: list[Sample]) -> bool:
    (sample,) = (sample for sample in samples if sample.image_id == entry["image_id"])
    try:
        read_image(config.image_path(sample), (sample.width, sample.height))
    except UnreadableImage:
        return False
    return True
