"""Whether two record sets share images: by image id, or by pixels under whatever id."""

from dataclasses import dataclass
from pathlib import Path

from data_cards.statistics import Index
from pipeline.records.manifest import read_manifest

MOST_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Leakage:
    """What a set shares with another. ids: image ids that both have; twins: (id here, id there) of the same pixels.

    name, digest, num_images: of the other set.
    """

    name: str
    digest: str
    num_images: int
    ids: tuple[int, ...]
    twins: tuple[tuple[int, int], ...]

    @property
    def found(self) -> bool:
        return bool(self.ids or self.twins)

    def lines(self) -> list[str]:
        """What to say of it; no line ends with a full stop."""
        other = f"{self.name} ({self.num_images:,} images, digest {self.digest[:16]})"
        if not self.found:
            return [f"{other}: no image id and no pixels in common"]
        lines = []
        if self.ids:
            lines.append(f"{other}: {len(self.ids):,} image ids in common: {_named(self.ids)}")
        if self.twins:
            pairs = [str(a) if a == b else f"{a} here is {b} there" for a, b in self.twins]
            lines.append(f"{other}: {len(self.twins):,} images with identical pixels: {_named(pairs)}")
        return lines


def check(index: Index, other: Path) -> Leakage:
    """Compare every image of a set with every image of the set in the folder `other`. Raises UserError for no record set."""
    manifest = read_manifest(other)
    there = Index(other, manifest)
    images, images_there = _images(index), _images(there)
    by_pixels: dict[bytes, list[int]] = {}
    for image_id, pixels in images_there.items():
        by_pixels.setdefault(pixels, []).append(image_id)
    return Leakage(
        name=Path(other).resolve().name,
        digest=manifest.digest,
        num_images=manifest.num_images,
        ids=tuple(sorted(set(images) & set(images_there))),
        twins=tuple((here, twin) for here, pixels in sorted(images.items()) for twin in sorted(by_pixels.get(pixels, ()))),
    )


def _images(index: Index) -> dict[int, bytes]:
    """Hash of the original's pixels by image id."""
    return dict(zip(index.image_id.tolist(), index.pixels, strict=True))


def _named(entries) -> str:
    more = f" and {len(entries) - MOST_NAMED:,} more" if len(entries) > MOST_NAMED else ""
    return ", ".join(map(str, entries[:MOST_NAMED])) + more
