"""Calibration: which people are right, the fit beside a known probability, its error, and the command `calibrate`."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from calibration_data import write_calibratable
from evaluator_data import person, write_annotations
from job_data import NoiseNetwork, write_images
from trainer_data import make_info, small_tensors

from evaluator.__main__ import COMMANDS
from evaluator.decoding.scores import ScoreMap, score_map
from evaluator.inference.config import InferConfig
from evaluator.inference.scoring import MAX_KNOTS, read_calibration
from evaluator.jobs.config import MergeConfig, RunConfig
from evaluator.jobs.merge import run as merge
from evaluator.jobs.run import evaluate_source
from evaluator.metrics.calibration import Judged, cross_fit, fit, judge, reliability
from evaluator.metrics.coco_eval import evaluate
from pipeline.cli import main
from pipeline.datasets.coco import CocoFile
from pipeline.skeletons import COCO18
from pipeline.storage.files import file_facts, write_json
from trainer.run.checkpoint import read_checkpoint, save_checkpoint


def entry(points, image_id, raw):
    return {"image_id": image_id, "category_id": 7, "keypoints": points.ravel().tolist(), "score": raw / 100, "raw_score": raw}


def test_people_are_right_as_coco_matches_them_and_crowds_do_not_count(tmp_path):
    images = {1: ("1.png", 900, 400), 2: ("2.png", 900, 400)}
    unlabeled = person(700, 60) * (1, 1, 0)
    truth = [(1, person(100, 60)), (2, person(100, 60))]
    document = CocoFile(
        write_annotations(tmp_path / "a.json", images, truth, crowds=[(1, person(400, 60)), (1, unlabeled)]), COCO18
    )
    results = [
        entry(person(102, 60), 1, 3.0),  # matched by the better-ranked one below
        entry(person(103, 60), 1, 5.0),  # right, although the other fits better
        entry(person(400, 60), 1, 4.0),  # a crowd
        entry(person(600, 90), 2, 9.0),  # nobody
        *(entry(person(600 + n, 60), 2, 2.0 + n / 100) for n in range(30)),  # beyond COCO's 20 per image
        entry(person(100, 60), 2, 1.0),  # right, but last of 32
    ]
    judged = judge(document, results, COCO18)
    assert judged.raw.tolist() == [entry["raw_score"] for entry in results if entry["raw_score"] != 4.0]
    assert judged.raw[judged.is_right].tolist() == [5.0, 1.0] and len(judged) == 34
    assert judged.image_ids.tolist() == [1] * 2 + [2] * 32


def logistic(raw):
    return 1 / (1 + np.exp(-(raw - 8) / 2))


def sample(count, seed):
    rng = np.random.default_rng(seed)
    raw = rng.gamma(1.0, 6, count)
    return Judged(
        raw=raw, scores=raw / 100, is_right=rng.random(count) < logistic(raw), image_ids=rng.integers(0, count // 3, count)
    )


@pytest.mark.parametrize(("count", "error"), [(300, 0.06), (3000, 0.025), (30_000, 0.012)])
def test_the_fit_approaches_the_true_probability_with_more_people(count, error):
    judged, unseen = sample(count, 0), sample(20_000, 1)
    knots = fit(judged.raw, judged.is_right)
    scores = ScoreMap(half=1, knots=knots)(unseen.raw)
    assert np.abs(scores - logistic(unseen.raw)).mean() < error
    assert reliability(scores, unseen.is_right).ece < error < reliability(score_map(COCO18)(unseen.raw), unseen.is_right).ece
    assert len(knots) <= MAX_KNOTS


def test_cross_fitting_measures_the_error_on_other_images():
    """The right people are random: a fit follows its own images, but predicts nothing about others."""
    rng = np.random.default_rng(0)
    raw = rng.random(4000)
    judged = Judged(raw=raw, scores=raw, is_right=rng.random(4000) < 0.3, image_ids=np.arange(4000) // 4)
    crossed = cross_fit(judged)
    assert np.corrcoef(crossed, judged.is_right)[0, 1] < 0.05
    assert np.abs(crossed - 0.3).mean() < 0.05
    assert (cross_fit(judged) == crossed).all()


def test_the_calibration_error_is_that_of_a_hand_made_example():
    scores, is_right = np.array([0.9, 0.8, 0.1, 0.2]), np.array([True, False, False, False])
    measured = reliability(scores, is_right, num_bins=2)
    assert measured.score == pytest.approx([0.15, 0.85]) and measured.right.tolist() == [0, 0.5]
    assert measured.ece == pytest.approx((0.15 + 0.35) / 2) and measured.count.tolist() == [2, 2]
    assert reliability([], np.zeros(0, bool)).ece == 0


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A checkpoint, and the evaluation of a network of that name whose people are right where the images are annotated so."""
    folder = tmp_path_factory.mktemp("calibrate")
    annotations, images = write_images(folder, count=24)
    checkpoint = folder / "run" / "step-00000007.safetensors"
    checkpoint.parent.mkdir()
    save_checkpoint(checkpoint, make_info(), small_tensors())
    options = {"annotations": annotations, "images": images, "pictures": 0}
    origin = {"checkpoint": file_facts(checkpoint)["sha256"], "step": 7, "epoch": 1}
    assert evaluate_source(RunConfig(checkpoint=checkpoint, out=folder / "first", **options), NoiseNetwork(), origin) == 0
    _annotate_strong_people(annotations, folder / "first")
    assert evaluate_source(RunConfig(checkpoint=checkpoint, out=folder / "ap", **options), NoiseNetwork(), origin) == 0
    return folder, checkpoint, options


