"""What a launcher starts, what it takes for a failure, and how it tells it. No training."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from launch_jobs import ROOT

from trainer.distributed import job as job_module
from trainer.distributed.job import SAVING_S, Job, JobSpec
from trainer.distributed.world import BEAT_FILE, Heart

SPEC = JobSpec(
    command=("train",), nodes=1, node_rank=0, devices={0: 5, 1: 4}, address="127.0.0.1", port=8118, rank_table=Path("t.json"),
    meet_seconds=20, hang_seconds=60,
)  # fmt: skip


@pytest.fixture
def job_of(tmp_path, monkeypatch):
    """Return a function: spec -> a job whose processes run until `poll` returns a code, and their environments by role and rank."""

    def create(spec):
        environments = {}

        def start_process(command, *, env, **_):
            environments[env["MS_ROLE"], env["RANK_ID"]] = env
            return SimpleNamespace(poll=lambda: None, returncode=None, args=command)

        monkeypatch.setattr(job_module, "start_process", start_process)
        return Job(spec, tmp_path, SimpleNamespace(update=lambda: None, problem=str, missing=list)), environments

    return create


def test_ranks_receive_the_devices_of_a_rank_table_and_no_other_table(job_of, monkeypatch):
    monkeypatch.setenv("RANK_TABLE_FILE", "/etc/hccl.json")  # exported for other programs
    _, environments = job_of(SPEC)
    assert {rank: env["DEVICE_ID"] for (role, rank), env in environments.items() if role == "MS_WORKER"} == {"0": "5", "1": "4"}
    assert {env["RANK_TABLE_FILE"] for env in environments.values()} == {str(Path("t.json").resolve())}
    _, environments = job_of(dataclasses.replace(SPEC, rank_table=None))
    assert len(environments) == 3 and not any("RANK_TABLE_FILE" in env for env in environments.values())


def test_hang_detection_does_not_follow_the_wall_clock(job_of, monkeypatch):
    job, environments = job_of(SPEC)
    hearts = []
    for rank in "01":
        monkeypatch.setenv(BEAT_FILE, environments["MS_WORKER", rank][BEAT_FILE])
        hearts.append(Heart(clock=lambda: 0.0))
        hearts[-1].beat(7)
    monotonic_s = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: monotonic_s)
    assert job._hanging() == ""
    monkeypatch.setattr(time, "time", lambda: 4e9)
    for beat in job._beats.values():
        os.utime(beat.path, (0, 0))
    assert job._hanging() == ""
    monkeypatch.setattr(time, "monotonic", lambda: monotonic_s + 61)
    assert job._hanging() == "no rank started a step for 60 s: step 7 hangs"


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("trainer: error: out of disk\nbye\n", "rank 1 ended with exit code 1: out of disk"),
        (
            "Traceback (most recent call last):\nRuntimeError: Allreduce failed\n\n---\n- C++ Call Stack:\n---\n"
            "mindspore/ccsrc/cluster/topology/compute_graph_node.cc:255 Register\n",
            "rank 1 ended with exit code 1: RuntimeError: Allreduce failed",
        ),
        (
            "[ERROR] DISTRIBUTED [mindspore/ccsrc/a.cc:1] Failed\nmindspore/ccsrc/a.cc:255 Register\n",
            "rank 1 ended with exit code 1",
        ),
    ],
)
def test_the_failure_of_a_rank_is_told_without_places_in_mindspore(job_of, tmp_path, log, message):
    job, _ = job_of(SPEC)
    job.ranks[1].returncode = 1
    (tmp_path / "rank-1.log").write_text(log)
    assert job._failure(1) == message


def test_a_scheduler_that_cannot_listen_is_told_in_words(job_of, tmp_path):
    job, _ = job_of(SPEC)
    job.scheduler = SimpleNamespace(poll=lambda: 1, returncode=1)
    assert (
        "it cannot listen on 127.0.0.1:8118" in job._scheduler_problem()
        and "pass another --master-port" in job._scheduler_problem()
    )


def test_nothing_is_shown_before_the_ranks_have_met(job_of, tmp_path, monkeypatch, capsys):
    """MindSpore's messages have several lines, and only the first one is marked."""
    job, environments = job_of(SPEC)
    (tmp_path / "rank-0.log").write_text("[ERROR] DISTRIBUTED\nmindspore/ccsrc/cluster/topology/compute_graph_node.cc:255\n")
    job._print()
    assert capsys.readouterr().out == ""
    for rank in "01":
        monkeypatch.setenv(BEAT_FILE, environments["MS_WORKER", rank][BEAT_FILE])
        Heart().beat(0)
    with open(tmp_path / "rank-0.log", "a") as log:
        log.write("step 1\n")
    job._print()
    assert capsys.readouterr().out == "step 1\n"


def test_a_rank_that_cannot_handle_signals_ends_after_its_launcher(tmp_path):
    """As one that is stuck in a collective."""
    rank = (
        "import os, signal, time; from trainer.distributed import world; world.ORPHAN_S = 0.5; signal.signal(signal.SIGTERM, "
        "signal.SIG_IGN); world._end_if_orphaned(os.getppid()); print(os.getpid(), flush=True); time.sleep(60)"
    )
    launcher = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {rank!r}]); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", launcher], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    orphan = psutil.Process(int(process.stdout.readline()))
    process.kill()
    process.wait()
    assert orphan.is_running()
    psutil.wait_procs([orphan], timeout=10)
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_waiting_for_the_other_ranks_is_bounded_if_a_signal_arrives_as_one_fails(tmp_path):
    """This wait once had no limit, because the other ranks had not been sent the signal yet."""
    waited_s = []
    job = Job.__new__(Job)
    job.ranks = {0: SimpleNamespace(poll=lambda: 1, returncode=1), 1: SimpleNamespace(poll=lambda: None)}
    job.logs, job.hosts, job._beats = tmp_path, SimpleNamespace(update=lambda: None), {}
    (tmp_path / "rank-0.log").write_text("trainer: error: out of disk\n")
    job._output = SimpleNamespace(print_new_lines=lambda: None)
    job._wait = waited_s.append
    assert job.watch([signal.SIGTERM]) == "rank 0 ended with exit code 1: out of disk"
    assert waited_s == [SAVING_S]
