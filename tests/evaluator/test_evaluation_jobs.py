"""Batches, the order of images, shards, kills and resumed runs do not change results; mismatched inputs are rejected."""

import contextlib
import dataclasses
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from job_data import SIZES, NoiseNetwork, shuffle, write_images
from trainer_data import TINY

from evaluator.__main__ import COMMANDS
from evaluator.decoding import People
from evaluator.inference.augmentation import AugmentedNetwork
from evaluator.inference.config import InferConfig
from evaluator.inference.sizes import input_size
from evaluator.inference.stored_fields import _single_precision
from evaluator.jobs import merge
from evaluator.jobs.config import MergeConfig, RunConfig
from evaluator.jobs.partial import EVALUATION, PEOPLE, Unfinished, _with_crc32, read_lines
from evaluator.jobs.run import evaluate_source, plan_groups
from evaluator.publish.measurement import read_measurements
from pipeline.cli import main
from pipeline.datasets.coco import CocoFile, choose_images
from pipeline.errors import UserError
from pipeline.images import read_image
from pipeline.skeletons import COCO18
from pipeline.tolerance import Tolerance
from trainer.device import DeviceConfig

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def whole(noise, tmp_path_factory):
    """The output of an uninterrupted run."""
    config = config_of(noise, tmp_path_factory.mktemp("whole") / "out")
    assert evaluate_source(config, NoiseNetwork()) == 0
    assert metrics_of(config.out)["num_people_found"] > 30
    return config.out


def config_of(noise, out, **options):
    return RunConfig(checkpoint=Path("c"), annotations=noise[0], images=noise[1], out=out, **{"pictures": 0, **options})


def metrics_of(out):
    return json.loads((out / "metrics.json").read_text())


def results_of(out):
    return (out / "results.json").read_bytes()


@pytest.mark.parametrize("options", [{}, {"inference": InferConfig(scales=(0.5, 1.0), mirror=True)}], ids=["plain", "augmented"])
def test_results_depend_neither_on_batches_nor_on_the_order_of_images(noise, tmp_path, options):
    shuffled = shuffle(noise[0], tmp_path / "shuffled.json"), noise[1]
    outputs = []
    for number, (files, batch_size) in enumerate(((noise, 1), (noise, 4), (shuffled, 1), (shuffled, 4), (noise, 64))):
        network, out = NoiseNetwork(), tmp_path / str(number)
        assert evaluate_source(config_of(files, out, batch_size=batch_size, **options), network) == 0
        assert {shape[0] for shape in network.shapes} == {batch_size}
        outputs.append((results_of(out), metrics_of(out)["figures"]))
    assert all(output == outputs[0] for output in outputs[1:])


def test_images_of_a_batch_have_equal_sizes_that_depend_on_each_image_only(noise):
    document, augmented = CocoFile(noise[0], COCO18), AugmentedNetwork(NoiseNetwork(), InferConfig())
    groups = plan_groups(document.images, augmented.padded_sizes, 4)
    assert sorted(image.id for group in groups for image in group) == [image.id for image in document.images]
    assert max(map(len, groups)) == 4 and len(groups) < 10
    for group in groups:
        assert len({augmented.padded_sizes(image.size_wh) for image in group}) == 1
    for size in SIZES:
        [padded] = augmented.padded_sizes(size)
        assert all(p >= r for p, r in zip(padded, input_size(*size, 64), strict=True))


