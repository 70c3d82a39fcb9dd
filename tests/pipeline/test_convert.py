"""The command `convert`, whatever the format: images, faults and their limit, damaged sources, interruptions."""

import os

import format_files as made
import numpy as np
import pytest
from format_files import convert, faults

from pipeline.__main__ import COMMANDS
from pipeline.cli import main
from pipeline.datasets.formats.registry import FORMATS
from pipeline.errors import Terminated, UserError


@pytest.mark.parametrize("link", ["hard", "symbolic", "copy"])
def test_images_are_linked_or_copied(tmp_path, link):
    convert(tmp_path, "crowdpose", made.coco(tmp_path / "c.json", [{"keypoints": made.flat(14)}]), link=link)
    target = tmp_path / "out/images/1.jpg"
    assert target.is_symlink() == (link == "symbolic") and os.path.samefile(target, tmp_path / "1.jpg") == (link != "copy")
    assert target.read_bytes() == (tmp_path / "1.jpg").read_bytes()


def test_faulty_images_are_named_counted_and_limited(tmp_path, capsys):
    made.write_images(tmp_path, "turned.jpg", size=(48, 64))
    (tmp_path / "broken.jpg").write_bytes(b"x")
    names = ("1.jpg", "gone.jpg", "turned.jpg", "broken.jpg", "./1.jpg", "../1.jpg", "/etc/hostname", "a\0.jpg")
    images = [{"id": id, "file_name": name, "width": 64, "height": 48} for id, name in enumerate(names, 1)]
    source = made.coco(tmp_path / "c.json", [{"keypoints": made.flat(14), "image_id": id} for id in range(1, 9)], images)
    with pytest.raises(UserError, match=r"c\.json: 7 of 8 images are faulty .*gone\.jpg.*--max-faulty 0\.88"):
        convert(tmp_path, "crowdpose", source)
    assert not (tmp_path / "out").exists()
    _, people = convert(tmp_path, "crowdpose", source, max_faulty=0.88)
    assert list(people) == ["1.jpg"] and "EXIF" in (tmp_path / "out/faults.tsv").read_text()
    assert sorted(faults(tmp_path)) == sorted(
        ["image missing", "image of another size than annotated", "image unreadable", "image listed twice", "image missing"]
        + ["image outside the image folder"] * 2
    )
    assert "image missing: 2 images, first: " in capsys.readouterr().out


@pytest.mark.parametrize("value", [1e308, 1e6])
def test_impossible_numbers_are_faults(tmp_path, value):
    bad = {"keypoints": [value, *made.flat(14)[1:]]}
    source = made.coco(tmp_path / "c.json", [{"keypoints": made.flat(14)}, bad])
    if value > 1e9:
        with pytest.raises(UserError, match=r"c\.json: annotations\[1\]\.keypoints\[0\]"):
            convert(tmp_path, "crowdpose", source, max_faulty=1)
        return
    _, people = convert(tmp_path, "crowdpose", source, max_faulty=0.5)
    assert len(people["1.jpg"]) == 1 and faults(tmp_path) == ["not a finite number"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, Terminated])
def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch, stop):
    def place(*args):
        raise stop

    source = made.coco(tmp_path / "c.json", [{"keypoints": made.flat(14)}])
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.datasets.formats.convert.place_file", place)
        with pytest.raises(stop):
            convert(tmp_path, "crowdpose", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.jpg", "c.json"]
    convert(tmp_path, "crowdpose", source)


def test_a_full_output_folder_is_refused_before_the_source_is_read(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").touch()
    with pytest.raises(UserError, match="not an empty folder"):
        convert(tmp_path, "crowdpose", tmp_path / "gone.json")


def test_the_list_of_formats(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main("test", "", COMMANDS, ["convert", "--from", "lps", str(tmp_path), "--out", str(tmp_path / "o")])
    message = capsys.readouterr().err
    assert all(name in message for name in FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_another_file_is_refused_by_name(tmp_path, format):
    (tmp_path / "x.json").write_text("[3")
    with pytest.raises(UserError, match=r"x\.json"):
        convert(tmp_path, format, tmp_path / "x.json")
    with pytest.raises(UserError, match="gone"):
        convert(tmp_path, format, tmp_path / "gone.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        convert(tmp_path, format, tmp_path / "empty")
    assert not (tmp_path / "out").exists()


def test_a_damaged_matlab_file_is_refused(tmp_path):
    folder = made.lsp(tmp_path / "lsp", np.full((14, 3, 2), 7.0))
    data = (folder / "joints.mat").read_bytes()
    for damaged in (data[:200], data[:130] + b"\xff" * 40 + data[170:], b"", data.replace(b"joints", b"jointz")):
        (folder / "joints.mat").write_bytes(damaged)
        with pytest.raises(UserError, match=r"joints\.mat"):
            convert(tmp_path, "lsp", folder)


def test_a_source_without_labeled_people_is_refused(tmp_path):
    with pytest.raises(UserError, match="no person has a labeled keypoint"):
        convert(tmp_path, "crowdpose", made.coco(tmp_path / "c.json", [{"keypoints": [0] * 42, "bbox": [1, 1, 5, 5]}]))
    assert not (tmp_path / "out").exists()
