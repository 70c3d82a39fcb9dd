"""The command `score`: results of any program have the figures of pycocotools, and a report."""

import json
import re

import pytest
from metric_data import write_people
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from evaluator.__main__ import COMMANDS
from evaluator.metrics.figures import FIGURES
from pipeline.cli import main
from pipeline.skeletons import COCO18


def command(*words):
    return main("python -m evaluator", "", COMMANDS, list(map(str, words)))


@pytest.fixture
def people(tmp_path):
    """An annotation file, and results without box."""
    annotations, results = write_people(tmp_path, COCO18)
    return annotations, results


def written(path, results):
    path.write_text(json.dumps(results))
    return path


def of_pycocotools(annotations, path):
    truth = COCO(str(annotations))
    job = COCOeval(truth, truth.loadRes(str(path)), "keypoints")
    job.evaluate(), job.accumulate(), job.summarize()
    return dict(zip(FIGURES, job.stats.tolist(), strict=True))


@pytest.mark.parametrize("boxes", [False, True], ids=["without boxes", "with boxes"])
def test_the_figures_are_those_of_pycocotools(people, tmp_path, capsys, boxes):
    annotations, results = people
    if boxes:  # pycocotools takes the size of a result from its box
        results = [{**entry, "bbox": [0, 0, 30 + i % 90, 70]} for i, entry in enumerate(results)]
    path = written(tmp_path / "r.json", results)
    expected = of_pycocotools(annotations, path)
    capsys.readouterr()
    assert command("score", "--results", path, "--annotations", annotations) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str({name: round(value, 4) for name, value in expected.items()})
    assert 0.05 < expected["AP (M)"] < 0.95 and 0.05 < expected["AP (L)"] < 0.95
    if boxes:
        assert expected != of_pycocotools(annotations, written(tmp_path / "without.json", people[1]))


def test_results_without_score_are_equal_and_said(people, tmp_path, capsys):
    annotations, results = people
    equal = written(tmp_path / "equal.json", [{**entry, "score": 1} for entry in results])
    without = written(tmp_path / "without.json", [{k: v for k, v in entry.items() if k != "score"} for entry in results])
    assert command("score", "--results", equal, "--annotations", annotations) == 0
    expected = capsys.readouterr().out.splitlines()
    assert command("score", "--results", without, "--annotations", annotations) == 0
    said, *lines = capsys.readouterr().out.splitlines()
    assert said == f"{without}: {len(results)} of {len(results)} results without score, as if it were 1" and lines == expected


def test_several_files_beside_each_other(people, tmp_path, capsys):
    annotations, results = people
    (tmp_path / "theirs").mkdir()
    one, other = written(tmp_path / "r.json", results), written(tmp_path / "theirs" / "r.json", results[::2])
    out = tmp_path / "out"
    words = ("score", "--results", one, other, "--annotations", annotations, "--metric", "coco", "pck")
    assert command(*words, "--out", out) == 0
    printed = capsys.readouterr().out
    figures = [of_pycocotools(annotations, path) for path in (one, other)]
    row = re.search(r"^AP +(\S+) +(\S+)$", printed, re.MULTILINE)
    assert [float(value) for value in row.groups()] == [round(each["AP"], 4) for each in figures]
    assert sorted(path.name for path in out.iterdir()) == ["1-r", "2-r", "report.html"]
    data = json.loads(re.search(r'id="data">(.*?)</script>', (out / "report.html").read_text(), re.DOTALL)[1])
    assert [run["name"] for run in data["runs"]] == [str(one), str(other)]
    metrics = json.loads((out / "2-r" / "metrics.json").read_text())
    assert metrics["figures"] == pytest.approx(figures[1], abs=1e-12)
    assert data["runs"][1]["others"] == metrics["others"] and 0 < metrics["others"]["pck"]["figures"]["PCK@0.2 best"] < 1
    assert command("report", out / "1-r", out / "2-r", "--annotations", annotations, "--out", tmp_path / "again.html") == 0
    assert command(*words, "--out", out) == 1, "an output is not overwritten"


def test_one_file_becomes_an_evaluation_with_its_report(people, tmp_path):
    annotations, results = people
    path, out = written(tmp_path / "r.json", results), tmp_path / "out"
    assert command("score", "--results", path, "--annotations", annotations, "--out", out) == 0
    assert sorted(file.name for file in out.iterdir()) == [
        "config.yaml", "evaluation.json", "metrics.json", "report.html", "results.json",
    ]  # fmt: skip
    assert json.loads((out / "results.json").read_text()) == results
    assert command("report", out, "--annotations", annotations) == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"image_id": 999},
            "results file .*bad.json: .*images of the results that are not in the annotation file: 1, .* image 999",
        ),
        ({"category_id": 3}, "categories of the results other than 1, people: 1, for example category 3"),
        ({"keypoints": [1.0, 2.0, 2.0] * 14}, "results without 51 keypoint values"),
        ({"bbox": [1, 2, 3]}, r"bad.json: .*bbox must be x, y, width, height, got 3 numbers"),
        (
            {"confidences": [0.5] * 3},
            "results whose confidences are not 17 numbers, one per joint: 1, for example result number 0",
        ),
        ({"score": "high"}, r"bad.json: \[0\].score"),
    ],
)
def test_results_that_do_not_fit_are_refused(people, tmp_path, capsys, change, reason):
    annotations, results = people
    path = written(tmp_path / "bad.json", [{**results[0], **change}, *results[1:]])
    assert command("score", "--results", path, "--annotations", annotations, "--out", tmp_path / "out") == 1
    assert re.search(reason, capsys.readouterr().err) and not (tmp_path / "out").exists()


def test_an_unknown_skeleton_needs_skeleton(people, tmp_path, capsys):
    annotations, results = people
    annotations.write_text(annotations.read_text().replace('"nose"', '"beak"'))
    assert command("score", "--results", written(tmp_path / "r.json", results), "--annotations", annotations) == 1
    assert "not the keypoints of a shipped skeleton (beak, " in capsys.readouterr().err
