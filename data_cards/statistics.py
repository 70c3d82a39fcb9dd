"""What a record set's samples.parquet tells of it: counts, histograms and heat maps. Reads no shard.

Of the original images (people, joints, licenses) every image counts once; of the crops every sample counts.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.build import measures
from pipeline.errors import UserError
from pipeline.records.manifest import SAMPLES, Manifest

HEAT_CELLS = 32  # along each side of a heat map
MOST_PEOPLE = 15
# Box diagonals in pixels, two classes an octave; the ends are open.
_SIZES_PX = tuple(round(16 * 2 ** (k / 2)) for k in range(14))
_DEGREES = tuple(range(-45, 50, 5))
_CUT_SHARES = (0.0, 0.25, 0.5, 0.75)
_MASKED_SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Counts int64 (B,) of every series over the same B bins.

    of: int64 (B,), what 100 % of every bin of a series are; unit: what these are.
    """

    name: str
    title: str
    unit: str
    bins: tuple[str, ...]
    counts: dict[str, np.ndarray]
    of: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        for series, counts in self.counts.items():
            if {counts.shape, self.of[series].shape} != {(len(self.bins),)}:
                raise ValueError(f"counts and of {series!r} must be of {len(self.bins)} bins, got shape {counts.shape}")

    def trimmed(self) -> "Histogram":
        """Without the empty bins at both ends."""
        filled = np.flatnonzero(sum(self.counts.values()))
        kept = slice(filled[0], filled[-1] + 1) if len(filled) else slice(0, 1)
        counts, of = ({name: values[kept] for name, values in part.items()} for part in (self.counts, self.of))
        return replace(self, bins=self.bins[kept], counts=counts, of=of)

    def whole(self, series: str) -> str:
        """What 100 % of a series are, in words."""
        wholes = set(self.of[series].tolist())
        return f"{wholes.pop():,} {self.unit}" if len(wholes) == 1 else self.unit

    def shares(self, series: str) -> np.ndarray:
        """float64 (B,): counts as shares of `of`, 0 where that is 0."""
        return self.counts[series] / np.maximum(self.of[series], 1)


class Index:
    """The columns of samples.parquet as arrays. N samples, P people over all samples, J joints.

    scale, degrees: of the warp from the original to the crop; a positive angle turns clockwise. sample_of (P,): whose they are.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Raises UserError for a file that cannot be read, or is of a builder that did not measure what a card tells."""
        path = Path(folder) / SAMPLES
        try:
            table = pq.read_table(path).combine_chunks()
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: cannot be read: {error}; `python -m pipeline verify` tells more") from error
        if missing := [name for name, _ in measures.FIELDS if name not in table.column_names]:
            raise UserError(
                f"{path}: built by version {manifest.builder_version}, which did not measure {', '.join(missing)}; "
                f"build the records anew for a card"
            )
        for name in ("image_id", "variant", "license", "people", "mirrored", "bytes", "width", "height", "masked"):
            setattr(self, name, table[name].to_numpy(zero_copy_only=False))
        self.pixels = table["pixels"].to_pylist()
        self.joints = manifest.format.skeleton.joints
        self.insize = manifest.format.targets.insize
        self.affine = _flat(table, "affine").reshape(-1, 2, 3)
        self.boxes = _flat(table, "boxes").reshape(-1, 4).astype(np.float64)
        self.person_joints, self.person_joints_inside = (_flat(table, n) for n in ("person_joints", "person_joints_inside"))
        self.labeled, self.visible, self.cut = (
            _flat(table, name).reshape(-1, len(self.joints)) for name in ("labeled", "visible", "cut")
        )
        # The lower row of the matrix: mirroring changes the upper one.
        self.scale = np.hypot(self.affine[:, 1, 0], self.affine[:, 1, 1])
        self.degrees = np.degrees(np.arctan2(self.affine[:, 1, 0], self.affine[:, 1, 1]))
        self.sample_of = np.repeat(np.arange(len(self.people)), self.people)
        self.once = self.variant == 0

    @property
    def pixels_digest(self) -> str:
        """SHA-256 over id and pixel hash of every image, in order."""
        digest = hashlib.sha256()
        for image_id, pixels, once in zip(self.image_id.tolist(), self.pixels, self.once.tolist(), strict=True):
            if once:
                digest.update(image_id.to_bytes(8, "little") + pixels)
        return digest.hexdigest()

    @cached_property
    def once_person(self) -> np.ndarray:
        """bool (P,): the people of variant 0, everyone once."""
        return self.once[self.sample_of]

    @cached_property
    def diagonals_px(self) -> np.ndarray:
        """float64 (P,): diagonal of the box of the labeled joints, in pixels of the original."""
        return np.hypot(*(self.boxes[:, 2:] - self.boxes[:, :2] + 1).T)

    @cached_property
    def crop_diagonals_px(self) -> np.ndarray:
        """float64 (P,): the same as magnified by the warp, in pixels of the crop."""
        return self.diagonals_px * self.scale[self.sample_of]

    @cached_property
    def seen(self) -> np.ndarray:
        """bool (P,): whether any labeled joint of that person lies in the crop."""
        return self.person_joints_inside > 0


def _flat(table: pa.Table, name: str) -> np.ndarray:
    return table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)


