"""The faults of `stress` degrade the fields as documented; `stress` and `bench-decode` print what they measure."""

import json
import re

import numpy as np
import pytest

from evaluator.ceiling import bench_decode, stress
from evaluator.ceiling.config import BenchDecodeConfig, StressConfig
from evaluator.ceiling.oracle import perfect_fields
from evaluator.ceiling.stress import FAULTS, degraded_fields
from pipeline.errors import UserError
from pipeline.samples.targets import TargetConfig
from pipeline.skeletons import COCO18

PERSON = np.concatenate(
    [np.random.default_rng(1).uniform((100, 50), (250, 350), (1, 18, 2)), np.full((1, 18, 1), 2)], axis=-1
).astype(np.float32)
SIZE_WH = (480, 400)


def degraded(fault, strength):
    return degraded_fields(PERSON, SIZE_WH, COCO18, TargetConfig(), fault, strength, np.random.default_rng(0))


@pytest.mark.parametrize("fault", FAULTS)
def test_stronger_faults_are_further_from_perfect(fault):
    perfect = perfect_fields(PERSON, SIZE_WH, COCO18, TargetConfig())
    distances = []
    for strength in FAULTS[fault]:
        fields = degraded(fault, strength)
        distances.append(np.square(fields.heatmaps - perfect.heatmaps).sum() + np.square(fields.pafs - perfect.pafs).sum())
    assert distances[0] == 0 and distances[-1] > 0
    assert distances[-1] >= max(distances[1:3])


def test_missing_peaks_keep_limbs_and_false_peaks_have_none():
    perfect = perfect_fields(PERSON, SIZE_WH, COCO18, TargetConfig())
    missing, false = degraded("missing", 0.3), degraded("false", 2.0)
    np.testing.assert_array_equal(missing.pafs, perfect.pafs)
    assert (missing.heatmaps[:-1].max(axis=(1, 2)) == 0).any()
    np.testing.assert_array_equal(false.pafs, perfect.pafs)
    assert (false.heatmaps[:-1] >= perfect.heatmaps[:-1]).all() and (false.heatmaps[:-1] > perfect.heatmaps[:-1] + 0.2).any()


def test_stress_prints_one_line_per_fault(annotations, capsys):
    assert stress.run(StressConfig(annotations=annotations, faults=("blur", "missing"), half="one")) == 0
    _, blur, missing = capsys.readouterr().out.splitlines()
    figures = [[float(ap) for ap in re.findall(r": (\d\.\d+)", line)] for line in (blur, missing)]
    assert figures[0][0] == figures[1][0] > 0.9 and figures[1][-1] < figures[1][0]


def test_a_negative_seed_is_rejected(annotations):
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        StressConfig(annotations=annotations, seed=-1)


def test_halves_are_disjoint_and_cover_all_images(annotations, capsys, monkeypatch):
    scored = []
    monkeypatch.setattr(stress, "_score", lambda config, document, skeleton, ids, fault, strength: scored.append(ids) or 0.0)
    for half in ("one", "other", "all"):
        assert stress.run(StressConfig(annotations=annotations, faults=("blur",), half=half)) == 0
        assert capsys.readouterr().out.startswith(f"AP by strength; images: {len(scored[-1])}\n")
    one, other, whole = (scored[i * len(FAULTS["blur"])] for i in range(3))
    assert one and other and sorted(one + other) == whole


def test_bench_decode_prints_images_and_crowds(annotations, capsys):
    assert bench_decode.run(BenchDecodeConfig(annotations=annotations, num_images=5, repeats=1)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:14].strip() for line in lines] == ["ms", "images", "30 people", "100 people"]
    for line in lines[1:]:
        assert 98 <= sum(map(int, re.findall(r"(\d+)%", line))) <= 102


def test_annotations_without_people_are_rejected(annotations, tmp_path):
    document = json.loads(annotations.read_text())
    (tmp_path / "empty.json").write_text(json.dumps({**document, "annotations": []}))
    for run, config in ((stress.run, StressConfig), (bench_decode.run, BenchDecodeConfig)):
        with pytest.raises(UserError, match="no person has labeled joints"):
            run(config(annotations=tmp_path / "empty.json"))
