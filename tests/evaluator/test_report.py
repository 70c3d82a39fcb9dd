"""The report: a page without external files, with the metrics of the evaluation, tested in a browser."""

import dataclasses
import json
import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from evaluator_data import person, shift_to, stored, write_annotations, write_set
from report_data import entry, write_evaluations

from evaluator.__main__ import COMMANDS
from evaluator.metrics.analysis import analyze
from evaluator.metrics.diagnosis import ERRORS
from evaluator.report import evaluations, gallery, report
from pipeline.cli import main
from pipeline.datasets.coco import CocoFile
from pipeline.datasets.coco_entries import Image
from pipeline.skeletons import COCO18, read_skeleton
from pipeline.storage.files import write_json


def command(*words):
    return main("python -m evaluator", "", COMMANDS, list(map(str, words)))


@pytest.fixture
def evaluated(tmp_path):
    return write_evaluations(tmp_path)


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])


def test_the_page_has_no_external_files_and_shows_the_metrics_of_the_evaluations(evaluated, capsys):
    annotations, images, first, second = evaluated
    assert command("report", first, second, "--annotations", annotations, "--images", images) == 0
    page = first / "report.html"
    printed = capsys.readouterr().out
    assert f"wrote {page} (0." in printed and re.search(r"jitter +17 +0\.\d{4} +0\.\d{4}", printed)
    text = page.read_text()
    addresses = set(re.findall(r"https?://[^\s\"']+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "only a namespace, which browsers do not load"
    assert not re.search(r"<(link|script|img)[^>]+(src|href)=\"(?!data:)", text)
    data = data_of(page)
    assert [run["figures"] for run in data["runs"]] == [
        json.loads((f / "metrics.json").read_text())["figures"] for f in (first, second)
    ]
    assert set(data["pictures"]) == {"10", "20", "30"}
    assert all(url.startswith("data:image/jpeg;base64,") for url in data["pictures"].values())
    counts = {name: figures["count"] for name, figures in data["runs"][1]["errors"].items() if figures["count"]}
    assert counts == {"inversion": 2, "jitter": 17, "false": 1, "missed": 1}
    assert [file.name for file in first.iterdir() if file.name.startswith(".")] == []


def test_skeletons_are_drawn_on_gray_without_images_and_earlier_reports_are_replaced(evaluated):
    annotations, _, first, _ = evaluated
    for _ in range(2):
        assert command("report", first, "--annotations", annotations, "--gallery", 1) == 0
    assert data_of(first / "report.html")["pictures"] == {}


def test_outputs_of_run_and_oracle_can_be_reported(tmp_path, capsys):
    annotations, images = write_set(tmp_path)
    fields = stored(tmp_path / "f.npz", annotations)
    assert command("run", "--fields", fields, "--annotations", annotations, "--out", tmp_path / "ap") == 0
    assert command("oracle", "--annotations", annotations, "--out", tmp_path / "ceiling") == 0
    (images / "b.png").unlink()
    words = ("--annotations", annotations, "--images", images, "--out", tmp_path / "page.html")
    assert command("report", tmp_path / "ap", tmp_path / "ceiling", *words) == 0
    assert "unreadable image b.png: No such file or directory (drawn on gray)" in capsys.readouterr().err
    data = data_of(tmp_path / "page.html")
    assert [run["figures"]["AP"] for run in data["runs"]] == [1, 1] and set(data["pictures"]) == {"10"}


def test_the_report_of_a_subset_covers_the_subset_only(tmp_path, capsys):
    annotations, _ = write_set(tmp_path)
    fields = stored(tmp_path / "f.npz", annotations)
    for out, more in (("all", []), ("some", ["--max-images", 1])):
        assert command("run", "--fields", fields, "--annotations", annotations, "--out", tmp_path / out, *more) == 0
    assert command("report", tmp_path / "some", "--annotations", annotations) == 0
    assert data_of(tmp_path / "some" / "report.html")["numImages"] == 1
    capsys.readouterr()
    assert command("report", tmp_path / "all", tmp_path / "some", "--annotations", annotations) == 1
    assert "evaluations of different images" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"keypoints": [1, 2, 3]}, {"image_id": 7}, {"keypoints": [0] * 51}])
def test_a_damaged_evaluation_is_not_blamed_on_its_annotation_file(tmp_path, change, capsys):
    annotations, _ = write_set(tmp_path)
    out = tmp_path / "ap"
    fields = stored(tmp_path / "f.npz", annotations)
    assert command("run", "--fields", fields, "--annotations", annotations, "--out", out) == 0
    first, *others = json.loads((out / "results.json").read_text())
    write_json(out / "results.json", [first | change, *others])
    assert command("report", out, "--annotations", annotations) == 1
    error = capsys.readouterr().err
    assert f"results.json, metrics.json or evaluation.json in {out} was damaged or edited" in error
    assert error.endswith("repeat the evaluation\n")


