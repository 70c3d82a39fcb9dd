"""The benchmarks of the builder measure a real build and say so."""

import json
import re

import pytest

from pipeline.commands import bench_build, bench_plan
from pipeline.commands.bench_build import BenchBuildConfig
from pipeline.commands.bench_plan import BenchPlanConfig, write_annotations
from pipeline.datasets.selection import PersonFilter, read_annotations
from pipeline.errors import UserError
from pipeline.skeletons import COCO18


def test_bench_build_says_what_a_sample_costs(people, annotations, capsys):
    config = BenchBuildConfig(annotations=annotations, images=people / "train2017", num_images=6, variants=2, insize=128)
    assert bench_build.run(config) == 0
    said = capsys.readouterr().out
    shares = [int(share) for share in re.findall(r"(-?\d+)%\n", said)]
    assert len(shares) == 8 and 90 <= sum(shares) <= 110, "the parts are the whole"
    (total,) = re.findall(r"([\d.]+) KB a sample", said)
    assert 3 < float(total) < 30
    assert re.search(r"PSNR of the crops at JPEG quality 90: mean [34]\d\.\d dB", said)
    assert [line.split()[:2] for line in said.splitlines()[-3:]] == [["1", "56,599"], ["4", "226,396"], ["16", "905,584"]]


def test_bench_build_needs_a_readable_image(annotations, tmp_path):
    with pytest.raises(UserError, match="no readable image"):
        bench_build.run(BenchBuildConfig(annotations=annotations, images=tmp_path))


def test_generated_annotations_are_read_like_any_others(tmp_path):
    write_annotations(tmp_path / "a.json", 40, 90)
    document = json.loads((tmp_path / "a.json").read_text())
    assert len(document["images"]) == 40 and len(document["annotations"]) == 90
    selection = read_annotations(tmp_path / "a.json", skeleton=COCO18, person_filter=PersonFilter())
    assert selection.counts["people_target"] > 30


def test_bench_plan_watches_a_real_build(capsys):
    assert bench_plan.run(BenchPlanConfig(num_images=60, num_people=120, seconds=0.5)) == 0
    parent, worker = map(float, re.findall(r"([\d.]+) GB", capsys.readouterr().out))
    assert 0.05 < parent < 3 and 0.05 < worker < 1