def _annotate_strong_people(annotations: Path, evaluation: Path) -> None:
    """Replace the annotations by the predicted people, the more probably the higher their score."""
    document, rng = json.loads(annotations.read_text()), np.random.default_rng(0)
    results = json.loads((evaluation / "results.json").read_text())
    raw = np.array([result["raw_score"] for result in results])
    chosen = rng.random(len(raw)) < raw.argsort().argsort() / len(raw)
    for result, is_right in zip(results, chosen, strict=True):
        if is_right:
            points = np.reshape(result["keypoints"], (-1, 3)) * (1, 1, 2)
            number = max(entry["id"] for entry in document["annotations"]) + 1
            document["annotations"].append(
                {**document["annotations"][0], "id": number, "image_id": result["image_id"], "keypoints": points.ravel().tolist(),
                 "num_keypoints": int((points[:, 2] > 0).sum()), "area": 900.0}
            )  # fmt: skip
    annotations.write_text(json.dumps(document))


def calibrate(folder, checkpoint, out, evaluation="ap", annotations="annotations.json"):
    words = ["--evaluation", folder / evaluation, "--annotations", folder / annotations, "--checkpoint", checkpoint, "--out", out]
    return main("python -m evaluator", "", COMMANDS, ["calibrate", *map(str, words)])


