"""The simulation of many ranks asks the real stream, on a real set of small rows."""

import numpy as np
import pytest

from pipeline.records.manifest import check_files, read_manifest
from trainer.commands.simulate import SimulateConfig, run, write_set


def test_every_sample_is_seen_once_and_ranks_are_balanced(capsys):
    assert run(SimulateConfig(num_images=103, shards=4, batch_size=2, ranks=(1, 8))) == 0
    _, alone, eight = (line.split() for line in capsys.readouterr().out.splitlines())
    # 103 = 6 steps of 16 and 7 more: the last step gives 2, 2, 2, 1 and nothing to four ranks; 9 places stay blank.
    assert alone[:8] == ["1", "103", "to", "103", "4", "to", "4", "1"]
    assert eight[:4] == ["8", "12", "to", "14"] and eight[7:9] == ["9", "yes"]


def test_the_set_it_writes_is_a_whole_one(tmp_path):
    bounds = write_set(tmp_path, SimulateConfig(num_images=10, shards=3))
    np.testing.assert_array_equal(bounds, [3, 7, 10])
    assert check_files(tmp_path, read_manifest(tmp_path), hashes=True) == []
    assert sum(shard.num_rows for shard in read_manifest(tmp_path).shards) == 10


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="ranks must be numbers from 1 on"):
        SimulateConfig(ranks=(0, 8))
