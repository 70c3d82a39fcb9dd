"""The command `info`: what a record set is, from its manifest and samples.parquet. Reads no shard, loads no mindspore."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
import tyro

from pipeline.cli import flatten
from pipeline.datasets.selection import PersonFilter
from pipeline.errors import UserError
from pipeline.records.manifest import SAMPLES, Manifest, check_files, count_rules, read_manifest
from pipeline.samples.augment import AugmentConfig
from pipeline.samples.targets import TargetConfig


@dataclass(frozen=True, kw_only=True)
class InfoConfig:
    """Tell what a record set is: source, size, settings, people, licenses, and what the build kept and left out.

    Example: python -m pipeline info records
    """

    records: Annotated[Path, tyro.conf.Positional]
    """Folder made by `build`."""


def run(config: InfoConfig) -> int:
    """The command `info`. Raises UserError for a folder that is no complete record set."""
    manifest = read_manifest(config.records)
    if faults := check_files(config.records, manifest, hashes=False):
        raise UserError(f"{config.records}: {faults[0]}; `verify` tells more")
    print("\n".join(describe(config.records, manifest)))
    return 0


def describe(folder: Path, manifest: Manifest) -> list[str]:
    """Lines of text about a complete record set."""
    columns = ["image_id", "variant", "license", "people", "mirrored", "bytes"]
    table = pq.read_table(folder / SAMPLES, columns=columns)
    samples = {name: table[name].to_numpy() for name in columns}
    once = samples["variant"] == 0
    people, licenses = samples["people"][once], samples["license"][once]
    on_disk = sum(facts["bytes"] for shard in manifest.shards for facts in shard.files.values())
    source = manifest.sources["annotations"]
    skeleton = manifest.format.skeleton
    low, middle, high = np.percentile(samples["bytes"], (5, 50, 95))
    return [
        f"{folder}: {manifest.num_samples:,} samples of {manifest.num_images:,} images, {manifest.num_variants} variants, "
        f"{len(manifest.shards)} shards",
        f"  digest        {manifest.digest}",
        f"  source        {source['name']}, SHA-256 {source['sha256'][:16]}, seed {manifest.seed}",
        f"  skeleton      {skeleton.name}: {skeleton.num_joints} joints, {skeleton.num_limbs} limbs",
        f"  size          {on_disk / 1e6:,.1f} MB on disk; a sample {samples['bytes'].mean() / 1e3:.1f} KB "
        f"(median {middle / 1e3:.1f}, 5 % below {low / 1e3:.1f}, 5 % above {high / 1e3:.1f})",
        f"  people        {people.sum():,} targets, {people.mean():.2f} an image, at most {people.max()}; "
        f"{(people == 0).sum():,} images without",
        f"  mirrored      {samples['mirrored'].mean():.1%} of the samples",
        *_section("settings", _settings(manifest)),
        *_section("licenses (images)", {_license(manifest, id): f"{(licenses == id).sum():,}" for id in np.unique(licenses)}),
        *_section(
            "the build", {rule: f"{manifest.counts.get(name, 0):,}" for name, rule in count_rules(manifest.config).items()}
        ),
    ]


def _section(title: str, entries: dict[str, str]) -> list[str]:
    return [title, *(f"  {name:<52}{text}" for name, text in entries.items())]


def _license(manifest: Manifest, id: int) -> str:
    return f"{id} {manifest.licenses.get(str(id), 'not listed in the source')}"


def _settings(manifest: Manifest) -> dict[str, str]:
    """All settings, those that differ from the defaults marked."""
    defaults = {
        name: value for part in (TargetConfig(), PersonFilter(), AugmentConfig()) for name, value in flatten(part).items()
    }
    return {
        name: f"{value}  (default {defaults[name]})" if name in defaults and defaults[name] != value else str(value)
        for name, value in manifest.config.items()
    }
