"""Distributed training with two real processes: the weights of one process, a common end, no lost steps. About two minutes."""

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from launch_jobs import (
    ENDS_WITHIN_S,
    STEPS,
    assert_no_process_left,
    assert_same,
    ended,
    launch,
    losses_of,
    ranks_of,
    start,
    train_words,
    wait_for_step,
)
from trainer_data import make_records

from trainer.distributed.config import LaunchConfig
from trainer.run.layout import CONFIG, checkpoint_path


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def of_two(records, tmp_path_factory) -> Path:
    """An uninterrupted run of two processes."""
    run = tmp_path_factory.mktemp("two") / "run"
    code, output = ended(launch(*train_words(records, run, 2)))
    assert code == 0 and f"saved at step {STEPS} (" in output and output.count("iter[40]") == 1, output
    assert_no_process_left(run)
    return run


@pytest.mark.slow
def test_two_processes_give_the_weights_of_one_and_log_the_mean_of_their_losses(records, of_two, tmp_path):
    code, output = ended(start("trainer", *train_words(records, tmp_path / "one", 4)))
    assert code == 0, output
    # Not later: where a gradient is almost zero, Adam amplifies a difference in the last bit.
    assert_same(of_two, tmp_path / "one", 1e-5, step=5)
    losses = [np.array(losses_of(run))[:, 1].reshape(-1, 4).mean(axis=1) for run in (of_two, tmp_path / "one")]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    # The same run, with its second half in one process: the order of samples continues.
    (tmp_path / "half").mkdir()
    for path in (checkpoint_path(of_two, 5), of_two / CONFIG):
        shutil.copy(path, tmp_path / "half")
    code, output = ended(start("trainer", *train_words(records, tmp_path / "half", 4)))
    assert code == 0 and "resuming from" in output, output
    assert_same(of_two, tmp_path / "half", 1e-5, step=10)


@pytest.mark.slow
@pytest.mark.long
def test_a_stopped_job_and_one_that_lost_a_process_resume_to_the_same_bytes(records, of_two, tmp_path):
    run = tmp_path / "run"
    words = train_words(records, run, 2)
    job = launch(*words)
    wait_for_step(run, 3, job)
    job.send_signal(signal.SIGTERM)
    stopped_s = time.monotonic()
    code, output = ended(job)
    assert code == 143 and time.monotonic() - stopped_s < ENDS_WITHIN_S, output
    assert "SIGTERM: finishing this step" in output and list(run.glob("step-*"))
    assert_no_process_left(run)

    job = launch(*words)
    wait_for_step(run, 17, job)
    ranks_of(run)["1"].kill()
    killed_s = time.monotonic()
    code, output = ended(job)
    assert code == 1 and "rank 1 was killed by SIGKILL" in output and time.monotonic() - killed_s < ENDS_WITHIN_S, output
    assert_no_process_left(run)

    code, output = ended(launch(*words))
    assert code == 0 and "resuming from" in output, output
    assert_same(run, of_two, 0)
    assert losses_of(run) == losses_of(of_two)


@pytest.mark.long
@pytest.mark.slow
def test_a_hanging_process_and_a_killed_launcher_leave_no_process(records, tmp_path):
    run = tmp_path / "run"
    words = train_words(records, run, 2, "--max-steps", "100000")
    job = launch(*words, more=("--hang-seconds", "20"))
    wait_for_step(run, 3, job)
    ranks_of(run)["1"].suspend()
    code, output = ended(job)
    assert code == 1 and "no rank started a step for 20 s" in output, output
    assert_no_process_left(run)

    job = launch(*words)
    wait_for_step(run, 3, job)
    job.kill()
    job.wait()
    by_s = time.monotonic() + ENDS_WITHIN_S
    while ranks_of(run) and time.monotonic() < by_s:
        time.sleep(0.2)
    assert not ranks_of(run)


@pytest.mark.long
@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_ranks(records, tmp_path):
    code, output = ended(launch(*train_words(records, tmp_path / "run", 2, "--lr", "1e30")))
    assert code == 1 and "not finite (images [" in output and re.search(r"of rank [01], or images of another rank\)", output), (
        output
    )
    for rank in (0, 1):
        assert "not finite" in (tmp_path / "run.ranks" / "host-0" / f"rank-{rank}.log").read_text()


@pytest.mark.long
@pytest.mark.slow
def test_a_dry_run_writes_nothing(records, tmp_path):
    table = tmp_path / "table.json"
    devices = [{"device_id": str(device), "rank_id": str(rank)} for rank, device in enumerate((5, 4))]
    table.write_text(json.dumps({"version": "1.0", "server_list": [{"server_id": "10.0.0.1", "device": devices}]}))
    job = launch(*train_words(records, tmp_path / "run", 2, "--dry-run"), more=("--rank-table", str(table)))
    code, output = ended(job)
    assert code == 0 and "2 ranks x 2 = 4 samples per step" in output and list(tmp_path.iterdir()) == [table], output


@pytest.mark.long
@pytest.mark.slow
def test_msrun_can_start_and_resume_a_run(records, of_two, tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["--worker_num", "2", "--local_worker_num", "2", "--master_port", "8719", "--join", "True", "--log_dir"]
    for steps in (5, 20):
        training = train_words(records, tmp_path / "run", 2, "--max-steps", str(steps))
        program = [str(tmp_path / "logs"), "python", "-m", "trainer", *training]
        code, output = ended(start("mindspore.parallel.cluster.run", *words, *program, environment=environment))
        assert code == 0, output
    assert_same(tmp_path / "run", of_two, 0, step=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(command=("predict",)), "command must be train"),
        (dict(command=("train",), workers=0), "workers must be above 0"),
        (dict(command=("train",), workers=257), "workers must be at most 256"),
        (dict(command=("train",), master_port=99_999), "master_port must be from 1 to 65535"),
        (dict(command=("train",), nodes=2), "master_addr and master_port must be given"),
        (
            dict(command=("train",), nodes=2, node_rank=2, master_addr="h", master_port=8118),
            "node_rank must be from 0 to nodes - 1 = 1",
        ),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LaunchConfig(**options)
