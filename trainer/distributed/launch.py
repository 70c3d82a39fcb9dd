"""The command `launch`: start the processes of a distributed training run, monitor them, and end them together.

It sets the environment variables of MindSpore's dynamic cluster (one scheduler, and the ranks), as msrun does, so msrun can
start a job as well. But msrun leaves its processes running after SIGTERM, and takes a minute to notice a dead one. `launch`
passes signals on, and ends all ranks, on every host, when one of them ends.
"""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli import parse
from pipeline.errors import UserError, stop_error
from pipeline.storage.files import locked
from trainer.config import TrainConfig
from trainer.distributed.config import LaunchConfig
from trainer.distributed.hosts import STATUS, Hosts, host_folder
from trainer.distributed.job import Job, JobSpec
from trainer.distributed.placement import Placement, detect_placement, resolve
from trainer.distributed.rank_table import read_rank_table
from trainer.loop.signals import collected_signals
from trainer.run.layout import ranks_folder

LOCK = "launch.lock"
LOOPBACK = "127.0.0.1"


def run(config: LaunchConfig) -> int:
    """Run the command `launch`. Raises UserError for unusable input and for a job that failed."""
    training: TrainConfig = parse(TrainConfig, config.command[1:], prog="python -m trainer train")
    placement = place(config)
    spec = job_spec(config, placement)
    if training.dry_run:  # writes nothing
        with tempfile.TemporaryDirectory() as scratch, _claimed_port(spec):
            _run_job(config, spec, Path(scratch), "")
        return 0
    folder = ranks_folder(training.out)
    own = host_folder(folder, spec.node_rank)
    with _claimed(own), _claimed_port(spec):
        _run_job(
            config, spec, folder, f"; the job was ended; see {own} for the output of its processes; continue it with --resume"
        )
    return 0


def place(config: LaunchConfig) -> Placement:
    """Return the placement of this host: options win over Slurm and mpirun. Raises UserError if host 0 is not known."""
    if config.nodes is not None:
        return Placement(
            nodes=config.nodes, node_rank=config.node_rank or 0, master_addr=config.master_addr, master_port=config.master_port
        )
    found = detect_placement(os.environ) or Placement(nodes=1, node_rank=0)
    placement = Placement(
        nodes=found.nodes,
        node_rank=found.node_rank,
        master_addr=config.master_addr or found.master_addr,
        master_port=config.master_port or found.master_port,
    )
    if placement.nodes > 1 and (placement.master_addr is None or placement.master_port is None):
        raise UserError(f"mpirun started {placement.nodes} hosts; pass --master-addr and --master-port, the same on all of them")
    return placement


def job_spec(config: LaunchConfig, placement: Placement) -> JobSpec:
    """Return what to start on this host. Raises UserError for an unknown address, a used port and an unusable rank table."""
    is_alone = placement.nodes == 1
    address = LOOPBACK if is_alone and placement.master_addr is None else resolve(placement.master_addr or LOOPBACK)
    if is_alone and config.master_addr is None:
        address = LOOPBACK
    port = placement.master_port or _free_port()
    if placement.node_rank == 0:
        _require_free(address, port)
    first = placement.node_rank * config.workers
    devices = {first + i: i for i in range(config.workers)}
    if config.rank_table is not None:
        table = read_rank_table(config.rank_table)
        devices = table.host_devices(placement.node_rank, nodes=placement.nodes, workers=config.workers)
    return JobSpec(
        command=config.command, nodes=placement.nodes, node_rank=placement.node_rank, devices=devices, address=address, port=port,
        rank_table=config.rank_table, meet_seconds=config.meet_seconds, hang_seconds=config.hang_seconds,
    )  # fmt: skip


def _run_job(config: LaunchConfig, spec: JobSpec, folder: Path, advice: str) -> None:
    """Start the processes and wait for their end. Raises UserError, with `advice`, if one failed."""
    own = host_folder(folder, spec.node_rank)
    own.mkdir(parents=True, exist_ok=True)
    hosts = Hosts(folder, nodes=spec.nodes, node_rank=spec.node_rank, timeout_s=config.host_seconds)
    failure = "its launcher ended early"
    with collected_signals() as arrived:
        job = Job(spec, own, hosts)
        try:
            failure = job.watch(arrived)
        finally:
            hosts.publish("stopped" if arrived else "failed" if failure else "done", failure)
            job.end(failed=bool(failure))
    if arrived:
        raise stop_error(arrived[0], "to continue, run the same command with --resume")
    if failure:
        raise UserError(failure + advice)


@contextlib.contextmanager
def _claimed(own: Path) -> Iterator[None]:
    """Own this host's log folder, without the logs of an earlier job. Raises UserError if another launcher uses it."""
    own.mkdir(parents=True, exist_ok=True)
    with locked(own / LOCK, f"{own}: another `launch` is writing there; wait for it, or choose another --out"):
        logs = [path for path in own.iterdir() if re.fullmatch(r"rank-\d+\.log", path.name)]
        for path in [*logs, own / "scheduler.log", own / STATUS]:
            path.unlink(missing_ok=True)
        yield


@contextlib.contextmanager
def _claimed_port(spec: JobSpec) -> Iterator[None]:
    """Own the scheduler's port among the launchers of this machine, before the scheduler listens on it, which takes seconds.

    Otherwise, the ranks of a second job would join the scheduler of the first. Raises UserError if another launcher has it.
    """
    with socket.socket(socket.AF_UNIX) as claim:
        try:
            if spec.node_rank == 0:
                claim.bind(f"\0openpose-scheduler-{spec.port}")  # no file: the name disappears with this process
        except OSError as error:
            raise UserError(f"another `launch` on this machine uses port {spec.port}; pass another --master-port") from error
        yield


def _require_free(address: str, port: int) -> None:
    """Raise UserError if another program listens on the port that the scheduler needs."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise UserError(
                f"the scheduler cannot listen on {address}:{port} ({error.strerror}); pass the address of this host as "
                "--master-addr, and a free --master-port"
            ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]
