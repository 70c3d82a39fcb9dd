"""Building on a dask cluster: a scheduler and two worker processes on this machine, the same bytes, clear errors."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from pipeline_data import build_config, tree

from pipeline.build import backends, build, worker
from pipeline.errors import UserError


@contextmanager
def cluster(folder, num_workers=2, path=str(Path(__file__).parents[2])):
    """Address of a scheduler with workers of one thread, and the processes of the workers."""
    from distributed import Client

    file = folder / "scheduler.json"
    common = ["--scheduler-file", str(file), "--no-dashboard"]
    worker = [sys.executable, "-P", "-m", "dask", "worker", *common, "--nthreads", "1", "--no-nanny"]
    scheduler = [sys.executable, "-P", "-m", "dask", "scheduler", *common, "--port", "0", "--host", "127.0.0.1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": {**os.environ, "PYTHONPATH": path}}
    processes = [subprocess.Popen(command, cwd=folder, **quiet) for command in [scheduler, *[worker] * num_workers]]
    try:
        with Client(scheduler_file=str(file), timeout=60) as client:
            if num_workers:
                client.wait_for_workers(num_workers, timeout=60)
            address = client.scheduler.address
        yield address, processes[1:]
    finally:
        for process in reversed(processes):
            process.kill()
        for process in processes:
            process.wait(30)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster")) as (address, _):
        yield address


def test_a_cluster_writes_the_same_bytes(records, people, tmp_path, scheduler, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = build_config(people, Path("set"), backend="dask", scheduler=scheduler, jobs=-1)
    assert build.run(config) == 0
    assert tree(tmp_path / "set") == tree(records)


def test_a_worker_that_dies_is_replaced_by_the_others(records, people, tmp_path):
    with cluster(tmp_path) as (address, workers):
        config = build_config(people, tmp_path / "set", backend="dask", scheduler=address, jobs=-1)

        def kill_at_work():
            while not list((tmp_path / "set").glob("shards/.writing-*")):
                time.sleep(0.01)
            workers[0].send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill_at_work, daemon=True)
        killer.start()
        assert build.run(config) == 0
        killer.join(10)
        assert workers[0].wait(10) == -signal.SIGKILL
    assert tree(tmp_path / "set") == tree(records)


def test_an_error_of_a_worker_is_the_builds(people, tmp_path, scheduler):
    config = build_config(people, tmp_path / "set", backend="dask", scheduler=scheduler, jobs=-1, strict=True)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"No such file or directory \(--strict stops here\)"):
        build.run(build.replace(config, images=tmp_path / "images"))
    assert not (tmp_path / "set").exists()


def test_a_scheduler_that_is_not_there_is_named(people, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_TIMEOUT_S", 1)
    with pytest.raises(UserError, match=r"--scheduler tcp://127\.0\.0\.1:1: no dask scheduler answers"):
        build.run(build_config(people, tmp_path / "set", backend="dask", scheduler="tcp://127.0.0.1:1"))
    assert not (tmp_path / "set").exists()


def test_workers_without_the_project_or_none_are_named(people, tmp_path):
    with cluster(tmp_path, num_workers=1, path="") as (address, workers):
        config = build_config(people, tmp_path / "set", backend="dask", scheduler=address)
        if not _installed():
            with pytest.raises(UserError, match="cannot run this project: install it there too"):
                build.run(config)
        workers[0].kill()
        workers[0].wait()
        time.sleep(1)
        with pytest.raises(UserError, match="this cluster has no workers"):
            build.run(config)
    assert not (tmp_path / "set").exists()


def _installed() -> bool:
    command = [sys.executable, "-P", "-c", "import pipeline"]
    return subprocess.run(command, cwd="/", env={**os.environ, "PYTHONPATH": ""}, capture_output=True).returncode == 0


def test_a_worker_that_disagrees_is_named(people, tmp_path, scheduler, monkeypatch):
    with backends.engine("dask", scheduler, (tmp_path,)):
        pass
    with (
        pytest.raises(UserError, match=r"worker .*elsewhere exists: False there, True here; all workers must agree"),
        backends.engine("dask", scheduler, (tmp_path / "elsewhere",)),
    ):
        pass
    monkeypatch.setattr(worker, "BUILDER_VERSION", "0.0.0")
    with pytest.raises(UserError, match=r"pipeline\.build\.worker:BUILDER_VERSION: .* there, 0\.0\.0 here"):
        build.run(build_config(people, tmp_path / "set", backend="dask", scheduler=scheduler))


@pytest.mark.parametrize("options", [{"backend": "dask"}, {"scheduler": "tcp://host:8786"}])
def test_backend_and_scheduler_go_together(people, tmp_path, options):
    with pytest.raises(ValueError, match="scheduler goes with --backend dask"):
        build_config(people, tmp_path / "set", **options)