def test_a_real_network_returns_the_same_fields_for_single_images_and_batches():
    import mindspore as ms

    from trainer.networks.inference import LastStage, build

    network, rng = build(TINY, COCO18), np.random.default_rng(0)
    for parameter in network.get_parameters():  # He initialization, so that the signal reaches the last stage
        scale = np.sqrt(2 / max(1, np.prod(parameter.shape[1:])))
        parameter.set_data(ms.Tensor((scale * rng.standard_normal(parameter.shape)).astype(np.float32)))
    last = LastStage(network)
    last.skeleton, last.insize, last.stride_px = COCO18, 64, 8
    augmented = AugmentedNetwork(last, InferConfig())
    inputs = [np.random.default_rng(i).integers(0, 256, (64, 128, 3), dtype=np.uint8) for i in range(4)]
    together = augmented.compute(inputs)
    for number, one in enumerate(inputs):
        for alone, in_batch in zip(augmented.compute([one]), together, strict=True):
            assert np.abs(alone).max() > 0.1
            np.testing.assert_allclose(alone[0], in_batch[number], atol=1e-5)
    backwards = augmented.compute(inputs[::-1])
    for a, b in zip(together, backwards, strict=True):
        np.testing.assert_array_equal(a, b[::-1])


def shards(noise, folder, count, network=NoiseNetwork, origin=None, **options):
    outs = [folder / f"part{number}" for number in range(1, count + 1)]
    for number, out in enumerate(outs, start=1):
        config = config_of(noise, out, shard=f"{number}/{count}", **options)
        assert evaluate_source(config, network(), origin) == 0
    return outs


@pytest.mark.parametrize("count", [2, 5])
def test_shards_merge_to_exactly_the_result_of_a_single_run(noise, whole, tmp_path, count, capsys):
    parts = shards(noise, tmp_path, count)
    assert "{'AP'" not in capsys.readouterr().out, "metrics of a shard could be mistaken for those of all images"
    assert not (parts[0] / "metrics.json").exists()
    config = MergeConfig(parts=tuple(parts[::-1]), annotations=noise[0], out=tmp_path / "merged", images=noise[1], pictures=1)
    assert merge.run(config) == 0
    assert results_of(config.out) == results_of(whole)
    expected, found = metrics_of(whole), metrics_of(config.out)
    for name in ("figures", "figures_images_with_people", "num_images", "num_people", "num_people_found"):
        assert found[name] == expected[name]
    assert json.loads((config.out / EVALUATION).read_text()) == json.loads((whole / EVALUATION).read_text())
    assert len(list((config.out / "pictures").iterdir())) == 2


def test_merging_keeps_what_publish_needs_to_know_about_the_checkpoint(noise, tmp_path):
    parts = shards(noise, tmp_path, 2, origin={"checkpoint": "c" * 64, "step": 7})
    assert merge.run(MergeConfig(parts=tuple(parts), annotations=noise[0], out=tmp_path / "merged")) == 0
    [measurement] = read_measurements([tmp_path / "merged"], Path("c"), ["c" * 64], has_averages=False)
    assert measurement.figures["AP"] == metrics_of(tmp_path / "merged")["figures"]["AP"]
    assert measurement.annotations == noise[0].name and measurement.inference.insize == NoiseNetwork.insize
    with pytest.raises(UserError, match="is of another checkpoint"):
        read_measurements([tmp_path / "merged"], Path("c"), ["d" * 64], has_averages=False)


