"""The processes of a job on this host: start them, monitor them, end them together."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.runtime.processes import start_process
from trainer.distributed.hosts import Hosts
from trainer.distributed.world import BEAT_FILE, LOCAL_SIZE

POLL_S = 0.1
EXIT_S = 5.0  # for the other ranks to exit by themselves after one failed
SAVING_S = 120.0  # for finishing a step and saving after a signal
LEAVING_S = 30.0  # for the ranks of other hosts to leave the scheduler
COLLECTIVE_TIMEOUT_S = 1800  # of the first HCCL collective: the ranks compile for minutes, and not equally fast
NOISE = ("[DEBUG] ", "[INFO] ", "[WARNING] ", "[ERROR] ", "[CRITICAL] ")  # prefixes of MindSpore's own messages
ERROR = ": error: "
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")  # the last line of a traceback
_INTERNAL = re.compile(r"\.(cc|cpp|h):\d+")  # a place in MindSpore's own code


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What to start on this host: `command` once per rank.

    devices: device of each rank of this host. address, port: of the scheduler, which runs on host 0. Times in seconds.
    """

    command: tuple[str, ...]
    nodes: int
    node_rank: int
    devices: Mapping[int, int]
    address: str
    port: int
    rank_table: Path | None
    meet_seconds: float
    hang_seconds: float

    @property
    def num_ranks(self) -> int:
        """Number of ranks on all hosts."""
        return self.nodes * len(self.devices)


