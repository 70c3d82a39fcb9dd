"""Describe a record set whose shards are all present: index, skipped images, manifest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.build.config import BuildConfig
from pipeline.datasets.selection import Selection
from pipeline.errors import UserError
from pipeline.records.codec import SOURCE_SHIFT
from pipeline.records.extras import SKIPPED, skipped_text
from pipeline.records.manifest import SAMPLES, SHARD_ROWS, Manifest, SkippedImage, content_digests
from pipeline.records.reader import read_skipped, shard_facts
from pipeline.storage.files import atomic_file, file_facts, write_atomic

CardWriter = Callable[[Path, Manifest], object]
"""Writes the data card into the folder of a record set, whose manifest file may not exist yet."""

Skipped = dict[int, SkippedImage]
"""Unreadable images by image id: image_id, file_name, reason."""


def gather(config: BuildConfig, selection: Selection, plan: dict[str, Any], folders: list[Path], work: Path) -> Manifest:
    """Write samples.parquet and skipped.tsv of these shards, those of variant 0 first, into `work`; return the manifest.

    Raises UserError if images changed between variants, or too many are unreadable.
    """
    samples, skipped = _read_index(folders)
    unreadable = [(entry["file_name"], entry["reason"]) for entry in skipped.values()]
    config.tolerance.require(unreadable, len(selection.samples), config.image_folders)
    _require_same_images(config, samples)
    with atomic_file(work / SAMPLES) as temporary:
        pq.write_table(samples, temporary, compression="zstd")
    write_atomic(work / SKIPPED, skipped_text(skipped.values()))
    digests = content_digests(
        zip(*(samples[name].to_pylist() for name in ("image_id", "variant", "bytes", "crc32")), strict=True)
    )
    return Manifest(
        **plan,
        seed=config.seed,
        num_variants=config.variants,
        num_images=len(samples) // config.variants,
        num_samples=len(samples),
        counts={**selection.counts, "images_skipped": len(skipped)},
        licenses={str(id): name for id, name in selection.licenses.items()},
        skipped=list(skipped.values()),
        digest=digests[-1],
        digests=digests,
        samples_file=file_facts(work / SAMPLES),
        images_per_source=_images_per_source(config, samples),
        shards=[shard_facts(folder, variant=int(folder.name[1:4])) for folder in folders],
    )


def _images_per_source(config: BuildConfig, samples: pa.Table) -> list[int]:
    if config.sources is None:
        return []
    ids = samples.filter(pc.field("variant") == 0)["image_id"].to_numpy()
    return np.bincount(ids >> SOURCE_SHIFT, minlength=len(config.inputs)).tolist()


def _read_index(folders: list[Path]) -> tuple[pa.Table, Skipped]:
    """Read the rows.parquet of all shards: one row per sample, and the skipped images sorted by id."""
    tables = [pq.read_table(folder / SHARD_ROWS) for folder in folders]
    skipped = {entry["image_id"]: entry for t in tables for entry in read_skipped(t.schema, SHARD_ROWS)}
    return pa.concat_tables([table.replace_schema_metadata() for table in tables]), dict(sorted(skipped.items()))


def _require_same_images(config: BuildConfig, samples: pa.Table) -> None:
    """Check that all variants were made from the same images, in the same order."""
    variants = [samples.filter(pc.field("variant") == v).select(["image_id", "pixels"]) for v in range(config.variants)]
    for number, variant in enumerate(variants):
        if not variant.equals(variants[0]):
            pairs = zip(variant.to_pylist(), variants[0].to_pylist(), strict=False)
            changed = next((row["image_id"] for row, first in pairs if row != first), None)
            raise UserError(
                f"{config.out}: variant {number} was made from other images than variant 0"
                f"{f'; the first is image {changed}' if changed is not None else ''}; delete the folder and rebuild the records"
            )
