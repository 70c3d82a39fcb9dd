"""Builds on a dask cluster (a scheduler and two workers on this machine): equal bytes and clear errors."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pipeline_data import build_config, tree

from pipeline.__main__ import build
from pipeline.build import backends, worker
from pipeline.errors import UserError


@contextmanager
def cluster(folder, num_workers=2, path=str(Path(__file__).parents[2])):
    """Start a scheduler and single-threaded workers; yield the scheduler's address and the worker processes."""
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
        yield address, processes[1:], processes[0]
    finally:
        for process in reversed(processes):
            process.kill()
        for process in processes:
            process.wait(30)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("cluster")) as (address, *_):
        yield address


@pytest.mark.slow
def test_a_cluster_build_has_the_same_bytes(records, people, tmp_path, scheduler, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = build_config(people, Path("set"), backend="dask", scheduler=scheduler, jobs=-1)
    assert build(config) == 0
    assert tree(tmp_path / "set") == tree(records)


@pytest.mark.long
def test_other_workers_take_over_when_one_dies(records, people, tmp_path):
    with cluster(tmp_path) as (address, workers, _):
        config = build_config(people, tmp_path / "set", backend="dask", scheduler=address, jobs=-1)

        def kill_while_writing():
            while not list((tmp_path / "set").glob("shards/.unfinished-*")):
                time.sleep(0.01)
            workers[0].send_signal(signal.SIGKILL)

        killer = threading.Thread(target=kill_while_writing, daemon=True)
        killer.start()
        assert build(config) == 0
        killer.join(10)
        assert workers[0].wait(10) == -signal.SIGKILL
    assert tree(tmp_path / "set") == tree(records)


@pytest.mark.long
@pytest.mark.parametrize("what", ["workers", "scheduler"])
def test_a_cluster_that_is_gone_ends_the_build_with_an_error(people, tmp_path, monkeypatch, what, capfd):
    monkeypatch.setattr(backends, "NO_WORKERS_S", 2.0)
    with cluster(tmp_path, num_workers=1) as (address, workers, scheduler):
        config = build_config(people, tmp_path / "set", backend="dask", scheduler=address, variants=40, shards=8)

        def kill_while_writing():
            while not list((tmp_path / "set").glob("shards/v*")):
                time.sleep(0.01)
            (workers[0] if what == "workers" else scheduler).kill()

        killer = threading.Thread(target=kill_while_writing, daemon=True)
        killer.start()
        start_s = time.monotonic()
        with pytest.raises(UserError, match=r"all workers of the cluster are gone|lost the dask scheduler"):
            build(config)
        assert time.monotonic() - start_s < 60
        killer.join(10)
    assert what == "scheduler" or "no workers left; waiting 2 s for new ones" in capfd.readouterr().err
    assert list((tmp_path / "set" / "shards").glob("v*")), "finished shards are kept"


@pytest.mark.slow
def test_an_error_in_a_worker_is_reported(people, tmp_path, scheduler):
    config = build_config(people, tmp_path / "set", backend="dask", scheduler=scheduler, jobs=-1, strict=True)
    (tmp_path / "images").mkdir()
    with pytest.raises(UserError, match=r"No such file or directory \(--strict stops here\)"):
        build(replace(config, images=tmp_path / "images"))
    assert not (tmp_path / "set").exists()


def test_an_unreachable_scheduler_is_an_error(people, tmp_path, monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_TIMEOUT_S", 1)
    with pytest.raises(UserError, match=r"--scheduler tcp://127\.0\.0\.1:1: no dask scheduler responds"):
        build(build_config(people, tmp_path / "set", backend="dask", scheduler="tcp://127.0.0.1:1"))
    assert not (tmp_path / "set").exists()


@pytest.mark.slow
def test_a_worker_without_the_project_and_a_cluster_without_workers_are_errors(people, tmp_path):
    with cluster(tmp_path, num_workers=1, path="") as (address, workers, _):
        config = build_config(people, tmp_path / "set", backend="dask", scheduler=address)
        if not _installed():
            with pytest.raises(UserError, match="cannot import the project"):
                build(config)
        workers[0].kill()
        workers[0].wait()
        time.sleep(1)
        with pytest.raises(UserError, match="the cluster has no workers"):
            build(config)
    assert not (tmp_path / "set").exists()


def _installed() -> bool:
    command = [sys.executable, "-P", "-c", "import pipeline"]
    return subprocess.run(command, cwd="/", env={**os.environ, "PYTHONPATH": ""}, capture_output=True).returncode == 0


@pytest.mark.slow
def test_a_worker_with_other_versions_or_files_is_an_error(people, tmp_path, scheduler, monkeypatch):
    with backends.engine("dask", scheduler, -1, (tmp_path,)):
        pass
    with (
        pytest.raises(UserError, match=r"worker .*: existence of .*elsewhere is False, expected True as on this machine"),
        backends.engine("dask", scheduler, -1, (tmp_path / "elsewhere",)),
    ):
        pass
    monkeypatch.setattr(worker, "BUILDER_VERSION", "0.0.0")
    with pytest.raises(UserError, match=r"pipeline\.build\.worker:BUILDER_VERSION is .*, expected 0\.0\.0"):
        build(build_config(people, tmp_path / "set", backend="dask", scheduler=scheduler))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "dask"}, "^--backend dask needs --scheduler$"),
        ({"scheduler": "tcp://host:8786"}, "^--scheduler needs --backend dask$"),
    ],
)
def test_dask_and_scheduler_need_each_other(people, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build_config(people, tmp_path / "set", **options)
