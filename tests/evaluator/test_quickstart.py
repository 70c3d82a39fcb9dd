"""The quickstart on few images and steps, as the console script runs it."""

import json
import subprocess
import sys

import pytest

SMALL = ["--num-images", "24", "--num-unseen", "5", "--variants", "1", "--num-steps", "2"]


def quickstart(*words):
    return subprocess.run([sys.executable, "-m", "evaluator.quickstart", *map(str, words)], capture_output=True, text=True)


@pytest.mark.slow
def test_the_quickstart_runs_and_continues(tmp_path):
    out = tmp_path / "quickstart"
    first = quickstart("--out", out, *SMALL)
    assert first.returncode == 0, first.stderr
    assert "{'AP': " in first.stdout and str(out) in first.stdout
    metrics = json.loads((out / "evaluation" / "metrics.json").read_text())
    assert metrics["num_images"] == 5 and set(metrics["figures"]) >= {"AP", "AP .5", "AR (L)"}
    assert list((out / "evaluation" / "pictures").iterdir()) and list((out / "preview").iterdir())
    results = (out / "evaluation" / "results.json").read_bytes()
    # So few people cannot be calibrated; the quickstart says so and goes on.
    assert "calibration needs at least 50 predicted people" in first.stderr and f"--checkpoint {out / 'run'}" in first.stdout

    again = quickstart("--out", out, *SMALL)
    assert again.returncode == 0 and "1. Generate training images: already done" in again.stdout
    assert (out / "evaluation" / "results.json").read_bytes() == results

    other = quickstart("--out", out, *SMALL, "--seed", "1")
    assert other.returncode == 1 and "other options" in other.stderr


def test_a_folder_with_other_files_is_rejected(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    done = quickstart("--out", tmp_path)
    assert done.returncode == 1 and "not empty" in done.stderr and [p.name for p in tmp_path.iterdir()] == ["letter.txt"]
