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
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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

    def __init__(
        self,
        state: CollectorState,
        counters: Counters,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._counters = counters
        self._metrics = Metrics(state, counters, monotonic, now)
        self._monotonic = monotonic
        self._now = now
        self._answers = {"/": self._page, "/metrics": self._metric_text, "/healthz": self._health, "/livez": self._life}

    def answer(self, path: str, accept: str) -> Reply | None:
        """What is to be seen at this path; None where there is nothing."""
        found = self._answers.get(path)
        return found(accept) if found else None

    def _page(self, accept: str) -> Reply:
        snapshot = self._state.snapshot()
        health = judge(snapshot, self._monotonic())
        document = render(snapshot, health, self._counters.counts(), int(self._now() * 1000))
        return Reply(200, "text/html; charset=utf-8", document.encode())

    def _metric_text(self, accept: str) -> Reply:
        body, content_type = self._metrics.render(accept)
        return Reply(200, content_type, body)

    def _health(self, accept: str) -> Reply:
        health = judge(self._state.snapshot(), self._monotonic())
        return _json(health.ok, {"status": health.status, "role": health.role.value, "reasons": list(health.reasons)})

    def _life(self, accept: str) -> Reply:
        now = self._monotonic()
        snapshot = self._state.snapshot()
        ok = alive(snapshot, now)
        return _json(ok, {"status": "ok" if ok else "stuck", "seconds_since_turn": round(now - snapshot.beat, 1)})


class _Handler(BaseHTTPRequestHandler):
    """One connection, one request; HTTP/1.0 closes after it."""

    # a request line that cannot be read is not taken for HTTP/0.9, which knows no status
    default_request_version = "HTTP/1.0"
    server: "_Server"

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
        head, until = bytearray(), time.monotonic() + CLIENT_TIMEOUT_S
        while len(head) <= MOST_HEAD_BYTES and b"\n\r\n" not in head and b"\n\n" not in head:
            self.connection.settimeout(max(0.001, until - time.monotonic()))
            received = self.connection.recv(4096)
            if not received:
                break
            head += received
        return bytes(head)

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
        until, ignored = time.monotonic() + LINGER_S, 0
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            while ignored < MOST_IGNORED_BYTES:
                self.connection.settimeout(max(0.001, until - time.monotonic()))
                received = len(self.connection.recv(4096))
                if not received:
                    break
                ignored += received

    def version_string(self) -> str:
        return f"esnet-collector/{__version__}"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""


class _Server(ThreadingHTTPServer):
    """Accepts connections, and knows the open ones."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    # a port that another program listens on must be an error, not shared
    allow_reuse_port = False

    def __init__(self, family: int, address: tuple[str, int], site: Site, hosts: KnownHosts, stop: Stop) -> None:
        self.address_family = family
        self.site = site
        self.hosts = hosts
        self._stop = stop
        self._open: dict[socket.socket, None] = {}
        self._cut_off: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # the parent class would look up this machine's name, and may wait for a name server
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            # out of descriptors, say: the connection is still there, and asking at once would spin
            self._stop.wait(0.1)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection; at most twice `MOST_CONNECTIONS` in all, with those that are just being cut off."""
        with self._lock:
            if len(self._open) >= MOST_CONNECTIONS:
                if len(self._cut_off) >= MOST_CONNECTIONS:
                    super().shutdown_request(request)
                    return
                oldest = next(iter(self._open))
                del self._open[oldest]
                self._cut_off.add(oldest)
                with contextlib.suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
            self._cut_off.discard(request)
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or hung is its own affair; anything else is ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("connection ended by an unexpected error", exc_info=error)


class WebServer:
    """Serves what the state and the counters say, from daemon threads, until closed. `names` may be asked for as `Host`."""

    def __init__(
        self,
        host: str,
        port: int,
        state: CollectorState,
        counters: Counters,
        stop: Stop,
        names: Iterable[str] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._port = port
        self._site = Site(state, counters, now=now)
        self._hosts = KnownHosts([host, *names])
        self._stop = stop
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """The port that is listened on; a free one was chosen when 0 was asked for. Before the start, what was asked for."""
        return self._server.server_port if self._server else self._port

    def start(self) -> None:
        """Listen and answer; returns at once. Raises ConfigurationError when that port of that host cannot be had."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, address = found[0][0], found[0][4]
        except (OSError, UnicodeError) as error:
            raise ConfigurationError(f"METRICS_HOST {self._host} is not an address of this machine: {error}") from error
        try:
            self._server = _Server(family, (str(address[0]), self._port), self._site, self._hosts, self._stop)
        except OSError as error:
            raise ConfigurationError(self._fault(error)) from error
        threading.Thread(target=self._serve, args=(self._server,), name="web", daemon=True).start()

    def _fault(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return f"METRICS_PORT {self._port} is taken on {self._host}: choose another one, or 0 for none"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"METRICS_HOST {self._host} is not an address of this machine"
        return f"METRICS_PORT {self._port} cannot be listened on: {error.strerror or error}"

    def _serve(self, server: _Server) -> None:
        try:
            server.serve_forever(poll_interval=0.1)
        except Exception as error:
            self._stop.fail(error, "web")

    def close(self) -> None:
        """Stop listening; safe to call again, and without a start."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()
