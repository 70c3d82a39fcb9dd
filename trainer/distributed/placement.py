"""Where this host is in a job of several hosts: from options, from Slurm, or from mpirun. Pure functions of the environment.

Slurm: https://slurm.schedmd.com/srun.html, "Output environment variables". Open MPI: `OMPI_COMM_WORLD_*`. MPICH and Intel MPI:
`PMI_RANK`, `PMI_SIZE`, `MPI_LOCALNRANKS`.
"""

import itertools
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import UserError

_FIRST_PORT, _NUM_PORTS = 16_384, 16_000  # below the range from which Linux picks ports for connections


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Number of hosts, number of this host (from 0), and the address and port of host 0 as far as they are known."""

    nodes: int
    node_rank: int
    master_addr: str | None = None
    master_port: int | None = None


def detect_placement(environment: Mapping[str, str]) -> Placement | None:
    """Return the placement that Slurm or mpirun has set; None outside of both.

    Raises UserError if they started several processes per host, because `launch` starts the processes of its host itself, and if a
    Slurm job with several hosts started it on one of them.
    """
    if "OMPI_COMM_WORLD_RANK" in environment:  # before Slurm, whose steps do not include the host that called mpirun
        return _mpirun(environment, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE")
    if "SLURM_NODEID" in environment:  # before MPICH, whose variables srun sets as well
        return _slurm(environment)
    if "PMI_RANK" in environment:
        return _mpirun(environment, "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS")
    return None


def _mpirun(environment: Mapping[str, str], rank: str, size: str, local_size: str) -> Placement:
    if _integer(environment, local_size, 1) > 1:
        raise UserError(
            f"mpirun started {environment[local_size]} processes on this host; start one `launch` per host: mpirun -N 1 …"
        )
    return Placement(nodes=_integer(environment, size), node_rank=_integer(environment, rank))


def _slurm(environment: Mapping[str, str]) -> Placement:
    nodes = _integer(environment, "SLURM_STEP_NUM_NODES", 0) or _integer(environment, "SLURM_NNODES", 1)
    if (tasks := _integer(environment, "SLURM_STEP_NUM_TASKS", nodes)) != nodes:
        raise UserError(f"srun started {tasks} tasks on {nodes} hosts; start one `launch` per host: srun --ntasks-per-node=1 …")
    if nodes > 1 and "SLURM_STEP_ID" not in environment:  # a batch script runs on the first host only
        raise UserError(
            f"this Slurm job has {nodes} hosts, but `launch` was started on one of them, without srun; start it on all of them: "
            "srun --ntasks-per-node=1 python -m trainer launch … (or use this host alone: --nodes 1)"
        )
    hosts = expand_hosts(environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", ""))
    port = _FIRST_PORT + _integer(environment, "SLURM_JOB_ID", 0) % _NUM_PORTS
    return Placement(
        nodes=nodes, node_rank=_integer(environment, "SLURM_NODEID"), master_addr=hosts[0] if hosts else None, master_port=port
    )


def _integer(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    """Return the value of a variable; `default` if it is unset or empty. Raises UserError, naming it, if it is not a number."""
    text = environment.get(name, "")
    if not text and default is not None:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 15:
        raise UserError(
            f"environment variable {name}: expected a number, got {text[:40]!r}; unset it, or pass --nodes and --node-rank"
        )
    return int(text)


def expand_hosts(text: str) -> list[str]:
    """Expand a Slurm host list: "gpu[01-03,7],login" -> gpu01, gpu02, gpu03, gpu7, login. Raises UserError for another form."""
    hosts: list[str] = []
    for name in re.findall(r"(?:[^,\[\]]|\[[^\]]*\])+", text):
        parts = re.split(r"\[([^\]]*)\]", name)  # text, ranges, text, ranges, …
        choices = [_numbers(part) if i % 2 else [part] for i, part in enumerate(parts)]
        hosts += ["".join(choice) for choice in itertools.product(*choices)]
    return hosts


def _numbers(ranges: str) -> list[str]:
    """Expand "01-03,7" -> 01, 02, 03, 7; leading zeros stay."""
    numbers = []
    for part in ranges.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise UserError(f"SLURM_JOB_NODELIST: cannot read the range {part!r}; pass --nodes, --node-rank and --master-addr")
        numbers += [str(number).zfill(len(low)) for number in range(int(low), int(high or low) + 1)]
    return numbers


def resolve(host: str) -> str:
    """Return the IPv4 address of a host name, not a loopback one if there is a choice: MindSpore accepts addresses only.

    Raises UserError for a name that cannot be resolved.
    """
    try:
        found = [info[4][0] for info in socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)]
    except OSError as error:
        raise UserError(f"--master-addr {host}: cannot be resolved ({error.strerror}); pass the address of host 0") from error
    addresses = [str(address) for address in found]
    return next((address for address in addresses if not address.startswith("127.")), addresses[0])
