"""Interrupted builds resume to the same bytes, full disks are clear errors, and every fault of a record set is detected."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pipeline_data import PIPELINE, build_config, tree, words_of

from pipeline.__main__ import COMMANDS, build
from pipeline.build import claim
from pipeline.cli import main
from pipeline.errors import UserError
from pipeline.records import verify, writer
from pipeline.records.extras import skipped_text
from pipeline.records.manifest import MANIFEST, read_manifest
from pipeline.records.verify import VerifyConfig
from trainer.data.stream import Stream

NUM_KILLS = 25


@pytest.mark.long
@pytest.mark.slow
def test_a_build_killed_at_random_times_resumes_to_the_same_bytes(people, tmp_path):
    many = {"variants": 4, "shards": 6, "jobs": 2}
    whole = build_config(people, tmp_path / "whole", **many)
    assert build(whole) == 0
    config = build_config(people, tmp_path / "killed", **many)
    rng, kills, finished = random.Random(0), 0, 0
    while kills < NUM_KILLS:
        process = subprocess.Popen(
            [*PIPELINE, *words_of(config)], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        target = rng.choice(["all", "parent", "worker"])
        if rng.random() < 0.7:  # while a shard is being written
            wait_for(lambda process=process: process.poll() is not None or list(config.out.glob("shards/.unfinished-*")))
            time.sleep(rng.uniform(0, 0.3))
        else:
            time.sleep(rng.uniform(0, 2.5))
        if process.poll() is None:
            kill(process, target)
            kills += 1
        code = process.wait(60)
        if code == 0:
            finished += 1
            assert tree(config.out) == tree(whole.out)
            shutil.rmtree(config.out)
        elif (config.out / MANIFEST).exists():  # killed after the manifest was written
            for name, content in tree(whole.out).items():
                assert (config.out / name).read_bytes() == content, "an unfinished record set has a manifest"
    wait_for(lambda: not group(process.pid))
    assert build(config) == 0
    assert tree(config.out) == tree(whole.out)


@pytest.mark.parametrize("left", [(claim.LOCK,), (claim.PLAN, claim.LOCK)])
def test_leftovers_of_a_build_killed_at_its_end_are_deleted(people, tmp_path, left):
    config = build_config(people, tmp_path / "set")
    assert build(config) == 0
    whole = tree(config.out)
    for name in left:
        (config.out / name).write_text("{}")
    assert build(config) == 0
    assert tree(config.out) == whole


@pytest.mark.parametrize("left", [(claim.LOCK,), (claim.LOCK, ".unfinished-build.json.0123abcd")])
def test_a_build_killed_at_its_start_restarts(people, tmp_path, left):
    config = build_config(people, tmp_path / "set")
    assert build(config) == 0
    whole = tree(config.out)
    shutil.rmtree(config.out)
    config.out.mkdir()
    for name in left:
        (config.out / name).write_text("{")
    assert build(config) == 0
    assert tree(config.out) == whole


def test_other_hidden_files_are_not_touched(people, tmp_path):
    config = build_config(people, tmp_path / "set")
    (config.out / ".git").mkdir(parents=True)
    with pytest.raises(UserError, match="not empty"):
        build(config)
    assert (config.out / ".git").exists()


def kill(process: subprocess.Popen, target: str) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if target == "all":
            os.killpg(process.pid, signal.SIGKILL)
        elif target == "parent":
            process.kill()
        elif children := psutil.Process(process.pid).children(recursive=True):
            children[-1].kill()
        else:
            process.kill()


def group(pid: int) -> list[psutil.Process]:
    """Return the running processes of a process group."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_for(condition, timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int):
    """Mount a file system of that size at `folder`; skip the test without the permission to mount."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("no permission to mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_full_disk_is_an_error_and_the_build_resumes(people, tmp_path):
    with small_disk(tmp_path / "disk", 12):
        config = build_config(people, tmp_path / "disk" / "set", variants=4, shards=16)
        done = subprocess.run([*PIPELINE, *words_of(config)], capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "cannot be written" in done.stderr and "MB free" in done.stderr
        assert not (config.out / MANIFEST).exists() and not list(config.out.rglob(".*"))
        finished = set(tree(config.out))
        assert any("shards/" in name for name in finished), "finished shards are kept"
        subprocess.run(["mount", "-o", "remount,size=200m", str(tmp_path / "disk")], check=True)
        assert build(config) == 0
        whole = build_config(people, tmp_path / "whole", variants=4, shards=16)
        build(whole)
        assert tree(config.out) == tree(whole.out)


def test_a_file_size_limit_is_an_error_and_leaves_no_partial_files(people, tmp_path):
    config = build_config(people, tmp_path / "set")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
    done = subprocess.run([*PIPELINE, *words_of(config)], capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1 and "`ulimit -f` limits files to 0.1 MB; raise the limit" in done.stderr
    assert not config.out.exists()


def test_a_file_size_limit_is_reported_before_the_writer_reaches_it(tmp_path, monkeypatch):
    rows = [{"image": bytes(100_000), "targets": b"", "mask": b"", "keypoints": b""}] * 16
    shard = writer.ShardWriter(tmp_path / "v000-s00000", page_bytes=1 << 17)
    needed = writer.HEADER_BYTES + (2 << 17) + 2 * 16 * 100_000
    monkeypatch.setattr(shard, "_open", lambda: pytest.fail("opened"))
    for limit, error in (
        (needed - 1, UserError),
        (needed, pytest.fail.Exception),
        (resource.RLIM_INFINITY, pytest.fail.Exception),
    ):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, resource.RLIM_INFINITY))
        shard._rows = rows
        with pytest.raises(error):
            shard._flush()


def test_a_failed_write_says_what_is_left(tmp_path, monkeypatch):
    shard = writer.ShardWriter(tmp_path / "v000-s00000", page_bytes=1 << 17)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (5_000_000, 5_000_000))
    left = SimpleNamespace(f_bavail=10, f_frsize=10**6, f_favail=0, f_files=99)
    monkeypatch.setattr(os, "statvfs", lambda _: left)
    with (
        pytest.raises(
            OSError, match=r"no space, no inodes or a file size limit: 10.0 MB free, 0 inodes free, `ulimit -f` .* 5.0 MB"
        ),
        shard._write_errors(),
    ):
        raise RuntimeError("[ERROR] Failed to seekp file.")


@pytest.mark.slow
def test_a_killed_worker_is_an_error_of_one_line(people, tmp_path):
    config = build_config(people, tmp_path / "set", variants=40, shards=4, jobs=2)
    process = subprocess.Popen([*PIPELINE, *words_of(config)], start_new_session=True, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(config.out.glob("shards/.unfinished-*")))
    kill(process, "worker")
    errors = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 1
    assert "error: a worker process ended unexpectedly, exit codes {SIGKILL(-9)" in errors[-1], errors


@pytest.mark.slow
def test_two_builds_of_one_folder_do_not_run_at_once(people, tmp_path):
    config = build_config(people, tmp_path / "set", variants=8, shards=8)
    first = subprocess.Popen([*PIPELINE, *words_of(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (config.out / claim.LOCK).exists())
    time.sleep(0.1)
    if first.poll() is None:
        with pytest.raises(UserError, match="another build is writing to this folder"):
            build(config)
    assert first.wait(60) == 0


# ---- faults of a complete record set

SHARD = "shards/v001-s00001"
OTHER = "shards/v001-s00000"


def flip(path: Path) -> None:
    """Flip a bit: in a shard, in the last byte of the first row's JPEG; in other files, in the middle."""
    data = bytearray(path.read_bytes())
    place = data.find(b"\xff\xd9") - 1 if path.name == "part.mindrecord" else len(data) // 2
    data[place] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def swap_shards(folder: Path) -> None:
    for a, b in ((OTHER, "shards/x"), (SHARD, OTHER), ("shards/x", SHARD)):
        (folder / a).rename(folder / b)


