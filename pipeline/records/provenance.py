"""Where a record set comes from, as the trainer carries it into checkpoints: data set, annotation file, licenses, card.

Checkpoints are described with these types, also by commands that are light: pyarrow is imported when a record set is read.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.storage.documents import Count, Sha256, read_bytes
from pipeline.storage.files import file_facts

if TYPE_CHECKING:
    from pipeline.records.manifest import Manifest

UNKNOWN_LICENSE = "not listed in the source"
MAX_CARD_BYTES = 1 << 24
MAX_SECTION = 20_000  # characters; COCO's known issues and limitations have 4,000


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
    license_notes: str = ""
    """What the card says about the licenses of this data set, below their table. Markdown."""
    limitations: str = ""
    """Known issues, biases and limitations in the card. Markdown."""


def read_provenance(folder: Path, manifest: "Manifest") -> Provenance:
    """Read the provenance of the record set in `folder`. Raises UserError if samples.parquet or the card cannot be read."""
    from pipeline.records.manifest import CARD
    from pipeline.records.reader import read_samples

    source = manifest.sources["annotations"]
    samples = read_samples(folder, manifest, ["variant", "license", "people"])
    is_first = samples["variant"].to_numpy() == 0  # these rows contain every image once
    licenses, counts = np.unique(samples["license"].to_numpy()[is_first], return_counts=True)
    urls = source.get("license_urls", {})
    card = Path(folder) / CARD
    text = read_bytes(card, "data card", MAX_CARD_BYTES).decode(errors="replace") if card.is_file() else ""
    return Provenance(
        name=manifest.data_set,
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
        card_sha256=file_facts(card)["sha256"] if text else None,
        license_notes=_section(text, "Licenses").partition("\n\n")[2][:MAX_SECTION],  # below the table
        limitations=_section(text, "Known issues, biases, limitations")[:MAX_SECTION],
    )


def _section(card: str, heading: str) -> str:
    """Return the text below a heading of a card; empty if the card has no such heading."""
    match = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", card, re.MULTILINE | re.DOTALL)
    return match[1].strip() if match else ""
