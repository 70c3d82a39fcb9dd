"""Build a record set: plan image ranges, let joblib make each range's shards, gather the manifest. Resumable at any moment.

A range's job decodes each image once and writes one shard per variant. Every row depends on (seed, image id, variant) alone,
so the set has the same bytes for any number of jobs and after any interruption.
"""

import fcntl
import json
import os
import pkgutil
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from joblib.externals.loky.process_executor import TerminatedWorkerError
from tqdm import tqdm

from pipeline.annotations import Sample, Selection, read_annotations
from pipeline.cli import UserError, read_json
from pipeline.config import BuildConfig
from pipeline.engine import engine
from pipeline.manifest import (
    CARD,
    MANIFEST,
    SAMPLES,
    SHARD_ROWS,
    SHARDS,
    Manifest,
    content_digest,
    count_rules,
    file_facts,
    read_manifest,
)
from pipeline.reader import shard_facts, shard_faults
from pipeline.records import SCHEMA_VERSION
from pipeline.rows import BUILDER_VERSION, Range, build_range, shard_name

PLAN = "build.json"
LOCK = "build.lock"
SKIPPED = "skipped.tsv"
# By name, since imports follow the data and cards come after records; loaded when there is a set to write the card of.
CARD_WRITER = "data_cards.card:write_card"


def run(config: BuildConfig) -> int:
    """The command `build`. Raises UserError for bad input."""
    if not config.images.is_dir():
        raise UserError(f"image folder {config.images}: no such folder")
    with tqdm(total=1, desc="reading annotations", disable=None, leave=False):
        selection = read_annotations(
            config.annotations, skeleton=config.format.skeleton, person_filter=config.people, seed=config.seed
        )
    if not selection.samples:
        raise UserError(
            f"annotation file {config.annotations}: no image has a person with at least {config.people.min_joints} labelled "
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
            if not (config.out / CARD).exists():
                pkgutil.resolve_name(CARD_WRITER)(config.out, there)
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
        manifest = _gather(config, selection, plan)
    _print_summary(config.out, manifest)
    return 0


@contextmanager
def _claimed(out: Path, plan: dict) -> Iterator[None]:
    """Own the folder while building; leave a resumable state, or nothing if no shard was finished.

    A complete set, which is to grow, becomes an unfinished one of the new plan.
    """
    # A build that was killed at its very beginning leaves no more than the lock and what it was writing.
    fresh = not out.exists() or set(out.iterdir()) <= {out / LOCK, *_half_written(out)}
    complete = (out / MANIFEST).exists()
    if not fresh and not complete and not (out / PLAN).exists():
        raise UserError(f"{out}: not empty and not an unfinished build; give an empty or new folder")
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        for leftover in _half_written(out):
            leftover.unlink()
        if fresh or complete:
            _write_whole(out / PLAN, json.dumps(plan, indent=1))
            for outdated in (MANIFEST, CARD):
                (out / outdated).unlink(missing_ok=True)
        else:
            _refuse_other_plan(plan, read_json(out / PLAN, "build plan"), out)
        shards = out / SHARDS
        try:
            yield
        finally:
            _remove_unfinished(shards)
            if not (shards.exists() and any(shards.iterdir())):
                shutil.rmtree(out)
        (out / PLAN).unlink()


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Be the only build that writes there. The lock's file goes, unless an exception leaves work to be continued."""
    with open(out / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{out}: another build is writing there") from error
        yield
        (out / LOCK).unlink()


def _half_written(out: Path) -> list[Path]:
    """Files that a killed build was writing, under the names that they have until they are whole."""
    return [path for name in (PLAN, SAMPLES, SKIPPED, MANIFEST) for path in (*out.glob(f".{name}"), *out.glob(f".{name}.*"))]


def _remove_unfinished(shards: Path) -> None:
    for leftover in shards.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)


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
    _remove_unfinished(shards)
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
        with tqdm(total=total, initial=done, desc="building", unit="sample", disable=None) as progress:
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


def _gather(config: BuildConfig, selection: Selection, plan: dict) -> Manifest:
    """All shards are there: write samples.parquet, the card, then the manifest, which makes the set complete."""
    _remove_unfinished(config.out / SHARDS)  # of workers that died while others did their work
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
    temporary = config.out / f".{SAMPLES}"
    pq.write_table(samples, temporary, compression="zstd")
    os.replace(temporary, config.out / SAMPLES)
    skipped = [listed[image_id] for image_id in sorted(listed)]
    lines = ["image_id\tfile_name\treason", *("\t".join(map(str, entry.values())) for entry in skipped)]
    _write_whole(config.out / SKIPPED, "\n".join(lines) + "\n")
    rows = zip(*(samples[name].to_pylist() for name in ("image_id", "variant", "bytes", "crc32")), strict=True)
    manifest = Manifest(
        **plan,
        seed=config.seed,
        num_variants=config.variants,
        num_images=len(samples) // config.variants,
        num_samples=len(samples),
        counts={**selection.counts, "images_skipped": len(listed)},
        licences={str(id): name for id, name in selection.licences.items()},
        skipped=skipped,
        digest=content_digest(rows),
        samples=file_facts(config.out / SAMPLES),
        shards=shards,
    )
    pkgutil.resolve_name(CARD_WRITER)(config.out, manifest)
    _write_whole(config.out / MANIFEST, manifest.to_json())
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


def _write_whole(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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
