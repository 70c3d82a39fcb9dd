"""Durable output: files and folders are complete or absent after an error, a kill or a crash, and locks exclude each other."""

import ast
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage import files
from pipeline.storage.documents import read_json
from pipeline.storage.files import (
    TEMPORARY,
    append,
    atomic_file,
    is_locked,
    link_or_copy,
    locked,
    publish,
    remove_unfinished,
    require_folder,
    temporary_path,
    write_atomic,
    write_json,
)

ROOT = Path(__file__).parents[2]
STAGES = ["pipeline", "trainer", "evaluator", "data_cards"]


def start_python(code: str, *args: Path) -> subprocess.Popen:
    """Start a process that runs `code` with the folders `args`, and wait until it prints a line."""
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, args)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def flushed(monkeypatch) -> list[int]:
    """Inodes in the order in which os.fsync was called, with a mark (0) for every os.replace."""
    inodes = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (inodes.append(os.fstat(handle).st_ino), real_fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (inodes.append(0), real_replace(a, b)))
    return inodes


def test_atomic_file_creates_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b" / "file.txt"
    for text in ("first", "second"):
        write_atomic(path, text)
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_text_is_written_as_utf8(tmp_path):
    write_atomic(tmp_path / "t", "Zürich")
    assert (tmp_path / "t").read_bytes() == "Zürich".encode()


def test_others_can_read_what_was_created_as_private(tmp_path):
    with atomic_file(tmp_path / "file") as temporary:
        temporary.touch(mode=0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


def test_an_exception_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_atomic(path, "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_without_space_the_old_file_stays_and_the_error_names_it(tmp_path, monkeypatch, number):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    message = (
        rf"{path}: cannot be written: {os.strerror(number)}; (free space or inodes|raise the limit of the file size), then run"
    )
    with pytest.raises(UserError, match=message):
        write_atomic(path, "new")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_other_errors_of_writing_are_not_called_a_lack_of_space(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "file", "text")


def test_appending_without_space_or_folder_is_a_named_error(tmp_path):
    with pytest.raises(UserError, match="/dev/full: cannot be written: No space left on device; free space"):
        append(Path("/dev/full"), "text")
    append(tmp_path / "log", "ü")
    append(tmp_path / "log", "2\n")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "ü2\n"
    with pytest.raises(UserError, match="gone: this folder was deleted or renamed"):
        append(tmp_path / "gone" / "log", "text")


def test_a_killed_process_keeps_the_old_file(tmp_path):
    write_atomic(tmp_path / "file", "old")
    code = """
import sys, time
from pathlib import Path
from pipeline.storage.files import atomic_file
with atomic_file(Path(sys.argv[1]) / "file") as temporary:
    temporary.write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    process = start_python(code, tmp_path)
    process.kill()
    process.communicate()
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_file_is_flushed_before_the_rename_and_the_folder_after_it(tmp_path, flushed):
    write_json(tmp_path / "file.json", {"a": [1]})
    assert flushed == [(tmp_path / "file.json").stat().st_ino, 0, tmp_path.stat().st_ino]
    assert json.loads((tmp_path / "file.json").read_text()) == {"a": [1]}


def test_everything_in_a_folder_is_flushed_before_the_rename(tmp_path, flushed):
    temporary = temporary_path(tmp_path / "out")
    (temporary / "inner").mkdir(parents=True)
    (temporary / "inner" / "file").write_text("x")
    publish(temporary, tmp_path / "out")
    inside = [tmp_path / "out", *(tmp_path / "out").rglob("*")]
    mark = flushed.index(0)
    assert set(flushed[:mark]) == {path.stat().st_ino for path in inside} and len(inside) == 3
    assert flushed[mark:] == [0, tmp_path.stat().st_ino]


def test_remove_unfinished_keeps_other_files(tmp_path):
    names = ["file", "file.txt", "other[1]"]
    for name in names:
        (tmp_path / name).touch()
        temporary_path(tmp_path / name).touch()
    temporary_path(tmp_path / "folder").mkdir()
    remove_unfinished(tmp_path, "file")
    remove_unfinished(tmp_path, "other[1]")
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith(TEMPORARY)]
    assert sorted(name.removeprefix(TEMPORARY).rpartition(".")[0] for name in left) == ["file.txt", "folder"]
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_link_or_copy_replaces_and_links(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("x")
    source.chmod(0o600)
    target.write_text("old")
    for _ in range(2):  # also if `target` is the link already
        link_or_copy(source, target)
        assert target.samefile(source) and sorted(tmp_path.iterdir()) == [source, target]
    assert stat.S_IMODE(source.stat().st_mode) == 0o600, "linking must not change the source"


def test_link_or_copy_copies_where_links_are_not_supported(tmp_path, monkeypatch):
    def fail(source, target):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", fail)
    (tmp_path / "source").write_text("x")
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "x" and not (tmp_path / "target").samefile(tmp_path / "source")


def test_linking_a_missing_file_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        link_or_copy(tmp_path / "absent", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


HOLD_LOCK = """
import sys, time
from pathlib import Path
from pipeline.storage.files import locked
with locked(Path(sys.argv[1]) / "lock", "in use"):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_two_processes_exclude_each_other(tmp_path):
    lock = tmp_path / "lock"
    assert not is_locked(lock)
    holder = start_python(HOLD_LOCK, tmp_path)
    try:
        assert is_locked(lock)
        with pytest.raises(UserError, match="in use"), locked(lock, "in use"):
            pass
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert lock.exists(), "a killed process leaves its lock file"
    assert not is_locked(lock)
    with locked(lock, "in use"):
        assert is_locked(lock)
    assert not lock.exists()


def test_a_lock_file_deleted_between_open_and_flock_is_not_a_lock(tmp_path, monkeypatch):
    """Its holder deletes the file when it is done: a lock on the deleted file would exclude no other process."""
    lock = tmp_path / "lock"
    real, calls = files.fcntl.flock, []

    def delete_first(handle, operation):
        if not calls:
            lock.unlink()
        calls.append(operation)
        real(handle, operation)

    monkeypatch.setattr(files.fcntl, "flock", delete_first)
    with locked(lock, "in use"):
        assert len(calls) == 2 and lock.exists() and is_locked(lock)


def test_asking_for_a_lock_does_not_refuse_its_next_holder(tmp_path):
    """`is_locked` holds the lock for an instant; `locked` waits for that."""
    lock = tmp_path / "lock"
    lock.touch()
    with open(lock) as asking:
        files.fcntl.flock(asking, files.fcntl.LOCK_SH)
        release = threading.Timer(0.05, files.fcntl.flock, (asking, files.fcntl.LOCK_UN))
        release.start()
        with locked(lock, "in use"):
            assert is_locked(lock)
        release.join()


@pytest.mark.parametrize(("text", "message"), [(None, "No such file"), ("{", "not JSON"), (b"\xff", "not JSON")])
def test_unreadable_json_is_named(tmp_path, text, message):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=rf"manifest .*a\.json: {message}"):
        read_json(path, "manifest")


