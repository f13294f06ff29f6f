"""The HTTP server for those who watch: /metrics, /healthz, /livez and the page for people. It only ever reads."""

import contextlib
import errno
import http
import io
import json
import logging
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from collector import __version__
from collector.core.counters import Counters
from collector.core.errors import ConfigurationError
from collector.core.shutdown import Stop
from collector.watch.health import alive, judge
from collector.watch.hosts import KnownHosts
from collector.watch.metrics import Metrics
from collector.watch.page import CONTENT_SECURITY_POLICY, render
from collector.watch.state import CollectorState

log = logging.getLogger(__name__)

CLIENT_TIMEOUT_S = 10.0
"""A client has so long to send its request, and as long again to take the answer."""
MOST_HEAD_BYTES = 16_384
"""Of a request's first line and headers together."""
MOST_CONNECTIONS = 32
"""At once, a thread each; one more cuts off the oldest, so that clients that hang keep nobody out."""
LINGER_S = 1.0
MOST_IGNORED_BYTES = 65_536
"""After a refusal what the client still sends is taken, for so long and so much: else a reset could overtake the answer."""
UNKNOWN_HOST = "the page is not known by this name: METRICS_HOSTS names those by which it is asked for"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Sent with every answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request is answered with."""

    status: int
    content_type: str
    body: bytes


def _json(ok: bool, answer: dict[str, object]) -> Reply:
    return Reply(200 if ok else 503, "application/json", json.dumps(answer).encode() + b"\n")


class Site:
    """The answers, each computed anew from the state and the counters."""

    def __init__(self, state: CollectorState, counters: Counters) -> None:
        self._state = state
        self._counters = counters
        self._metrics = Metrics(state, counters)

    def answer(self, path: str, accept: str) -> Reply | None:
        """What is to be seen at this path; None where there is nothing."""
        match path:
            case "/":
                return Reply(200, "text/html; charset=utf-8", render(self._state.snapshot(), self._counters).encode())
            case "/metrics":
                body, content_type = self._metrics.render(accept)
                return Reply(200, content_type, body)
            case "/healthz":
                now = self._state.snapshot()
                health = judge(now)
                return _json(health.ok, {"status": health.status, "role": now.role, "reasons": health.reasons})
            case "/livez":
                now = self._state.snapshot()
                ok = alive(now)
                return _json(ok, {"status": "ok" if ok else "stuck", "seconds_since_turn": round(now.now_s - now.beat_s, 1)})
        return None


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request; HTTP/1.0 closes after it."""

    # a request line that cannot be read is not taken for HTTP/0.9, which knows no status
    default_request_version = "HTTP/1.0"
    server: "WebServer"

    def handle(self) -> None:
        """Read the whole head, within its limits, before any of it is looked at."""
        head = self._head()
        self.connection.settimeout(CLIENT_TIMEOUT_S)
        if len(head) > MOST_HEAD_BYTES:
            self.requestline = self.request_version = self.command = ""
            self.send_error(431)
        elif head:
            self.rfile = io.BytesIO(head)
            self.handle_one_request()

    def _head(self) -> bytes:
        """What the client sends up to the first empty line. Raises TimeoutError when that takes too long."""
        head = bytearray()
        for received in self._received(CLIENT_TIMEOUT_S, MOST_HEAD_BYTES):
            head += received
            if b"\n\r\n" in head or b"\n\n" in head:
                break
        return bytes(head)

    def _received(self, seconds: float, most_bytes: int) -> Iterator[bytes]:
        """What the client sends, until it ends, or is more than so much. Raises TimeoutError after so long in all."""
        until, total = time.monotonic() + seconds, 0
        while total <= most_bytes:
            self.connection.settimeout(max(0.001, until - time.monotonic()))
            received = self.connection.recv(4096)
            if not received:
                break
            total += len(received)
            yield received

    def do_GET(self) -> None:
        if not self.server.hosts.known(self.headers.get_all("Host", [])):
            self.send_error(400, explain=UNKNOWN_HOST)
            return
        # this thread's top: a page that cannot be made is worth a traceback, not the collector's end
        try:
            reply = self.server.site.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        except Exception:
            log.exception("request could not be answered path=%r", self.path)
            self.send_error(500)
            return
        if reply is None:
            self.send_error(404)
        else:
            self._send(reply)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in plain words, and with nothing of what the client sent. A method without a `do_` arrives here as 501."""
        status = http.HTTPStatus.METHOD_NOT_ALLOWED if code == 501 else http.HTTPStatus(code)
        # http.server's own texts for a head that it cannot read quote the head
        said = f"{status.value} {status.phrase}" + (f": {explain}" if explain == UNKNOWN_HOST else "")
        self._send(Reply(status.value, "text/plain; charset=utf-8", f"{said}\n".encode()))
        self._ignore_rest()

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        if reply.status == 405:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body)))
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def _ignore_rest(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            for _ in self._received(LINGER_S, MOST_IGNORED_BYTES):
                pass

    def version_string(self) -> str:
        return f"esnet-collector/{__version__}"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""


class WebServer(socketserver.ThreadingTCPServer):
    """Serves what the state and the counters say, from daemon threads, from its creation until it is closed.

    A request may name as `Host` what `KnownHosts` has, and `names`. Raises ConfigurationError when that port of that host
    cannot be had.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    # else the port could not be had again while connections of before still end
    allow_reuse_address = True

    def __init__(
        self, host: str, port: int, state: CollectorState, counters: Counters, stop: Stop, names: Iterable[str] = ()
    ) -> None:
        self.site = Site(state, counters)
        self.hosts = KnownHosts([host, *names])
        self._stop = stop
        self._open: dict[socket.socket, None] = {}
        self._lock = threading.Lock()
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(f"METRICS_HOST {host} is not an address of this machine: {error}") from error
        self.address_family = found[0][0]
        try:
            super().__init__((str(found[0][4][0]), port), _Handler)
        except OSError as error:
            raise ConfigurationError(_fault(host, port, error)) from error
        threading.Thread(target=self._serve, name="web", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that is listened on; a free one was chosen when 0 was asked for."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Stop listening; safe to call again."""
        self.shutdown()
        self.server_close()

    def _serve(self) -> None:
        try:
            self.serve_forever(poll_interval=0.1)
        except Exception as error:
            self._stop.fail(error, "web")

    def get_request(self) -> tuple[Any, Any]:
        """Out of descriptors, say: the connection is still there, and asking at once would spin."""
        try:
            return super().get_request()
        except OSError:
            self._stop.wait(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection. All but the newest `MOST_CONNECTIONS` are cut off; as many again may be at their end."""
        with self._lock:
            if len(self._open) >= 2 * MOST_CONNECTIONS:
                super().shutdown_request(request)
                return
            self._open[request] = None
            for oldest in list(self._open)[:-MOST_CONNECTIONS]:
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """The connection's end; under the lock, so that no other one that has its descriptor by then is cut off."""
        with self._lock:
            self._open.pop(request, None)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or hung is its own affair; anything else is ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("connection ended by an unexpected error", exc_info=error)


def _fault(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"METRICS_PORT {port} is taken on {host}: choose another one, or 0 for none"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"METRICS_HOST {host} is not an address of this machine"
    return f"METRICS_PORT {port} cannot be listened on: {error.strerror or error}"
