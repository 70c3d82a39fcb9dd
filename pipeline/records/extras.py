"""The files of a record set beside the records: the data card, whose checksums are in card.sha256, and the list of skipped images.

card.sha256 has the format of `sha256sum`. The checksums are not in the manifest, because croissant.json contains the manifest's own.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import UserError
from pipeline.records.contents import contents
from pipeline.records.manifest import CARD, GROWING, Manifest, SkippedImage
from pipeline.storage.documents import read_bytes
from pipeline.storage.files import file_facts
from pipeline.wording import counted, printable

CROISSANT, PICTURES, CARD_SUMS = "croissant.json", "pictures", "card.sha256"
SKIPPED = "skipped.tsv"
MAX_SUMS_BYTES = MAX_SKIPPED_BYTES = 1 << 30
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9][\w./-]{0,199})")


def card_sums(folder: Path) -> str:
    """Return the text of card.sha256 for the card in this folder."""
    return "".join(f"{file_facts(folder / name)['sha256']}  {name}\n" for name in _card_files(folder))


def skipped_text(skipped: Iterable[SkippedImage]) -> str:
    """Return the text of skipped.tsv. Tabs, line ends and other control characters in names are written as \\t, \\n, \\x1b."""
    rows = [(str(entry["image_id"]), printable(entry["file_name"]), printable(entry["reason"])) for entry in skipped]
    return "".join("\t".join(row) + "\n" for row in [("image_id", "file_name", "reason"), *rows])


def card_faults(records: Path) -> tuple[list[str], str]:
    """Compare the files of the card with card.sha256. Returns one line per fault, and a text about what was checked."""
    if not (records / CARD).is_file():
        return [], "no data card"
    if not (records / CARD_SUMS).exists():
        return (
            [],
            "data card not checked: it is of an older version, without checksums; write it again with `python -m data_cards write`",
        )
    try:
        expected = _read_sums(records / CARD_SUMS)
        present = set(_card_files(records))
        faults = [f"{name}: missing" for name in sorted(expected.keys() - present)]
        faults += [f"{name}: not in {CARD_SUMS}" for name in sorted(present - expected.keys())]
        changed = (name for name in sorted(present & expected.keys()) if file_facts(records / name)["sha256"] != expected[name])
        faults += [f"{name}: SHA-256 does not match {CARD_SUMS}" for name in changed]
    except (OSError, UserError) as error:
        return [str(error)], "data card"
    return faults, f"{counted(len(expected), 'file')} of the data card"


def skipped_faults(records: Path, manifest: Manifest) -> list[str]:
    """Compare skipped.tsv with the manifest. Returns one line per fault."""
    paths = [records / GROWING / SKIPPED, records / SKIPPED]  # moved at the very end of a build that adds variants
    path = next((path for path in paths if path.exists()), paths[-1])
    try:
        is_same = read_bytes(path, "list", MAX_SKIPPED_BYTES) == skipped_text(manifest.skipped).encode()
    except UserError as error:
        return [f"{SKIPPED}: cannot be read: {error}"]
    return [] if is_same else [f"{SKIPPED}: differs from the list in the manifest"]


def _card_files(folder: Path) -> list[str]:
    names = [name for name in (CARD, CROISSANT) if (folder / name).is_file()]
    return names + [f"{PICTURES}/{path.name}" for path in contents(folder / PICTURES)]


def _read_sums(path: Path) -> dict[str, str]:
    text = read_bytes(path, "checksums", MAX_SUMS_BYTES).decode(errors="replace")
    sums = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not (match := _LINE.fullmatch(line)):
            raise UserError(f"{CARD_SUMS}: line {number} is not a SHA-256 and a file name")
        sums[match[2]] = match[1]
    return sums
