"""Durable output: files and folders are complete or absent, and one process at a time writes them.

Everything that the project writes to disk goes through this module. A file is written under a temporary name in the same
folder, flushed to disk (fsync) and renamed; the folder's entry is flushed too. A process that is killed leaves at most a
temporary file, which `remove_unfinished` deletes.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from pipeline.errors import UserError

TEMPORARY = ".unfinished-"


def temporary_path(path: Path) -> Path:
    """A new name beside `path` for what is written before it is renamed to `path`."""
    return path.with_name(f"{TEMPORARY}{path.name}.{secrets.token_hex(4)}")


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete what killed processes left in `folder` of the file `name`, or of all. No other process may be writing it."""
    for leftover in folder.glob(f"{TEMPORARY}{name}.*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success, flush it and rename it to `path`. Creates the folder of `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.chmod(0o644)  # MindSpore and safetensors create files that only their owner can read
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write a whole file; text is encoded as UTF-8."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, indented by one space."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file. Raises UserError with the path; `what` says what was expected there."""
    try:
        return json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{what} {path}: not JSON: {error}") from error


def publish(temporary: Path, path: Path) -> None:
    """Flush a file, or a folder with everything in it, to disk, then rename it to `path`. An existing file is replaced."""
    for inner in temporary.rglob("*"):  # nothing for a file
        fsync(inner)
    fsync(temporary)
    os.replace(temporary, path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it becomes `out`, otherwise it is deleted. Raises UserError if `out` is in use."""
    refuse_used(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(out)
    temporary.mkdir()
    try:
        yield temporary
        publish(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_used(out: Path) -> None:
    """Raise UserError unless `out` is absent or an empty folder. Call it before the work begins."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"output folder {out}: not an empty folder; choose an empty or new folder")


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a hard link, or a copy where the file system has none. Replaces `target`."""
    with atomic_file(target) as temporary:
        try:
            os.link(source, temporary)
        except FileNotFoundError:
            raise
        except OSError:  # another file system, or one without links
            shutil.copyfile(source, temporary)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` and delete it at the end. Raises UserError(busy) if another process holds it.

    The kernel releases the lock of a process that dies, so a leftover file does no harm.
    """
    while True:
        with open(path, "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(busy) from error
            if not _is_file(lock.fileno(), path):  # its previous holder deleted it between open and flock
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def is_locked(path: Path) -> bool:
    """Whether a living process holds `locked(path)`."""
    try:
        with open(path) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_file(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False


def file_facts(path: Path) -> dict[Literal["bytes", "sha256"], Any]:
    """Size in bytes and SHA-256 (hexadecimal) of a file, as manifests store them."""
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
