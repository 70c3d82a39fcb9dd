"""`bench-stream`: sizes on disk are those of the records, and the comparison is per core."""

import pytest

from pipeline.errors import UserError
from trainer.commands.bench_stream import Rate, run, table
from trainer.commands.config import BenchStreamConfig


@pytest.mark.slow
def test_it_measures_both_codecs_and_on_the_fly_augmentation(people, annotations, capsys):
    config = BenchStreamConfig(
        annotations=annotations,
        images=people / "train2017",
        num_images=6,
        insize=64,
        batch_size=4,
        seconds=0.2,
        device_ms=(20.0,),
    )
    assert run(config) == 0
    title, jpeg, raw, fly, _, simulated_title, *simulated = capsys.readouterr().out.splitlines()
    assert (
        simulated_title.split() == ["device", "ms", "max", "img/s", "got", "img/s", "data", "wait", "host", "cores", "busy"]
        and len(simulated) == 2
    )
    for line in simulated:  # 4 samples in 20 ms, plus waiting
        max_rate, rate, waited, host = (float(word.rstrip("%")) for word in line.split()[3:7])
        assert max_rate == 200 and 0 < rate <= 200 and 0 <= waited + host < 100
    assert "35 img/s" in title and fly.startswith("on the fly")
    size = {line.split()[0]: float(line.split()[5]) for line in (jpeg, raw)}
    assert 64 * 64 * 3 / 1e3 < size["raw"] < 64 * 64 * 3 / 1e3 + 10 and size["jpeg"] < size["raw"]


def test_the_table_compares_per_core_with_the_last_line():
    slow = Rate(num_samples=100, wall_s=1.0, cpu_s=1.0, sample_bytes=160_000)
    fast = Rate(num_samples=3000, wall_s=1.0, cpu_s=2.0, sample_bytes=36_500)
    assert table({"jpeg records": fast, "on the fly": slow})[1].split() == [
        "jpeg",
        "records",
        "3,000",
        "1,500",
        "15.0",
        "36.5",
        "42.9",
        "15.0",
    ]


def test_bad_input_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"no\.json"):
        run(BenchStreamConfig(annotations=tmp_path / "no.json", images=tmp_path))
    for wrong in ({"seconds": 1e-9}, {"device_ms": (1e5,)}, {"insize": 100}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            BenchStreamConfig(annotations=tmp_path, images=tmp_path, **wrong)