def test_unreadable_images_of_a_shard_are_listed_after_merging(noise, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    for file in noise[1].iterdir():
        (images / file.name).write_bytes(b"" if file.name == "3.png" else file.read_bytes())
    parts = [tmp_path / f"{i}" for i in (1, 2)]
    for _ in range(2):  # the second time, they are complete already
        codes = [evaluate_source(config_of((noise[0], images), out, shard=f"{out.name}/2"), NoiseNetwork()) for out in parts]
        assert sorted(codes) == [0, 1] and "unreadable image 3.png: the file is empty" in capsys.readouterr().err
    assert merge.run(MergeConfig(parts=tuple(parts), annotations=noise[0], out=tmp_path / "merged")) == 1
    assert metrics_of(tmp_path / "merged")["unreadable_images"] == {"3.png": "the file is empty"}
    assert "unreadable image 3.png" in capsys.readouterr().err


@pytest.fixture(scope="module")
def parts(noise, tmp_path_factory):
    return shards(noise, tmp_path_factory.mktemp("parts"), 3)


def rejection(parts, annotations, tmp_path):
    with pytest.raises(UserError) as error:
        merge.run(MergeConfig(parts=tuple(parts), annotations=annotations, out=tmp_path / "merged"))
    assert not (tmp_path / "merged").exists()
    return str(error.value)


def test_parts_that_are_not_all_of_one_evaluation_are_refused_by_name(noise, whole, parts, tmp_path):
    one, two, three = parts
    assert "missing shards: 2/3" in rejection((one, three), noise[0], tmp_path)
    assert "given twice" in rejection((one, two, three, two), noise[0], tmp_path)
    assert f"shard {whole}: not an output of `run --shard`" in rejection((one, two, whole), noise[0], tmp_path)
    assert "not the file that" in rejection(parts, shuffle(noise[0], tmp_path / "s.json"), tmp_path)
    assert "No such file" in rejection((one, two, tmp_path / "absent"), noise[0], tmp_path)
    [*_, other] = shards(noise, tmp_path / "other", 3, origin={"checkpoint": "beef"})
    assert f"shard {other}: belongs to another evaluation than {one} (checkpoint: None in {one}, beef in {other})" in rejection(
        (one, two, other), noise[0], tmp_path
    )
    [*_, mirrored] = shards(noise, tmp_path / "mirrored", 3, inference=InferConfig(mirror=True))
    assert "mirror: False" in rejection((one, two, mirrored), noise[0], tmp_path)
    [*_, fourth] = shards(noise, tmp_path / "four", 4)
    assert f"shard {fourth}: is 4/4, but {one} is one of 3 shards" in rejection((one, two, fourth), noise[0], tmp_path)
    [again, *_] = shards(noise, tmp_path / "again", 3)
    assert f"shard {again}: is 1/3, and so is {one}" in rejection((one, again, three), noise[0], tmp_path)


def test_a_damaged_shard_is_rejected(noise, tmp_path):
    parts = shards(noise, tmp_path, 2)
    file = parts[1] / PEOPLE
    file.write_bytes(file.read_bytes().replace(b"0.5", b"0.6", 1))
    assert f"shard {parts[1]}: {PEOPLE} is missing or its SHA-256 does not match" in rejection(parts, noise[0], tmp_path)


def test_images_that_do_not_belong_to_the_subset_are_named(noise, tmp_path):
    parts = shards(noise, tmp_path, 2)
    for part in parts:
        (part / EVALUATION).write_text(json.dumps({**json.loads((part / EVALUATION).read_text()), "max_images": 13}))
    kept = {image.id for image in choose_images(CocoFile(noise[0], COCO18), 13)}
    [surplus] = {image.id for image in CocoFile(noise[0], COCO18).images} - kept
    assert f"contain image {surplus}, which is not one of the 13 images to evaluate (1 of 14 are surplus)" in rejection(
        parts, noise[0], tmp_path
    )


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "-1/2", "1/1000001"])
def test_malformed_shards_are_rejected(noise, tmp_path, text):
    with pytest.raises(ValueError, match=r"shard must be i/n with i from 1 to n and n up to 1000000, such as"):
        config_of(noise, tmp_path, shard=text)


def test_a_subset_of_the_images_is_reported_as_such(noise, tmp_path, capsys):
    config = config_of(noise, tmp_path / "out", max_images=5)
    assert evaluate_source(config, NoiseNetwork()) == 0
    assert "random subset of 5 of the 14 images" in capsys.readouterr().out
    metrics = metrics_of(config.out)
    assert (metrics["num_images"], metrics["num_images_in_file"]) == (5, 14)
    chosen = {image.id for image in choose_images(CocoFile(noise[0], COCO18), 5)}
    assert {entry["image_id"] for entry in json.loads(results_of(config.out))} <= chosen and len(chosen) == 5


