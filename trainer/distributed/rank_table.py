"""The rank table of an Ascend cluster: a JSON file that says which devices of which hosts take part, and their ranks.

Format: https://www.mindspore.cn/tutorials/en/r2.5.0/parallel/rank_table.html (version 1.0, field `server_list`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

from msgspec import Meta

from pipeline.errors import UserError
from pipeline.storage.documents import read_json

MAX_BYTES = 64 << 20
ADVICE = "create the file with hccl_tools.py of MindSpore"


@dataclass(frozen=True, kw_only=True)
class RankTable:
    """path: the file. devices: for each host, in the order of the file, its device numbers by rank."""

    path: Path
    devices: tuple[dict[int, int], ...]

    def host_devices(self, node_rank: int, *, nodes: int, workers: int) -> dict[int, int]:
        """Return the device of each rank of a host. Raises UserError if the table describes another job."""
        if len(self.devices) != nodes:
            raise UserError(f"rank table {self.path}: has {len(self.devices)} hosts, the job has {nodes}; {ADVICE}")
        found = self.devices[node_rank]
        expected = range(node_rank * workers, (node_rank + 1) * workers)
        if sorted(found) != list(expected):
            raise UserError(
                f"rank table {self.path}: host {node_rank} has ranks {sorted(found)}, expected {expected.start} to "
                f"{expected.stop - 1} with --workers {workers}; {ADVICE}"
            )
        return found


Number = Annotated[int, Meta(ge=0, lt=1_000_000)] | Annotated[str, Meta(pattern="^[0-9]{1,6}$")]  # hccl_tools.py writes text


class _Device(TypedDict):
    """A device of a host."""

    rank_id: Number
    device_id: Number


class _Server(TypedDict):
    """A host."""

    device: list[_Device]


class _Table(TypedDict):
    """The fields of a rank table that are used."""

    server_list: Annotated[list[_Server], Meta(min_length=1)]


def read_rank_table(path: Path) -> RankTable:
    """Read a rank table. Raises UserError naming the file and the field for anything else."""
    try:
        table: _Table = read_json(path, "rank table", _Table, max_bytes=MAX_BYTES)
        return RankTable(path=path, devices=tuple(_devices(path, n, server) for n, server in enumerate(table["server_list"])))
    except UserError as error:
        raise UserError(f"{error}; {ADVICE}") from error


def _devices(path: Path, number: int, server: _Server) -> dict[int, int]:
    devices = {int(entry["rank_id"]): int(entry["device_id"]) for entry in server["device"]}
    if len(devices) != len(server["device"]):
        raise UserError(f"rank table {path}: server_list[{number}].device: rank_id must be distinct")
    return devices
