"""Output folders: complete or absent, also on a mounted volume, and refused before the work if they cannot be written."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from volumes import mounted, read_only

from pipeline.errors import UserError
from pipeline.storage import folders
from pipeline.storage.files import TEMPORARY
from pipeline.storage.folders import (
    foreign_entries,
    new_folder,
    require_folder_name,
    require_usable,
    require_writable,
    unfinished_folder,
)

ROOT = Path(__file__).parents[2]


def write(out, names=("a", "b", "folder"), last=None):
    with new_folder(out, last) as folder:
        for name in names:
            if name == "folder":
                (folder / name).mkdir()
                (folder / name / "inner").write_text("x")
            else:
                (folder / name).write_text(name)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_absent_folder_appears_only_when_it_is_complete(tmp_path):
    out = tmp_path / "a" / "out"
    with new_folder(out) as temporary:
        (temporary / "file").write_text("x")
        assert not out.exists()
    assert names(out) == ["file"] and list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("exists", [False, True])
def test_nothing_is_left_after_an_exception(tmp_path, exists):
    if exists:
        (tmp_path / "out").mkdir()
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "out") as temporary:
        (temporary / "file").write_text("x")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["out"] * exists and not (exists and names(tmp_path / "out"))


def test_a_lack_of_space_is_named_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(UserError, match="out: cannot be written: No space left on device"),
        new_folder(tmp_path / "out") as folder,
    ):
        (folder / "file").write_text("text")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_used_folder_is_refused(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", ["file"])
    for used, reason in ((tmp_path / "out", "not an empty folder"), (tmp_path / "out" / "file", "is not a folder")):
        for use in (require_usable, write):
            with pytest.raises(UserError, match=reason):
                use(used)
    require_usable(tmp_path / "absent")
    assert (tmp_path / "out" / "file").read_text() == "file" and names(tmp_path) == ["out"]


def test_an_existing_folder_is_filled_and_not_replaced(tmp_path, monkeypatch):
    """It may be the current folder of a shell, which would be left in a deleted one."""
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to("out")
    before = (tmp_path / "out").stat().st_ino
    monkeypatch.chdir(tmp_path / "out")
    write(Path())
    assert names(Path.cwd()) == ["a", "b", "folder"] and Path.cwd().stat().st_ino == before
    for name in ("a", "b"):
        Path(name).unlink()
    (Path("folder") / "inner").unlink()
    Path("folder").rmdir()
    write(tmp_path / "link")
    assert names(Path.cwd()) == ["a", "b", "folder"] and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("options", [("-t", "tmpfs", "none"), ("--bind",)], ids=["tmpfs", "bind"])
def test_a_mounted_volume_is_written_in_place(tmp_path, options):
    if options == ("--bind",):
        (tmp_path / "source").mkdir()
        options += (str(tmp_path / "source"),)
    with mounted(tmp_path / "volume", *options) as volume:
        (volume / "lost+found").mkdir()
        write(volume)
        assert names(volume) == ["a", "b", "folder", "lost+found"] and (volume / "folder" / "inner").read_text() == "x"
        write(volume / "below")
        assert names(volume / "below") == ["a", "b", "folder"]
        assert unfinished_folder(volume).parent == volume
        assert not [name for name in (*os.listdir(tmp_path), *os.listdir(volume)) if name.startswith(TEMPORARY)]


def test_what_cannot_be_written_is_refused_at_once(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    too_long = tmp_path / ("n" * 250)
    for out, reason in (
        (tmp_path / "circle", "circle"),
        (tmp_path / "file" / "out", "Not a directory"),
        (too_long, "File name too long"),
        (too_long / "m" / ("n" * 300), "File name too long"),
        (Path("/proc/out"), "No such file|not permitted|denied"),
        (Path("/dev/null"), "is not a folder; choose another --out"),
        (tmp_path / "dangling", "is a symbolic link to nowhere, which does not exist; choose another --out"),
    ):
        with pytest.raises(UserError, match=reason):
            require_usable(out)
    with read_only(tmp_path / "volume") as volume:
        for out in (volume, volume / "below"):
            with pytest.raises(UserError, match=f"output folder {out}: cannot be written: Read-only file system"):
                require_usable(out)


@pytest.mark.parametrize(
    "require", [require_usable, require_folder_name, lambda path: require_writable(path, f"output folder {path}")]
)
def test_a_deleted_current_folder_is_named(tmp_path, monkeypatch, require):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(UserError, match="output folder out: the current folder has been deleted; change to an existing folder"):
        require(Path("out"))


def test_a_mounted_file_is_refused_as_an_output_file(tmp_path):
    (tmp_path / "my report").touch()
    require_writable(tmp_path / "my report", "output file my report")
    done = subprocess.run(["mount", "--bind", str(tmp_path / "my report"), str(tmp_path / "my report")], capture_output=True)
    if done.returncode:
        pytest.skip("mounting is not permitted")
    try:
        with pytest.raises(UserError, match="output file my report: cannot be written: it is mounted"):
            require_writable(tmp_path / "my report", "output file my report")
    finally:
        subprocess.run(["umount", str(tmp_path / "my report")], check=True)


PUBLISH = """
import os, signal, sys
from pathlib import Path
from pipeline.storage import files, folders
real, left = os.replace, [int(sys.argv[2])]
def replace(*names):
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    real(*names)
os.replace = replace
with folders.new_folder(Path(sys.argv[1]), "a") as folder:
    for name in "abc":
        (folder / name).write_text("killed")
