"""The command `compare`: show two record sets side by side and list the images that they share."""

import numpy as np

from data_cards.config import CompareConfig
from data_cards.record_cards import leakage, statistics
from data_cards.record_cards.index import Index, read_complete_manifest, read_index
from pipeline.records.manifest import Manifest
from pipeline.wording import printable

_NAME_WIDTH, _VALUE_WIDTH = 34, 28
_NONE = "–"


def run(config: CompareConfig) -> int:
    """Run the command `compare`. Raises UserError if a folder is not a complete record set."""
    folders = (config.first, config.second)
    manifests = [read_complete_manifest(folder) for folder in folders]
    indices = [read_index(folder, manifest) for folder, manifest in zip(folders, manifests, strict=True)]
    figures = [_figures(manifest, index) for manifest, index in zip(manifests, indices, strict=True)]
    _print_line("", *(str(folder) for folder in folders))
    for name in dict.fromkeys([*figures[0], *figures[1]]):
        _print_line(name, *(values.get(name, _NONE) for values in figures))
    _print_section("settings that differ", _different_settings(*manifests))
    parts = [statistics.histograms(index, manifest.licenses) for manifest, index in zip(manifests, indices, strict=True)]
    for first, second in zip(*parts, strict=True):
        for series in first.counts:
            _print_section(f"{first.title} [{series}]", _shares_side_by_side(first, second, series))
    print("\nshared images")
    for line in leakage.check(indices[0], config.second).lines():
        print(f"  {printable(line)}")
    return 0


def _figures(manifest: Manifest, index: Index) -> dict[str, str]:
    people = index.people[index.is_first]
    source = manifest.sources["annotations"]
    return {
        "digest": manifest.digest[:16],
        "source": source["name"],
        "SHA-256 of the source": source["sha256"][:16],
        "skeleton": manifest.format.skeleton.name,
        "seed": str(manifest.seed),
        "images": f"{manifest.num_images:,}",
        "variants": f"{manifest.num_variants}",
        "samples": f"{manifest.num_samples:,}",
        "KB per sample": f"{index.row_bytes.mean() / 1e3:.1f}",
        "target people": f"{people.sum():,}",
        "people per image": f"{people.mean():.2f}",
        "keypoints per person": f"{index.person_joints.mean():.1f}" if len(index.person_joints) else _NONE,
        "person size, px (5, 50, 95%)": _percentiles(index.diagonals_px[index.is_first_of_person]),
        "person size in crops, px": _percentiles(index.crop_diagonals_px[index.is_inside]),
        "keypoints outside the crop": f"{index.cut.sum() / max(index.labeled.sum(), 1):.1%}",
        "mirrored": f"{index.mirrored.mean():.1%}",
        "cells in the ignore mask": f"{index.masked.mean():.1%}",
        **{name.replace("_", " "): f"{count:,}" for name, count in sorted(manifest.counts.items())},
    }


def _percentiles(sizes_px: np.ndarray) -> str:
    if not len(sizes_px):
        return _NONE
    return ", ".join(str(int(px)) for px in np.percentile(sizes_px, (5, 50, 95)).round())


def _different_settings(first: Manifest, second: Manifest) -> dict[str, list[str]]:
    names = dict.fromkeys([*first.config, *second.config])
    pairs = {name: [str(manifest.config.get(name, _NONE)) for manifest in (first, second)] for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _shares_side_by_side(first: statistics.Histogram, second: statistics.Histogram, series: str) -> dict[str, list[str]]:
    """Return the shares of both sets by bin, without the bins that are empty in both."""
    shares = [dict(zip(h.bins, h.shares(series).tolist(), strict=True)) for h in (first, second)]
    rows = {name: [f"{part.get(name, 0):.1%}" for part in shares] for name in dict.fromkeys([*shares[0], *shares[1]])}
    return {name: pair for name, pair in rows.items() if set(pair) != {"0.0%"}}


def _print_section(title: str, rows: dict[str, list[str]]) -> None:
    print(f"\n{title}{'' if rows else ': none'}")
    for name, pair in rows.items():
        _print_line(name, *pair)


def _print_line(name: str, first: str, second: str) -> None:
    values = f"{first[-_VALUE_WIDTH:]:>{_VALUE_WIDTH}} {second[-_VALUE_WIDTH:]:>{_VALUE_WIDTH}}"
    print(printable(f"  {name[:_NAME_WIDTH]:<{_NAME_WIDTH}} {values}".rstrip()))
