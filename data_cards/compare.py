"""The command `compare`: two record sets side by side, and what they share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from data_cards import leakage, statistics
from data_cards.card import read_whole
from pipeline.records.manifest import Manifest

_WIDTH = 34


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Show two record sets side by side: sizes, settings that differ, people, joints, augmentation, licenses, shared images.

    Example: python -m data_cards compare records other-records
    """

    first: Annotated[Path, tyro.conf.Positional]
    """Folder made by `pipeline build`."""
    second: Annotated[Path, tyro.conf.Positional]
    """The second record set, likewise."""


def run(config: CompareConfig) -> int:
    """The command `compare`. Raises UserError for a folder that is no complete record set."""
    folders = (config.first, config.second)
    manifests = [read_whole(folder) for folder in folders]
    indices = [statistics.Index(folder, manifest) for folder, manifest in zip(folders, manifests, strict=True)]
    told = [_figures(manifest, index) for manifest, index in zip(manifests, indices, strict=True)]
    _print_line("", *(str(folder) for folder in folders))
    for name in dict.fromkeys([*told[0], *told[1]]):
        _print_line(name, *(figures.get(name, "–") for figures in told))
    _print_section("settings that differ", _differing(*manifests))
    parts = [statistics.histograms(index, manifest.licenses) for manifest, index in zip(manifests, indices, strict=True)]
    for first, second in zip(*parts, strict=True):
        for series in first.counts:
            shares = [dict(zip(h.bins, h.shares(series).tolist(), strict=True)) for h in (first, second)]
            rows = {name: [f"{part.get(name, 0):.1%}" for part in shares] for name in dict.fromkeys([*shares[0], *shares[1]])}
            shown = {name: pair for name, pair in rows.items() if set(pair) != {"0.0%"}}
            _print_section(f"{first.title} [{series}]", shown)
    print("\nshared images")
    for line in leakage.check(indices[0], config.second).lines():
        print(f"  {line}")
    return 0


def _figures(manifest: Manifest, index: statistics.Index) -> dict[str, str]:
    people = index.people[index.once]
    sizes = [np.percentile(px, (5, 50, 95)).round().astype(int).tolist() if len(px) else ["–"] for px in (
        index.diagonals_px[index.once_person], index.crop_diagonals_px[index.seen]
    )]  # fmt: skip
    return {
        "digest": manifest.digest[:16],
        "source": manifest.sources["annotations"]["name"],
        "SHA-256 of the source": manifest.sources["annotations"]["sha256"][:16],
        "skeleton": manifest.format.skeleton.name,
        "seed": str(manifest.seed),
        "images": f"{manifest.num_images:,}",
        "variants": f"{manifest.num_variants}",
        "samples": f"{manifest.num_samples:,}",
        "KB a sample": f"{index.bytes.mean() / 1e3:.1f}",
        "target people": f"{people.sum():,}",
        "people an image": f"{people.mean():.2f}",
        "joints a person": f"{index.person_joints.mean():.1f}" if len(index.person_joints) else "–",
        "person size, px (5, 50, 95 %)": ", ".join(map(str, sizes[0])),
        "the same in the crops": ", ".join(map(str, sizes[1])),
        "labeled joints cut off": f"{index.cut.sum() / max(index.labeled.sum(), 1):.1%}",
        "mirrored": f"{index.mirrored.mean():.1%}",
        "cells in the ignore mask": f"{index.masked.mean():.1%}",
        **{name.replace("_", " "): f"{count:,}" for name, count in sorted(manifest.counts.items())},
    }


def _differing(first: Manifest, second: Manifest) -> dict[str, list[str]]:
    names = dict.fromkeys([*first.config, *second.config])
    pairs = {name: [str(manifest.config.get(name, "–")) for manifest in (first, second)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _print_section(title: str, rows: dict[str, list[str]]) -> None:
    print(f"\n{title}{'' if rows else ': none'}")
    for name, pair in rows.items():
        _print_line(name, *pair)


def _print_line(name: str, first: str, second: str) -> None:
    print(f"  {name[:_WIDTH]:<{_WIDTH}} {first[-28:]:>28} {second[-28:]:>28}".rstrip())