def edit(folder: Path, **changes) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**manifest, **changes}, indent=1))


FILES = [f"{SHARD}/part.mindrecord", f"{SHARD}/part.mindrecord.db", f"{SHARD}/rows.parquet", "samples.parquet"]
FAULTS = {
    **{f"flipped bit in {name}": (lambda f, name=name: flip(f / name), name) for name in FILES},
    **{f"truncated {name}": (lambda f, name=name: truncate(f / name), name) for name in FILES},
    **{f"missing {name}": (lambda f, name=name: (f / name).unlink(), name) for name in FILES},
    "missing shard": (lambda f: shutil.rmtree(f / SHARD), SHARD),
    "extra file": (lambda f: (f / SHARD / "notes.txt").write_text("mine"), f"{SHARD}/notes.txt"),
    "extra shard": (lambda f: shutil.copytree(f / SHARD, f / "shards/v002-s00000"), "shards/v002-s00000"),
    "two shards swapped": (swap_shards, "shards/v001-s0000"),
    "edited manifest: seed": (lambda f: edit(f, seed=99), "checksum does not match"),
    "edited manifest: counts": (lambda f: edit(f, counts={}), "checksum does not match"),
    "flipped bit in manifest": (lambda f: flip(f / MANIFEST), MANIFEST),
    "truncated manifest": (lambda f: truncate(f / MANIFEST), "not JSON"),
    "missing manifest": (lambda f: (f / MANIFEST).unlink(), "unfinished build"),
    "schema of another version": (lambda f: edit(f, schema_version=99), "schema version 99"),
}
BESIDE_THE_RECORDS = {
    **{
        f"flipped bit in {name}": (lambda f, name=name: flip(f / name), name)
        for name in ("CARD.md", "croissant.json", "skipped.tsv")
    },
    "flipped bit in a picture": (lambda f: flip(f / "pictures/contact_sheet.jpg"), "pictures/contact_sheet.jpg"),
    "missing picture": (lambda f: (f / "pictures/contact_sheet.jpg").unlink(), "pictures/contact_sheet.jpg: missing"),
    "extra picture": (lambda f: shutil.copy(f / "CARD.md", f / "pictures/x.jpg"), "pictures/x.jpg: not in card.sha256"),
    "missing croissant.json": (lambda f: (f / "croissant.json").unlink(), "croissant.json: missing"),
    "missing skipped.tsv": (lambda f: (f / "skipped.tsv").unlink(), "skipped.tsv: cannot be read"),
    "truncated card.sha256": (lambda f: (f / "card.sha256").write_bytes(b"0123"), "card.sha256: line 1 is not"),
}
SAME_SIZE = {name for name in FAULTS if name.startswith("flipped bit in s")}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_detected_and_names_the_file(records, tmp_path, capfd, fault):
    damage, named = FAULTS[fault]
    copy = tmp_path / "set"
    shutil.copytree(records, copy)
    damage(copy)
    assert main("test", "", COMMANDS, ["verify", str(copy), "--jobs", "1"]) == 1
    output = capfd.readouterr()
    assert named in output.out + output.err
    # The trainer checks manifest and sizes, and on request all hashes.
    with contextlib.nullcontext() if fault in SAME_SIZE else pytest.raises(UserError, match=named.replace(".", r"\.")):
        Stream(copy, batch_size=2, seed=0)
    with pytest.raises(UserError, match=named.replace(".", r"\.")):
        Stream(copy, batch_size=2, seed=0, check_hashes=True)


