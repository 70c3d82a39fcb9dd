"""Folders, patterns and lists as inputs of `predict`; outputs that mirror them; adding files to a finished output."""

import io
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from job_data import NoiseNetwork
from pipeline_data import tree

from evaluator.decoding.scores import SelectConfig
from evaluator.inference.config import InferConfig
from evaluator.predict import predict as predict_command
from evaluator.predict.config import PredictConfig
from evaluator.predict.listing import list_sources
from evaluator.predict.names import output_names
from evaluator.predict.predictor import EVERYBODY
from pipeline.errors import UserError
from pipeline.tolerance import Tolerance

PHOTOS = ("b.jpg", "a/x.png", "a/deep/x.JPG", "a/deep/y.webp", "c/x.png")
OTHERS = ("a/one.heic", "a/two.HEIC", "notes.txt", "clip.gif", "README", ".hidden/x.jpg", "._b.jpg", "a/Thumbs.db")


@pytest.fixture
def album(tmp_path):
    """A folder with photos in folders, and other files."""
    folder = tmp_path / "album"
    for number, name in enumerate(PHOTOS):
        write(folder / name, number)
    for name in OTHERS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 80, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix.lower(), pixels)[1].tobytes())
    return path


def predict(out, inputs, network=None, **options):
    options = {"inference": InferConfig(size_step_px=1), "select": EVERYBODY, **options}
    config = PredictConfig(images=tuple(inputs), checkpoint=out, out=out, **options)
    return predict_command.predict(config, list_sources(config.images, exclude=[out]), network or NoiseNetwork())


def read(path):
    return json.loads(path.read_text())


def listed(sources, folder):
    return [(str(file.relative_to(folder)), place) for file, place in zip(sources.files, sources.places, strict=True)]


def test_folders_are_searched_with_the_folders_in_them(album, capsys):
    sources = list_sources([album])
    expected = [("a/deep/x.JPG", "a/deep"), ("a/deep/y.webp", "a/deep"), ("a/x.png", "a"), ("b.jpg", ""), ("c/x.png", "c")]
    assert listed(sources, album) == expected
    assert sources.ignored == {".heic": 2, ".txt": 1, ".gif": 1, "without suffix": 1}
    sources.report_ignored()
    said = capsys.readouterr().err
    assert "ignored 5 files: 2 .heic, 1 " in said and ".heic, .gif: not read; convert them" in said


