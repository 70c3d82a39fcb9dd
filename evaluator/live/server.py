"""The web server of `live`: a port, a token, and threads that answer. It uses the standard library only."""

import errno
import ipaddress
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from evaluator.live.handler import Handler
from evaluator.live.view import View
from pipeline.errors import UserError

Address = tuple[Any, ...]
FILES = {"/": ("live.html", "text/html"), "/live.css": ("live.css", "text/css"), "/live.js": ("live.js", "text/javascript")}
MAX_CONNECTIONS = 64


class LiveServer(ThreadingHTTPServer):
    """Serves the page. Use it as a context manager; `start` begins to answer."""

    daemon_threads, block_on_close = True, False

    def __init__(self, host: str, port: int, *, token: bool) -> None:
        """Reserve the port. Raises UserError if that is not possible."""
        self.token = secrets.token_urlsafe(16) if token else None
        folder = resources.files("evaluator.live") / "page"
        self.files = {path: ((folder / name).read_bytes(), f"{kind}; charset=utf-8") for path, (name, kind) in FILES.items()}
        self.view: View | None = None
        self.facts: Callable[[], dict[str, Any]] = dict
        self._connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            self.address_family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            super().__init__((str(address[0]), port), Handler)
        except OSError as error:
            raise UserError(_explain(host, port, error)) from error
        bound = ipaddress.ip_address(self.server_name)
        self.is_local = bound.is_loopback
        self._names = {"localhost", host.lower()} | (set() if self.is_local else {socket.gethostname().lower()})

    def server_bind(self) -> None:
        """Bind without looking up the name of the host, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def start(self, view: View, facts: Callable[[], dict[str, Any]]) -> None:
        """Answer requests in threads. facts: returns what GET /status answers."""
        self.view, self.facts = view, facts
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, name="server", daemon=True).start()

    def __exit__(self, *error: object) -> None:
        if self.view is not None:
            self.view.close()
            self.shutdown()
        self.server_close()

    def page_address(self) -> str:
        """Return the address of the page, with the token. Browsers do not send what follows "#", so no log contains it."""
        host = self.server_name
        if host in ("0.0.0.0", "::"):
            host = socket.gethostname()
        host = f"[{host}]" if ":" in host else host
        return f"http://{host}:{self.server_port}/" + (f"#token={self.token}" if self.token else "")

    def accepts_host(self, header: str | None) -> bool:
        """Whether a Host header names this machine. A page of another site whose name leads here has that site's name in it."""
        try:
            name = urlsplit(f"//{header or ''}").hostname or ""
        except ValueError:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.is_local

    def process_request(self, request: Any, client_address: Address) -> None:
        """Answer a request in a thread of its own, unless there are too many."""
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Address) -> None:
        """Answer the requests of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Address) -> None:
        """Ignore browsers that go away; other errors are our own."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def _explain(host: str, port: int, error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"--host {host}: no such host ({error.strerror}); use 127.0.0.1, or 0.0.0.0 to be reachable from the network"
    if error.errno == errno.EADDRINUSE:
        return f"--port {port}: is used by another program; choose another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"--port {port}: needs privileges; choose one from 1024"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: not an address of this machine; use 127.0.0.1, or 0.0.0.0 to be reachable from the network"
    return f"--host {host} --port {port}: {error.strerror or error}"
