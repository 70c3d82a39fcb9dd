"""The command `launch`: start the processes of one training, watch them, end them together.

It speaks msrun's language (the environment variables of MindSpore's "dynamic cluster": one scheduler where all meet, and the ranks), so
that a job may be started by msrun as well; but msrun leaves its processes behind when it is told to stop and needs a minute to notice
a dead one. Here signals are passed on, and the end of one rank is the end of all.
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

POLL_S = 0.1
LAST_WORDS_S = 5.0  # for the other ranks to end by themselves when one has failed
SAVING_S = 120.0  # for finishing a step and saving when the job is told to stop
LEAVING_S = 30.0  # for the scheduler to see other hosts' ranks leave
NOISE = ("[WARNING] ", "[INFO] ")  # how MindSpore's own messages begin
ERROR = ": error: "
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Train on several devices: one process for each, which share every batch, one result.

    --batch-size is that of one process. The weights are those of one process with all of the batch (but for batch normalization,
    which looks at each part by itself). What the first process says is repeated here; what all say is kept in OUT.ranks.

    Example: python -m trainer launch --workers 8 -- train --records records --out runs/first

    On two hosts, --node-rank 0 on the first and 1 on the second: python -m trainer launch --workers 8 --nodes 2 --node-rank 0
    --master-addr 10.0.0.1 --master-port 8118 -- train --records records --out runs/first
    """

    command: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Behind --: train and its options."""
    workers: int = 2
    """Processes on each host, one for each device."""
    nodes: int = 1
    """Hosts. The same command runs on each, with its own --node-rank; all must see the same records and --out."""
    node_rank: int = 0
    """Number of this host, from 0."""
    master_addr: str = "127.0.0.1"
    """Address of host 0, where the processes meet."""
    master_port: int | None = None
    """Port there. Default: a free one; on several hosts it must be given."""
    rank_table: Path | None = None
    """Rank table (JSON) of an Ascend cluster that needs one."""
    hang_seconds: float = 1800.0
    """The job is ended if no process of this host begins a step for so long: longer than compiling takes."""

    def __post_init__(self) -> None:
        if not self.command or self.command[0] != "train":
            raise ValueError(f"command must be train and its options, behind --, got {' '.join(self.command) or 'nothing'}")
        for name in ("workers", "nodes", "hang_seconds"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.node_rank < self.nodes:
            raise ValueError(f"node_rank must be from 0 to nodes - 1 = {self.nodes - 1}, got {self.node_rank}")
        if self.nodes > 1 and self.master_port is None:
            raise ValueError("master_port must be given for several hosts, the same on all of them")


def run(config: LaunchConfig) -> int:
    """The command `launch`. Raises UserError for input that cannot be used, and for a job that failed."""
    training: TrainConfig = parse(TrainConfig, config.command[1:], prog="python -m trainer train")
    if config.rank_table is not None and not config.rank_table.is_file():
        raise UserError(f"rank table {config.rank_table}: no such file")
    if training.dry_run:  # writes nothing
        with tempfile.TemporaryDirectory() as logs:
            _run_job(config, Path(logs), "")
        return 0
    logs = training.out.with_name(f"{training.out.name}.ranks")
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    _run_job(config, logs, f"\nThe job was ended; {logs} holds what every process said. --resume continues it.")
    return 0


def _run_job(config: LaunchConfig, logs: Path, advice: str) -> None:
    """Start the processes and wait for their end. Raises UserError, with `advice`, where one failed."""
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
    """The processes on this host: its ranks by their number in the world, and on host 0 the scheduler."""

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

    def _start(self, name: str, port: int, **own: str) -> subprocess.Popen:
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
                [sys.executable, "-m", "trainer", *config.command], env={**os.environ, **shared, **own}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip

    def watch(self, arrived: list[signal.Signals]) -> str:
        """Until all ranks are gone, or one has failed. Returns what went wrong, or nothing. Passes signals on."""
        stop_by_s = float("inf")
        while any(process.poll() is None for process in self.ranks.values()):
            self._followed.print_new_lines()
            if failed := [rank for rank, process in self.ranks.items() if process.poll()]:
                self._wait(LAST_WORDS_S if not arrived else stop_by_s - time.monotonic())
                self._followed.print_new_lines()
                return self._failure(failed[0])
            if hanging := self._hanging():
                return hanging
            if arrived and stop_by_s == float("inf"):
                stop_by_s = time.monotonic() + SAVING_S
                for process in self.ranks.values():
                    process.send_signal(signal.SIGTERM)
            if len(arrived) > 1 or time.monotonic() > stop_by_s:
                return "told to stop, and not done with it in time"
            time.sleep(POLL_S)
        self._followed.print_new_lines()
        failed = [rank for rank, process in self.ranks.items() if process.returncode]
        return self._failure(failed[0]) if failed else ""

    def end(self) -> None:
        """Leave no process behind."""
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
        """For all ranks, at most so long."""
        by_s = time.monotonic() + seconds
        while time.monotonic() < by_s and any(process.poll() is None for process in self.ranks.values()):
            time.sleep(POLL_S)

    def _hanging(self) -> str:
        """Whether nobody has begun a step for too long, and who is furthest behind."""
        beats = {rank: self.logs / f"rank-{rank}.beat" for rank in self.ranks}
        steps = {rank: int(path.read_text() or 0) for rank, path in beats.items() if path.exists()}
        if not steps or time.time() - max(beats[rank].stat().st_mtime for rank in steps) < self.config.hang_seconds:
            return ""
        behind = [str(rank) for rank, step in steps.items() if step == min(steps.values())]
        who = f"; behind is rank {', '.join(behind)}" if len(behind) < len(steps) else ""
        return f"no rank began a step for {self.config.hang_seconds:g} s: step {min(steps.values()):,} hangs{who}"

    def _failure(self, rank: int) -> str:
        code = self.ranks[rank].returncode
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        lines = (self.logs / f"rank-{rank}.log").read_text(errors="replace").splitlines()
        errors = [line for line in lines if ERROR in line] or [line for line in lines if line and not line.startswith(NOISE)]
        return f"rank {rank} {how}" + (f": {errors[-1].split(ERROR)[-1]}" if errors else "")


class _Follower:
    """Repeats what is written to a log, without MindSpore's own messages."""

    def __init__(self, path: Path) -> None:
        self._path, self._place = path, 0

    def print_new_lines(self) -> None:
        with open(self._path, "rb") as file:
            file.seek(self._place)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._place += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            if not line.startswith(NOISE) and ERROR not in line:
                print(line, flush=True)


def _die_with_parent() -> None:
    """In a new process: be told to stop when the one that started it is gone, however that ended (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
