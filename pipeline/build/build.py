"""The command `build`: select images, build their shards in workers, complete the record set. Can be resumed after any interruption.

A range of images is one unit of work: its worker decodes each image once and writes one shard per variant. Every row depends only
on (seed, image id, variant), so the record set has the same bytes for any number of jobs and after any interruption.
"""

from pathlib import Path
from typing import Any

from pipeline.build.backends import engine
from pipeline.build.claim import LOCK, PLAN, claimed, locked_build, require_same_plan
from pipeline.build.config import BuildConfig
from pipeline.build.gather import SKIPPED, CardWriter, gather
from pipeline.build.ranges import build_ranges
from pipeline.build.worker import BUILDER_VERSION
from pipeline.datasets.selection import Selection, read_annotations
from pipeline.errors import UserError
from pipeline.files import file_facts, require_folder
from pipeline.progress import progress_bar
from pipeline.records.codec import SCHEMA_VERSION
from pipeline.records.manifest import CARD, MANIFEST, Manifest, count_lines, read_manifest
from pipeline.wording import counted

MAX_SKIPPED_LINES = 10


def run(config: BuildConfig, write_card: CardWriter | None = None) -> int:
    """Run `build`. Raises UserError for bad input.

    `write_card` writes the data card. The entry point passes it in, because `data_cards` imports `pipeline` and not vice versa.
    """
    selection = _select(config)
    plan = _plan(config, selection)
    if (config.out / MANIFEST).exists():
        existing = read_manifest(config.out)
        _require_compatible(config, plan, existing)
        if config.variants == existing.num_variants:
            _repair(config.out, existing, write_card)
            print(f"{config.out}: already complete")
            return 0
        print(f"{config.out}: growing from {counted(existing.num_variants, 'variant')} to {config.variants}")
    shared = (config.images.resolve(), config.out.resolve() / LOCK)
    with claimed(config.out, plan), engine(config.backend, config.scheduler, shared):
        build_ranges(config, selection.samples)
        manifest = gather(config, selection, plan, write_card)
    print("\n".join(summary(config.out, manifest)))
    return 0


def _select(config: BuildConfig) -> Selection:
    """Read the annotation file and select images and people."""
    require_folder(config.images, "image folder")
    with progress_bar(total=1, desc="reading annotations", unit="file"):
        selection = read_annotations(
            config.annotations, skeleton=config.format.skeleton, person_filter=config.people, seed=config.seed
        )
    if not selection.samples:
        raise UserError(
            f"annotation file {config.annotations}: no image has a person with at least {config.people.min_joints} labeled "
            f"joints and an area above {config.people.min_area_px:g} square pixels; relax --min-joints or --min-area-px"
        )
    return selection


def _plan(config: BuildConfig, selection: Selection) -> dict[str, Any]:
    """Return everything that determines the record set; part of the manifest."""
    annotations = {"name": config.annotations.name, **file_facts(config.annotations), **selection.origin}
    return {
        "builder_version": BUILDER_VERSION,
        "schema_version": SCHEMA_VERSION,
        "config": config.content(),
        "skeleton": config.format.skeleton.to_dict(),
        "sources": {"annotations": annotations},
    }


def _require_compatible(config: BuildConfig, plan: dict[str, Any], existing: Manifest) -> None:
    """Raise UserError unless the build differs from the complete record set at most in adding variants."""
    variants = max(config.variants, existing.num_variants)
    grown = {**existing.__dict__, "config": {**existing.config, "variants": variants}}
    require_same_plan(plan, grown, config.out)


def _repair(out: Path, manifest: Manifest, write_card: CardWriter | None) -> None:
    """Write a missing card, and delete the files of a build that was killed just before it ended."""
    if write_card and not (out / CARD).exists():
        write_card(out, manifest)
    if any((out / name).exists() for name in (PLAN, LOCK)):
        with locked_build(out):
            (out / PLAN).unlink(missing_ok=True)


def summary(out: Path, manifest: Manifest) -> list[str]:
    """Return lines of text: how many images and people each rule selected, skipped images, and the size of the record set."""
    lines = count_lines(manifest)
    lines += [f"  skipped {entry['file_name']}: {entry['reason']}" for entry in manifest.skipped[:MAX_SKIPPED_LINES]]
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
