"""Launchers, schedulers and ranks that fail, differ, or are started by Slurm: every host ends and says why."""

import os
import re
import time

import pytest
from launch_jobs import (
    assert_no_process_left,
    assert_same,
    ended,
    free_port,
    launch,
    launch_host,
    launch_hosts,
    ranks_of,
    start,
    train_words,
    wait_for_step,
)
from trainer_data import make_records

from trainer.run import checkpoint

pytestmark = pytest.mark.slow

LONG = ("--max-steps", "100000")
# Imported by Python at its start, before the command itself. Rank 1 finds every step not finite, and prints its weights at the end.
PATCH_OF_RANK_1 = """
import os
if os.environ.get("RANK_ID") is not None and os.environ.get("MS_ROLE") == "MS_WORKER":
    from mindspore import ops
    import trainer.loop.reduction
    import trainer.loop.training
    from trainer.distributed.agreement import weights_crc32

    def never_finite(values):
        return ops.isnan(values[0].sum())

    if os.environ["RANK_ID"] == "1":
        trainer.loop.reduction.locally_finite = never_finite

    def run(training, run=trainer.loop.training.Training.run):
        print("before", weights_crc32(p.asnumpy() for p in training.state.network.get_parameters()), flush=True)
        try:
            return run(training)
        finally:
            print("after", weights_crc32(p.asnumpy() for p in training.state.network.get_parameters()), flush=True)

    trainer.loop.training.Training.run = run
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


@pytest.mark.long
@pytest.mark.parametrize("victim", ["scheduler", "launcher"])
def test_a_lost_scheduler_or_first_launcher_ends_both_hosts(records, tmp_path, victim):
    run = tmp_path / "run"
    hosts = launch_hosts(*train_words(records, run, 2, *LONG), more=("--host-seconds", "10"))
    wait_for_step(run, 3, *hosts)
    if victim == "scheduler":
        ranks_of(run)["scheduler"].kill()
    else:
        hosts[0].kill()
    killed_s = time.monotonic()
    (first, output), (second, other_output) = [ended(host) for host in hosts]
    assert first != 0 and second != 0 and time.monotonic() - killed_s < 75, (output, other_output)
    if victim == "scheduler":
        assert "the scheduler was killed by SIGKILL" in output and "host 0 failed: the scheduler was killed" in other_output
    assert_no_process_left(run)
    assert ".cc:" not in output + other_output


@pytest.mark.long
def test_a_host_that_does_not_resume_is_named(records, tmp_path):
    run = tmp_path / "run"
    words = train_words(records, run, 2)
    code, output = ended(launch(*words, "--max-steps", "5"))
    assert code == 0, output
    port, fresh = free_port(), [word for word in words if word != "--resume"]
    hosts = [launch_host(0, port, *words), launch_host(1, port, *fresh)]
    ends = [ended(host) for host in hosts]
    assert [code for code, _ in ends] == [1, 1]
    for _, output in ends:
        assert re.search(r"rank 1 differs from rank 0 in .*step", output), ends
    assert_no_process_left(run)


@pytest.mark.long
def test_slurm_starts_two_hosts_without_options(records, tmp_path):
    job = {"SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "localhost,other", "SLURM_JOB_ID": str(time.time_ns() % 10_000)}
    slurm = {**job, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NUM_TASKS": "2"}
    words = train_words(records, tmp_path / "run", 2, "--max-steps", "5")
    hosts = [
        start("trainer", "launch", "--workers", "1", "--", *words, environment={**os.environ, **slurm, "SLURM_NODEID": number})
        for number in ("0", "1")
    ]
    (code, output), (other_code, other_output) = [ended(host) for host in hosts]
    assert code == 0 == other_code and "saved at step 5" in output, output + other_output
    table = tmp_path / "hccl.json"  # exported for other programs: a single process must not join a job
    table.write_text("{}")
    code, output = ended(
        start(
            "trainer", *train_words(records, tmp_path / "one", 4, "--max-steps", "5"),
            environment={**os.environ, "RANK_TABLE_FILE": str(table)},
        )
    )  # fmt: skip
    assert code == 0, output
    assert_same(tmp_path / "run", tmp_path / "one", 1e-5, step=5)


@pytest.mark.long
def test_a_rank_that_is_not_finite_keeps_all_ranks_from_updating(records, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(PATCH_OF_RANK_1)
    run = tmp_path / "run"
    words = train_words(records, run, 2, "--max-steps", "6", "--dynamic-loss-scale")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code, output = ended(start("trainer", "launch", "--workers", "2", "--", *words, environment=environment))
    assert code == 0 and "6 so far" in output, output
    logs = [(tmp_path / "run.ranks" / "host-0" / f"rank-{rank}.log").read_text() for rank in (0, 1)]
    sums = [re.findall(r"^(?:before|after) (\d+)$", log, re.MULTILINE) for log in logs]
    assert [len(found) for found in sums] == [2, 2] and len({number for found in sums for number in found}) == 1, sums
    info = checkpoint.read_newest(run).info
    assert (info.step, info.skipped) == (6, 6)