def test_mismatched_inputs_are_named(tmp_path, evaluated, capsys):
    annotations, images, first, second = evaluated

    def error_of(*words):
        assert command("report", *words) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    write_json(second / "results.json", json.loads((first / "results.json").read_text()))
    assert "metrics.json has AP" in error_of(second, "--annotations", annotations)
    fewer = write_annotations(tmp_path / "fewer.json", {10: ("a.png", 320, 300)}, [(10, person(100, 40))])
    assert "images of the results that are not in the annotation file: 1, for example image 20" in error_of(
        first, "--annotations", fewer
    )
    assert "no such folder" in error_of(tmp_path / "absent", "--annotations", annotations)
    assert "contains no metrics.json; give the --out folder" in error_of(images, "--annotations", annotations)
    assert "image folder" in error_of(first, "--annotations", annotations, "--images", tmp_path / "absent")
    assert "none of the 2 images to show can be read" in error_of(first, "--annotations", annotations, "--images", tmp_path)
    letter = tmp_path / "letter.html"
    letter.write_text("mine")
    assert "is not a report" in error_of(first, "--annotations", annotations, "--out", letter)
    assert letter.read_text() == "mine" and not (first / "report.html").exists()
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: exists and is not a report" in error_of(first, "--annotations", annotations, "--out", tmp_path / "pipe")
    assert f"is a folder; give the name of a file, such as {first / 'report.html'}" in error_of(
        first, "--annotations", annotations, "--out", first
    )
    (first / "config.yaml").write_text("[")
    assert "not YAML" in error_of(first, "--annotations", annotations)
    (first / "config.yaml").unlink()
    assert "config.yaml: No such file or directory; restore the file, or repeat" in error_of(first, "--annotations", annotations)
    with pytest.raises(SystemExit):
        command("report", first, "--annotations", annotations, "--gallery", -1)


def test_the_skeleton_is_read_from_the_file_in_the_settings(tmp_path, evaluated):
    _, _, first, _ = evaluated
    other = dataclasses.replace(COCO18, name="other", sigmas=tuple(2 * s for s in COCO18.sigmas))
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(json.loads(json.dumps(other.to_dict()))))
    (first / "config.yaml").write_text(yaml.safe_dump({"skeleton": str(tmp_path / "other.yaml")}))
    assert evaluations.skeleton_of(evaluations.read_evaluation(first)) == other
    (first / "config.yaml").write_text(yaml.safe_dump({"skeleton": None, "checkpoint": str(tmp_path)}))
    assert evaluations.skeleton_of(evaluations.read_evaluation(first)) == COCO18


def test_the_gallery_contains_best_median_worst_and_the_most_errors_of_each_kind(tmp_path):
    images = {number: (f"{number}.jpg", 900, 300) for number in range(1, 41)}
    people = [(number, person(200, 40)) for number in images]
    document = CocoFile(write_annotations(tmp_path / "a.json", images, people), COCO18)
    area = document.annotations[1][0].area
    results = [entry(shift_to(1 - number / 50, points, area), number, 1) for number, points in people]
    analysis = analyze(document, results, COCO18)
    chosen = gallery.choose(analysis.images, 4)
    by_group = {}
    for image_id, groups in chosen.items():
        for group in groups:
            by_group.setdefault(group, []).append(image_id)
    assert by_group["best"] == [1, 2, 3, 4] and by_group["median"] == [19, 20, 21, 22]
    assert sorted(by_group["worst"]) == [37, 38, 39, 40] and by_group["most jitter"] == [8]
    assert set(by_group) <= {"best", "median", "worst", *(f"most {kind}" for kind in ERRORS)}
    assert len(gallery.choose(analysis.images, 0)) == 0


def test_pictures_are_small_and_unreadable_images_are_skipped(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2500, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "large.png"), noise)
    names = ("large.png", "absent.png")
    images = [Image(id=n, file_name=name, width=2500, height=1500, license=None) for n, name in enumerate(names)]
    pictures, unreadable = gallery.pictures_of(images, tmp_path)
    assert list(pictures) == ["0"] and unreadable == {"absent.png": "No such file or directory"}
    assert len(pictures["0"]) < 400_000, "even a picture of noise, which does not compress"


def test_all_elements_that_the_scripts_use_are_in_the_page():
    folder = Path(report.__file__).parent / "page"
    html = (folder / "report.html").read_text()
    used = {name for script in folder.glob("*.js") for name in re.findall(r'\$\("([^"]+)"\)', script.read_text())}
    assert used and used <= set(re.findall(r'id="([^"]+)"', html))


def test_networks_with_other_joints_are_compared_on_one_file(evaluated, capsys):
    """Keypoints and OKS constants of the file decide the figures, not the joints that a network has beside them."""
    annotations, _, first, second = evaluated
    for folder, skeleton in ((first, COCO18), (second, read_skeleton("coco17"))):
        write_json(folder / "evaluation.json", {"skeleton": skeleton.to_dict(), "max_images": None})
    assert command("report", first, second, "--annotations", annotations) == 0
    strict = dataclasses.replace(COCO18, sigmas=tuple(sigma / 2 for sigma in COCO18.sigmas))
    write_json(second / "evaluation.json", {"skeleton": strict.to_dict(), "max_images": None})
    assert command("report", first, second, "--annotations", annotations) == 1
    assert "its skeleton 'coco18' differs from that of" in capsys.readouterr().err
