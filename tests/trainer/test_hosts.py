"""Two launchers on this machine, sharing one --out, as two hosts would: same weights as one host, and a common end."""

import signal
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
    losses_of,
    ranks_of,
    train_words,
    wait_for_step,
)
from trainer_data import make_records

pytestmark = pytest.mark.slow

WITHIN_S = 75.0  # after which every host has ended, with --host-seconds 10


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return make_records(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def of_one_host(records, tmp_path_factory):
    """An uninterrupted run of two processes on one host."""
    run = tmp_path_factory.mktemp("one") / "run"
    code, output = ended(launch(*train_words(records, run, 2)))
    assert code == 0, output
    return run


def ends_of(hosts):
    """Wait for both; return exit codes and outputs, and check the bound."""
    started_s = time.monotonic()
    found = [ended(host) for host in hosts]
    took_s = time.monotonic() - started_s
    print(f"ended after {took_s:.1f} s with {[code for code, _ in found]}")
    assert took_s < WITHIN_S
    return [code for code, _ in found], [output for _, output in found]


@pytest.mark.long
def test_two_hosts_train_stop_and_end_with_the_bytes_of_one_host(records, of_one_host, tmp_path):
    run = tmp_path / "run"
    hosts = launch_hosts(*train_words(records, run, 2), more=("--host-seconds", "10"))
    wait_for_step(run, 4, *hosts)
    hosts[1].send_signal(signal.SIGTERM)  # all ranks stop after the same step
    codes, outputs = ends_of(hosts)
    assert codes[1] == 143 and codes[0] != 0, outputs
    assert_no_process_left(run)
    assert_continues_to(of_one_host, records, run)


@pytest.mark.long
def test_two_hosts_lose_processes_and_end_with_the_bytes_of_one_host(records, of_one_host, tmp_path):
    run = tmp_path / "run"
    words, more = train_words(records, run, 2), ("--host-seconds", "10")

    hosts = launch_hosts(*words, more=more)
    wait_for_step(run, 12, *hosts)
    ranks_of(run)["1"].kill()
    codes, outputs = ends_of(hosts)
    assert 0 not in codes and "rank 1 was killed by SIGKILL" in outputs[1], outputs
    assert_no_process_left(run)

    hosts = launch_hosts(*words, more=more)
    wait_for_step(run, 20, *hosts)
    hosts[1].kill()  # its rank asks all to stop and save
    codes, outputs = ends_of(hosts)
    assert 0 not in codes, outputs
    assert_no_process_left(run)
    assert_continues_to(of_one_host, records, run)


def assert_continues_to(of_one_host, records, run):
    """Train to the end on both hosts; the run must then be that of one host."""
    codes, outputs = ends_of(launch_hosts(*train_words(records, run, 2), more=("--host-seconds", "10")))
    assert codes == [0, 0], outputs
    assert_same(run, of_one_host, 0)
    assert losses_of(run) == losses_of(of_one_host)
    for host in (0, 1):
        assert (run.parent / "run.ranks" / f"host-{host}" / f"rank-{host}.log").exists()


@pytest.mark.parametrize("host", [0, 1])
def test_a_host_that_waits_alone_names_the_missing_one(records, tmp_path, host):
    job = launch_host(host, free_port(), *train_words(records, tmp_path / "run", 2), more=("--meet-seconds", "8"))
    code, output = ended(job)
    assert code == 1 and f"did not meet within 8 s: missing host {1 - host}" in output, output
    assert_no_process_left(tmp_path / "run")


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_host_that_waits_stops_within_seconds(records, tmp_path, monkeypatch, number, expected):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    job = launch_host(0, free_port(), *train_words(records, tmp_path / "run", 2))
    while ranks_of(tmp_path / "run").keys() != {"0", "scheduler"}:
        time.sleep(0.1)
    time.sleep(4)  # both wait for host 1 in MindSpore's compiled code
    job.send_signal(number)
    stopped_s = time.monotonic()
    code, output = ended(job)
    assert code == expected and time.monotonic() - stopped_s < 10, output
    assert_no_process_left(tmp_path / "run")
    assert not list(scratch.iterdir())


@pytest.mark.long
def test_a_frozen_rank_ends_both_hosts(records, tmp_path):
    run = tmp_path / "run"
    hosts = launch_hosts(*train_words(records, run, 2, "--max-steps", "100000"), more=("--hang-seconds", "10"))
    wait_for_step(run, 3, *hosts)
    ranks_of(run)["1"].suspend()
    codes, outputs = ends_of(hosts)
    assert codes == [1, 1] and any("no rank started a step for 10 s" in output for output in outputs), outputs
    assert_no_process_left(run)


@pytest.mark.long
@pytest.mark.parametrize(("option", "value"), [("--lr", "0.004"), ("--seed", "7")])
def test_hosts_with_other_options_are_refused_before_the_first_step(records, tmp_path, option, value):
    port, words = free_port(), train_words(records, tmp_path / "run", 2)
    hosts = [launch_host(0, port, *words), launch_host(1, port, *words, option, value)]
    codes, outputs = ends_of(hosts)
    assert codes == [1, 1] and any(f"rank 1 differs from rank 0 in {option}" in output for output in outputs), outputs
    assert not list((tmp_path / "run").glob("step-*"))
    assert_no_process_left(tmp_path / "run")
