"""Answers the requests of the page of `live`.

Nobody but the user may see the pictures: requests for another host name (DNS rebinding) and from pages of other origins are
refused, and everything but the page itself needs the token. The page loads nothing from elsewhere (Content-Security-Policy).
"""

import json
import secrets
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Annotated, Any, TypedDict
from urllib.parse import parse_qs, urlsplit

from msgspec import Meta

from pipeline.errors import UserError
from pipeline.storage.documents import parse_json

if TYPE_CHECKING:
    from evaluator.live.server import LiveServer

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
WAIT_S = 5.0  # for the next frame, before the page asks again
IDLE_S = 20.0  # a connection that sends or takes nothing for so long is closed
MAX_VIEWERS, MAX_BODY_BYTES = 16, 1000


class Threshold(TypedDict):
    """The body of POST /threshold."""

    min_score: Annotated[float, Meta(ge=0, le=1)]


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: "LiveServer"
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "openpose-mindspore", ""
    timeout = IDLE_S

    def do_GET(self) -> None:
        """Answer GET: the page, the newest picture, the figures."""
        url = urlsplit(self.path)
        if not self._is_allowed(url.path):
            return
        if url.path in self.server.files:
            self._send(HTTPStatus.OK, *self.server.files[url.path])
        elif url.path == "/frame":
            self._send_frame(parse_qs(url.query).get("after", ["0"])[-1])
        elif url.path == "/status":
            self._send_json(HTTPStatus.OK, self.server.facts())
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such address")

    def do_POST(self) -> None:
        """Answer POST /threshold, {"min_score": 0.6}."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdecimal() and int(length) <= MAX_BODY_BYTES):
            self.close_connection = True  # the body is not read
            self._refuse(HTTPStatus.BAD_REQUEST, f"expected a body of at most {MAX_BODY_BYTES} bytes")
            return
        body = self.rfile.read(int(length))
        if not self._is_allowed(self.path):
            return
        if self.path != "/threshold" or self.server.view is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such address")
            return
        if self.headers.get_content_type() != "application/json":  # what a form of another site cannot send
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected Content-Type: application/json")
            return
        try:
            min_score = parse_json(body, "body", Threshold)["min_score"]
        except UserError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self.server.view.set_min_score(min_score)
        self._send_json(HTTPStatus.OK, {"min_score": min_score})

    def _is_allowed(self, path: str) -> bool:
        """Whether the request may be answered; if not, answer it with the reason."""
        server, origin = self.server, self.headers.get("Origin")
        if not server.accepts_host(self.headers.get("Host")):
            self._refuse(HTTPStatus.FORBIDDEN, "this server has another name; open the address that the command printed")
        elif origin is not None and urlsplit(origin).netloc != self.headers.get("Host"):
            self._refuse(HTTPStatus.FORBIDDEN, "requests from pages of other sites are refused")
        elif path not in server.files and not self._has_token():
            self._refuse(HTTPStatus.UNAUTHORIZED, "open the whole address that the command printed: it contains a token")
        else:
            return True
        return False

    def _has_token(self) -> bool:
        expected, given = self.server.token, self.headers.get("Authorization", "")
        return expected is None or secrets.compare_digest(given.encode(errors="replace"), f"Bearer {expected}".encode())

    def _send_frame(self, after: str) -> None:
        """Send the next picture as soon as it is drawn; 204 if there is none for a while, 410 after the last one."""
        view, start_s = self.server.view, time.monotonic()
        if view is None or not (after.isascii() and after.isdecimal() and len(after) < 16):
            self._refuse(HTTPStatus.BAD_REQUEST, "expected after=NUMBER")
            return
        with view.viewer() as number:
            if number > MAX_VIEWERS:
                self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_VIEWERS} pages show this view already; close one")
                return
            picture = view.wait(int(after), WAIT_S)
            if picture is None:
                self._send(HTTPStatus.GONE if view.is_closed else HTTPStatus.NO_CONTENT, b"", "image/jpeg")
                return
            now_s = time.monotonic()
            headers = {
                "X-Version": picture.version,
                "X-Frame": picture.frame,
                "X-Age-Ms": f"{1000 * (now_s - picture.captured_s):.1f}",
                "X-Waited-Ms": f"{1000 * (now_s - start_s):.1f}",
            }
            self._send(HTTPStatus.OK, picture.jpeg, "image/jpeg", headers)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._send_json(status, {"error": reason})

    def _send_json(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        self._send(status, json.dumps(document, allow_nan=False).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, headers: dict[str, Any] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **HEADERS, **(headers or {})}.items():
            self.send_header(name, str(value))
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a page asks many times per second."""
