"""Add variants to a complete record set, which stays complete: new files are made in its folder growing/ and then published.

The order makes every moment a complete set: (1) new shards move to the others, (2) the new manifest replaces the old one, (3) the
new index and list of skipped images move, and the card is written. `check_files` ignores (1) until (2), and `index_path` finds the
new index before (3). The next build does what a killed one has left.
"""

import shutil
from pathlib import Path

from pipeline.build.claim import PLAN, read_plan
from pipeline.build.gather import CardWriter
from pipeline.records.contents import contents
from pipeline.records.extras import SKIPPED
from pipeline.records.manifest import GROWING, MANIFEST, SAMPLES, SHARDS, Manifest
from pipeline.storage.files import publish
from pipeline.wording import counted


def publish_growth(out: Path, manifest: Manifest, write_card: CardWriter | None) -> None:
    """Replace the record set in `out` by the grown one, whose files are in growing/."""
    for folder in contents(out / GROWING / SHARDS):
        publish(folder, out / SHARDS / folder.name)
    publish(out / GROWING / MANIFEST, out / MANIFEST)
    (out / GROWING / PLAN).unlink()
    finish_growth(out, manifest, write_card)


def finish_growth(out: Path, manifest: Manifest, write_card: CardWriter | None) -> None:
    """Do step 3, which may have been done in part."""
    for name in (SAMPLES, SKIPPED):
        if (out / GROWING / name).exists():
            publish(out / GROWING / name, out / name)
    if write_card:
        write_card(out, manifest)
    shutil.rmtree(out / GROWING)


def unfinished_growth(out: Path, manifest: Manifest) -> str:
    """Return a line about an unfinished growth of a complete set; empty if there is none, or only its step 3 is missing."""
    if not (out / GROWING / PLAN).exists():
        return ""
    config = read_plan(out / GROWING).get("config")
    variants = config.get("variants") if isinstance(config, dict) else None
    if variants == manifest.num_variants:
        return ""
    number = counted(variants, "variant") if isinstance(variants, int) else "more variants"
    return f"{out / GROWING}: an unfinished build of {number}; run it again to continue, or delete the folder"
