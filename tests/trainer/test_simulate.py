"""The simulation of many ranks reads a real record set of small rows with the real stream."""

import numpy as np
import pytest

from pipeline.records.contents import check_files
from pipeline.records.manifest import read_manifest
from trainer.commands.config import SimulateConfig
from trainer.commands.simulate import run, write_records


def test_every_sample_is_read_once_and_ranks_are_balanced(capsys):
    assert run(SimulateConfig(num_images=103, shards=4, batch_size=2, ranks=(1, 8))) == 0
    _, alone, eight = (line.split() for line in capsys.readouterr().out.splitlines())
    # 103 = 6 steps of 16, plus 7: in the last step the ranks get 2, 2, 2, 1, 0, 0, 0, 0 samples; 9 places are blank.
    assert alone[:8] == ["1", "103", "to", "103", "4", "to", "4", "1"]
    assert eight[:4] == ["8", "12", "to", "14"] and eight[7:9] == ["9", "yes"]


def test_it_writes_a_complete_record_set(tmp_path):
    bounds = write_records(tmp_path, SimulateConfig(num_images=10, shards=3))
    np.testing.assert_array_equal(bounds, [3, 7, 10])
    assert check_files(tmp_path, read_manifest(tmp_path), hashes=True) == []
    assert sum(shard.num_rows for shard in read_manifest(tmp_path).shards) == 10


def test_invalid_numbers_are_refused():
    for wrong in (0, 1_000_000_000):
        with pytest.raises(ValueError, match="ranks must be 1 to 100,000 each"):
            SimulateConfig(ranks=(wrong, 8))
    with pytest.raises(ValueError, match="num_images must be at most 100,000,000"):
        SimulateConfig(num_images=10**11)
