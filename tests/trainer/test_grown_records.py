"""A run whose record set has got more variants since it started continues exactly as it would have."""

import json
from dataclasses import replace

import numpy as np
import pytest
from trainer_data import make_records, train

from pipeline.build.build import run as build
from pipeline.build.config import BuildConfig
from pipeline.records.manifest import read_manifest
from pipeline.samples.targets import TargetConfig
from trainer.run.checkpoint import read_newest


def log_of(run) -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in map(json.loads, (run / "log.jsonl").read_text().splitlines())]


@pytest.mark.slow
@pytest.mark.long
def test_a_run_resumes_after_its_records_have_grown(tmp_path, capsys):
    records = make_records(tmp_path)
    people = tmp_path / "people"
    config = BuildConfig(
        annotations=people / "annotations" / "person_keypoints_train2017.json", images=people / "train2017", out=records,
        variants=2, shards=2, jobs=1, targets=TargetConfig(insize=64),
    )  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "run"
    steps = 3 * -(-read_manifest(records).num_images // 4)  # three epochs: variants 0, 1, 0
    assert train(records, whole, "--max-steps", str(steps)) == 0
    assert train(records, run, "--max-steps", "2") == 0
    before = read_manifest(records)
    assert build(replace(config, variants=3)) == 0
    capsys.readouterr()
    assert train(records, run, "--max-steps", str(steps), "--resume") == 0
    assert "the records have 3 variants now; this run continues with the first 2" in capsys.readouterr().out
    first, second = read_newest(whole), read_newest(run)
    assert first.info.records_digest == second.info.records_digest == before.digest
    assert log_of(run) == log_of(whole)
    for name, tensor in first.tensors.items():
        assert not name.startswith(("network.", "optimizer.")) or np.array_equal(tensor, second.tensors[name]), name
    assert train(records, tmp_path / "new", "--max-steps", "1") == 0, "a new run uses all variants"
    assert read_newest(tmp_path / "new").info.records_digest == read_manifest(records).digest != before.digest