class Job:
    """The processes on this host: its ranks by number, and on host 0 the scheduler. Creating it starts them."""

    def __init__(self, spec: JobSpec, logs: Path, hosts: Hosts) -> None:
        self.spec, self.logs, self.hosts = spec, logs, hosts
        self._beats = {rank: _Beat(rank) for rank in spec.devices}
        self._output = _Follower(logs / f"rank-{min(spec.devices)}.log")
        self.scheduler = self._start("scheduler", None, MS_ROLE="MS_SCHED", RANK_ID="0") if spec.node_rank == 0 else None
        self.ranks = {
            rank: self._start(
                f"rank-{rank}",
                self._beats[rank],
                MS_ROLE="MS_WORKER",
                MS_NODE_ID=str(rank),
                RANK_ID=str(rank),
                DEVICE_ID=str(device),
            )
            for rank, device in spec.devices.items()
        }
        self._started_s = time.monotonic()

    def _start(self, name: str, beat: "_Beat | None", **variables: str) -> subprocess.Popen:
        spec, size = self.spec, str(self.spec.num_ranks)
        shared = {
            "MS_WORKER_NUM": size,
            "RANK_SIZE": size,
            "MS_SCHED_HOST": spec.address,
            "MS_SCHED_PORT": str(spec.port),
            "MS_TOPO_TIMEOUT": str(round(spec.meet_seconds)),
            "HCCL_CONNECT_TIMEOUT": os.environ.get("HCCL_CONNECT_TIMEOUT", str(COLLECTIVE_TIMEOUT_S)),
            "PYTHONUNBUFFERED": "1",
            LOCAL_SIZE: str(len(spec.devices)),
        }
        # A table that is exported for other programs must not reach ranks that were not started with one.
        environment = {key: value for key, value in os.environ.items() if key != "RANK_TABLE_FILE"}
        if beat is not None:
            shared[BEAT_FILE] = str(beat.path)
        if spec.rank_table is not None:
            shared["RANK_TABLE_FILE"] = str(spec.rank_table.resolve())
        with open(self.logs / f"{name}.log", "wb") as log:
            return start_process(
                [sys.executable, "-m", "trainer", *spec.command], env={**environment, **shared, **variables}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                pass_fds=[beat.file] if beat is not None else [],
            )  # fmt: skip

    def watch(self, arrived: Sequence[signal.Signals]) -> str:
        """Wait until all ranks have ended or the job has failed; pass signals on. Returns what went wrong, "" for success."""
        stop_by_s = float("inf")
        while any(process.poll() is None for process in self.ranks.values()):
            self._print()
            self.hosts.update()
            if failed := [rank for rank, process in self.ranks.items() if process.poll()]:
                self._wait(min(stop_by_s - time.monotonic(), SAVING_S) if arrived else EXIT_S)
                self._print()
                return self._failure(failed[0])
            if arrived and stop_by_s == float("inf"):
                if not self._has_met():
                    return "stopped before all ranks had met"  # there is nothing to save, and no rank handles signals yet
                stop_by_s = time.monotonic() + SAVING_S
                for process in self.ranks.values():
                    process.send_signal(signal.SIGTERM)
            if len(arrived) > 1 or time.monotonic() > stop_by_s:
                return "a rank did not stop in time after SIGTERM"
            if problem := self.hosts.problem() or self._scheduler_problem() or self._hanging():
                self._wait(0 if arrived else EXIT_S)
                return problem
            time.sleep(POLL_S)
        self._print()
        failed = [rank for rank, process in self.ranks.items() if process.returncode]
        return self._failure(failed[0]) if failed else ""

    def end(self, *, failed: bool) -> None:
        """End all processes of this host. After a success, let the ranks of other hosts leave the scheduler first."""
        for process in self.ranks.values():
            if process.poll() is None:
                process.kill()
            process.wait()
        if self.scheduler is not None:
            by_s = time.monotonic() + (0 if failed or self.spec.nodes == 1 else LEAVING_S)
            while self.scheduler.poll() is None and time.monotonic() < by_s:
                self.hosts.update()
                time.sleep(POLL_S)
            self.scheduler.kill()
            self.scheduler.wait()
        for beat in self._beats.values():
            beat.close()

    def _print(self) -> None:
        if self._has_met():  # before, there are hardly more than MindSpore's messages about its attempts
            self._output.print_new_lines()

    def _has_met(self) -> bool:
        """Return whether every rank of this host has met all others."""
        return all(beat.step() is not None for beat in self._beats.values())

    def _wait(self, seconds: float) -> None:
        """Wait for all ranks, at most `seconds`."""
        by_s = time.monotonic() + seconds
        while time.monotonic() < by_s and any(process.poll() is None for process in self.ranks.values()):
            time.sleep(POLL_S)

    def _scheduler_problem(self) -> str:
        """Return how the scheduler failed; it ends with 0 by itself as the ranks leave."""
        if self.scheduler is None or not self.scheduler.poll():
            return ""
        ending, log = _ending(self.scheduler.returncode), self.logs / "scheduler.log"
        if self._has_met() or self.scheduler.returncode < 0:
            return f"the scheduler {ending}; see {log}"
        where = f"{self.spec.address}:{self.spec.port}"
        return (
            f"the scheduler {ending}: it cannot listen on {where}, or the ranks did not reach it; if another program uses the port, "
            f"pass another --master-port; see {log}"
        )

    def _hanging(self) -> str:
        """Return which ranks have not met in time, or which step hangs; "" while the job makes progress."""
        if not self._has_met():
            if time.monotonic() - self._started_s < self.spec.meet_seconds:
                return ""
            where = f"the scheduler at {self.spec.address}:{self.spec.port}"
            if missing := self.hosts.missing():
                return (
                    f"the ranks did not meet within {self.spec.meet_seconds:g} s: missing host {', '.join(map(str, missing))}; run the "
                    f"same command there, with the same --out, and check that it reaches {where}"
                )
            late = [str(rank) for rank, beat in self._beats.items() if beat.step() is None]
            return (
                f"the ranks did not meet within {self.spec.meet_seconds:g} s: missing rank {', '.join(late)}; check that every host "
                f"reaches {where}"
            )
        if time.monotonic() - max(beat.changed_s for beat in self._beats.values()) < self.spec.hang_seconds:
            return ""
        steps = {rank: beat.step() or 0 for rank, beat in self._beats.items()}
        slowest = [str(rank) for rank, step in steps.items() if step == min(steps.values())]
        where = f" in rank {', '.join(slowest)}" if len(slowest) < len(steps) else ""
        return f"no rank started a step for {self.spec.hang_seconds:g} s: step {min(steps.values()):,} hangs{where}"

    def _failure(self, rank: int) -> str:
        lines = (self.logs / f"rank-{rank}.log").read_text(errors="replace").splitlines()
        own = [line for line in lines if line and not line.startswith(NOISE) and not _INTERNAL.search(line)]
        errors = [line for line in own if ERROR in line] or [line for line in own if _EXCEPTION.match(line)]
        code = self.ranks[rank].returncode
        if not errors and code > 0:  # a process that was killed has written nothing about it
            errors = own
        return f"rank {rank} {_ending(code)}" + (f": {errors[-1].split(ERROR)[-1]}" if errors else "")


class _Beat:
    """The file to which a rank writes its step, 0 once it has met the others, and a count. `changed_s` is when this process saw it change.

    The file is in memory, because a shared folder may be slow, and disappears with the processes however they end. The rank opens
    it as `path`.
    """

    def __init__(self, rank: int) -> None:
        self.file, self._text = os.memfd_create(f"step of rank {rank}"), ""
        self.path = Path(f"/proc/self/fd/{self.file}")
        self.changed_s = time.monotonic()

    def close(self) -> None:
        os.close(self.file)

    def step(self) -> int | None:
        """Return the step that the rank reached; None before it has met the others."""
        text = os.pread(self.file, 32, 0).decode()
        if text and text != self._text:
            self._text, self.changed_s = text, time.monotonic()
        return int(self._text.split()[0]) if self._text else None


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
            if not line.startswith(NOISE) and not _INTERNAL.search(line) and ERROR not in line:
                print(line, flush=True)


def _ending(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
