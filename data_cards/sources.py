"""The cards of the source data sets: Markdown files with YAML front matter in this folder."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
REQUIRED_FIELDS = frozenset({"pretty_name", "described_as", "creator", "url", "published", "annotation_license_url"})


@dataclass(frozen=True, kw_only=True)
class SourceCard:
    """The card of a source data set. name: file name; front: front matter; sections: text by heading."""

    name: str
    front: dict[str, Any]
    sections: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if missing := REQUIRED_FIELDS - set(self.front):
            raise ValueError(f"{self.name}: front matter must have {', '.join(sorted(missing))}, got {', '.join(self.front)}")


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """Split the text of a card into its YAML front matter and the rest. Raises ValueError if it has no front matter."""
    if not _has_front_matter(text):
        raise ValueError("a card must begin with YAML front matter between two lines of ---")
    front, rest = text[4:].split("\n---\n", 1)
    return yaml.safe_load(front), rest


def read_card(path: Path) -> SourceCard:
    """Read the card of a source data set. Raises ValueError if its front matter is missing or incomplete."""
    front, text = split_front_matter(Path(path).read_text(encoding="utf-8"))
    parts = text.split("\n## ")[1:]
    sections = {heading.strip(): body.strip() for heading, body in (part.split("\n", 1) for part in parts)}
    return SourceCard(name=Path(path).name, front=front, sections=sections)


def source_card(info: dict[str, str], folder: Path = FOLDER) -> SourceCard | None:
    """Return the card of the data set whose annotation file has this `info`, or None if no card describes it.

    A card describes a data set if `info["description"]` begins with the card's `described_as`.
    """
    for path in sorted(folder.glob("*.md")):
        text = path.read_text()
        # A regular expression finds the field, because parsing the YAML of every card takes longer than writing a card.
        front = text.split("\n---\n")[0] if _has_front_matter(text) else ""
        described = re.search(r"^described_as: (.+)$", front, re.MULTILINE)
        if described and info.get("description", "").startswith(described.group(1)):
            return read_card(path)
    return None


def _has_front_matter(text: str) -> bool:
    return text.startswith("---\n") and "\n---\n" in text
