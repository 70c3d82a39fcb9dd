"""Write access to a run folder: for one process at a time, and never to a folder with other content."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import UserError
from pipeline.storage.files import locked, remove_unfinished
from pipeline.storage.folders import foreign_entries, require_writable
from trainer.run.checkpoint import list_checkpoints
from trainer.run.layout import CONFIG, LOCK, checkpoint_files


def refuse_foreign(out: Path, *, resume: bool) -> None:
    """Raise UserError unless `out` is absent, empty, or a run folder to be resumed."""
    require_writable(out, f"output folder {out}")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: is a file, not a folder; choose another --out")
    if not [name for name in foreign_entries(out) if name != LOCK]:
        return
    if not resume:
        if not (out / CONFIG).exists():
            raise UserError(f"{out}: not empty, and not a run folder (no {CONFIG}); choose another --out")
        effect = "continue that run" if list_checkpoints(out) else "start in it (it has no checkpoint)"
        raise UserError(f"{out}: not empty; use --resume to {effect}, or choose another --out")
    if not (out / CONFIG).exists():
        if checkpoint_files(out):
            raise UserError(f"{out}: {CONFIG} is missing, which every run folder contains; restore it, or choose another --out")
        raise UserError(f"{out}: not a run folder (no {CONFIG} and no checkpoint); choose another --out")


@contextmanager
def claimed(out: Path, *, resume: bool) -> Iterator[None]:
    """Hold the lock of a run folder, which is created if needed and removed again if it stays empty.

    Raises UserError for a folder with other content, and if another process holds the lock.
    """
    is_new = not out.exists()
    refuse_foreign(out, resume=resume)
    out.mkdir(parents=True, exist_ok=True)
    try:
        with locked(out / LOCK, f"{out}: another training run is writing to this folder; wait for it, or choose another --out"):
            remove_unfinished(out)
            yield
    finally:
        if is_new and out.exists() and not any(out.iterdir()):
            out.rmdir()
