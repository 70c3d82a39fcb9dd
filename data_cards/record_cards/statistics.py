"""Histograms and position maps of a record set, computed from its index.

Statistics of the original images (people, keypoints, licenses) count every image once; statistics of crops count every sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from data_cards.record_cards.index import Index
from pipeline.wording import counted, plural

MAP_CELLS = 32  # along each side of a position map
MAX_PEOPLE = 15
# Bin edges of box diagonals in pixels, two bins per octave; the first and the last bin are open.
_SIZES_PX = tuple(round(16 * 2 ** (k / 2)) for k in range(14))
_DEGREES = tuple(range(-45, 50, 5))
_CUT_SHARES = (0.0, 0.25, 0.5, 0.75)
_IGNORED_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts, int64 (B,), of one or more series over the same B bins.

    totals: int64 (B,) for every series, the count that is 100% in each bin; unit: what the totals count, singular.
    """

    name: str
    title: str
    unit: str
    bins: tuple[str, ...]
    counts: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        for series, counts in self.counts.items():
            if {counts.shape, self.totals[series].shape} != {(len(self.bins),)}:
                raise ValueError(f"counts and totals of {series!r} must have {len(self.bins)} bins, got shape {counts.shape}")

    def trimmed(self) -> "Histogram":
        """Return the histogram without the empty bins at both ends."""
        filled = np.flatnonzero(np.sum(list(self.counts.values()), axis=0))
        kept = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1)
        counts, totals = ({name: values[kept] for name, values in part.items()} for part in (self.counts, self.totals))
        return replace(self, bins=self.bins[kept], counts=counts, totals=totals)

    def heading(self, series: str) -> str:
        """Return the name of a series and its total: "visible, of 38 people"; "38 people" if the series counts the unit itself."""
        totals = set(self.totals[series].tolist())
        total = counted(totals.pop(), self.unit) if len(totals) == 1 else plural(self.unit)
        return total if series == plural(self.unit) else f"{series}, of {total}"

    def shares(self, series: str) -> np.ndarray:
        """Return the counts as fractions of the totals, float64 (B,); 0 if the total is 0."""
        return self.counts[series] / np.maximum(self.totals[series], 1)


def histograms(index: Index, licenses: dict[str, str]) -> list[Histogram]:
    """Return all histograms of a card. licenses: names by id."""
    return [*_histograms_of_people(index), *_histograms_of_crops(index), _histogram_of_licenses(index, licenses)]


def _histograms_of_people(index: Index) -> list[Histogram]:
    sizes = _bin_names([f"{px}" for px in _SIZES_PX], "below {}", "{} to {}", "{} or more")
    return [
        _histogram(
            "people_per_image", "Target people per image", "image",
            (*map(str, range(MAX_PEOPLE)), f"{MAX_PEOPLE} or more"),
            images=_count(index.people[index.is_first].clip(0, MAX_PEOPLE), MAX_PEOPLE + 1),
        ).trimmed(),
        _histogram(
            "keypoints", "Labeled and visible keypoints", "target person", index.joints, totals=int(index.is_first_of_person.sum()),
            labeled=index.labeled[index.is_first].sum(axis=0), visible=index.visible[index.is_first].sum(axis=0),
        ),
        _histogram(
            "person_size", "Person size: diagonal of the bounding box in pixels", "person", sizes,
            original=_bin(index.diagonals_px[index.is_first_of_person], _SIZES_PX),
            crops=_bin(index.crop_diagonals_px[index.is_inside], _SIZES_PX),
        ).trimmed(),
    ]  # fmt: skip


