"""What a build does with what it finds: shards of an unfinished build, files that are not its own, and unreadable images."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from pipeline_data import PIPELINE, build_config, tree, words_of

from pipeline.__main__ import COMMANDS, build
from pipeline.build import claim
from pipeline.build.build import _plan, _select
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.records import verify
from pipeline.records.manifest import CARD, GROWING, MANIFEST, SHARDS, read_manifest
from pipeline.records.verify import VerifyConfig
from pipeline.records.writer import ShardWriter
from pipeline.tolerance import Tolerance


def unfinish(folder: Path, config) -> None:
    """Turn a record set into an unfinished build that has all of its shards."""
    config = replace(config, out=folder)
    (folder / MANIFEST).unlink()
    (folder / claim.PLAN).write_text(json.dumps(_plan(config, *_select(config))))


@pytest.fixture
def unfinished(records, people, tmp_path):
    """The configuration of an unfinished build of `records`."""
    config = build_config(people, tmp_path / "set")
    shutil.copytree(records, config.out)
    unfinish(config.out, config)
    return config


def copy_shard(shards: Path, source: str, target: str) -> None:
    shutil.rmtree(shards / target, ignore_errors=True)
    shutil.copytree(shards / source, shards / target)


@pytest.mark.parametrize(
    ("source", "target"), [("v000-s00000", "v001-s00000"), ("v000-s00000", "v000-s00001"), ("v001-s00001", "v000-s00000")]
)
def test_a_copied_shard_is_named_and_built_again(records, unfinished, capsys, source, target):
    copy_shard(unfinished.out / SHARDS, source, target)
    assert build(unfinished) == 0
    assert f"{target}: contains the samples of another shard; building this shard again" in capsys.readouterr().out
    assert tree(unfinished.out) == tree(records)


def test_two_swapped_shards_are_built_again(records, unfinished, capsys):
    shards = unfinished.out / SHARDS
    for old, new in (("v000-s00000", "x"), ("v001-s00000", "v000-s00000"), ("x", "v001-s00000")):
        (shards / old).rename(shards / new)
    assert build(unfinished) == 0
    assert capsys.readouterr().out.count("contains the samples of another shard") == 2
    assert tree(unfinished.out) == tree(records)


def test_a_shard_of_a_build_with_another_seed_is_named_and_built_again(records, people, unfinished, tmp_path, capsys):
    build(build_config(people, tmp_path / "other", seed=1))
    shutil.rmtree(unfinished.out / SHARDS / "v001-s00000")
    shutil.copytree(tmp_path / "other" / SHARDS / "v001-s00000", unfinished.out / SHARDS / "v001-s00000")
    assert build(unfinished) == 0
    assert "v001-s00000: made with other settings or inputs; building this shard again" in capsys.readouterr().out
    assert tree(unfinished.out) == tree(records)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"PAR1"), lambda path: path.write_bytes(b"")])
def test_a_shard_without_a_readable_index_is_built_again(records, unfinished, capsys, damage):
    damage(unfinished.out / SHARDS / "v001-s00000" / "rows.parquet")
    assert build(unfinished) == 0
    assert "v001-s00000: damaged (" in capsys.readouterr().out
    assert tree(unfinished.out) == tree(records)


def test_an_image_that_changes_before_a_build_continues_is_named(records, people, unfinished, tmp_path):
    shutil.copytree(people, tmp_path / "people")
    shutil.rmtree(unfinished.out / SHARDS / "v001-s00001")
    name = pq.read_table(records / "samples.parquet")["file_name"][-1].as_py()
    path = tmp_path / "people" / "train2017" / name
    original = path.read_bytes()
    cv2.imwrite(str(path), cv2.imread(str(path))[::-1])
    config = replace(unfinished, images=tmp_path / "people" / "train2017")
    with pytest.raises(UserError, match=f"{name}: its pixels are different, but it was readable and the same"):
        build(config)
    path.write_bytes(original)
    assert build(config) == 0
    assert tree(config.out) == tree(records)


def test_images_that_become_readable_are_used_when_a_build_continues(records, people, tmp_path, capsys):
    shutil.copytree(people, tmp_path / "people")
    name = pq.read_table(records / "samples.parquet")["file_name"][0].as_py()
    path = tmp_path / "people" / "train2017" / name
    original = path.read_bytes()
    path.unlink()
    config = build_config(tmp_path / "people", tmp_path / "set")
    with pytest.raises(UserError, match=r"1 of 20 images is unreadable, more than --max-unreadable 0\.01 allows; .*0\.05$"):
        build(config)
    assert not (config.out / MANIFEST).exists()
    assert build(replace(config, tolerance=Tolerance(max_unreadable=0.05))) == 0
    assert read_manifest(config.out).counts["images_skipped"] == 1
    path.write_bytes(original)
    unfinish(config.out, config)
    assert build(config) == 0
    assert "images of range 0 were unreadable and are readable now" in capsys.readouterr().out
    assert tree(config.out) == tree(records)


def test_a_build_of_which_one_image_is_readable_fails_and_leaves_nothing(people, tmp_path):
    (tmp_path / "images").mkdir()
    first = sorted((people / "train2017").iterdir())[1]
    shutil.copy(first, tmp_path / "images")
    config = build_config(people, tmp_path / "set", images=tmp_path / "images", shards=1)
    with pytest.raises(UserError, match=r"19 of 20 images are unreadable.*No such file or directory; restore the images"):
        build(config)
    assert not (config.out / MANIFEST).exists()
    with pytest.raises(UserError, match="20 of 20 images are unreadable"):
        build(replace(config, images=people, out=tmp_path / "none", tolerance=Tolerance(max_unreadable=1)))
    assert not (tmp_path / "none").exists()


OUTPUTS = {
    "device": (lambda folder: Path("/dev/null"), "is not a folder"),
    "file": (lambda folder: folder / "file", "is not a folder"),
    "dangling link": (lambda folder: folder / "dangling", "is a symbolic link to nowhere, which does not exist"),
    "long name": (lambda folder: folder / ("n" * 260), "File name too long"),
    "long path": (
        lambda folder: folder / ("n" * 200) / ("n" * 200),
        r"its path of \d+ bytes is \d+ bytes too long for MindRecord",
    ),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_an_output_that_cannot_become_a_folder_is_named_and_stays(people, tmp_path, kind):
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    make, reason = OUTPUTS[kind]
    with pytest.raises(UserError, match=f"output folder .*{reason}; choose another --out"):
        build(build_config(people, make(tmp_path)))
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file"]


def test_the_longest_path_that_is_accepted_can_be_built_and_read(people, tmp_path):
    short = tmp_path / ("n" * 200)
    with pytest.raises(UserError, match="too long") as error:
        build(build_config(people, short / ("n" * 200)))
    excess = int(re.search(r"is (\d+) bytes too long", str(error.value))[1])
    longest = short / ("n" * (200 - excess))
    with pytest.raises(UserError, match="is 1 byte too long"):
        build(build_config(people, longest.with_name(longest.name + "n")))
    assert build(build_config(people, longest, variants=1)) == 0
    assert build(build_config(people, longest, variants=2)) == 0
    assert verify.run(VerifyConfig(records=longest, jobs=1)) == 0


def test_a_lack_of_space_or_inodes_during_a_build_is_named(people, tmp_path, monkeypatch):
    def no_inodes(self, folder, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    monkeypatch.setattr(ShardWriter, "__init__", no_inodes)
    with pytest.raises(UserError, match="set: cannot be written: No space left on device; free space or inodes, then run"):
        build(build_config(people, tmp_path / "set"))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("deleted", ["", SHARDS])
def test_a_folder_that_is_deleted_during_a_build_is_named(people, tmp_path, monkeypatch, deleted):
    config = build_config(people, tmp_path / "set")
    write = ShardWriter.write

    def write_after(self, row, entry):
        shutil.rmtree(config.out / deleted, ignore_errors=True)
        write(self, row, entry)

    monkeypatch.setattr(ShardWriter, "write", write_after)
    with pytest.raises(UserError, match="set: it, or a part of it, was deleted or renamed while the build was writing to it"):
        build(config)
    assert not config.out.exists()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda f: (f / "samples.parquet").unlink(), "samples.parquet: missing"),
        (lambda f: (f / "samples.parquet").write_bytes(b"PAR1"), "samples.parquet: 4 bytes, expected"),
        (lambda f: shutil.rmtree(f / SHARDS / "v001-s00001"), f"{SHARDS}/v001-s00001/part.mindrecord: missing"),
        (lambda f: shutil.rmtree(f / SHARDS), f"{SHARDS}/v000-s00000/part.mindrecord: missing"),
    ],
)
def test_a_complete_set_with_missing_files_is_not_called_complete(records, people, tmp_path, capsys, damage, named):
    config = build_config(people, shutil.copytree(records, tmp_path / "set"))
    damage(config.out)
    (config.out / CARD).unlink()
    with pytest.raises(UserError, match=f"{named}.*; restore the file, .*`python -m pipeline verify .*` shows all faults"):
        build(config)
    assert "already complete" not in capsys.readouterr().out and not (config.out / CARD).exists()


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"x"'])
@pytest.mark.parametrize("name", [MANIFEST, claim.PLAN, f"{GROWING}/{claim.PLAN}"])
def test_a_damaged_manifest_or_plan_is_named_with_what_to_do(records, people, unfinished, tmp_path, name, text):
    config = unfinished if name == claim.PLAN else build_config(people, shutil.copytree(records, tmp_path / "complete"))
    (config.out / name).parent.mkdir(exist_ok=True)
    (config.out / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}: .*; restore the file, or delete the folder .*and (re)?build"):
        build(config)
    if name == MANIFEST:
        with pytest.raises(UserError, match="restore the file, or delete the folder and rebuild the records"):
            read_manifest(config.out)


LITTER = [".DS_Store", "Thumbs.db", "desktop.ini", "._part.mindrecord", ".nfs0000000000000001", ".directory"]


@pytest.mark.parametrize("finished", [True, False])
def test_the_files_of_file_managers_are_ignored(records, people, unfinished, tmp_path, finished, capfd):
    folder = shutil.copytree(records, tmp_path / "finished") if finished else unfinished.out
    for name in LITTER:
        for place in (folder, folder / SHARDS, folder / SHARDS / "v000-s00000"):
            (place / name).write_text("x")
    if finished:
        assert main("test", "", COMMANDS, ["verify", str(folder), "--jobs", "1"]) == 0
        assert main("test", "", COMMANDS, ["info", str(folder)]) == 0
        assert build(build_config(people, folder, variants=3)) == 0
    else:
        assert build(unfinished) == 0
        assert main("test", "", COMMANDS, ["verify", str(folder), "--jobs", "1"]) == 0
        assert {name for name in tree(folder) if Path(name).name not in LITTER} == set(tree(records))


def test_a_new_build_starts_in_a_folder_with_the_files_of_a_file_manager(records, people, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / ".DS_Store").write_text("x")
    assert build(build_config(people, tmp_path / "set")) == 0
    assert tree(tmp_path / "set") == {**tree(records), ".DS_Store": b"x"}


STRAY = {
    "notes.txt": lambda path: path.write_text("mine"),
    "v000-s00000/notes.txt": lambda path: path.write_text("mine"),
    "v009-s00000": Path.mkdir,
    "fifo": os.mkfifo,
    "link": lambda path: path.symlink_to("v000-s00000"),
}


@pytest.mark.parametrize("name", STRAY)
def test_other_files_are_named_and_nothing_is_deleted(records, unfinished, tmp_path, name, capfd):
    STRAY[name](unfinished.out / SHARDS / name)
    for _ in range(2):
        with pytest.raises(UserError, match=f"{SHARDS}/{name}: not part of this build; move it away"):
            build(unfinished)
    assert set(tree(unfinished.out)) >= {name for name in tree(records) if name.startswith(SHARDS)}
    complete = shutil.copytree(records, tmp_path / "complete")
    STRAY[name](complete / SHARDS / name)
    assert main("test", "", COMMANDS, ["verify", str(complete), "--jobs", "1"]) == 1
    output = capfd.readouterr().out
    assert f"FAULT {SHARDS}/{name}: not in the manifest" in output
    assert "the records themselves are intact; move what is not part of them" in output and "delete" not in output


@pytest.mark.parametrize("name", [GROWING, f"{GROWING}/{SHARDS}"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.touch, lambda path: path.symlink_to("nowhere")])
def test_what_is_in_the_place_of_a_folder_is_named(records, people, tmp_path, name, make):
    folder = shutil.copytree(records, tmp_path / "set")
    (folder / name).parent.mkdir(exist_ok=True)
    make(folder / name)
    with pytest.raises(UserError, match=f"{name}: not a folder; move it away and run the same command again"):
        build(build_config(people, folder, variants=3))
    assert os.path.lexists(folder / name) and verify.run(VerifyConfig(records=folder, jobs=1)) == 0


@pytest.mark.parametrize("name", ["rows.parquet", "part.mindrecord", "part.mindrecord.db", "../../samples.parquet"])
def test_a_pipe_in_the_place_of_a_file_is_named(records, unfinished, tmp_path, name, capfd):
    complete = shutil.copytree(records, tmp_path / "complete")
    for folder in (complete, unfinished.out):
        (folder / SHARDS / "v000-s00000" / name).unlink()
        os.mkfifo(folder / SHARDS / "v000-s00000" / name)
    for command in (["verify", "--jobs", "1"], ["info"], ["preview", "--out", str(tmp_path / "out")]):
        assert main("test", "", COMMANDS, [command[0], str(complete), *command[1:]]) == 1
        output = capfd.readouterr()
        assert f"{Path(name).name}: is a pipe, socket or device, not a file" in output.out + output.err
    if ".." not in name:
        with pytest.raises(UserError, match=f"v000-s00000/{name}: not part of this build; move it away"):
            build(unfinished)


def test_a_pipe_in_the_image_folder_is_skipped_with_the_reason(people, tmp_path):
    """In a process, because a build that waits for the pipe would never end."""
    shutil.copytree(people, tmp_path / "people")
    victim = sorted((tmp_path / "people" / "train2017").iterdir())[1]
    victim.unlink()
    os.mkfifo(victim)
    config = build_config(tmp_path / "people", tmp_path / "set")
    command = [*PIPELINE, *words_of(config), "--max-unreadable", "0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and f"skipped {victim.name}: is a pipe, socket or device, not a file" in done.stdout


def test_the_cause_of_a_failed_build_is_shown_where_the_output_folder_is_a_link(people, tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "set").symlink_to("volume")
    config = build_config(people, tmp_path / "set", images=tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="images are unreadable"):
        build(config)
    assert (tmp_path / "set").is_symlink() and not list((tmp_path / "volume").iterdir())
    assert build(build_config(people, tmp_path / "set")) == 0


DAMAGES = {
    "flipped bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :],
    "zeros": lambda data: bytes(len(data)),
    "other text": lambda data: (b"[" * len(data))[: len(data)],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["samples.parquet", "part.mindrecord", "part.mindrecord.db"])
def test_info_and_preview_of_a_damaged_set_are_errors(records, tmp_path, capfd, name, damage):
    folder = shutil.copytree(records, tmp_path / "set")
    for path in folder.rglob(name):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    codes = [
        main("test", "", COMMANDS, ["info", str(folder)]),
        main("test", "", COMMANDS, ["preview", str(folder), "--out", str(tmp_path / "out"), "--num-samples", "50"]),
    ]
    output = capfd.readouterr()
    assert codes == ([1, 0] if name == "samples.parquet" else [0, 1]) or (damage == "flipped bit" and codes == [0, 0])
    assert "Traceback" not in output.err and (codes == [0, 0] or "verify" in output.err)
    assert main("test", "", COMMANDS, ["verify", str(folder), "--jobs", "1"]) == 1
    assert name in capfd.readouterr().out


def test_more_jobs_than_ranges_are_capped_and_said(people, tmp_path, capsys, monkeypatch):
    import joblib

    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    config = build_config(people, tmp_path / "set", jobs=1000, shards=1)
    assert build(config) == 0
    assert "--jobs 1000: 1 worker for 1 range of images and 4 cores" in capsys.readouterr().out
    from pipeline.runtime.processes import num_workers

    assert [num_workers(jobs, 9, "shard") for jobs in (-1, 1, 3, 4, 5, 1000)] == [4, 1, 3, 4, 4, 4]
    assert num_workers(-1, 2, "shard") == 2 and num_workers(-1, 0, "shard") == 1


@pytest.mark.slow
def test_ctrl_c_ends_a_build_whose_image_folder_has_pipes(people, tmp_path):
    shutil.copytree(people, tmp_path / "people")
    for path in sorted((tmp_path / "people" / "train2017").iterdir())[10:]:
        path.unlink()
        os.mkfifo(path)
    config = build_config(tmp_path / "people", tmp_path / "set", variants=60, jobs=2)
    process = subprocess.Popen([*PIPELINE, *words_of(config), "--max-unreadable", "1"], stdout=subprocess.DEVNULL)
    while not list(config.out.glob("shards/.unfinished-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)
