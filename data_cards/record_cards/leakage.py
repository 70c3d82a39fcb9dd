"""Leakage: images that two record sets share, by image id or by pixels under any id."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from data_cards.record_cards.index import Index, read_index
from pipeline.records.manifest import read_manifest
from pipeline.wording import counted

MAX_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """What a record set shares with another one.

    name, digest, num_images: of the other set; ids: image ids in both sets; same_pixels: (id in this set, id in the other set) of
    images with equal pixels.
    """

    name: str
    digest: str
    num_images: int
    ids: tuple[int, ...]
    same_pixels: tuple[tuple[int, int], ...]

    @property
    def found(self) -> bool:
        """Whether the sets share any image."""
        return bool(self.ids or self.same_pixels)

    def lines(self) -> list[str]:
        """Return the findings, one per line, without a final period."""
        other = f"{self.name} ({counted(self.num_images, 'image')}, digest {self.digest[:16]})"
        if not self.found:
            return [f"{other}: no shared image ids, no shared pixels"]
        lines = []
        if self.ids:
            lines.append(f"{other}: {counted(len(self.ids), 'shared image id')}: {_listed(list(map(str, self.ids)))}")
        if self.same_pixels:
            pairs = [str(here) if here == other_id else f"{here} (there {other_id})" for here, other_id in self.same_pixels]
            lines.append(f"{other}: {counted(len(pairs), 'image')} with identical pixels: {_listed(pairs)}")
        return lines


def check(index: Index, other: Path) -> Leakage:
    """Compare the images of a record set with those of the set in the folder `other`. Raises UserError."""
    manifest = read_manifest(other)
    images, other_images = _pixels_by_id(index), _pixels_by_id(read_index(other, manifest))
    other_ids: dict[bytes, list[int]] = {}
    for image_id, pixels in other_images.items():
        other_ids.setdefault(pixels, []).append(image_id)
    return Leakage(
        name=Path(other).resolve().name,
        digest=manifest.digest,
        num_images=manifest.num_images,
        ids=tuple(sorted(set(images) & set(other_images))),
        same_pixels=tuple(
            (image_id, other_id) for image_id, pixels in sorted(images.items()) for other_id in sorted(other_ids.get(pixels, ()))
        ),
    )


def _pixels_by_id(index: Index) -> dict[int, bytes]:
    """Return the pixel hash of every original image by image id."""
    return dict(zip(index.image_id.tolist(), index.pixels, strict=True))


def _listed(entries: Sequence[str]) -> str:
    more = f" and {len(entries) - MAX_LISTED:,} more" if len(entries) > MAX_LISTED else ""
    return ", ".join(entries[:MAX_LISTED]) + more
