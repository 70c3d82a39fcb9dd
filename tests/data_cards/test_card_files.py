"""The files of a card: the same bytes for any number of jobs and after interruptions, complete or absent; errors of the command."""

import errno
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from card_data import card_files, counts, run
from pipeline_data import PIPELINE, build_config, words_of

from data_cards.record_cards import card, charts
from data_cards.record_cards.index import read_index
from pipeline.__main__ import build
from pipeline.errors import UserError
from pipeline.records import verify
from pipeline.records.manifest import CARD, MANIFEST, read_manifest
from pipeline.storage.files import file_facts, locked, temporary_path


@pytest.mark.slow
def test_the_card_does_not_depend_on_jobs(records, people, tmp_path):
    build(build_config(people, tmp_path / "again", jobs=2))
    assert card_files(tmp_path / "again") == card_files(records)
    assert {"CARD.md", "croissant.json", "pictures/contact_sheet.jpg"} < set(card_files(records))


@pytest.mark.slow
def test_the_card_does_not_depend_on_interruptions(records, people, tmp_path):
    config = build_config(people, tmp_path / "killed", jobs=2)
    process = subprocess.Popen([*PIPELINE, *words_of(config)], start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None and not list(config.out.glob("shards/.*")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (config.out / MANIFEST).exists()
    assert build(config) == 0
    assert card_files(config.out) == card_files(records)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["drawing", "swapping"])
def test_a_card_is_complete_or_absent(records, people, tmp_path, monkeypatch, moment):
    """A build that stops while drawing or between two renames has no card; the same command completes it."""
    config = build_config(people, tmp_path / "set")

    def stop(*_, **__):
        raise Killed

    def stop_after_croissant(source, target):
        real(source, target)
        if Path(target).name == "croissant.json":
            raise Killed

    real = os.replace
    with monkeypatch.context() as patched:
        if moment == "drawing":
            patched.setattr(charts, "position_chart", stop)
        else:
            patched.setattr(os, "replace", stop_after_croissant)
        with pytest.raises(Killed):
            build(config)
        assert not (config.out / MANIFEST).exists() and not (config.out / CARD).exists()
    leftover = temporary_path(config.out / CARD)  # a process that is killed leaves its temporary folder
    leftover.mkdir()
    (leftover / CARD).write_text("half a ca")
    assert build(config) == 0
    assert card_files(config.out) == card_files(records)


def test_an_interrupted_rewrite_leaves_no_card(records, tmp_path, monkeypatch):
    shutil.copytree(records, tmp_path / "set")

    def stop_after_one(source, target):
        real(source, target)
        raise Killed

    real = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", stop_after_one)
        with pytest.raises(Killed):
            run(tmp_path / "set")
    assert not (tmp_path / "set" / CARD).exists()
    assert run(tmp_path / "set") == 0 and card_files(tmp_path / "set") == card_files(records)


def test_a_deleted_card_is_rewritten(records, people, tmp_path):
    config = build_config(people, tmp_path / "set")
    shutil.copytree(records, config.out)
    for remake in (lambda: build(config), lambda: run(config.out), lambda: run("write", config.out)):
        (config.out / CARD).unlink()
        shutil.rmtree(config.out / "pictures")
        assert remake() == 0
        assert card_files(config.out) == card_files(records)
    assert verify.run(verify.VerifyConfig(records=config.out, jobs=1)) == 0


def test_more_variants_give_a_new_card(records, people, tmp_path):
    shutil.copytree(records, tmp_path / "set")
    build(build_config(people, tmp_path / "set", variants=3))
    manifest, text = read_manifest(tmp_path / "set"), (tmp_path / "set" / CARD).read_text()
    assert manifest.digest in text and read_manifest(records).digest not in text
    assert sum(counts(text, "Rotation in degrees, clockwise").values()) == manifest.num_samples == 3 * manifest.num_images


def test_one_process_at_a_time_writes_a_card(records, tmp_path, capsys):
    copied = shutil.copytree(records, tmp_path / "set")
    with locked(copied / ".unfinished-CARD.md.lock", "busy"):
        assert run(copied) == 1
        assert "CARD.md: another process is writing the card; wait for it" in capsys.readouterr().err
    assert card_files(copied) == card_files(records)
    (copied / ".unfinished-CARD.md.lock").touch()  # of a killed process
    assert verify.run(verify.VerifyConfig(records=copied, jobs=1)) == 0
    assert run(copied) == 0 and not (copied / ".unfinished-CARD.md.lock").exists()


def test_user_errors_are_messages_with_exit_codes(records, tmp_path, capsys):
    assert run(tmp_path / "nowhere") == 1 and "nowhere" in capsys.readouterr().err
    assert run("compare", records, tmp_path) == 1 and str(tmp_path) in capsys.readouterr().err
    shutil.copytree(records, tmp_path / "set")
    before = card_files(tmp_path / "set")
    assert run(tmp_path / "set", "--against", tmp_path / "nowhere") == 1 and "nowhere" in capsys.readouterr().err
    assert card_files(tmp_path / "set") == before, "the existing card is kept"
    (tmp_path / "set" / "shards/v000-s00000/rows.parquet").unlink()
    assert run(tmp_path / "set") == 1 and "v000-s00000/rows.parquet: missing" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        run(tmp_path / "set", "--agianst", "x")
    assert stopped.value.code == 2


@pytest.mark.parametrize(
    ("name", "place", "reason"),
    [
        ("pictures", lambda path: path.write_text("mine"), "is a file, expected the folder"),
        ("pictures", lambda path: path.symlink_to("../elsewhere"), "is a symbolic link, expected the folder"),
        ("pictures", lambda path: path.symlink_to("nowhere"), "is a symbolic link, expected the folder"),
        ("CARD.md", Path.mkdir, "is a folder, expected a file"),
        ("croissant.json", Path.mkdir, "is a folder, expected a file"),
    ],
)
def test_what_the_card_cannot_replace_is_named_and_nothing_is_lost(records, tmp_path, capsys, name, place, reason):
    folder, path = tmp_path / "set", tmp_path / "set" / name
    shutil.copytree(records, folder)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.txt").write_text("mine")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    place(path)
    before, there = card_files(folder), sorted(folder.iterdir())
    assert run(folder) == 1
    assert f"{path}: {reason}" in capsys.readouterr().err
    assert card_files(folder) == before and sorted(folder.iterdir()) == there
    assert (tmp_path / "elsewhere" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("function", ["_write_files", "publish"])
def test_a_full_disk_is_named(records, tmp_path, monkeypatch, capsys, function):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "set"
    shutil.copytree(records, folder)
    before = card_files(folder)
    with monkeypatch.context() as patched:
        patched.setattr(card, function, full)
        assert run(folder) == 1
    assert f"{folder / CARD}: cannot be written: No space left on device; free space" in capsys.readouterr().err
    assert not list(folder.glob(".unfinished-*"))
    assert card_files(folder) == before or function == "publish"
    assert run(folder) == 0 and card_files(folder) == before


def test_a_damaged_row_is_reported(records, tmp_path, capsys):
    shutil.copytree(records, tmp_path / "set")
    shard = tmp_path / "set/shards/v000-s00000/part.mindrecord"
    data = bytearray(shard.read_bytes())
    data[data.find(b"\xff\xd9") - 1] ^= 1
    shard.write_bytes(data)
    assert run(tmp_path / "set") == 1 and "CRC32 does not match; run `python -m pipeline verify " in capsys.readouterr().err


def test_a_set_of_an_older_builder_is_refused(records, tmp_path):
    shutil.copytree(records, tmp_path / "set")
    path = tmp_path / "set/samples.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["pixels", "masked"]), path)
    with pytest.raises(UserError, match=r"columns missing \(pixels, masked\): .*; rebuild the records"):
        read_index(tmp_path / "set", replace(read_manifest(records), samples_file=file_facts(path)))
