"""Adding variants: the record set stays complete at every moment, and a run that started before can continue."""

import json
import os
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
from volumes import volume

from pipeline.__main__ import build
from pipeline.build import growth, worker
from pipeline.commands import info
from pipeline.errors import UserError
from pipeline.records import verify
from pipeline.records.contents import check_files
from pipeline.records.manifest import GROWING, MANIFEST, SHARDS, read_manifest
from pipeline.records.verify import VerifyConfig
from pipeline.storage import files
from pipeline.tolerance import Tolerance
from trainer.data.stream import Stream


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory) -> Path:
    """The set that `records` grows to: four variants."""
    out = tmp_path_factory.mktemp("whole") / "records"
    build(build_config(people, out, variants=4))
    return out


@pytest.fixture
def grown(records, tmp_path) -> Path:
    return shutil.copytree(records, tmp_path / "grown")


def set_files(folder: Path) -> dict[str, bytes]:
    """The files of a record set without those of a growth."""
    return {name: data for name, data in tree(folder).items() if not name.startswith(GROWING)}


def require_readable(folder: Path, num_variants: int) -> None:
    manifest = read_manifest(folder)
    assert manifest.num_variants == num_variants and check_files(folder, manifest, hashes=True) == []
    assert verify.run(VerifyConfig(records=folder, jobs=1)) == 0 and info.run(info.InfoConfig(records=folder)) == 0
    assert next(Stream(folder, batch_size=2, seed=0, check_hashes=True).batches()).num_samples == 2


def change(path: Path, what: str) -> None:
    """Make another image of the same size, or none."""
    if what == "missing":
        path.unlink()
    else:
        image = cv2.imread(str(path))
        cv2.imwrite(str(path), image[::-1])


@pytest.mark.parametrize("what", ["missing", "other image"])
def test_a_growth_with_other_images_leaves_the_set_untouched_and_continues_with_the_right_ones(
    records, whole, people, grown, tmp_path, what
):
    shutil.copytree(people, tmp_path / "people")
    last = pq.read_table(records / "samples.parquet").to_pylist()[-1]["file_name"]
    change(tmp_path / "people" / "train2017" / last, what)
    wrong = build_config(tmp_path / "people", grown, variants=4)
    with pytest.raises(UserError, match=rf"{last}: .*, but it was readable and the same .*; restore the image"):
        build(wrong)
    assert set_files(grown) == tree(records)
    assert list((grown / GROWING / SHARDS).iterdir()), "finished shards are kept"
    require_readable(grown, 2)
    assert build(build_config(people, grown, variants=4)) == 0
    assert tree(grown) == tree(whole)


def test_a_growth_with_another_folder_makes_nothing(records, people, grown, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="No such file or directory, but it was readable"):
        build(build_config(people, grown, variants=4, images=tmp_path / "empty"))
    assert tree(grown) == tree(records)


def test_an_unfinished_growth_is_named_and_can_be_changed(records, whole, people, grown, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(worker, "make_row", failing_after(30, worker.make_row))
    with pytest.raises(OSError, match="no more"):
        build(build_config(people, grown, variants=5, shards=2))
    monkeypatch.undo()
    assert set_files(grown) == tree(records)
    if (grown / GROWING).exists():
        assert build(build_config(people, grown)) == 0
        assert "an unfinished build of 5 variants; run it again to continue, or delete the folder" in capsys.readouterr().out
    assert build(build_config(people, grown, variants=4)) == 0
    assert tree(grown) == tree(whole)


def failing_after(count: int, function):
    calls = iter(range(count))

    def call(*args, **options):
        if next(calls, None) is None:
            raise OSError("no more")
        return function(*args, **options)

    return call


@pytest.mark.parametrize("number", range(9))
def test_a_growth_that_ends_at_any_rename_is_a_complete_set_and_finishes(whole, people, grown, monkeypatch, number, capsys):
    """The end of a growth: four shards, the manifest, the index, the list of skipped images, and the card."""
    calls = iter(range(number))

    def publish(*args):
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return files.publish(*args)

    monkeypatch.setattr(growth, "publish", publish)
    config = build_config(people, grown, variants=4)
    if number < 7:
        with pytest.raises(KeyboardInterrupt):
            build(config)
        assert (grown / GROWING).exists()
    elif number == 7:
        with pytest.raises(KeyboardInterrupt):
            worker_card(config)
    else:
        build(config)
    monkeypatch.undo()
    require_readable(grown, 2 if number < 5 else 4)
    assert build(config) == 0
    assert tree(grown) == tree(whole)


def worker_card(config) -> None:
    """A build that ends while it writes the card."""
    from pipeline.build.build import run

    def interrupted(*_):
        raise KeyboardInterrupt

    run(config, interrupted)


@pytest.mark.parametrize("share", [0, 0.3, 0.9, 1])
def test_a_growth_on_a_full_disk_leaves_the_set_complete_and_continues_when_there_is_space(
    records, whole, people, tmp_path, share
):
    """share: of the bytes that are added, what the disk has left. With all of them, the temporary files do not fit."""
    before, after = (sum(map(len, tree(folder).values())) for folder in (records, whole))
    with volume(tmp_path / "disk", 2 * after) as disk:
        out = shutil.copytree(records, disk / "set")
        fill(disk / "other", int(share * (after - before)))
        with pytest.raises((UserError, OSError), match=rf"{out}.*(No space left|no space)"):
            build(build_config(people, out, variants=4))
        assert share == 1 or set_files(out) == tree(records)
        require_readable(out, read_manifest(out).num_variants)
        (disk / "other").unlink()
        assert build(build_config(people, out, variants=4)) == 0
        assert tree(out) == tree(whole)


def fill(path: Path, leave_bytes: int) -> None:
    """Fill the file system of `path` until only `leave_bytes` are free."""
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(path.parent).free - leave_bytes)