def histograms(index: Index, licenses: dict[str, str]) -> list[Histogram]:
    """All of a card's histograms. licenses: names by id."""
    ids = np.unique(index.license[index.once])
    cut_shares = 1 - index.person_joints_inside / np.maximum(index.person_joints, 1)
    sizes = _classes([f"{px}" for px in _SIZES_PX], "below {}", "{} to {}", "from {}")
    return [
        _histogram(
            "people_per_image", "Target people per image", "images",
            (*map(str, range(MOST_PEOPLE)), f"{MOST_PEOPLE} or more"),
            images=_count(index.people[index.once].clip(0, MOST_PEOPLE), MOST_PEOPLE + 1),
        ).trimmed(),
        _histogram(
            "joints", "Joints labeled, and labeled as visible", "target people", index.joints, of=int(index.once_person.sum()),
            labeled=index.labeled[index.once].sum(axis=0), visible=index.visible[index.once].sum(axis=0),
        ),
        _histogram(
            "person_size", "Person size before and after augmentation: box diagonal in pixels", "people", sizes,
            original=_bin(index.diagonals_px[index.once_person], _SIZES_PX),
            crops=_bin(index.crop_diagonals_px[index.seen], _SIZES_PX),
        ).trimmed(),
        _histogram(
            "rotation", "Rotation in degrees, clockwise", "samples",
            _classes([f"{d}" for d in _DEGREES], "below {}", "{} to {}", "from {}"), samples=_bin(index.degrees, _DEGREES),
        ).trimmed(),
        _histogram(
            "truncation", "People cut off by the crop: share of their labeled joints outside", "people in samples",
            ("none", *_shares(_CUT_SHARES[1:]), "75 % or more", "all"),
            people=_bin_shares(cut_shares, (*_CUT_SHARES, 1.0), top=True),
        ),
        _histogram(
            "joints_cut", "Labeled joints outside of the crop", "labeled joints in samples", index.joints,
            of=index.labeled.sum(axis=0), outside=index.cut.sum(axis=0),
        ),
        _histogram(
            "masked_share", "Share of the crop in the ignore mask", "samples", ("none", *_shares(_MASKED_SHARES[1:]), "50 % or more"),
            samples=_bin_shares(index.masked, _MASKED_SHARES),
        ),
        _histogram(
            "licenses", "Licenses of the images", "images",
            tuple(f"{id} {licenses.get(str(id), 'not listed in the source')}" for id in ids),
            images=np.array([(index.license[index.once] == id).sum() for id in ids], np.int64),
        ),
    ]  # fmt: skip


def heat_maps(index: Index) -> dict[str, np.ndarray]:
    """Where the middles of the target people's boxes are: int64 (HEAT_CELLS, HEAT_CELLS), rows from the top, over the original
    image (every image once, its sides as 1) and over the crop (all samples; middles outside of it are not counted)."""
    middles = (index.boxes[:, :2] + index.boxes[:, 2:]) / 2
    sides = np.stack([index.width, index.height], axis=1)[index.sample_of]
    matrices = index.affine[index.sample_of]
    moved = np.einsum("pij,pj->pi", matrices[:, :, :2], middles) + matrices[:, :, 2]
    return {
        "original": _heat(((middles + 0.5) / sides)[index.once_person]),
        "crops": _heat((moved + 0.5) / index.insize),
    }


def _heat(places: np.ndarray) -> np.ndarray:
    x, y = np.floor(places * HEAT_CELLS).astype(np.int64).T
    inside = (x >= 0) & (x < HEAT_CELLS) & (y >= 0) & (y < HEAT_CELLS)
    return _count(y[inside] * HEAT_CELLS + x[inside], HEAT_CELLS**2).reshape(HEAT_CELLS, HEAT_CELLS)


def _histogram(
    name: str, title: str, unit: str, bins: tuple[str, ...], of: int | np.ndarray | None = None, **counts: np.ndarray
) -> Histogram:
    """Without `of`, 100 % are all that is counted."""
    wholes = {series: np.broadcast_to(counts[series].sum() if of is None else of, len(bins)) for series in counts}
    return Histogram(name=name, title=title, unit=unit, bins=tuple(bins), counts=counts, of=wholes)


def _count(numbers: np.ndarray, length: int) -> np.ndarray:
    return np.bincount(numbers, minlength=length).astype(np.int64)


def _bin(values: np.ndarray, edges: tuple[float, ...]) -> np.ndarray:
    """Counts of len(edges) + 1 classes: below the first edge, from each edge to below the next, from the last on."""
    return _count(np.digitize(values, edges), len(edges) + 1)


def _bin_shares(values: np.ndarray, edges: tuple[float, ...], *, top: bool = False) -> np.ndarray:
    """Counts of: exactly 0, above 0 to below each edge but the first, and, if `top`, exactly the last edge by itself."""
    place = np.digitize(values, edges[1:-1] if top else edges[1:]) + 1
    place[values <= 0] = 0
    if top:
        place[values >= edges[-1]] = len(edges)
    return _count(place, len(edges) + 1)


def _classes(edges: list[str], first: str, between: str, last: str) -> tuple[str, ...]:
    middle = [between.format(a, b) for a, b in pairwise(edges)]
    return (first.format(edges[0]), *middle, last.format(edges[-1]))


def _shares(edges: tuple[float, ...]) -> list[str]:
    """Names of the classes between 0 and the last edge."""
    ends = [round(100 * edge) for edge in edges]
    return [f"{low} to {high} %" for low, high in zip([0, *ends], ends, strict=False)]
