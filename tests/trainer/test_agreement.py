"""Ranks that differ are named before the first step; launchers see each other through files. No processes."""

import json

import numpy as np
import pytest

from pipeline.errors import UserError
from trainer.distributed import agreement
from trainer.distributed.agreement import code_digest, require_agreement, weights_crc32
from trainer.distributed.hosts import PUBLISH_S, STATUS, Hosts, host_folder
from trainer.distributed.world import BEAT_FILE, BEAT_S, Heart, World, is_launched, join

FACTS = {"step": 0, "weights (CRC32)": 123456789, "--lr": 1e-4, "--seed": 0}


class FakeWorld(World):
    """A world whose other ranks add the rows of `others` to the reduced table."""

    def summing(self):
        import mindspore as ms

        return lambda tensor: ms.Tensor(tensor.asnumpy() + self.others)


def world_with(rank, *facts):
    """Return rank `rank` of a world whose ranks have these facts."""
    rows = []
    for other, own in enumerate(facts):
        row = np.zeros((len(facts), 1 + agreement.MAX_FACTS, 2), np.float32)
        if other != rank:
            row[other, : 1 + len(own)] = [agreement._digits("\n".join(own)), *map(agreement._digits, own.values())]
        rows.append(row)
    world = FakeWorld(rank=rank, size=len(facts))
    object.__setattr__(world, "others", np.sum(rows, axis=0))
    return world


def test_equal_ranks_agree():
    require_agreement(world_with(1, FACTS, FACTS, FACTS), FACTS)


@pytest.mark.parametrize(("name", "value"), [("step", 5), ("weights (CRC32)", 123456790), ("--lr", 2e-4), ("--seed", 1)])
@pytest.mark.parametrize("rank", [0, 2])
def test_every_rank_names_the_one_that_differs_and_the_field(name, value, rank):
    other = {**FACTS, name: value}
    facts = [FACTS, FACTS, other]
    with pytest.raises(UserError) as caught:
        require_agreement(world_with(rank, *facts), facts[rank])
    text = str(caught.value)
    assert f"rank 2 differs from rank 0 in {name}" in text and f"On rank {rank}, {name} is {facts[rank][name]}" in text
    assert "rank 1" not in text


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_of_another_version_with_more_options_is_named_alone(rank):
    """The values of its options are not compared: they are in other places of the table."""
    facts = [FACTS, {"step": 3, "--new": 1, **FACTS}]
    with pytest.raises(UserError, match="rank 1 differs from rank 0 in the names of the options") as caught:
        require_agreement(world_with(rank, *facts), facts[rank])
    assert "--lr" not in str(caught.value) and "On rank" not in str(caught.value)


def test_hashes_are_exact_in_float32():
    for value in ("", "a", 2**40, -1.5, [1, 2]):
        digits = agreement._digits(value)
        assert np.array(digits, np.float32).tolist() == digits and max(digits) < 2**16


def test_weights_and_code_have_a_checksum(tmp_path):
    weights = [np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)]
    assert weights_crc32(weights) == weights_crc32([w.copy() for w in weights]) != weights_crc32([weights[0], 2 * weights[1]])
    (tmp_path / "a.py").write_text("x = 1\n")
    before = code_digest([tmp_path])
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_digest([tmp_path]) != before


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def pair(tmp_path):
    """Two launchers that share a folder, and their clock; what an earlier job left is there already."""
    old = host_folder(tmp_path, 1)
    old.mkdir(parents=True)
    (old / STATUS).write_text(json.dumps({"state": "failed", "message": "long ago", "token": "old", "count": 9}))
    clock = Clock()
    return clock, [Hosts(tmp_path, nodes=2, node_rank=n, timeout_s=30, clock=clock) for n in (0, 1)]


def advance(clock, *hosts, seconds=PUBLISH_S):
    clock.now += seconds
    for host in hosts:
        host.update()


def test_a_host_of_an_earlier_job_is_missing_until_it_writes(pair):
    clock, (first, second) = pair
    advance(clock, first)
    assert first.missing() == [1] and first.problem() == ""
    advance(clock, second, first)
    assert first.missing() == [] and first.problem() == ""


@pytest.mark.parametrize(
    ("state", "message", "expected"),
    [
        ("failed", "out of disk", "host 1 failed: out of disk"),
        ("stopped", "", "host 1 was stopped by a signal"),
        ("done", "", ""),
    ],
)
def test_the_end_of_a_host_is_seen_by_the_others(pair, state, message, expected):
    clock, (first, second) = pair
    advance(clock, second, first)
    second.publish(state, message)
    advance(clock, first)
    assert first.problem() == expected
    advance(clock, first, seconds=1000)
    assert first.problem() == expected  # a host that is done may be silent


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        '{"state": []}',
        '{"state": "failed"}',
        "\\ud800",
        '{"state": "gone", "message": "", "token": "", "count": 1}',
    ],
)
def test_a_status_file_with_other_content_counts_as_silence(pair, text, tmp_path):
    clock, (first, second) = pair
    advance(clock, second, first)
    (host_folder(tmp_path, 1) / STATUS).write_text(text)
    advance(clock, first)
    assert first.problem() == ""
    advance(clock, first, seconds=31)
    assert "host 1 disappeared" in first.problem()


def test_a_message_of_another_host_is_printed_without_terminal_escapes(pair):
    clock, (first, second) = pair
    advance(clock, second, first)
    second.publish("failed", "\x1b[31mred\n")
    advance(clock, first)
    assert first.problem() == "host 1 failed: \\x1b[31mred\\n"


def test_a_silent_host_is_lost_after_the_timeout(pair):
    clock, (first, second) = pair
    advance(clock, second, first)
    advance(clock, first, seconds=30)
    assert first.problem() == ""
    advance(clock, first)
    assert first.problem() == "host 1 disappeared: its launcher has written nothing for 30 s"


def test_a_damaged_status_file_means_nothing(pair, tmp_path):
    clock, (first, second) = pair
    advance(clock, second, first)
    for text in ("{", "[]", "\x00"):
        (host_folder(tmp_path, 1) / STATUS).write_text(text)
        advance(clock, first)
        assert first.problem() == ""


def test_steps_are_reported_at_most_once_per_second(tmp_path, monkeypatch):
    """A process that waits at a step, for the validation, reports too, so that `launch` does not take it for hanging."""
    clock, path = Clock(), tmp_path / "beat"
    monkeypatch.setenv(BEAT_FILE, str(path))
    heart = Heart(clock)
    for step, seconds, written in ((1, 0, "1 1"), (2, BEAT_S / 2, "1 1"), (3, BEAT_S / 2, "3 2"), (3, BEAT_S, "3 3")):
        clock.now += seconds
        heart.beat(step)
        assert path.read_text() == written


def test_an_exported_rank_table_does_not_make_a_single_process_a_rank(monkeypatch):
    for name in ("MS_ROLE", "RANK_ID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK_TABLE_FILE", "/etc/hccl.json")
    assert not is_launched() and join() == World()
    monkeypatch.setenv("RANK_ID", "0")
    assert is_launched()


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"])
def test_several_tasks_without_launch_are_refused(monkeypatch, name):
    for other in ("MS_ROLE", "RANK_TABLE_FILE"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "4")
    with pytest.raises(UserError, match=rf"4 processes were started \({name}\).*launch` per host"):
        join()