def test_a_damaged_set_does_not_grow_and_is_not_changed(people, grown):
    shard = grown / SHARDS / "v001-s00000" / "part.mindrecord"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    before = tree(grown)
    with pytest.raises(UserError, match=r"v001-s00000/part\.mindrecord: SHA-256 does not match"):
        build(build_config(people, grown, variants=3))
    assert tree(grown) == before


@pytest.mark.slow
def test_a_growth_killed_at_random_times_resumes_to_the_same_bytes(whole, people, grown):
    config = build_config(people, grown, variants=4)
    for delay_s in (0.05, 0.3, 0.6, 1.2):
        process = subprocess.Popen([*PIPELINE, *words_of(config)], start_new_session=True, stdout=subprocess.DEVNULL)
        while not (grown / GROWING).exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        manifest = read_manifest(grown)
        assert manifest.num_variants in (2, 4) and check_files(grown, manifest, hashes=True) == []
    assert build(config) == 0
    assert tree(grown) == tree(whole)


def test_the_digest_of_every_number_of_variants_is_in_the_manifest(records, whole, people, tmp_path):
    small, large = read_manifest(records), read_manifest(whole)
    assert large.digests[1] == small.digest == small.digests[-1] and large.digests[-1] == large.digest
    before = large.as_before(small.digest)
    assert before == replace(small, samples_file=large.samples_file)
    assert large.as_before("0" * 64) is None


def test_a_set_of_an_older_builder_can_be_read_and_grown(records, whole, people, grown):
    manifest = json.loads((grown / MANIFEST).read_text())
    del manifest["digests"], manifest["checksum"]
    from pipeline.records.manifest import _checksum

    (grown / MANIFEST).write_text(json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=1) + "\n")
    (grown / "CARD.md").unlink()
    build(build_config(people, grown))  # a new card, because that describes the manifest
    require_readable(grown, 2)
    build(build_config(people, grown, variants=4))
    assert tree(grown) == tree(whole)


def test_images_that_were_skipped_stay_skipped_when_a_set_grows(people, tmp_path):
    """All variants have the same images, so a set that grows cannot use an image that has become readable."""
    shutil.copytree(people, tmp_path / "people")
    path = sorted((tmp_path / "people" / "train2017").iterdir())[1]
    original = path.read_bytes()
    path.write_bytes(original[: len(original) // 2] + b"\xff\xd9")
    config = build_config(tmp_path / "people", tmp_path / "set", tolerance=Tolerance(max_unreadable=0.1))
    build(config)
    before = read_manifest(config.out)
    assert [entry["file_name"] for entry in before.skipped] == [path.name] and "JPEG" in before.skipped[0]["reason"]
    with pytest.raises(UserError, match="1 of 20 images is unreadable, more than --max-unreadable"):
        build(replace(config, variants=3, tolerance=Tolerance()))
    assert read_manifest(config.out) == before and not (config.out / GROWING).exists()
    path.write_bytes(original)
    build(replace(config, variants=3))
    after = read_manifest(config.out)
    assert after.skipped == before.skipped and after.digests[1] == before.digest and after.num_images == 19
    require_readable(config.out, 3)
