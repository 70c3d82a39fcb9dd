"""The command `build`: select images, build their shards in workers, complete the record set. Can be resumed after any interruption.

A range of images is one unit of work: its worker decodes each image once and writes one shard per variant. Every row depends only
on (seed, image id, variant), so the record set has the same bytes for any number of jobs and after any interruption.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pipeline.build.backends import engine
from pipeline.build.claim import LOCK, PLAN, claimed, locked_build, require_same_plan
from pipeline.build.config import BuildConfig
from pipeline.build.gather import CardWriter, gather
from pipeline.build.growth import finish_growth, publish_growth, unfinished_growth
from pipeline.build.ranges import build_ranges
from pipeline.build.shards import Shards
from pipeline.build.worker import BUILDER_VERSION
from pipeline.datasets.combined import select
from pipeline.datasets.selection import Selection
from pipeline.errors import UserError
from pipeline.records.codec import SCHEMA_VERSION
from pipeline.records.contents import UNKNOWN, check_files
from pipeline.records.extras import SKIPPED
from pipeline.records.manifest import CARD, GROWING, MANIFEST, Manifest, SourceSet, read_manifest
from pipeline.records.rules import count_lines
from pipeline.runtime.progress import progress_bar
from pipeline.storage.files import file_facts, require_folder, write_atomic
from pipeline.storage.folders import require_folder_name
from pipeline.wording import counted, printable

MAX_SKIPPED_LINES = 10


def run(config: BuildConfig, write_card: CardWriter | None = None) -> int:
    """Run `build`. Raises UserError for bad input.

    `write_card` writes the data card. The entry point passes it in, because `data_cards` imports `pipeline` and not vice versa.
    """
    require_folder_name(config.out)
    selection, parts = _select(config)
    plan = _plan(config, selection, parts)
    complete = read_manifest(config.out) if (config.out / MANIFEST).exists() else None
    if complete is not None:
        _require_compatible(config, plan, complete)
        if config.variants == complete.num_variants:
            _require_present(config.out, complete)
            _repair(config.out, complete, write_card)
            print(f"{config.out}: already complete")
            return 0
        _require_intact(config.out, complete)
        print(f"{config.out}: growing from {counted(complete.num_variants, 'variant')} to {config.variants}")
    shards = Shards(out=config.out, plan=_fingerprint(plan), complete=complete)
    shared = (*(source.images.resolve() for source in config.inputs), config.out.resolve() / LOCK)
    with claimed(config.out, plan, complete), engine(config.backend, config.scheduler, config.jobs, shared) as run_work:
        folders = build_ranges(config, selection.samples, shards, run_work)
        work = shards.folder.parent
        manifest = gather(config, selection, plan, folders, work)
        if complete is None and write_card:
            write_card(config.out, manifest)
        write_atomic(work / MANIFEST, manifest.to_json())
        if complete is not None:
            publish_growth(config.out, manifest, write_card)
    print("\n".join(summary(config.out, manifest)))
    return 0


def _select(config: BuildConfig) -> tuple[Selection, list[Selection]]:
    """Read the annotation files and select images and people, of all sources and of each."""
    for source in config.inputs:
        require_folder(source.images, "image folder")
    with progress_bar(total=1, desc="reading annotations", unit="file"):
        return select(config.inputs, config.people, config.seed)


def _plan(config: BuildConfig, selection: Selection, parts: list[Selection]) -> dict[str, Any]:
    """Return everything that determines the record set; part of the manifest."""
    file = config.sources or config.inputs[0].annotations
    sources: dict[str, Any] = {"annotations": {"name": file.name, **file_facts(file), **selection.origin}}
    if config.sources is not None:
        sources["sets"] = [
            {
                "name": source.name,
                "weight": source.weight,
                "unlabeled": list(source.skeleton.unlabeled),
                "annotations": {"name": source.annotations.name, **file_facts(source.annotations), **part.origin},
            }
            for source, part in zip(config.inputs, parts, strict=True)
        ]
    return {
        "builder_version": BUILDER_VERSION,
        "schema_version": SCHEMA_VERSION,
        "config": config.content(),
        "skeleton": config.format.skeleton.to_dict(),
        "sources": sources,
    }


def _require_compatible(config: BuildConfig, plan: dict[str, Any], existing: Manifest) -> None:
    """Raise UserError unless the build differs from the complete record set at most in adding variants."""
    variants = max(config.variants, existing.num_variants)
    grown = {**existing.__dict__, "config": {**existing.config, "variants": variants}}
    require_same_plan(plan, grown, config.out)


def _require_present(out: Path, manifest: Manifest) -> None:
    """Raise UserError unless all files of a record set are present, with the right size. Other files harm nothing."""
    _require_none(out, [fault for fault in check_files(out, manifest, hashes=False) if not fault.endswith(UNKNOWN)])


def _require_none(out: Path, faults: list[str]) -> None:
    if faults:
        raise UserError(
            f"{out}: {faults[0]}; restore the file, or delete the folder and build it again; `python -m pipeline verify {out}` "
            "shows all faults"
        )


def _require_intact(out: Path, manifest: Manifest) -> None:
    """Raise UserError unless all files of a record set are as they were written."""
    total_bytes = sum(facts["bytes"] for shard in manifest.shards for facts in shard.files.values())
    with progress_bar(total=1, desc=f"checking {total_bytes / 1e6:,.0f} MB", unit="set"):
        faults = check_files(out, manifest, hashes=True)
    _require_none(out, faults)


def _fingerprint(plan: dict[str, Any]) -> str:
    """Return a hash of what determines the rows of a shard: everything but the number of variants."""
    determining = {**plan, "config": {**plan["config"], "variants": None}}
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()


def _repair(out: Path, manifest: Manifest, write_card: CardWriter | None) -> None:
    """Write a missing card, and do what is left of a build that was killed just before it ended."""
    if note := unfinished_growth(out, manifest):
        print(note)
    elif (out / GROWING).is_dir():
        with locked_build(out):
            finish_growth(out, manifest, write_card)
    if write_card and not (out / CARD).exists():
        write_card(out, manifest)
    if any((out / name).exists() for name in (PLAN, LOCK)):
        with locked_build(out):
            (out / PLAN).unlink(missing_ok=True)


def _unlabeled(entry: SourceSet) -> str:
    return f", without {', '.join(entry['unlabeled'])}" if entry["unlabeled"] else ""


def summary(out: Path, manifest: Manifest) -> list[str]:
    """Return lines of text: how many images and people each rule selected, skipped images, and the size of the record set."""
    lines = count_lines(manifest)
    for entry, count in zip(manifest.source_sets, manifest.images_per_source, strict=True):
        lines.append(f"  source {entry['name']}: {counted(count, 'image')}, weight {entry['weight']:g}{_unlabeled(entry)}")
    if categories := manifest.sources["annotations"].get("categories"):
        named = ", ".join(f"{id} ({printable(name)})" for id, name in categories.items())
        lines.append(f"  people of {len(categories)} categories with the same keypoints: {named}")
    lines += [printable(f"  skipped {entry['file_name']}: {entry['reason']}") for entry in manifest.skipped[:MAX_SKIPPED_LINES]]
    if (more := len(manifest.skipped) - MAX_SKIPPED_LINES) > 0:
        lines.append(f"  … and {counted(more, 'more image')}; {out / SKIPPED} lists all of them")
    size = sum(facts["bytes"] for shard in manifest.shards for facts in shard.files.values())
    parts = (
        f"{counted(manifest.num_samples, 'sample')} of {counted(manifest.num_images, 'image')}",
        counted(manifest.num_variants, "variant"),
        counted(len(manifest.shards), "shard"),
        f"{size / 1e6:,.1f} MB",
        f"digest {manifest.digest[:16]}",
    )
    return [*lines, f"{out}: {', '.join(parts)}"]