def _histograms_of_crops(index: Index) -> list[Histogram]:
    cut_shares = 1 - index.person_joints_inside / np.maximum(index.person_joints, 1)
    return [
        _histogram(
            "rotation", "Rotation in degrees, clockwise", "sample",
            _bin_names([f"{d}" for d in _DEGREES], "below {}", "{} to {}", "{} or more"), samples=_bin(index.degrees, _DEGREES),
        ).trimmed(),
        _histogram(
            "truncation", "Truncated people: share of labeled keypoints outside the crop", "person",
            ("none", *_share_names(_CUT_SHARES[1:]), "75% or more", "all"),
            people=_bin_shares(cut_shares, (*_CUT_SHARES, 1.0), last_bin_is_exact=True),
        ),
        _histogram(
            "keypoints_outside", "Labeled keypoints outside the crop", "labeled keypoint", index.joints,
            totals=index.labeled.sum(axis=0), outside=index.cut.sum(axis=0),
        ),
        _histogram(
            "ignored_share", "Share of the crop covered by the ignore mask", "sample",
            ("none", *_share_names(_IGNORED_SHARES[1:]), "50% or more"), samples=_bin_shares(index.masked, _IGNORED_SHARES),
        ),
    ]  # fmt: skip


def _histogram_of_licenses(index: Index, licenses: dict[str, str]) -> Histogram:
    ids = np.unique(index.license[index.is_first])
    names = tuple(f"{id} {licenses.get(str(id), 'not listed in the source')}" for id in ids)
    counts = np.array([(index.license[index.is_first] == id).sum() for id in ids], np.int64)
    return _histogram("licenses", "Image licenses", "image", names, images=counts)


def position_maps(index: Index) -> dict[str, np.ndarray]:
    """Count the centers of the target people's boxes in a grid, int64 (MAP_CELLS, MAP_CELLS), rows from the top.

    "original": in the original images, scaled to a square, every image once. "crops": in the crops of all samples, without centers
    outside the crop.
    """
    centers = (index.boxes[:, :2] + index.boxes[:, 2:]) / 2
    sides = np.stack([index.width, index.height], axis=1)[index.sample_of]
    matrices = index.affine[index.sample_of]
    moved = np.einsum("pij,pj->pi", matrices[:, :, :2], centers) + matrices[:, :, 2]
    return {
        "original": _count_positions(((centers + 0.5) / sides)[index.is_first_of_person]),
        "crops": _count_positions((moved + 0.5) / index.insize),
    }


def _count_positions(positions: np.ndarray) -> np.ndarray:
    x, y = np.floor(positions * MAP_CELLS).astype(np.int64).T
    inside = (x >= 0) & (x < MAP_CELLS) & (y >= 0) & (y < MAP_CELLS)
    return _count(y[inside] * MAP_CELLS + x[inside], MAP_CELLS**2).reshape(MAP_CELLS, MAP_CELLS)


def _histogram(
    name: str, title: str, unit: str, bins: tuple[str, ...], totals: int | np.ndarray | None = None, **counts: np.ndarray
) -> Histogram:
    """Build a histogram. Without `totals`, the sum over all bins is 100%."""
    by_series = {series: np.broadcast_to(counts[series].sum() if totals is None else totals, len(bins)) for series in counts}
    return Histogram(name=name, title=title, unit=unit, bins=tuple(bins), counts=counts, totals=by_series)


def _count(numbers: np.ndarray, length: int) -> np.ndarray:
    return np.bincount(numbers, minlength=length).astype(np.int64)


def _bin(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Count values in len(edges) + 1 bins: below the first edge, from each edge to the next, from the last edge on."""
    return _count(np.digitize(values, edges), len(edges) + 1)


def _bin_shares(values: np.ndarray, edges: Sequence[float], *, last_bin_is_exact: bool = False) -> np.ndarray:
    """Count fractions in bins: exactly 0, above 0 and below each further edge, from the last edge on.

    If `last_bin_is_exact`, only the last edge itself falls into the last bin.
    """
    place = np.digitize(values, edges[1:-1] if last_bin_is_exact else edges[1:]) + 1
    place[values <= 0] = 0
    if last_bin_is_exact:
        place[values >= edges[-1]] = len(edges)
    return _count(place, len(edges) + 1)


def _bin_names(edges: list[str], first: str, between: str, last: str) -> tuple[str, ...]:
    middle = [between.format(a, b) for a, b in pairwise(edges)]
    return (first.format(edges[0]), *middle, last.format(edges[-1]))


def _share_names(edges: Sequence[float]) -> list[str]:
    """Return the names of the bins between 0 and the last edge."""
    ends = [round(100 * edge) for edge in edges]
    return [f"{low} to {high}%" for low, high in zip([0, *ends], ends, strict=False)]
