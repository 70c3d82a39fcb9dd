"""Helpers for tests of data cards: run the command, read the tables of a card."""

import re
from pathlib import Path

from data_cards.__main__ import COMMANDS, with_command
from pipeline.cli import main
from pipeline.records.manifest import MANIFEST


def card_files(folder: Path) -> dict[str, bytes]:
    """The files of the card in a record set: everything except the set itself."""
    own = ("shards", MANIFEST, "samples.parquet", "skipped.tsv")
    parts = {path: path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()}
    return {str(part): path.read_bytes() for path, part in parts.items() if part.parts[0] not in own}


def run(*words) -> int:
    """Run `python -m data_cards` in this process and return the exit code."""
    return main("python -m data_cards", "", COMMANDS, with_command([str(word) for word in words]))


def table(text: str, title: str) -> dict[str, list[str]]:
    """The first table below a heading of a card: the other cells by the first cell."""
    below = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)[1]
    lines = re.search(r"(^\|.*\n)+", below, re.MULTILINE).group().splitlines()[2:]
    return {cells[0]: cells[1:] for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)}


def counts(text: str, title: str, column: int = 0) -> dict[str, int]:
    """The counts of a histogram's table, without empty bins."""
    cells = {name: int(cells[column].split(" (")[0].replace(",", "")) for name, cells in table(text, title).items()}
    return {name: count for name, count in cells.items() if count}
