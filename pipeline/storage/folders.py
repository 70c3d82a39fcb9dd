"""Output folders: complete or absent, written by one process at a time, and refused before the work starts if they cannot be.

An absent folder appears by a single rename. An existing empty folder is never replaced, because it may be a mounted volume, a
link, or the current folder of a shell: its files are written to a temporary folder inside it, and then moved up one by one.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import UserError
from pipeline.storage.documents import read_json
from pipeline.storage.files import TEMPORARY, leftovers, locked, publish, space_errors, temporary_path, write_json

# What file managers, NFS and file systems put into folders.
_LITTER = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\.directory|\._.*|\.nfs.*|\.fuse_hidden.*|@eaDir|lost\+found")
_INSIDE = "output"
_ENTRIES = "entries.json"  # the names that are being moved up, in order


@contextmanager
def new_folder(out: Path, last: str | None = None) -> Iterator[Path]:
    """Yield a temporary folder; on success its files become the folder `out`, otherwise it is deleted.

    last: the file or folder that appears after all others if `out` is an existing empty folder.
    Raises UserError like `require_usable`, and if another process is writing the same output. Deletes what a killed process left.
    """
    require_usable(out)
    path = out.resolve()
    place, name = (path, _INSIDE) if path.is_dir() else (path.parent, path.name)
    place.mkdir(parents=True, exist_ok=True)
    with locked(place / f"{TEMPORARY}{name}.lock", f"output folder {out}: another command is writing to it"):
        for leftover in leftovers(place, name):
            _discard(leftover, path)
        require_usable(out)  # another process may have completed it in the meantime
        temporary = temporary_path(place / name)
        temporary.mkdir()
        try:
            with space_errors(out):
                yield temporary
                _publish(temporary, path, last)
        finally:
            with suppress(OSError):  # never hide why the command failed
                _discard(temporary, path)


@contextmanager
def extended_folder(out: Path, last: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary folder; on success its files are moved to the existing folder `out`, one by one, and replace those there.

    last: names of the files that are moved after all others, in this order. Raises UserError if another process is writing there.
    """
    path = out.resolve()
    with locked(path / f"{TEMPORARY}{_INSIDE}.lock", f"output folder {out}: another command is writing to it"):
        for leftover in leftovers(path, _INSIDE):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary = temporary_path(path / _INSIDE)
        temporary.mkdir()
        try:
            with space_errors(out):
                yield temporary
                names = [file.relative_to(temporary) for file in sorted(temporary.rglob("*")) if not file.is_dir()]
                for name in sorted(names, key=lambda name: last.index(str(name)) if str(name) in last else -1):
                    (path / name).parent.mkdir(parents=True, exist_ok=True)
                    publish(temporary / name, path / name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, path: Path, last: str | None) -> None:
    if temporary.parent == path:
        entries = sorted(os.listdir(temporary), key=lambda name: (name == last, name))
        write_json(temporary / _ENTRIES, entries)
        for name in entries:
            publish(temporary / name, path / name)
        return
    try:
        publish(temporary, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOTDIR):
            raise
        kept = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
        publish(temporary, kept)
        raise UserError(
            f"output folder {path}: was created by something else in the meantime; the output is in {kept}"
        ) from error


def _discard(temporary: Path, path: Path) -> None:
    """Delete a temporary folder, and what has been moved from it to `path` if that is incomplete."""
    for entry in _half_published(temporary):
        if (path / entry).is_dir():
            shutil.rmtree(path / entry)
        else:
            (path / entry).unlink(missing_ok=True)
    shutil.rmtree(temporary, ignore_errors=True)


def _half_published(temporary: Path) -> set[str]:
    """Return the names that have been moved up if others have not; they are no complete output."""
    if not (temporary / _ENTRIES).exists():
        return set()
    entries = {Path(name).name for name in read_json(temporary / _ENTRIES, "list of entries")}
    left = entries & set(os.listdir(temporary))
    return entries - left if left else set()


def is_litter(name: str) -> bool:
    """Return whether this is a file or folder that a file manager or a file system puts into folders of its own accord."""
    return _LITTER.fullmatch(name) is not None


def foreign_entries(out: Path) -> list[str]:
    """Return the names in the folder `out`, if it exists, without temporary files and what file managers put there."""
    if not out.is_dir():
        return []
    own = {name for leftover in leftovers(out, _INSIDE) for name in _half_published(leftover)}
    return sorted(name for name in os.listdir(out) if not name.startswith(TEMPORARY) and name not in own and not is_litter(name))


def require_usable(out: Path) -> None:
    """Raise UserError unless `out` is absent or an empty folder, and can be written. Call it before the work starts."""
    what = f"output folder {out}"
    require_writable(out, what)
    require_folder_name(out)
    if names := foreign_entries(out):
        raise UserError(f"{what}: not an empty folder (contains {names[0]!r}); choose an empty or new folder")


def require_folder_name(out: Path) -> None:
    """Raise UserError unless `out` is a folder, or absent and a possible name of one."""
    what, advice = f"output folder {out}", "choose another --out"
    try:
        _absolute(out, what, advice)
        if out.is_dir() or not os.path.lexists(out):
            return
        target = f"a symbolic link to {os.readlink(out)}, which does not exist" if not out.exists() else "not a folder"
    except OSError as error:
        raise UserError(f"{what}: {error.strerror}; {advice}") from error
    raise UserError(f"{what}: is {target}; {advice}")


def _absolute(path: Path, what: str, advice: str) -> Path:
    try:
        return path.resolve()
    except RuntimeError as error:
        raise UserError(f"{what}: its symbolic links form a circle; {advice}") from error
    except FileNotFoundError as error:  # of the current folder, to which the path is relative
        raise UserError(f"{what}: the current folder has been deleted; change to an existing folder") from error


def require_writable(path: Path, what: str, advice: str = "choose another --out") -> None:
    """Raise UserError unless a file or folder `path` can be written, or files in the folder `path`.

    The message begins with `what` and ends with `advice`.
    """
    try:
        path = _absolute(path, what, advice)
        if path.is_file() and path in _mounts():
            raise OSError(errno.EBUSY, "it is mounted, so it cannot be replaced")
        place = path if path.is_dir() else path.parent
        name = _INSIDE if place == path else path.name
        while not place.exists():
            place = place.parent
        temporary = temporary_path(place / name)
        temporary.mkdir()
        temporary.rmdir()
    except OSError as error:
        raise UserError(f"{what}: cannot be written: {error.strerror}; {advice}") from error


def _mounts() -> set[Path]:
    """Return the paths of everything that is mounted; none where Linux's /proc is not."""
    table = Path("/proc/self/mountinfo")
    lines = table.read_text(encoding="utf-8", errors="surrogateescape").splitlines() if table.exists() else []
    return {Path(line.split()[4].replace("\\040", " ")) for line in lines}  # a space is written as an octal number


def unfinished_folder(out: Path) -> Path:
    """Return where a command that can be continued keeps its work until `out` is complete.

    That is OUT.unfinished; if `out` exists already, which may be a volume, a folder inside it.
    """
    path = out.resolve()
    beside = path.parent / f"{path.name}.unfinished"
    return path / f"{TEMPORARY}evaluation" if path.is_dir() and not beside.is_dir() else beside
