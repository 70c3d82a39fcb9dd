"""What the launchers of one job tell each other: a small file per host in the shared folder OUT.ranks.

Each launcher rewrites its own file every PUBLISH_S seconds with a growing count. A host counts as present once its file has
changed while this launcher watches, so that files of an earlier job mean nothing. Clocks of hosts are never compared.
"""

import contextlib
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypedDict

from pipeline.errors import UserError
from pipeline.storage.documents import Count, read_json
from pipeline.storage.files import write_json
from pipeline.wording import printable

PUBLISH_S = 2.0
STATUS = "host.json"

MAX_BYTES = 1 << 20

HostState = Literal["running", "done", "failed", "stopped"]


class _Status(TypedDict):
    """The file of a host."""

    state: HostState
    message: str
    token: str
    count: Count


def host_folder(folder: Path, node_rank: int) -> Path:
    """Return the folder of one host's logs inside OUT.ranks."""
    return folder / f"host-{node_rank}"


class Hosts:
    """The launchers of the other hosts, as far as this one can see. `timeout_s`: a host that stops writing for this long is lost."""

    def __init__(
        self, folder: Path, *, nodes: int, node_rank: int, timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._own, self._clock, self._timeout_s = host_folder(folder, node_rank) / STATUS, clock, timeout_s
        self._others = {n: host_folder(folder, n) / STATUS for n in range(nodes) if n != node_rank}
        self._state: HostState = "running"
        self._message = ""
        self._token, self._count, self._published_s = secrets.token_hex(4), 0, -float("inf")
        self._first = {n: self._read(path) for n, path in self._others.items()}
        self._last = dict(self._first)
        self._changed_s = dict.fromkeys(self._others, float("nan"))

    def publish(self, state: HostState, message: str = "") -> None:
        """Tell the other launchers the state of this one."""
        if not self._others:
            return
        self._state, self._message = state, message
        self._count += 1
        self._published_s = self._clock()
        with contextlib.suppress(OSError):  # a full or vanished disk must not keep a launcher from ending its processes
            write_json(self._own, {"state": state, "message": message, "token": self._token, "count": self._count})

    def update(self) -> None:
        """Publish the state of this host again, and read the files of the others. Cheap: does so every PUBLISH_S seconds."""
        if not self._others or self._clock() - self._published_s < PUBLISH_S:
            return
        self.publish(self._state, self._message)
        for number, path in self._others.items():
            found = self._read(path)
            if found and found != self._last[number]:
                self._last[number], self._changed_s[number] = found, self._clock()

    def missing(self) -> list[int]:
        """Return the hosts that have not been seen yet."""
        return [number for number, changed_s in self._changed_s.items() if changed_s != changed_s]

    def problem(self) -> str:
        """Return which host failed, stopped or disappeared, and why; "" if none did."""
        for number, changed_s in self._changed_s.items():
            if changed_s != changed_s:
                continue
            state, message = self._last[number].get("state"), self._last[number].get("message")
            if state == "failed":
                return f"host {number} failed: {printable(str(message))}"
            if state == "stopped":
                return f"host {number} was stopped by a signal"
            if state == "running" and self._clock() - changed_s > self._timeout_s:
                return f"host {number} disappeared: its launcher has written nothing for {self._timeout_s:g} s"
        return ""

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        """Return the file's content; empty while it is absent or another host is replacing it, and if it is something else."""
        with contextlib.suppress(UserError):
            return dict(read_json(path, "status of a host", _Status, max_bytes=MAX_BYTES))
        return {}