def test_patterns_lists_and_stdin_stand_for_files(album, monkeypatch, tmp_path):
    by_pattern = list_sources([album / "**/x.*"])
    assert listed(by_pattern, album) == [("a/deep/x.JPG", "a/deep"), ("a/x.png", "a"), ("c/x.png", "c")]
    assert listed(list_sources([album / "a" / "*"]), album) == [("a/x.png", "")]
    names = f"{album / 'b.jpg'}\n\n{album / 'a' / 'deep'}\n"
    expected = [("b.jpg", ""), ("a/deep/x.JPG", ""), ("a/deep/y.webp", "")]
    (tmp_path / "list.txt").write_text(names)
    monkeypatch.chdir(tmp_path)
    assert listed(list_sources([Path("@list.txt")]), album) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(names))
    assert listed(list_sources([Path("-")]), album) == expected
    for name in ("@list.jpg", "[x].jpg"):  # a file that exists is that file
        assert list_sources([write(tmp_path / name, 0)]).files == [tmp_path / name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.jpg", None, "image absent.jpg: no such file or folder"),
        ("*.nothing", None, r"pattern \*.nothing: matches no file; check it, and quote it"),
        ("@absent.txt", None, "list absent.txt: No such file"),
        ("@list.txt", b"\n \n", "list list.txt: contains no file names"),
        ("@list.txt", b"\xff\n", "list list.txt: not UTF-8"),
        ("@list.txt", b"absent.jpg\n", "image absent.jpg: no such file"),
        ("empty", None, "folder empty: contains no image or video"),
    ],
)
def test_names_that_stand_for_nothing_are_named(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        list_sources([Path(name)])


def test_links_that_lead_back_and_the_output_are_not_searched(album):
    (album / "a" / "back").symlink_to("..", target_is_directory=True)
    (album / "other").symlink_to("c", target_is_directory=True)
    files = listed(list_sources([album], exclude=[album / "a" / "deep"]), album)
    assert files == [("a/x.png", "a"), ("b.jpg", ""), ("c/x.png", "c"), ("other/x.png", "other")]


def test_outputs_mirror_the_folders_of_the_inputs(album, tmp_path):
    out = album / "found"  # inside the input
    for _ in range(2):
        assert predict(out, [album, album / "c"], openpose_json=True) == 0
    images = read(out / "images.json")
    drawings = [entry["drawing"] for entry in images]
    assert drawings == ["a/deep/x.jpg", "a/deep/y.jpg", "a/x.jpg", "b.jpg", "c/x.jpg", "x.jpg"]
    documents = [f"{name.removesuffix('.jpg')}_keypoints.json" for name in drawings]
    assert [entry["openpose_json"] for entry in images] == documents
    assert all((out / name).is_file() for name in drawings) and all((out / "openpose" / name).is_file() for name in documents)


def test_names_differ_within_each_folder_and_from_those_of_the_output_itself(tmp_path):
    files = [Path(name) for name in ("1/x.jpg", "2/x.png", "3/x.jpg", "results.json/x.jpg", "o/x.jpg", "o/\x1bx.jpg")]
    places = ["1", "1", "", "results.json/y", "OpenPose", "o\n"]
    names = output_names(files, [False] * 6, tmp_path, places, [("1/x", False), ("y", True)])
    assert names == ["1/x-2", "1/x-3", "x", "_results.json/y/x", "_OpenPose/x", "o_/_x"]


def test_new_files_are_added_to_a_finished_output(album, tmp_path, capsys):
    out, options = tmp_path / "out", {"openpose_json": True, "tolerance": Tolerance(max_unreadable=0.5)}
    (album / "bad.jpg").write_bytes(b"x")
    assert predict(out, [album], **options) == 0
    before = tree(out)
    unused = NoiseNetwork()
    write(album / "a" / "new.png", 7)
    write(album / "b.png", 8)
    with pytest.raises(UserError, match=r"other inputs or options \(.*; --skip-existing adds new files"):
        predict(out, [album], unused, **options)
    with pytest.raises(UserError, match=r"other inputs or options \(.*min_score: 0 before, 0.5 now"):
        predict(out, [album], unused, **{**options, "select": SelectConfig(min_score=0.5)}, skip_existing=True)
    assert not unused.shapes
    network = NoiseNetwork()
    assert predict(out, [album], network, **options, skip_existing=True) == 0
    assert len(network.shapes) == 2 and not list(out.glob(".unfinished*"))
    images, results = read(out / "images.json"), read(out / "results.json")
    assert [entry["drawing"] for entry in images[5:]] == ["a/new.jpg", "b-2.jpg"] and [entry["id"] for entry in images[5:]] == [
        7,
        8,
    ]
    assert {entry["image_id"] for entry in results} == {entry["id"] for entry in images}
    for name, data in before.items():
        assert tree(out)[name] == data or name.endswith((".json", ".yaml")), "what was there stays as it was"
    fresh = tmp_path / "fresh"
    assert predict(fresh, [album], **options) == 0
    assert people_by_file(fresh) == people_by_file(out)
    shutil.copy(album / "b.jpg", album / "bad.jpg")
    for _ in range(2):
        assert predict(out, [album], **options, skip_existing=True) == 0
    assert read(out / "skipped.json") == [] and "already complete" in capsys.readouterr().out


def people_by_file(out):
    names = {entry["id"]: entry["file_name"] for entry in read(out / "images.json")}
    return sorted([names[entry["image_id"]], entry["keypoints"], entry["confidences"]] for entry in read(out / "results.json"))


@pytest.mark.parametrize("stop_after", range(1, 9))
def test_adding_files_that_is_stopped_leaves_a_valid_output(album, tmp_path, monkeypatch, stop_after):
    """Stopped while files are moved into the output."""
    out = tmp_path / "out"
    assert predict(out, [album / "a"]) == 0
    real, calls = predict_command.extended_folder.__wrapped__.__globals__["publish"], []

    def publish(*paths):
        calls.append(paths)
        if len(calls) == stop_after:
            raise KeyboardInterrupt
        real(*paths)

    # The first two files of the work on new images are published as well.
    monkeypatch.setattr("pipeline.storage.folders.publish", publish)
    try:
        predict(out, [album], skip_existing=True)
        assert stop_after > 6
    except KeyboardInterrupt:
        images = read(out / "images.json")
        assert {entry["id"] for entry in images} <= {entry["image_id"] for entry in read(out / "results.json")}
        assert all((out / entry["drawing"]).is_file() for entry in images)
    monkeypatch.undo()
    assert predict(out, [album], skip_existing=True) == 0
    assert people_by_file(out) == people_by_file_of_all(tmp_path, album)


def people_by_file_of_all(folder, album):
    assert predict(folder / "all", [album]) == 0
    return people_by_file(folder / "all")
