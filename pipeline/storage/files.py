"""Durable output: files and folders are complete or absent, and only one process at a time writes them.

All output that must not be half written goes through this module. A file is written under a temporary name in the same folder,
flushed to disk (fsync) and renamed; then the folder is flushed too. A process that is killed leaves at most a temporary file,
which `remove_unfinished` deletes. Imports only `pipeline.errors`.
"""

import errno
import glob
import hashlib
import importlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypedDict

from pipeline.errors import UserError

try:
    import fcntl
except ModuleNotFoundError:  # Windows, where prediction runs, too
    fcntl = None  # type: ignore[assignment] # a module, or none

TEMPORARY = ".unfinished-"
_NO_SPACE = {
    errno.ENOSPC: "free space or inodes",
    errno.EDQUOT: "free space or inodes",
    errno.EFBIG: "raise the limit of the file size",
}
_MIN_READ_BYTES = 1 << 16  # the size of some files is stated as 0
# Names that Windows lacks, and one that only Windows has.
_READ = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
_LOCK_ATTEMPTS, _LOCK_PAUSE_S = 20, 0.01


def temporary_path(path: Path) -> Path:
    """Return a new name in the folder of `path`, to write to before renaming to `path`."""
    return path.with_name(f"{TEMPORARY}{path.name}.{secrets.token_hex(4)}")


def remove_unfinished(folder: Path, name: str | None = None) -> None:
    """Delete the temporary files that killed processes left in `folder`, of all files or of the file `name`.

    No other process may be writing these files.
    """
    for leftover in leftovers(folder, name):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def leftovers(folder: Path, name: str | None = None) -> Iterator[Path]:
    """Yield the temporary files and folders in `folder`, of all files or of the file `name`."""
    return folder.glob(f"{TEMPORARY}{'*' if name is None else glob.escape(name)}.{'[0-9a-f]' * 8}")


@contextmanager
def space_errors(path: Path) -> Iterator[None]:
    """Raise UserError, naming `path`, if the disk is full, or a quota or the process's limit (`ulimit -f`) is reached."""
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        raise UserError(
            f"{path}: cannot be written: {error.strerror}; {_NO_SPACE[error.errno]}, then run the command again"
        ) from error


@contextmanager
def atomic_file(path: Path, *, creates_folder: bool = True) -> Iterator[Path]:
    """Yield a temporary path to write to; on success, flush it and rename it to `path`.

    creates_folder: whether to create the folder of `path` if it is missing. Raises UserError if there is no space left.
    """
    temporary = temporary_path(path)
    try:
        with space_errors(path):
            if creates_folder:
                path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            temporary.chmod(0o644)  # MindSpore and safetensors create files that only their owner can read
            publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def append(path: Path, text: str) -> None:
    """Append text to a file. Raises UserError if there is no space left, or if the folder has been deleted."""
    try:
        with space_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except FileNotFoundError as error:
        raise UserError(f"{path.parent}: this folder was deleted or renamed while the command was writing to it") from error


def write_atomic(path: Path, data: bytes | str, *, creates_folder: bool = True) -> None:
    """Write a whole file; text is encoded as UTF-8. creates_folder: as in `atomic_file`."""
    with atomic_file(path, creates_folder=creates_folder) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, indented by one space."""
    write_atomic(path, json.dumps(value, indent=1) + "\n")


def publish(temporary: Path, path: Path) -> None:
    """Flush a file, or a folder with everything in it, to disk, then rename it to `path`. An existing file is replaced."""
    for inner in temporary.rglob("*"):  # empty if `temporary` is a file
        fsync(inner)
    fsync(temporary)
    os.replace(temporary, path)
    fsync(path.parent)


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk. Windows flushes files that are open for writing only."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def require_folder(path: Path, what: str) -> None:
    """Raise UserError, naming the path, unless it is a folder. `what` says what was expected there."""
    if not path.is_dir():
        raise UserError(f"{what} {path}: {'is a file, not a folder' if path.exists() else 'no such folder'}")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`; never wait for a pipe or a device.

    Raises OSError, whose `strerror` is the reason, without the path.
    """
    try:
        require_regular(path)  # opening a device can have effects
        handle = os.open(path, _READ)
    except ValueError as error:  # a null character in the path
        raise OSError(errno.EINVAL, str(error)) from error
    with open(handle, "rb") as file:
        facts = os.fstat(handle)
        _require_regular(facts)
        if facts.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"{facts.st_size:,} bytes, at most {max_bytes:,} are read")
        return file.read(min(max(facts.st_size + 1, _MIN_READ_BYTES), max_bytes))  # Python reserves as much memory


def require_regular(path: Path) -> None:
    """Raise OSError, whose `strerror` is the reason, unless the path is that of a regular file."""
    _require_regular(os.stat(path))


def _require_regular(facts: os.stat_result) -> None:
    if stat.S_ISREG(facts.st_mode):
        return
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, "is a folder, not a file")
    raise OSError(errno.EINVAL, "is a pipe, socket or device, not a file")


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a hard link to `source`, or a copy if the file system does not support that. Replaces `target`."""
    temporary = temporary_path(target)
    try:
        _link_or_copy(source, temporary)
        publish(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def place_file(source: Path, target: Path, how: str) -> None:
    """Put a file into a folder that is published later. how: hard (a link, or a copy where that is not possible), symbolic or copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if how == "symbolic":
        target.symlink_to(source.resolve())
    elif how == "hard":
        _link_or_copy(source.resolve(), target)
    else:
        shutil.copyfile(source, target)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links; a missing source is reported by the copy
        shutil.copyfile(source, target)


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `path` and delete it at the end. Raises UserError(busy) if another process holds it.

    The kernel releases the lock of a process that dies, so a leftover file is harmless.
    """
    with _lock_file(path, busy):
        try:
            yield
        finally:
            with suppress(PermissionError):  # Windows keeps files that are open
                path.unlink(missing_ok=True)


def _lock_file(path: Path, busy: str) -> IO[str]:
    attempts = 0
    while True:
        lock = open(path, "a", encoding="utf-8")  # noqa: SIM115 - the caller closes it, which releases the lock
        try:
            _try_lock(lock)
            if _is_file(lock.fileno(), path):
                return lock
            lock.close()  # the previous holder deleted it between open and flock
        except BlockingIOError as error:
            lock.close()
            attempts += 1  # `is_locked` of another process holds the lock for an instant
            if attempts == _LOCK_ATTEMPTS:
                raise UserError(busy) from error
            time.sleep(_LOCK_PAUSE_S)


def _try_lock(lock: IO[str], *, shared: bool = False) -> None:
    """Lock an open file. Raises BlockingIOError if another process holds the lock."""
    if fcntl is not None:
        fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return
    msvcrt = importlib.import_module("msvcrt")  # only Windows has it
    lock.seek(0)
    try:
        msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
    except OSError as error:
        raise BlockingIOError(error.errno, error.strerror) from error


def is_locked(path: Path) -> bool:
    """Return whether a running process holds `locked(path)`."""
    try:
        with open(path, encoding="utf-8") as lock:
            _try_lock(lock, shared=True)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _is_file(handle: int, path: Path) -> bool:
    """Return whether `path` is still the name of the open file `handle`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), os.stat(path))
    return False


class FileFacts(TypedDict):
    """Size in bytes and SHA-256 (hexadecimal) of a file, as manifests store them."""

    bytes: int
    sha256: str


def file_facts(path: Path) -> FileFacts:
    """Return the size and the SHA-256 of a file."""
    with open(path, "rb") as file:
        return {"bytes": os.fstat(file.fileno()).st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
