"""The command `info`: summarize a record set from its manifest and samples.parquet. Reads no shard, does not import mindspore."""

from pathlib import Path

import numpy as np

from pipeline.cli import flatten
from pipeline.commands.config import InfoConfig
from pipeline.datasets.selection import PersonFilter
from pipeline.errors import UserError
from pipeline.records.contents import check_files
from pipeline.records.manifest import Manifest, read_manifest
from pipeline.records.reader import read_samples
from pipeline.records.rules import count_lines
from pipeline.samples.config import AugmentConfig
from pipeline.samples.targets import TargetConfig
from pipeline.wording import counted, printable


def run(config: InfoConfig) -> int:
    """Run `info`. Raises UserError unless the folder is a complete record set."""
    manifest = read_manifest(config.records)
    if faults := check_files(config.records, manifest, hashes=False):
        raise UserError(f"{config.records}: {faults[0]}; run `python -m pipeline verify {config.records}` for all faults")
    print("\n".join(map(printable, describe(config.records, manifest))))
    return 0


def describe(folder: Path, manifest: Manifest) -> list[str]:
    """Return the summary of a complete record set, as lines of text."""
    columns = ["variant", "license", "people", "mirrored", "bytes"]
    table = read_samples(folder, manifest, columns)
    samples = {name: table[name].to_numpy() for name in columns}
    licenses = samples["license"][samples["variant"] == 0]
    license_counts = {_license(manifest, id): f"{(licenses == id).sum():>7,}" for id in np.unique(licenses)}
    parts = (
        f"{counted(manifest.num_samples, 'sample')} of {counted(manifest.num_images, 'image')}",
        counted(manifest.num_variants, "variant"),
        counted(len(manifest.shards), "shard"),
    )
    return [
        f"{folder}: {', '.join(parts)}",
        *_table(_overview(manifest, samples)),
        "",
        "settings",
        *_table(_settings(manifest)),
        "",
        "images by license",
        *_table(license_counts),
        "",
        "selection of images and people",
        *count_lines(manifest),
    ]


def _overview(manifest: Manifest, samples: dict[str, np.ndarray]) -> dict[str, str]:
    source = manifest.sources["annotations"]
    skeleton = manifest.format.skeleton
    on_disk = sum(facts["bytes"] for shard in manifest.shards for facts in shard.files.values())
    low, median, high = np.percentile(samples["bytes"], (5, 50, 95)) / 1e3
    people = samples["people"][samples["variant"] == 0]
    sets = {
        f"source {entry['name']}": f"{counted(count, 'image')}, weight {entry['weight']:g}"
        for entry, count in zip(manifest.source_sets, manifest.images_per_source, strict=True)
    }
    return {
        "digest": manifest.digest,
        "source": f"{source['name']}, SHA-256 {source['sha256'][:16]}",
        **sets,
        "seed": str(manifest.seed),
        "skeleton": f"{skeleton.name}: {counted(skeleton.num_joints, 'joint')}, {counted(skeleton.num_limbs, 'limb')}",
        "size on disk": f"{on_disk / 1e6:,.1f} MB",
        "size of a sample": f"mean {samples['bytes'].mean() / 1e3:.1f} KB, median {median:.1f} KB, "
        f"5th to 95th percentile {low:.1f} to {high:.1f} KB",
        "people": f"{counted(people.sum(), 'target person')}, {people.mean():.2f} per image, at most {people.max()}",
        "without people": counted((people == 0).sum(), "image"),
        "mirrored": f"{samples['mirrored'].mean():.1%} of the samples",
    }


def _license(manifest: Manifest, id: int) -> str:
    return f"{id} {manifest.licenses.get(str(id), 'not listed in the annotation file')}"


def _settings(manifest: Manifest) -> dict[str, str]:
    """Return all settings as text; those that differ from the default say so."""
    groups = (TargetConfig(), PersonFilter(), AugmentConfig())
    defaults = {name: value for group in groups for name, value in flatten(group).items()}
    return {
        name: f"{_text(value)}  (default {_text(defaults[name])})"
        if name in defaults and defaults[name] != value
        else _text(value)
        for name, value in manifest.config.items()
    }


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(entries: dict[str, str]) -> list[str]:
    width = max(map(len, entries))
    return [f"  {name:<{width}}  {text}" for name, text in entries.items()]