class Stops(NoiseNetwork):
    """Computes a number of batches, then is interrupted."""

    def __init__(self, left):
        super().__init__()
        self.left = left

    def fields(self, images):
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().fields(images)


def test_a_stopped_run_continues_with_the_remaining_images(noise, whole, tmp_path, capsys):
    config = config_of(noise, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate_source(config, Stops(8))
    assert not config.out.exists() and (tmp_path / "out.unfinished").is_dir()
    network = NoiseNetwork()
    assert evaluate_source(config, network) == 0
    assert 14 - 8 <= len(network.shapes) < 14
    assert "of 14 images are done" in capsys.readouterr().out
    assert results_of(config.out) == results_of(whole)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert evaluate_source(config, NoiseNetwork()) == 0 and "already complete" in capsys.readouterr().out
    (tmp_path / "out.unfinished").mkdir()  # as after a kill between writing the output and removing the work folder
    assert evaluate_source(config, NoiseNetwork()) == 0 and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_images_of_truncated_or_damaged_lines_are_processed_again(noise, whole, tmp_path):
    for number, damage in enumerate((lambda data: data[:-7], lambda data: data[:200] + b"\0" * 100 + data[300:], lambda _: b"")):
        config = config_of(noise, tmp_path / str(number))
        with pytest.raises(KeyboardInterrupt):
            evaluate_source(config, Stops(9))
        file = tmp_path / f"{number}.unfinished" / PEOPLE
        file.write_bytes(damage(file.read_bytes()))
        assert evaluate_source(config, NoiseNetwork()) == 0
        assert results_of(config.out) == results_of(whole)


def test_an_edited_line_is_named_and_its_image_processed_again(noise, whole, tmp_path, capsys):
    config = config_of(noise, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate_source(config, Stops(9))
    file = tmp_path / "out.unfinished" / PEOPLE
    lines = file.read_text().splitlines(keepends=True)
    lines[1] = re.sub(r"[0-9](?=\.)", lambda match: str((int(match[0]) + 1) % 10), lines[1], count=1)
    lines[3] = lines[3].replace('"image_id"', '"image_id" ')
    lines[4] = re.sub(r', "crc32": \d+', "", lines[4])
    file.write_text("".join(lines))
    network = NoiseNetwork()
    assert evaluate_source(config, network) == 0
    captured = capsys.readouterr()
    for number in (2, 4, 5):
        assert f"{file} line {number}: damaged or edited, CRC32 does not match" in captured.err
    assert "3 damaged lines; their images are processed again" in captured.err
    assert f"continuing: {len(lines) - 3} of 14 images are done" in captured.out
    assert results_of(config.out) == results_of(whole)


def test_a_line_with_a_right_checksum_and_wrong_content_is_named(tmp_path):
    path = tmp_path / PEOPLE
    for entry, problem in (
        ({"scores": [], "keypoints": []}, "missing required field `image_id`"),
        ({"image_id": -1}, "image_id: expected an integer >= 0, got -1"),
        ({"image_id": 1, "unreadable": 3}, "unreadable: expected a text, got 3"),
        ({"image_id": 1, "scores": [1e40], "keypoints": [[[0, 0, 0]] * 18]}, r"scores\[0\]: expected a number <= 1e\+30"),
        ({"image_id": 1, "scores": [1], "keypoints": [[[0, 0, 0]] * 17]}, "expected keypoints of 18 joints for each of 1 scores"),
        (
            {"image_id": 1, "scores": [1, 2], "keypoints": [[[0, 0, 0]] * 18]},
            "expected keypoints of 18 joints for each of 2 scores",
        ),
        ({"image_id": 1, "scores": [1, 2], "keypoints": [[[0, 0, 0]] * 18, []]}, "expected keypoints of 18 joints"),
        ({"image_id": 1, "scores": [1], "keypoints": [[0, 0, 0]]}, r"keypoints\[0\]\[0\]: expected a list, got 0"),
    ):
        path.write_bytes(_with_crc32(json.dumps(entry).encode()) * 2)
        lines = read_lines(path, num_joints=18)
        assert len(lines.faults) == 2 and not lines.good and not lines.found.people
        assert re.search(f"line 2: {problem}", lines.faults[1]), lines.faults


def test_an_unfinished_evaluation_with_other_settings_is_rejected_naming_the_difference(noise, tmp_path):
    config = config_of(noise, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate_source(config, Stops(8), {"checkpoint": "aa"})
    others = (
        (config, {"checkpoint": "bb"}, r"checkpoint: aa before, bb now"),
        (dataclasses.replace(config, inference=InferConfig(insize=96)), {"checkpoint": "aa"}, r"insize: 64 before, 96 now"),
        (dataclasses.replace(config, batch_size=3), {"checkpoint": "aa"}, r"batch_size: 1 before, 3 now"),
        (dataclasses.replace(config, shard="1/2"), {"checkpoint": "aa"}, r"shard: \[1, 1\] before, \[1, 2\] now"),
    )
    for other, origin, reason in others:
        with pytest.raises(UserError, match=reason):
            evaluate_source(other, NoiseNetwork(), origin)
    assert evaluate_source(config, NoiseNetwork(), {"checkpoint": "aa"}) == 0


def test_a_finished_evaluation_with_other_options_is_rejected_naming_the_difference(noise, tmp_path, capsys):
    config = config_of(noise, tmp_path / "out", pictures=1)
    assert evaluate_source(config, NoiseNetwork(), {"checkpoint": "aa"}) == 0
    others = (
        ({}, {"checkpoint": "bb"}, "checkpoint: aa before, bb now"),
        ({"inference": InferConfig(insize=96)}, {"checkpoint": "aa"}, "insize: 64 before, 96 now"),
        ({"inference": InferConfig(precision="O2")}, {"checkpoint": "aa"}, "precision: O0 before, O2 now"),
        ({"pictures": 2}, {"checkpoint": "aa"}, "pictures: 1 before, 2 now"),
        ({"pictures": 0}, {"checkpoint": "aa"}, "pictures: 1 before, 0 now"),
        ({"draw_min_score": 0.25}, {"checkpoint": "aa"}, r"draw_min_score: 0.5 before, 0.25 now"),
    )
    for options, origin, reason in others:
        with pytest.raises(UserError, match=rf"contains a finished evaluation .*\({re.escape(reason)}\)"):
            evaluate_source(dataclasses.replace(config, **options), NoiseNetwork(), origin)
    capsys.readouterr()
    same = dataclasses.replace(config, tolerance=Tolerance(max_unreadable=1), device=DeviceConfig(device_target="CPU"))
    assert evaluate_source(same, NoiseNetwork(), {"checkpoint": "aa"}) == 0
    assert "already complete\n Average Precision" in capsys.readouterr().out
    other = shutil.copytree(noise[1], tmp_path / "other")
    assert evaluate_source(dataclasses.replace(same, images=other), NoiseNetwork(), {"checkpoint": "aa"}) == 0
    assert "nothing is evaluated again, so this is not used: images: " in capsys.readouterr().out


def test_annotations_without_people_are_named(noise, tmp_path, capsys):
    """Every metric is undefined, which pycocotools writes as -1."""
    document = json.loads(noise[0].read_text())
    (tmp_path / "a.json").write_text(json.dumps({**document, "annotations": []}))
    assert evaluate_source(config_of((tmp_path / "a.json", noise[1]), tmp_path / "out"), NoiseNetwork()) == 0
    assert (
        f"warning: {tmp_path / 'a.json'}: no person has labeled joints, so there is nothing to score" in capsys.readouterr().out
    )
    assert main("evaluator", "", COMMANDS, ["oracle", "--annotations", str(tmp_path / "a.json")]) == 1
    assert "a.json: no person has labeled joints; use another annotation file" in capsys.readouterr().err


def test_an_evaluation_of_a_version_without_precision_is_continued(noise, whole, tmp_path):
    config = config_of(noise, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate_source(config, Stops(8))
    path = tmp_path / "out.unfinished" / EVALUATION
    about = json.loads(path.read_text())
    assert about.pop("precision") == "O0"
    path.write_text(json.dumps(about))
    assert evaluate_source(config, NoiseNetwork()) == 0 and results_of(config.out) == results_of(whole)


def test_a_foreign_evaluation_file_is_not_taken_for_an_output(noise, tmp_path):
    (tmp_path / "out").mkdir()
    for text, problem in (("{}", "not an empty folder"), ("[]", r"evaluation.json: expected an object, got \[\]")):
        (tmp_path / "out" / EVALUATION).write_text(text)
        with pytest.raises(UserError, match=problem):
            evaluate_source(config_of(noise, tmp_path / "out"), NoiseNetwork())


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "give --checkpoint, or --fields to evaluate stored fields"),
        ({"checkpoint": Path("c"), "fields": Path("f")}, "give either --checkpoint or --fields, not both"),
        ({"fields": Path("f"), "inference": InferConfig(precision="O2")}, "precision, .* work only with --checkpoint"),
    ],
)
def test_wrong_sources_are_named(sources, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(annotations=Path("a"), out=Path("o"), **sources)


def test_a_run_without_readable_images_leaves_no_files(noise, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "1.png").touch()
    with pytest.raises(UserError, match="none of the 14 images can be read"):
        evaluate_source(config_of((noise[0], images), tmp_path / "out"), NoiseNetwork())
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("succeeds", [True, False])
def test_the_work_folder_never_hides_an_error(tmp_path, succeeds):
    """Another file in it, as NFS keeps in place of an open one, or a deleted folder, is no error of its own."""
    for deleted in (True, False):
        work = Unfinished(tmp_path / f"{deleted}", {"results_version": 1}, 18)
        with contextlib.suppress(ZeroDivisionError), work:
            if deleted:
                shutil.rmtree(work.folder)
            else:
                (work.folder / ".nfs0001").touch()
            if not succeeds:
                raise ZeroDivisionError
            work.remove()
        assert work.folder.exists() == (not deleted) and (
            deleted or [file.name for file in work.folder.iterdir()] == [".nfs0001"]
        )


SCRIPT = """
import sys
from pathlib import Path
from job_data import NoiseNetwork
from evaluator.jobs.config import MergeConfig, RunConfig
from evaluator.jobs.run import evaluate_source
from pipeline.cli import guarded, leave
annotations, images, out = map(Path, sys.argv[1:])
config = RunConfig(checkpoint=Path("c"), annotations=annotations, images=images, out=out, pictures=1)
leave(guarded("run", lambda: evaluate_source(config, NoiseNetwork(0.04))))
"""


def start(noise, out):
    environment = {**os.environ, "PYTHONPATH": f"{SUPPORT.parent}:{SUPPORT}"}
    command = [sys.executable, "-c", SCRIPT, str(noise[0]), str(noise[1]), str(out)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_writes_the_same_bytes(noise, whole, tmp_path):
    out, chance = tmp_path / "out", random.Random(3)
    killed = 0
    for _ in range(30):
        process = start(noise, out)
        while process.poll() is None and not (tmp_path / "out.unfinished" / PEOPLE).exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.25))
        process.kill()
        process.communicate()
        if process.returncode == 0:
            break
        killed += 1
        assert not out.exists() or (out / "config.yaml").exists()
    assert killed >= 2
    last = start(noise, out)
    assert last.wait(60) == 0, last.communicate()
    assert results_of(out) == results_of(whole)
    assert [path.name for path in tmp_path.iterdir() if "unfinished" in path.name] == []


def signalled(begin, out, number):
    """Send a signal to a process after it has written its first results and before it is done."""
    people = out.with_name(f"{out.name}.unfinished") / PEOPLE
    for _ in range(10):
        process = begin()
        while process.poll() is None and not (people.exists() and people.stat().st_size):
            time.sleep(0.002)
        process.send_signal(number)
        if process.wait(60):
            return process
        shutil.rmtree(out)  # the process was faster than this loop
    raise AssertionError("every process ended before the signal")


def test_people_that_cannot_be_written_are_a_named_error(tmp_path):
    nobody = People(keypoints=np.zeros((0, 18, 3), np.float32), scores=np.zeros(0, np.float32))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Unfinished(tmp_path / "out", {"shard": [1, 1]}, 18) as work:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            with pytest.raises(
                UserError, match=r"out.unfinished/people.jsonl: cannot be written: File too large; raise the limit"
            ):
                work.append(dict.fromkeys(range(100), nobody))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_stopped_by_a_signal_can_be_continued(noise, whole, tmp_path, number, code):
    out = tmp_path / "out"
    process = signalled(lambda: start(noise, out), out, number)
    assert process.returncode == code
    assert "Traceback" not in process.communicate()[1] and not out.exists()
    again = start(noise, out)
    printed, _ = again.communicate(timeout=60)
    assert again.returncode == 0 and "images are done" in printed
    assert results_of(out) == results_of(whole)


@pytest.fixture(scope="module")
def many_fields(tmp_path_factory):
    """Stored fields of 100 images."""
    folder = tmp_path_factory.mktemp("fields")
    annotations, images = write_images(folder, count=100)
    augmented = AugmentedNetwork(NoiseNetwork(), InferConfig(size_step_px=8))
    listed = CocoFile(annotations, COCO18).images
    sizes = [image.size_wh for image in listed]
    arrays = {
        "image_id": np.array([image.id for image in listed]),
        "orig_wh": np.array(sizes),
        "input_wh": np.array([input_size(*size, 64) for size in sizes]),
    }
    for image in listed:
        views = augmented.prepare(read_image(images / image.file_name))
        fields = augmented.combine([tuple(f[0] for f in augmented.compute(views))], image.size_wh)
        half = {"hm": fields.heatmaps.astype(np.float16), "paf": fields.pafs.astype(np.float16)}
        arrays |= {f"{name}_{image.id}": array for name, array in half.items()}
    np.savez_compressed(folder / "f.npz", **arrays)
    return folder / "f.npz", annotations


def fields_config(many_fields, out, **options):
    return RunConfig(fields=many_fields[0], annotations=many_fields[1], out=out, **options)


def test_shards_of_stored_fields_merge(many_fields, tmp_path):
    assert evaluate_source(fields_config(many_fields, tmp_path / "whole"), None, {"fields": "f"}) == 0
    parts = [tmp_path / "a", tmp_path / "b"]
    for number, out in enumerate(parts, start=1):
        assert evaluate_source(fields_config(many_fields, out, shard=f"{number}/2"), None, {"fields": "f"}) == 0
    assert merge.run(MergeConfig(parts=tuple(parts), annotations=many_fields[1], out=tmp_path / "merged")) == 0
    assert results_of(tmp_path / "merged") == results_of(tmp_path / "whole")


def test_half_precision_is_read_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(4, -1)
    np.testing.assert_array_equal(_single_precision(every), every.astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_the_command_on_stored_fields_stops_at_once_and_can_be_continued(many_fields, tmp_path, number, code):
    out = tmp_path / "out"
    words = ["--fields", many_fields[0], "--annotations", many_fields[1], "--out", out]
    command = [sys.executable, "-m", "evaluator", "run", *map(str, words)]
    process = signalled(lambda: subprocess.Popen(command, stderr=subprocess.PIPE, text=True), out, number)
    assert process.returncode == code and "Traceback" not in process.stderr.read()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "of 100 images are done" in done.stdout
    assert evaluate_source(fields_config(many_fields, tmp_path / "whole"), None) == 0
    assert results_of(out) == results_of(tmp_path / "whole")
