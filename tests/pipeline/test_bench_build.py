"""The benchmarks of the builder measure real builds."""

import json
import re

import pytest
from pipeline_data import build_config

from pipeline.build import worker
from pipeline.commands import bench_build, bench_plan
from pipeline.commands.bench_plan import write_annotations
from pipeline.commands.config import BenchBuildConfig, BenchPlanConfig
from pipeline.datasets.selection import PersonFilter, read_annotations
from pipeline.errors import UserError
from pipeline.runtime.timing import StageTimes
from pipeline.skeletons import COCO18


def test_bench_build_reports_time_and_size_of_a_sample(people, annotations, capsys):
    config = BenchBuildConfig(annotations=annotations, images=people / "train2017", num_images=6, variants=2, insize=128)
    assert bench_build.run(config) == 0
    output = capsys.readouterr().out
    shares = [int(share) for share in re.findall(r"(-?\d+)%\n", output)]
    assert len(shares) == 8 and 90 <= sum(shares) <= 110, "the stages add up to the total"
    (total,) = re.findall(r"([\d.]+) KB per sample", output)
    assert 3 < float(total) < 30
    assert re.search(r"PSNR of the crops at JPEG quality 90: mean [34]\d\.\d dB", output)
    assert [line.split()[:2] for line in output.splitlines()[-3:]] == [["1", "56,599"], ["4", "226,396"], ["16", "905,584"]]


def test_bench_build_without_readable_images_is_an_error(annotations, tmp_path):
    with pytest.raises(UserError, match="no readable image"):
        bench_build.run(BenchBuildConfig(annotations=annotations, images=tmp_path))


def test_generated_annotations_are_valid(tmp_path):
    write_annotations(tmp_path / "a.json", 40, 90)
    document = json.loads((tmp_path / "a.json").read_text())
    assert len(document["images"]) == 40 and len(document["annotations"]) == 90
    selection = read_annotations(tmp_path / "a.json", skeleton=COCO18, person_filter=PersonFilter())
    assert selection.counts["people_target"] > 30


def test_bench_build_times_the_stages_of_the_builder(people, annotations, tmp_path):
    """The stages that the benchmark prints are those that `make_row` announces, and timing does not change the row."""
    config = build_config(people, tmp_path)
    sample = read_annotations(annotations, skeleton=COCO18, person_filter=PersonFilter()).samples[0]
    times = StageTimes()
    image, ignore = worker.read_sample(config, sample, times.timed)
    row, entry = worker.make_row(config, sample, image, ignore, 0, times.timed)
    assert worker.make_row(config, sample, image, ignore, 0) == (row, entry)
    measured, _ = bench_build._time_stages(config, [sample])
    assert list(measured.seconds) == list(times.seconds) and len(times.seconds) == 7


@pytest.mark.slow
@pytest.mark.long
def test_bench_plan_watches_a_real_build(capsys):
    assert bench_plan.run(BenchPlanConfig(num_images=600, num_people=1200, seconds=0.5)) == 0
    parent, worker = map(float, re.findall(r"([\d.]+) GB", capsys.readouterr().out))
    assert 0.05 < parent < 3 and 0.05 < worker < 1
