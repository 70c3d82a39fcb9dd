"""The cards of the source data sets, which stand beside this file as Markdown with YAML front matter, and which one is whose."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class SourceCard:
    """One source's card. `front`: its front matter; `sections`: text by heading; `name`: of its file."""

    name: str
    front: dict[str, Any]
    sections: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = {"pretty_name", "described_as", "creator", "url", "published", "annotation_license_url"} - set(self.front)
        if missing:
            raise ValueError(f"front matter of {self.name} must have {sorted(missing)}, got {sorted(self.front)}")


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """A card's text -> its YAML front matter and the rest. Raises ValueError for a text without."""
    if not text.startswith("---\n") or "\n---\n" not in text:
        raise ValueError("a card must begin with YAML front matter between lines of ---")
    front, rest = text[4:].split("\n---\n", 1)
    return yaml.safe_load(front), rest


def read_card(path: Path) -> SourceCard:
    front, text = split_front_matter(Path(path).read_text())
    parts = text.split("\n## ")[1:]
    sections = {heading.strip(): body.strip() for heading, body in (part.split("\n", 1) for part in parts)}
    return SourceCard(name=Path(path).name, front=front, sections=sections)


def source_card(info: dict[str, str]) -> SourceCard | None:
    """The card of the source whose annotation file says `info` of itself; None for data of nobody known here."""
    for path in sorted(FOLDER.glob("*.md")):
        # Found by its line, before anything is parsed: YAML takes longer than everything else here.
        described = re.search(r"^described_as: (.+)$", path.read_text(), re.MULTILINE)
        if described and info.get("description", "").startswith(described.group(1)):
            return read_card(path)
    return None
