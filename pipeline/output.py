"""Output folders that are complete or absent, and what is written into them."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.cli import UserError


def refuse_used(out: Path) -> None:
    """Raises UserError unless `out` is absent or an empty folder; asked before the work begins."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"output folder {out}: not an empty folder; give an empty or new one")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to write into, that becomes `out` at the end, or disappears if the work does not get there."""
    refuse_used(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent, ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary) / out.name
        folder.mkdir()
        yield folder
        os.replace(folder, out)


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_whole(path: Path, data: bytes) -> None:
    """A file that is complete or absent: written under a name of its own and renamed. Makes its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
