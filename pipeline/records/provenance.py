"""Where a record set comes from, as the trainer carries it into checkpoints: data set, annotation file, licenses, card."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.documents import Count, Sha256, read_bytes
from pipeline.files import file_facts
from pipeline.records.manifest import CARD, Manifest
from pipeline.records.reader import read_samples

UNKNOWN_LICENSE = "not listed in the source"
MAX_CARD_BYTES = 1 << 24
MAX_LIMITATIONS = 20_000  # characters; those of COCO have 4,000
_LIMITATIONS = re.compile(r"^## Known issues, biases, limitations\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class ImageLicense:
    """A license of the annotation file, and the number of images of the record set under it."""

    id: int
    name: str
    url: str
    num_images: Count


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a record set was made from."""

    name: str
    """Description of the data set in its annotation file, or the name of that file."""
    annotations: str
    """Name of the annotation file."""
    annotations_sha256: Sha256
    digest: str
    """Digest in the manifest."""
    num_images: Count
    num_people: Count
    """People with targets, each counted once."""
    licenses: tuple[ImageLicense, ...]
    card_sha256: Sha256 | None = None
    """SHA-256 of CARD.md; None if the set has no card."""
    limitations: str = ""
    """Known issues, biases and limitations in the card, as Markdown."""


def read_provenance(folder: Path, manifest: Manifest) -> Provenance:
    """Read the provenance of the record set in `folder`. Raises UserError if samples.parquet or the card cannot be read."""
    source = manifest.sources["annotations"]
    samples = read_samples(folder, manifest, ["variant", "license", "people"])
    is_first = samples["variant"].to_numpy() == 0  # these rows contain every image once
    licenses, counts = np.unique(samples["license"].to_numpy()[is_first], return_counts=True)
    urls = source.get("license_urls", {})
    card_sha256, limitations = _card(Path(folder) / CARD)
    return Provenance(
        name=source.get("info", {}).get("description") or source["name"],
        annotations=source["name"],
        annotations_sha256=source["sha256"],
        digest=manifest.digest,
        num_images=int(is_first.sum()),
        num_people=int(samples["people"].to_numpy()[is_first].sum()),
        licenses=tuple(
            ImageLicense(
                id=number,
                name=manifest.licenses.get(str(number), UNKNOWN_LICENSE),
                url=urls.get(str(number), ""),
                num_images=count,
            )
            for number, count in zip(licenses.tolist(), counts.tolist(), strict=True)
        ),
        card_sha256=card_sha256,
        limitations=limitations,
    )


def _card(path: Path) -> tuple[Sha256 | None, str]:
    """Return the SHA-256 of a card, and its section on limitations."""
    if not path.is_file():
        return None, ""
    text = read_bytes(path, "data card", MAX_CARD_BYTES).decode(errors="replace")
    section = _LIMITATIONS.search(text)
    return file_facts(path)["sha256"], section[1].strip()[:MAX_LIMITATIONS] if section else ""
