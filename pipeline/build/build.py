"""Build a record set: plan image ranges, let joblib make each range's shards, gather the manifest. Resumable at any moment.

A range's job decodes each image once and writes one shard per variant. Every row depends on (seed, image id, variant) alone,
so the set has the same bytes for any number of jobs and after any interruption.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from joblib.externals.loky.process_executor import TerminatedWorkerError

from pipeline.build.backends import engine
from pipeline.build.config import BuildConfig
from pipeline.build.worker import BUILDER_VERSION, Range, build_range, shard_name
from pipeline.datasets.selection import Sample, Selection, read_annotations
from pipeline.errors import UserError
from pipeline.files import TEMPORARY, atomic_file, file_facts, locked, read_json, remove_unfinished, write_atomic, write_json
from pipeline.progress import progress_bar
from pipeline.records.codec import SCHEMA_VERSION
from pipeline.records.manifest import (
    CARD,
    MANIFEST,
    SAMPLES,
    SHARD_ROWS,
    SHARDS,
    Manifest,
    content_digest,
    count_rules,
    read_manifest,
)
from pipeline.records.reader import shard_facts, shard_faults

PLAN = "build.json"
LOCK = "build.lock"
SKIPPED = "skipped.tsv"

CardWriter = Callable[[Path, Manifest], object]
"""Writes the data card of a record set into its folder; the manifest need not be there yet."""


def run(config: BuildConfig, write_card: CardWriter | None = None) -> int:
    """The command `build`. Raises UserError for bad input.

    `write_card` comes from the entry point, because imports follow the data and cards come after records.
    """
    if not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    with progress_bar(total=1, desc="reading annotations", unit="file"):
        selection = read_annotations(
            config.annotations, skeleton=config.format.skeleton, person_filter=config.people, seed=config.seed
        )
    if not selection.samples:
        raise UserError(
            f"annotation file {config.annotations}: no image has a person with at least {config.people.min_joints} labeled "
            f"joints and more than {config.people.min_area_px:g} square pixels; relax --min-joints or --min-area-px"
        )
    plan = {
        "builder_version": BUILDER_VERSION,
        "schema_version": SCHEMA_VERSION,
        "config": config.content(),
        "skeleton": config.format.skeleton.to_dict(),
        "sources": {
            "annotations": {
                "name": config.annotations.name,
                **file_facts(config.annotations),
                **selection.origin,
            }
        },
    }
    if (config.out / MANIFEST).exists():
        there = read_manifest(config.out)
        grown = {**there.__dict__, "config": {**there.config, "variants": max(config.variants, there.num_variants)}}
        _refuse_other_plan(plan, grown, config.out)
        if config.variants == there.num_variants:
            if write_card and not (config.out / CARD).exists():
                write_card(config.out, there)
            if any((config.out / name).exists() for name in (PLAN, LOCK)):  # killed at its very end
                with _locked(config.out):
                    (config.out / PLAN).unlink(missing_ok=True)
            print(f"{config.out} is complete already")
            return 0
        print(f"{config.out}: from {there.num_variants} to {config.variants} variants")
    with (
        _claimed(config.out, plan),
        engine(config.backend, config.scheduler, (config.images.resolve(), config.out.resolve() / LOCK)),
    ):
        _build_ranges(config, selection)
        manifest = _gather(config, selection, plan, write_card)
    _print_summary(config.out, manifest)
    return 0


@contextmanager
def _claimed(out: Path, plan: dict) -> Iterator[None]:
    """Own the folder while building; leave a resumable state, or nothing if no shard was finished.

    A complete set, which is to grow, becomes an unfinished one of the new plan.
    """
    # A build that was killed at its very beginning leaves no more than the lock and what it was writing.
    fresh = not out.exists() or all(path.name == LOCK or path.name.startswith(TEMPORARY) for path in out.iterdir())
    complete = (out / MANIFEST).exists()
    if not fresh and not complete and not (out / PLAN).exists():
        raise UserError(f"{out}: not empty and not an unfinished build; give an empty or new folder")
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        remove_unfinished(out)
        if fresh or complete:
            write_json(out / PLAN, plan)
            for outdated in (MANIFEST, CARD):
                (out / outdated).unlink(missing_ok=True)
        else:
            _refuse_other_plan(plan, read_json(out / PLAN, "build plan"), out)
        shards = out / SHARDS
        try:
            yield
        finally:
            remove_unfinished(shards)
            if not (shards.exists() and any(shards.iterdir())):
                shutil.rmtree(out)
        (out / PLAN).unlink()


def _locked(out: Path) -> AbstractContextManager[None]:
    return locked(out / LOCK, f"{out}: another build is writing there")


def _refuse_other_plan(plan: dict, found: dict, out: Path) -> None:
    for part in ("builder_version", "schema_version", "config", "skeleton", "sources"):
        if plan[part] != found.get(part):
            wanted, there = json.loads(json.dumps(plan[part])), found.get(part)
            if isinstance(wanted, dict) and isinstance(there, dict):
                changed = [key for key in sorted({*wanted, *there}) if wanted.get(key) != there.get(key)]
                if not changed:
                    continue
                part = ", ".join(f"{key}: {there.get(key)} there, {wanted.get(key)} now" for key in changed)
            raise UserError(f"{out}: begun with other settings or input ({part}); use the same, or another folder")


def _build_ranges(config: BuildConfig, selection: Selection) -> None:
    shards = config.out / SHARDS
    shards.mkdir(exist_ok=True)
    remove_unfinished(shards)
    ranges = _plan_ranges(config, selection.samples)
    total = len(selection.samples) * config.variants
    # The workers of a cluster have a working folder of their own.
    absolute = replace(config, images=config.images.resolve(), out=config.out.resolve())
    work = (joblib.delayed(build_range)(absolute, part, shards.resolve()) for part in ranges)
    done = total - sum(len(part.samples) * len(part.variants) for part in ranges)
    parallel = joblib.Parallel(n_jobs=config.jobs, return_as="generator_unordered", pre_dispatch="2*n_jobs")
    images = skipped = num_bytes = 0
    start_s = time.monotonic()
    try:
        with progress_bar(total=total, initial=done, desc="building", unit="sample") as progress:
            for built in parallel(work):
                images += built.num_images
                skipped += built.num_skipped
                num_bytes += built.num_bytes
                seconds = time.monotonic() - start_s
                rates = f"{images / seconds:.0f} images/s, {num_bytes / seconds / 1e6:.1f} MB/s, {skipped} skipped"
                progress.set_postfix_str(rates, refresh=False)
                progress.update(built.num_samples)
    except TerminatedWorkerError as error:
        raise UserError(
            f"a worker was killed, perhaps for want of memory (fewer --jobs need less); run again: {error}"
        ) from error


def _plan_ranges(config: BuildConfig, samples: list[Sample]) -> list[Range]:
    """Ranges with a missing shard. Shards that stand there are read whole, not trusted."""
    count = min(config.shards or min(64, -(-len(samples) // 256)), len(samples))
    bounds = np.linspace(0, len(samples), count + 1).round().astype(int)
    ranges = []
    for number in range(count):
        missing = []
        for variant in range(config.variants):
            folder = config.out / SHARDS / shard_name(variant, number)
            if folder.exists() and shard_faults(folder, config.format):
                shutil.rmtree(folder)
            if not folder.exists():
                missing.append(variant)
        if missing:
            parent = os.getpid() if config.backend == "loky" else None
            part = samples[bounds[number] : bounds[number + 1]]
            ranges.append(Range(number=number, samples=part, variants=missing, parent=parent))
    return ranges


def _gather(config: BuildConfig, selection: Selection, plan: dict, write_card: CardWriter | None) -> Manifest:
    """All shards are there: write samples.parquet, the card, then the manifest, which makes the set complete."""
    remove_unfinished(config.out / SHARDS)  # of workers that died while others did their work
    folders = sorted((config.out / SHARDS).iterdir())
    shards = [shard_facts(folder, variant=int(folder.name[1:4])) for folder in folders]
    tables = [pq.read_table(folder / SHARD_ROWS) for folder in folders]
    listed = {entry["image_id"]: entry for t in tables for entry in json.loads(t.schema.metadata[b"skipped"])}
    samples = pa.concat_tables([table.replace_schema_metadata() for table in tables])
    if not len(samples):
        shutil.rmtree(config.out / SHARDS)
        raise UserError(
            f"image folder {config.images}: none of {len(listed)} images can be read; first: {next(iter(listed.values()))}"
        )
    _refuse_uneven(config, samples, listed)
    with atomic_file(config.out / SAMPLES) as temporary:
        pq.write_table(samples, temporary, compression="zstd")
    skipped = [listed[image_id] for image_id in sorted(listed)]
    lines = ["image_id\tfile_name\treason", *("\t".join(map(str, entry.values())) for entry in skipped)]
    write_atomic(config.out / SKIPPED, "\n".join(lines) + "\n")
    rows = zip(*(samples[name].to_pylist() for name in ("image_id", "variant", "bytes", "crc32")), strict=True)
    manifest = Manifest(
        **plan,
        seed=config.seed,
        num_variants=config.variants,
        num_images=len(samples) // config.variants,
        num_samples=len(samples),
        counts={**selection.counts, "images_skipped": len(listed)},
        licenses={str(id): name for id, name in selection.licenses.items()},
        skipped=skipped,
        digest=content_digest(rows),
        samples=file_facts(config.out / SAMPLES),
        shards=shards,
    )
    if write_card:
        write_card(config.out, manifest)
    write_atomic(config.out / MANIFEST, manifest.to_json())
    return manifest


def _refuse_uneven(config: BuildConfig, samples: pa.Table, skipped: dict[int, dict]) -> None:
    """Every variant has the same images, unless one became readable or unreadable while the set was built in parts."""
    images = {v: set(samples.filter(pc.field("variant") == v)["image_id"].to_pylist()) for v in range(config.variants)}
    if odd := set.union(*images.values()) - set.intersection(*images.values()):
        named = min(odd)
        raise UserError(
            f"image folder {config.images}: image {named} could be read for some variants and not for others "
            f"({skipped.get(named, {}).get('reason', 'unknown')}); restore it, remove {config.out} and build anew"
        )


def _print_summary(out: Path, manifest: Manifest) -> None:
    for name, rule in count_rules(manifest.config).items():
        print(f"{manifest.counts.get(name, 0):>12,}  {rule}")
    for entry in manifest.skipped[:10]:
        print(f"  skipped {entry['file_name']}: {entry['reason']}")
    if len(manifest.skipped) > 10:
        print(f"  … and {len(manifest.skipped) - 10} more: see {out / SKIPPED}")
    size = sum(facts["bytes"] for shard in manifest.shards for facts in shard.files.values())
    print(
        f"{out}: {manifest.num_samples:,} samples of {manifest.num_images:,} images, {manifest.num_variants} variants, "
        f"{len(manifest.shards)} shards, {size / 1e6:,.1f} MB, digest {manifest.digest[:16]}"
    )