"""


@pytest.mark.parametrize("exists", [True, False])
def test_an_output_killed_while_it_is_published_is_replaced_by_the_next(tmp_path, exists):
    """The renames are: the list of entries, b, c, a. After the last one the output is complete."""
    for number in range(4 if exists else 1):
        out = tmp_path / f"{number}" / "out"
        (out if exists else out.parent).mkdir(parents=True)
        done = subprocess.run([sys.executable, "-c", PUBLISH, str(out), str(number)], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not exists or len([name for name in names(out) if not name.startswith(TEMPORARY)]) == max(0, number - 1)
        assert foreign_entries(out) == []
        write(out, ["c", "d"])
        assert names(out) == ["c", "d"] and (out / "c").read_text() == "c" and names(out.parent) == ["out"]


def test_what_is_complete_stays_although_its_process_was_killed_before_it_cleaned_up(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(folders, "_discard", lambda *_: None)
        write(tmp_path / "out")
    with pytest.raises(UserError, match="not an empty folder"):
        write(tmp_path / "out")
    assert {"a", "b", "folder"} < set(names(tmp_path / "out"))


def test_an_error_while_the_files_move_up_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    real = folders.publish

    def fail(temporary, path):
        if path.name == "folder":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(temporary, path)

    monkeypatch.setattr(folders, "publish", fail)
    with pytest.raises(UserError, match="out: cannot be written: No space left"):
        write(tmp_path / "out")
    assert names(tmp_path / "out") == []


def test_a_failed_clean_up_does_not_hide_the_error(tmp_path, monkeypatch):
    def busy(*_, **__):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(folders, "_discard", busy)
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "out"):
        raise ZeroDivisionError


def test_finished_work_is_kept_if_something_else_takes_its_place(tmp_path):
    with (
        pytest.raises(UserError, match="created by something else in the meantime; the output is in") as error,
        new_folder(tmp_path / "out") as folder,
    ):
        (folder / "file").write_text("x")
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "other").touch()
    kept = Path(str(error.value).rpartition(" ")[2])
    assert names(kept) == ["file"] and names(tmp_path / "out") == ["other"] and names(tmp_path) == ["out", kept.name]


@pytest.mark.parametrize("exists", [True, False])
def test_only_one_process_at_a_time_writes_an_output(tmp_path, exists):
    code = """
import sys, time
from pathlib import Path
from pipeline.storage.folders import new_folder
with new_folder(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    (tmp_path / f"{TEMPORARY}other.01234567").mkdir()
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    with pytest.raises(UserError, match="out: another command is writing to it"):
        write(out)
    process.kill()
    process.communicate()
    write(out)  # deletes what the killed process left
    assert names(out) == ["a", "b", "folder"] and names(tmp_path) == sorted(["out", f"{TEMPORARY}other.01234567"])


def test_unfinished_work_is_beside_the_output_or_in_an_existing_folder(tmp_path):
    out, beside = tmp_path / "out", tmp_path / "out.unfinished"
    assert unfinished_folder(out) == beside
    out.mkdir()
    assert unfinished_folder(out).parent == out
    unfinished_folder(out).mkdir()
    require_usable(out)
    beside.mkdir()
    assert unfinished_folder(out) == beside, "it was started before the folder existed"