@pytest.mark.parametrize("fault", BESIDE_THE_RECORDS)
def test_faults_beside_the_records_are_named_and_do_not_keep_a_run_from_training(records, tmp_path, capfd, fault):
    damage, named = BESIDE_THE_RECORDS[fault]
    copy = tmp_path / "set"
    shutil.copytree(records, copy)
    damage(copy)
    said = tmp_path / "said.json"
    assert main("test", "", COMMANDS, ["verify", str(copy), "--jobs", "1", "--json", str(said)]) == 1
    output = capfd.readouterr().out
    assert f"FAULT {named}" in output and "1 fault; the records themselves are intact" in output
    document = json.loads(said.read_text())
    assert document["ok"] is False and len(document["faults"]) == 1 and document["faults"][0].startswith(named)
    Stream(copy, batch_size=2, seed=0, check_hashes=True)


@pytest.mark.parametrize(
    "removed, said", [("card.sha256", "data card not checked: it is of an older version"), ("CARD.md", "no data card")]
)
def test_verify_says_what_it_did_not_check(records, tmp_path, capfd, removed, said):
    shutil.copytree(records, tmp_path / "set")
    (tmp_path / "set" / removed).unlink()
    assert main("test", "", COMMANDS, ["verify", str(tmp_path / "set"), "--jobs", "1"]) == 0
    assert f"files of shards, skipped.tsv, {said}" in capfd.readouterr().out


def test_line_ends_and_tabs_in_names_stay_in_their_cell_of_the_skipped_list():
    text = skipped_text([{"image_id": 3, "file_name": "a\tb\nc.jpg", "reason": "\x1b[31m\r\u2028"}])
    assert text == "image_id\tfile_name\treason\n3\ta\\tb\\nc.jpg\t\\x1b[31m\\r\\u2028\n"


def test_a_manifest_with_invalid_settings_is_an_error(records, tmp_path, monkeypatch):
    shutil.copytree(records, tmp_path / "set")
    monkeypatch.setattr("pipeline.records.manifest._checksum", lambda fields: None)
    edit(tmp_path / "set", skeleton={}, checksum=None)
    with pytest.raises(UserError, match=r"manifest .*manifest\.json: skeleton: a skeleton has the fields"):
        read_manifest(tmp_path / "set")


def test_an_intact_record_set_has_no_faults(records, capfd):
    assert verify.run(VerifyConfig(records=records, jobs=1)) == 0
    Stream(records, batch_size=2, seed=0, check_hashes=True)


def print_table() -> None:
    """Print the table of faults: `python tests/pipeline/test_faults.py RECORDS`."""
    import tempfile

    for fault, (damage, _) in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "set"
            shutil.copytree(sys.argv[1], copy)
            damage(copy)
            done = subprocess.run([*PIPELINE, "verify", str(copy)], capture_output=True, text=True)
            lines = [line.replace(f"{copy}", "RECORDS") for line in (done.stdout + done.stderr).splitlines()]
            message = next((line for line in lines if "FAULT" in line or "error" in line), "nothing")
            print(f"| {fault} | {done.returncode} | {message} |")


if __name__ == "__main__":
    print_table()
