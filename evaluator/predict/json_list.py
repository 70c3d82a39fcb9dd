"""JSON files that are written entry by entry, so that a long video is never held in memory."""

import json
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any


class JsonList(AbstractContextManager):
    """A JSON file with a list of objects, one per line, written entry by entry."""

    def __init__(self, path: Path, entries: Iterable[Any] = ()) -> None:
        """entries: those that it begins with."""
        self._file = path.open("w", encoding="utf-8")
        self._separator = "[\n"
        self.extend(json.dumps(entry) for entry in entries)

    def extend(self, entries: Iterable[str]) -> None:
        """Write entries, each as JSON."""
        for entry in entries:
            self._file.write(self._separator + entry)
            self._separator = ",\n"

    def __exit__(self, *error: object) -> None:
        self._file.write("\n]\n" if self._separator != "[\n" else "[]\n")
        self._file.close()
