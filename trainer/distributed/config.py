"""Options of the command `launch`. Imports nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

MAX_WORKERS = 256


@dataclass(frozen=True, kw_only=True)
class LaunchConfig:
    """Train on several devices or hosts: one process per device, all sharing each batch.

    --batch-size is that of one process. The weights equal those of a single process with the whole batch, except for batch
    normalization, which each process applies to its own part. Output of the first process is shown; OUT.ranks/host-N keeps the
    output of all processes of host N.

    Example: python -m trainer launch --workers 8 -- train --records records --out runs/first

    Two hosts (--node-rank 0 on the first, 1 on the second): python -m trainer launch --workers 8 --nodes 2 --node-rank 0
    --master-addr 10.0.0.1 --master-port 8118 -- train --records records --out runs/first

    Under Slurm (srun --ntasks-per-node=1) and mpirun (-N 1), --nodes and --node-rank come from there; under Slurm, address and
    port of host 0 as well.
    """

    command: Annotated[tuple[str, ...], tyro.conf.Positional]
    """After --: train and its options."""
    workers: int = 2
    """Processes per host, one for each device."""
    nodes: int | None = None
    """Number of hosts. Run the same command on each; all hosts need the same --records and --out. Default: from Slurm or mpirun,
    otherwise 1."""
    node_rank: int | None = None
    """Number of this host, from 0. Default: from Slurm or mpirun, otherwise 0."""
    master_addr: str | None = None
    """Name or IPv4 address of host 0, where the scheduler runs. Default: from Slurm, otherwise this host."""
    master_port: int | None = None
    """Port of the scheduler. Default: from Slurm, otherwise a free port; required with several hosts."""
    rank_table: Path | None = None
    """Rank table (JSON), for Ascend clusters that need one. It also chooses the devices of the ranks."""
    meet_seconds: float = 300.0
    """End the job if the ranks of all hosts have not met after this long."""
    hang_seconds: float = 1800.0
    """End the job if no process on this host starts a step for this long. Must exceed the time to compile."""
    host_seconds: float = 60.0
    """End the job if the launcher of another host has written nothing to OUT.ranks for this long."""

    def __post_init__(self) -> None:
        if not self.command or self.command[0] != "train":
            raise ValueError(f"command must be train and its options, after --, got {' '.join(self.command) or 'nothing'}")
        for name in ("workers", "nodes", "meet_seconds", "hang_seconds", "host_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")
        if self.workers > MAX_WORKERS:
            raise ValueError(f"workers must be at most {MAX_WORKERS:,}, the devices of one host, got {self.workers}")
        if self.master_port is not None and not 1 <= self.master_port <= 65_535:
            raise ValueError(f"master_port must be from 1 to 65535, got {self.master_port}")
        if self.nodes is not None and not 0 <= (self.node_rank or 0) < self.nodes:
            raise ValueError(f"node_rank must be from 0 to nodes - 1 = {self.nodes - 1}, got {self.node_rank}")
        if self.node_rank is not None and self.nodes is None:
            raise ValueError("node_rank needs nodes, the number of hosts")
        if (self.nodes or 1) > 1 and (self.master_port is None or self.master_addr is None):
            raise ValueError("master_addr and master_port must be given with several hosts, the same on all of them")
