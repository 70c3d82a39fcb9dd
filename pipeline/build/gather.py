"""Complete a record set whose shards are all present: index, skipped images, data card, manifest."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.build.config import BuildConfig
from pipeline.datasets.selection import Selection
from pipeline.errors import UserError
from pipeline.files import atomic_file, file_facts, remove_unfinished, write_atomic
from pipeline.records.manifest import MANIFEST, SAMPLES, SHARD_ROWS, SHARDS, Manifest, SkippedImage, content_digest
from pipeline.records.reader import shard_facts

SKIPPED = "skipped.tsv"

CardWriter = Callable[[Path, Manifest], object]
"""Writes the data card into the folder of a record set, whose manifest file may not exist yet."""

Skipped = dict[int, SkippedImage]
"""Unreadable images by image id: image_id, file_name, reason."""


def gather(config: BuildConfig, selection: Selection, plan: dict[str, Any], write_card: CardWriter | None) -> Manifest:
    """Write samples.parquet, skipped.tsv and the card, then the manifest, which makes the record set complete.

    Raises UserError if no image is readable, or if images changed between variants.
    """
    remove_unfinished(config.out / SHARDS)  # left by workers that died
    folders = sorted((config.out / SHARDS).iterdir())
    samples, skipped = _read_index(folders)
    if not len(samples):
        shutil.rmtree(config.out / SHARDS)
        first = next(iter(skipped.values()))
        raise UserError(
            f"image folder {config.images}: none of {len(skipped)} images is readable; first: {first['file_name']}: {first['reason']}"
        )
    _require_same_images(config, samples, skipped)
    with atomic_file(config.out / SAMPLES) as temporary:
        pq.write_table(samples, temporary, compression="zstd")
    _write_skipped(config.out / SKIPPED, skipped)
    rows = zip(*(samples[name].to_pylist() for name in ("image_id", "variant", "bytes", "crc32")), strict=True)
    manifest = Manifest(
        **plan,
        seed=config.seed,
        num_variants=config.variants,
        num_images=len(samples) // config.variants,
        num_samples=len(samples),
        counts={**selection.counts, "images_skipped": len(skipped)},
        licenses={str(id): name for id, name in selection.licenses.items()},
        skipped=list(skipped.values()),
        digest=content_digest(rows),
        samples_file=file_facts(config.out / SAMPLES),
        shards=[shard_facts(folder, variant=int(folder.name[1:4])) for folder in folders],
    )
    if write_card:
        write_card(config.out, manifest)
    write_atomic(config.out / MANIFEST, manifest.to_json())
    return manifest


def _read_index(folders: list[Path]) -> tuple[pa.Table, Skipped]:
    """Read the rows.parquet of all shards: one row per sample, and the skipped images sorted by id."""
    tables = [pq.read_table(folder / SHARD_ROWS) for folder in folders]
    skipped = {entry["image_id"]: entry for t in tables for entry in json.loads(t.schema.metadata[b"skipped"])}
    return pa.concat_tables([table.replace_schema_metadata() for table in tables]), dict(sorted(skipped.items()))


def _write_skipped(path: Path, skipped: Skipped) -> None:
    lines = ["image_id\tfile_name\treason", *("\t".join(map(str, entry.values())) for entry in skipped.values())]
    write_atomic(path, "\n".join(lines) + "\n")


def _require_same_images(config: BuildConfig, samples: pa.Table, skipped: Skipped) -> None:
    """Check that all variants have the same images: one may have become readable or unreadable between two runs."""
    images = [set(samples.filter(pc.field("variant") == v)["image_id"].to_pylist()) for v in range(config.variants)]
    if changed := set.union(*images) - set.intersection(*images):
        image_id = min(changed)
        reason = skipped[image_id]["reason"] if image_id in skipped else "unknown"
        raise UserError(
            f"image folder {config.images}: image {image_id} is readable for some variants but not for others ({reason}); restore "
            f"the image, delete {config.out} and rebuild the records"
        )