def test_only_pipeline_files_renames_and_locks():
    """All durable output goes through one module: no other module renames, links, copies, locks or flushes files."""
    modules = {"fcntl"}
    functions = {"os.replace", "os.rename", "os.renames", "os.link", "os.fsync", "shutil.move", "shutil.copyfile", "shutil.copy"}
    found = set()
    for path in (path for stage in STAGES for path in (ROOT / stage).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Import(names=names):
                    used = {alias.name for alias in names} & modules
                case ast.ImportFrom(module=str(module), names=names):
                    used = ({module} & modules) | ({f"{module}.{alias.name}" for alias in names} & functions)
                case ast.Attribute(value=ast.Name(id=module), attr=name):
                    used = {f"{module}.{name}"} & functions
                case (
                    ast.Call(func=ast.Attribute(attr="rename"))
                    | ast.Call(func=ast.Attribute(attr="replace"), args=[_], keywords=[])
                ):
                    used = {f".{node.func.attr}(path)"}  # Path.rename and Path.replace; str.replace takes two arguments
                case _:
                    continue
            found |= {(str(path.relative_to(ROOT)), name) for name in used}
    assert {path for path, _ in found} == {"pipeline/storage/files.py"}, sorted(found)


def test_a_file_in_place_of_a_folder_is_called_a_file(tmp_path):
    (tmp_path / "file").touch()
    require_folder(tmp_path, "image folder")
    for name, problem in (("file", "is a file, not a folder"), ("absent", "no such folder")):
        with pytest.raises(UserError, match=f"image folder {tmp_path / name}: {problem}"):
            require_folder(tmp_path / name, "image folder")


def test_a_large_limit_takes_no_memory(tmp_path):
    (tmp_path / "file").write_bytes(b"text")
    assert files.read_regular(tmp_path / "file", 1 << 50) == b"text"
    assert files.read_regular(Path("/proc/self/status"), 1 << 50).startswith(b"Name:")  # its size is stated as 0
