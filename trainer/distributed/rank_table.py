"""The rank table of an Ascend cluster: a JSON file that says which devices of which hosts take part, and their ranks.

Format: https://www.mindspore.cn/tutorials/en/r2.5.0/parallel/rank_table.html (version 1.0, field `server_list`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.documents import read_json
from pipeline.errors import UserError

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


def read_rank_table(path: Path) -> RankTable:
    """Read a rank table. Raises UserError naming the file and the field for anything else."""
    document = read_json(path, "rank table")
    servers = document.get("server_list") if isinstance(document, dict) else None
    if not isinstance(servers, list) or not servers:
        raise UserError(f"rank table {path}: expected an object with the list server_list; {ADVICE}")
    return RankTable(path=path, devices=tuple(_devices(path, number, server) for number, server in enumerate(servers)))


def _devices(path: Path, number: int, server: Any) -> dict[int, int]:
    entries = server.get("device") if isinstance(server, dict) else None
    try:
        assert isinstance(entries, list)
        devices = {int(entry["rank_id"]): int(entry["device_id"]) for entry in entries}
        assert len(devices) == len(entries)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"rank table {path}: server_list[{number}].device must be a list of objects with distinct rank_id and a device_id; {ADVICE}"
        ) from error
    return devices