def test_a_calibrated_checkpoint_has_the_same_ap_and_scores_that_are_probabilities(evaluated, tmp_path, capsys):
    folder, checkpoint, options = evaluated
    out = tmp_path / "calibrated.safetensors"
    assert calibrate(folder, checkpoint.parent, out) == 0
    printed = capsys.readouterr().out
    assert "expected calibration error: 0." in printed
    info, tensors = read_checkpoint(out)
    before, old = read_checkpoint(checkpoint)
    assert before.calibration == {} and dataclasses.replace(before, calibration=info.calibration) == info
    assert tensors.keys() == old.keys() and all((tensors[name] == old[name]).all() for name in old)
    calibration = read_calibration(info.calibration, "checkpoint")
    assert calibration.ece_after < calibration.ece_before and calibration.num_images == 24

    origin = {"checkpoint": file_facts(out)["sha256"], "step": 7, "epoch": 1, "calibration": info.calibration}
    config = RunConfig(checkpoint=out, out=tmp_path / "ap", **options)
    assert evaluate_source(config, NoiseNetwork(), origin) == 0
    assert "calibrated with other settings" not in capsys.readouterr().err
    documents = [json.loads((path / "results.json").read_text()) for path in (folder / "ap", tmp_path / "ap")]
    figures = [json.loads((path / "metrics.json").read_text())["figures"] for path in (folder / "ap", tmp_path / "ap")]
    assert figures[0] == figures[1] and figures[0]["AP .5"] > 0.2
    assert [{**a, "score": 0} for a in documents[0]] == [{**b, "score": 0} for b in documents[1]]
    judged = judge(CocoFile(options["annotations"], COCO18), documents[1], COCO18)
    assert reliability(judged.scores, judged.is_right).ece < 0.5 * calibration.ece_before

    for number in (1, 2):
        shard = RunConfig(checkpoint=out, out=tmp_path / f"part{number}", shard=f"{number}/2", **options)
        assert evaluate_source(shard, NoiseNetwork(), origin) == 0
    parts = tuple(tmp_path / f"part{number}" for number in (1, 2))
    assert merge(MergeConfig(parts=parts, annotations=options["annotations"], out=tmp_path / "merged")) == 0
    assert (tmp_path / "merged" / "results.json").read_bytes() == (tmp_path / "ap" / "results.json").read_bytes()

    capsys.readouterr()
    other = RunConfig(checkpoint=out, out=tmp_path / "mirror", max_images=1, inference=InferConfig(mirror=True), **options)
    assert evaluate_source(other, NoiseNetwork(), origin) == 0
    assert "calibrated with other settings (mirror: False then, True now)" in capsys.readouterr().err


def test_files_that_do_not_belong_together_are_named(tmp_path, capsys):
    folder = write_calibratable(tmp_path / "set")
    [checkpoint] = (folder / "run").iterdir()

    def error_of(*args, **more):
        assert calibrate(*args, **more) == 1
        error = capsys.readouterr().err
        assert "Traceback" not in error
        return error

    out = tmp_path / "out.safetensors"
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, make_info(step=8), small_tensors())
    assert "not the checkpoint of evaluation" in error_of(folder, other, out)
    assert "contains no checkpoint of evaluation" in error_of(folder, tmp_path, out)
    (folder / "other.json").write_text((folder / "annotations.json").read_text() + " ")
    assert "not the file that" in error_of(folder, checkpoint, out, annotations="other.json")
    assert "already exists" in error_of(folder, checkpoint, other)
    (tmp_path / "config.yaml").touch()
    (tmp_path / "log.jsonl").touch()
    assert "in a run folder" in error_of(folder, checkpoint, out)
    out = tmp_path / "new" / "out.safetensors"
    results = json.loads((folder / "ap" / "results.json").read_text())
    identity = json.loads((folder / "ap" / "evaluation.json").read_text())
    for name, change, message in (
        ("results", results[:20], "needs at least 50 predicted people in 10 images, 10 of them right, got 20 in 10, 10 right"),
        ("results", [{**results[0], "raw_score": -1}], "raw_score must not be negative"),
        ("results", [{key: results[0][key] for key in results[0] if key != "raw_score"}], "of an earlier version"),
        ("evaluation", {**identity, "people": {"bytes": 1, "sha256": "0" * 64}}, "is a shard; combine"),
        ("evaluation", {key: identity[key] for key in identity if key != "checkpoint"}, "of stored fields"),
        ("evaluation", {key: identity[key] for key in identity if key != "mirror"}, "missing required field `mirror`"),
    ):
        file = folder / "ap" / f"{name}.json"
        before = file.read_text()
        write_json(file, change)
        assert message in error_of(folder, checkpoint, out)
        file.write_text(before)
    assert not out.parent.exists()
    assert calibrate(folder, checkpoint, out) == 0


def test_evaluation_does_not_change_with_any_increasing_map(evaluated):
    folder, _, options = evaluated
    document = CocoFile(options["annotations"], COCO18)
    results = json.loads((folder / "ap" / "results.json").read_text())
    raw = [{**result, "score": result["raw_score"]} for result in results]
    assert evaluate(document, raw, COCO18) == evaluate(document, results, COCO18)
