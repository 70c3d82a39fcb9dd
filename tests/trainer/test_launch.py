"""Two processes that train together: the weights of one, one end for all, nothing lost. Real processes: about two minutes."""

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from launch_jobs import (
    ENDS_WITHIN_S,
    STEPS,
    assert_nobody_left,
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

from trainer.distributed.launch import LaunchConfig
from trainer.run import checkpoint


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def of_two(records, tmp_path_factory) -> Path:
    """A run of two processes that nothing interrupted."""
    run = tmp_path_factory.mktemp("two") / "run"
    code, said = ended(launch(*train_words(records, run, 2)))
    assert code == 0 and f"saved after step {STEPS}, " in said and said.count("iter[40]") == 1, said
    assert_nobody_left(run)
    return run


def test_two_processes_give_the_weights_of_one_and_log_the_mean_of_their_losses(records, of_two, tmp_path):
    code, said = ended(start("trainer", *train_words(records, tmp_path / "one", 4)))
    assert code == 0, said
    # Not later: Adam makes much of the last bit, for where a gradient is nearly zero its sign decides.
    assert_same(of_two, tmp_path / "one", 1e-5, step=5)
    for (step, loss), (other_step, other_loss) in zip(losses_of(of_two), losses_of(tmp_path / "one"), strict=True):
        assert step == other_step and loss == pytest.approx(other_loss, rel=1e-3)
    # The same run again, but its second half by one process: the order of samples goes on.
    (tmp_path / "half").mkdir()
    for name in (f"step-{5:08d}{checkpoint.SUFFIX}", "config.yaml"):
        shutil.copy(of_two / name, tmp_path / "half")
    code, said = ended(start("trainer", *train_words(records, tmp_path / "half", 4)))
    assert code == 0 and "continuing from" in said, said
    assert_same(of_two, tmp_path / "half", 1e-5, step=10)


def test_a_job_that_is_told_to_stop_and_one_that_loses_a_process_continue_to_the_same_bytes(records, of_two, tmp_path):
    run = tmp_path / "run"
    words = train_words(records, run, 2)
    job = launch(*words)
    wait_for_step(run, 3, job)
    job.send_signal(signal.SIGTERM)
    asked_s = time.monotonic()
    code, said = ended(job)
    assert code == 143 and time.monotonic() - asked_s < ENDS_WITHIN_S, said
    assert "SIGTERM: finishing this step" in said and list(run.glob("step-*"))
    assert_nobody_left(run)

    job = launch(*words)
    wait_for_step(run, 17, job)
    ranks_of(run)["1"].kill()
    killed_s = time.monotonic()
    code, said = ended(job)
    assert code == 1 and "rank 1 was killed by SIGKILL" in said and time.monotonic() - killed_s < ENDS_WITHIN_S, said
    assert_nobody_left(run)

    code, said = ended(launch(*words))
    assert code == 0 and "continuing from" in said, said
    assert_same(run, of_two, 0)
    assert losses_of(run) == losses_of(of_two)


def test_a_process_that_hangs_and_a_launcher_that_is_killed_leave_nobody(records, tmp_path):
    run = tmp_path / "run"
    words = train_words(records, run, 2, "--max-steps", "100000")
    job = launch(*words, more=("--hang-seconds", "20"))
    wait_for_step(run, 3, job)
    ranks_of(run)["1"].suspend()
    code, said = ended(job)
    assert code == 1 and "no rank began a step for 20 s" in said, said
    assert_nobody_left(run)

    job = launch(*words)
    wait_for_step(run, 3, job)
    job.kill()
    job.wait()
    by_s = time.monotonic() + ENDS_WITHIN_S
    while ranks_of(run) and time.monotonic() < by_s:
        time.sleep(0.2)
    assert not ranks_of(run)


def test_numbers_that_are_not_finite_end_all_alike(records, tmp_path):
    code, said = ended(launch(*train_words(records, tmp_path / "run", 2, "--lr", "1e30")))
    assert code == 1 and "not finite (images [" in said and re.search(r"of rank [01], or of another\)", said), said
    for rank in (0, 1):
        assert "not finite" in (tmp_path / "run.ranks" / f"rank-{rank}.log").read_text()


def test_a_dry_run_writes_nothing(records, tmp_path):
    code, said = ended(launch(*train_words(records, tmp_path / "run", 2, "--dry-run")))
    assert code == 0 and "2 ranks x 2 = 4 samples a step" in said and not list(tmp_path.iterdir()), said


def test_msrun_itself_may_start_the_processes_and_continue_a_run(records, of_two, tmp_path):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    words = ["--worker_num", "2", "--local_worker_num", "2", "--master_port", "8719", "--join", "True", "--log_dir"]
    for steps in (5, 20):
        training = train_words(records, tmp_path / "run", 2, "--max-steps", str(steps))
        program = [str(tmp_path / "logs"), "python", "-m", "trainer", *training]
        code, said = ended(start("mindspore.parallel.cluster.run", *words, *program, environment=environment))
        assert code == 0, said
    assert_same(tmp_path / "run", of_two, 0, step=20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(command=("predict",)), "command must be train"),
        (dict(command=("train",), workers=0), "workers must be above 0"),
        (dict(command=("train",), nodes=2), "master_port must be given"),
        (dict(command=("train",), nodes=2, node_rank=2, master_port=8118), "node_rank must be from 0 to nodes - 1 = 1"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LaunchConfig(**options)
