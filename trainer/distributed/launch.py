"""The command `launch`: start the processes of a distributed training run, monitor them, and end them together.

It sets the environment variables of MindSpore's dynamic cluster (one scheduler, and the ranks), as msrun does, so msrun can
start a job as well. But msrun leaves its processes running after SIGTERM, and takes a minute to notice a dead one. `launch`
passes signals on, and ends all ranks when one of them ends.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.cli import parse
from pipeline.errors import Terminated, UserError
from trainer.config import TrainConfig
from trainer.distributed.world import BEAT_FILE, LOCAL_SIZE
from trainer.loop.signals import collected_signals
from trainer.run.layout import ranks_folder

POLL_S = 0.1
EXIT_S = 5.0  # for the other ranks to exit by themselves after one failed
SAVING_S = 120.0  # for finishing a step and saving after a signal
LEAVING_S = 30.0  # for the ranks of other hosts to leave the scheduler
NOISE = ("[WARNING] ", "[INFO] ")  # prefixes of MindSpore's own messages
ERROR = ": error: "
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Train on several devices or hosts: one process per device, all sharing each batch.

    --batch-size is that of one process. The weights equal those of a single process with the whole batch, except for batch
    normalization, which each process applies to its own part. Output of the first process is shown; OUT.ranks keeps the output
    of all processes.

    Example: python -m trainer launch --workers 8 -- train --records records --out runs/first

    Two hosts (--node-rank 0 on the first, 1 on the second): python -m trainer launch --workers 8 --nodes 2 --node-rank 0
    --master-addr 10.0.0.1 --master-port 8118 -- train --records records --out runs/first
    """

    command: Annotated[tuple[str, ...], tyro.conf.Positional]
    """After --: train and its options."""
    workers: int = 2
    """Processes per host, one for each device."""
    nodes: int = 1
    """Number of hosts. Run the same command on each, with its own --node-rank; all hosts need the same --records and --out."""
    node_rank: int = 0
    """Number of this host, from 0."""
    master_addr: str = "127.0.0.1"
    """Address of host 0, where the scheduler runs."""
    master_port: int | None = None
    """Port of the scheduler. Default: a free port; required with several hosts."""
    rank_table: Path | None = None
    """Rank table (JSON), for Ascend clusters that need one."""
    hang_seconds: float = 1800.0
    """End the job if no process on this host starts a step for this long. Must exceed the time to compile."""

    def __post_init__(self) -> None:
        if not self.command or self.command[0] != "train":
            raise ValueError(f"command must be train and its options, after --, got {' '.join(self.command) or 'nothing'}")
        for name in ("workers", "nodes", "hang_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.node_rank < self.nodes:
            raise ValueError(f"node_rank must be from 0 to nodes - 1 = {self.nodes - 1}, got {self.node_rank}")
        if self.nodes > 1 and self.master_port is None:
            raise ValueError("master_port must be given with several hosts, the same on all of them")


def run(config: LaunchConfig) -> int:
    """Run the command `launch`. Raises UserError for unusable input and for a job that failed."""
    training: TrainConfig = parse(TrainConfig, config.command[1:], prog="python -m trainer train")
    if config.rank_table is not None and not config.rank_table.is_file():
        raise UserError(f"rank table {config.rank_table}: no such file")
    if training.dry_run:  # writes nothing
        with tempfile.TemporaryDirectory() as folder:
            _run_job(config, Path(folder), "")
        return 0
    logs = ranks_folder(training.out)
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    _run_job(config, logs, f"\nThe job was ended; see {logs} for the output of all processes. Continue it with --resume.")
    return 0


def _run_job(config: LaunchConfig, logs: Path, advice: str) -> None:
    """Start the processes and wait for their end. Raises UserError, with `advice`, if one failed."""
    with collected_signals() as arrived:
        job = Job(config, logs)
        try:
            failure = job.watch(arrived)
        finally:
            job.end()
    if arrived:
        raise KeyboardInterrupt if arrived[0] == signal.SIGINT else Terminated
    if failure:
        raise UserError(failure + advice)


class Job:
    """The processes on this host: its ranks by number, and on host 0 the scheduler."""

    def __init__(self, config: LaunchConfig, logs: Path) -> None:
        self.config, self.logs = config, logs
        first = config.node_rank * config.workers
        port = config.master_port or _free_port()
        self._followed = _Follower(logs / f"rank-{first}.log")
        self.scheduler = self._start("scheduler", port, MS_ROLE="MS_SCHED", RANK_ID="0") if config.node_rank == 0 else None
        self.ranks = {
            first + i: self._start(
                f"rank-{first + i}",
                port,
                MS_ROLE="MS_WORKER",
                MS_NODE_ID=str(first + i),
                RANK_ID=str(first + i),
                DEVICE_ID=str(i),
            )
            for i in range(config.workers)
        }

    def _start(self, name: str, port: int, **variables: str) -> subprocess.Popen:
        config = self.config
        size = str(config.workers * config.nodes)
        shared = {
            "MS_WORKER_NUM": size,
            "RANK_SIZE": size,
            "MS_SCHED_HOST": config.master_addr,
            "MS_SCHED_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
            LOCAL_SIZE: str(config.workers),
            BEAT_FILE: str(self.logs / f"{name}.beat"),
        }
        if config.rank_table is not None:
            shared["RANK_TABLE_FILE"] = str(config.rank_table.resolve())
        with open(self.logs / f"{name}.log", "wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "trainer", *config.command], env={**os.environ, **shared, **variables}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def watch(self, arrived: list[signal.Signals]) -> str:
        """Wait until all ranks have ended or one has failed; pass signals on. Returns what went wrong, "" for success."""
        stop_by_s = float("inf")
        while any(process.poll() is None for process in self.ranks.values()):
            self._followed.print_new_lines()
            if failed := [rank for rank, process in self.ranks.items() if process.poll()]:
                self._wait(min(stop_by_s - time.monotonic(), SAVING_S) if arrived else EXIT_S)
                self._followed.print_new_lines()
                return self._failure(failed[0])
            if hanging := self._hanging():
                return hanging
            if arrived and stop_by_s == float("inf"):
                stop_by_s = time.monotonic() + SAVING_S
                for process in self.ranks.values():
                    process.send_signal(signal.SIGTERM)
            if len(arrived) > 1 or time.monotonic() > stop_by_s:
                return "a rank did not stop in time after SIGTERM"
            time.sleep(POLL_S)
        self._followed.print_new_lines()
        failed = [rank for rank, process in self.ranks.items() if process.returncode]
        return self._failure(failed[0]) if failed else ""

    def end(self) -> None:
        """End all processes of this host."""
        for process in self.ranks.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.scheduler is not None:
            if self.config.nodes > 1:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.scheduler.wait(LEAVING_S)
            self.scheduler.kill()
            self.scheduler.wait()

    def _wait(self, seconds: float) -> None:
        """Wait for all ranks, at most `seconds`."""
        by_s = time.monotonic() + seconds
        while time.monotonic() < by_s and any(process.poll() is None for process in self.ranks.values()):
            time.sleep(POLL_S)

    def _hanging(self) -> str:
        """Return which step hangs and which ranks have not passed it; "" while steps are starting."""
        beats = {rank: self.logs / f"rank-{rank}.beat" for rank in self.ranks}
        steps = {rank: int(path.read_text() or 0) for rank, path in beats.items() if path.exists()}
        if not steps or time.time() - max(beats[rank].stat().st_mtime for rank in steps) < self.config.hang_seconds:
            return ""
        slowest = [str(rank) for rank, step in steps.items() if step == min(steps.values())]
        where = f" in rank {', '.join(slowest)}" if len(slowest) < len(steps) else ""
        return f"no rank started a step for {self.config.hang_seconds:g} s: step {min(steps.values()):,} hangs{where}"

    def _failure(self, rank: int) -> str:
        code = self.ranks[rank].returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = (self.logs / f"rank-{rank}.log").read_text(errors="replace").splitlines()
        errors = [line for line in lines if ERROR in line] or [line for line in lines if line and not line.startswith(NOISE)]
        return f"rank {rank} {how}" + (f": {errors[-1].split(ERROR)[-1]}" if errors else "")


class _Follower:
    """Prints what a process writes to its log, without MindSpore's own messages."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0

    def print_new_lines(self) -> None:
        """Print the complete lines added since the last call."""
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        self._offset += len(complete)
        for line in complete.decode(errors="replace").splitlines():
            if not line.startswith(NOISE) and ERROR not in line:
                print(line, flush=True)


def _die_with_parent() -> None:
    """In a new process: request SIGTERM for the moment its parent is gone, however the parent ended (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
