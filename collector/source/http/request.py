"""One request and its answer on the wire: byte for byte, within a size, and cut when its time is over.

urllib3's pool lends the connections and does proxies and TLS. What travels on them is done here, for three reasons: urllib3
and requests rewrite escapes in a URL, nothing in them bounds a whole answer (PITFALLS, HTTP), and their parsing of heads
costs more than all else that the collector does for a window.
"""

import contextlib
import http.client
import re
import socket
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection

from collector.core.shutdown import Stop
from collector.source.http.body import TooLargeError

STEP_S = 0.05
"""How often exchanges are looked at: so much later than due is one cut, at the most."""
ERROR_BODY_BYTES = 65_536
"""The body of an answer that is not 200 is read up to here, only to keep the connection."""
MAX_LINE_BYTES = 65_536
MAX_HEADERS = 100

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: .*)?\r?\n", re.DOTALL)
_current = threading.local()


class Exchange:
    """One try of one request; `deadline` is monotonic and covers everything from the connect to the last byte."""

    __slots__ = ("_lock", "_socket", "answered", "cut", "deadline", "fresh", "limit_bytes", "reused", "target")

    def __init__(self, target: str, limit_bytes: int, deadline: float, fresh: bool = False) -> None:
        self.target = target
        """What stands between the method and the version, exactly as it goes out."""
        self.limit_bytes = limit_bytes
        self.deadline = deadline
        self.fresh = fresh
        """Connect anew, whatever the pool has."""
        self.reused = False
        """It went out on a connection that had served before."""
        self.answered = False
        """At least one byte of the answer came."""
        self.cut = False
        """It was over its deadline."""
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def attach(self, twin: socket.socket | None) -> None:
        """The socket that `expire` shuts down; None: none."""
        with self._lock:
            self._socket = twin
        if self.cut and twin is not None:
            self.expire()

    def expire(self) -> None:
        """End it, whatever it waits for; called by the watchdog, again and again while it has not ended."""
        with self._lock:
            self.cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # not connected yet, or closed by the other side
                    self._socket.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """The thread that ends exchanges at their deadline, and all of them once a stop's grace is over."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._exchanges: set[Exchange] = set()
        self._busy = threading.Event()
        self._never = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, exchange: Exchange) -> None:
        """Look after this exchange, and make it the calling thread's own."""
        _current.exchange = exchange
        with self._lock:
            self._exchanges.add(exchange)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()
        if not self._busy.is_set():
            self._busy.set()

    def release(self, exchange: Exchange) -> None:
        """It is over."""
        _current.exchange = None
        exchange.attach(None)
        with self._lock:
            self._exchanges.discard(exchange)

    def _run(self) -> None:
        try:
            while True:
                self._busy.wait()
                self._look()
                self._never.wait(STEP_S)
        except Exception as error:
            self._stop.fail(error, "watchdog")

    def _look(self) -> None:
        with self._lock:
            exchanges = list(self._exchanges)
            if not exchanges:
                self._busy.clear()
        now, give_up_at = time.monotonic(), self._stop.give_up_at
        all_over = give_up_at is not None and now >= give_up_at
        for exchange in exchanges:
            if all_over or now >= exchange.deadline:
                exchange.expire()


class Response(http.client.HTTPResponse):
    """An answer read to its end; http.client's reading of bodies under a head parsed without its cost.

    The attributes without a use here are those that urllib3's pool sets or logs.
    """

    retries: Any = None
    version_string = "HTTP/1.1"
    length_remaining = 0
    _connection: Any = None
    _pool: Any = None
    body = b""
    fields: Mapping[str, str] = MappingProxyType({})
    """The headers, their names in lower case."""

    def begin(self) -> None:
        """Read the head. Raises http.client.HTTPException."""
        minor, self.status = self._read_status_line()
        while 100 <= self.status < 200:
            self._read_headers()
            minor, self.status = self._read_status_line()
        self.code, self.version, self.reason = self.status, 10 + minor, ""
        headers = self.fields = self._read_headers()
        self.headers = self.msg = headers  # type: ignore[assignment]  # urllib3 looks for Retry-After
        self.chunked, self.chunk_left, self.length = False, None, None
        if self.status in (204, 304):
            self.length = 0
        elif "transfer-encoding" in headers:
            self.chunked = headers["transfer-encoding"].lower() == "chunked"
        elif length := headers.get("content-length"):
            if not (length.isascii() and length.isdigit()):
                raise http.client.HTTPException("Content-Length is no number")
            self.length = int(length)
        options = headers.get("connection", "").lower()
        endless = not self.chunked and self.length is None
        self.will_close = endless or "close" in options or (minor == 0 and "keep-alive" not in options)

    def read_body(self, limit_bytes: int) -> None:
        """Read the body, unless it is longer. Raises TooLargeError and http.client.HTTPException."""
        if self.length is None or self.chunked:
            self.body = self.read(limit_bytes + 1)
        elif self.length <= limit_bytes:
            self.body = self.read()
        else:
            raise TooLargeError
        if len(self.body) > limit_bytes:
            raise TooLargeError

    def _read_next_chunk_size(self) -> int:
        """http.client takes a negative size, and then reads until the other side ends, whatever the limit."""
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:
            raise http.client.HTTPException("chunk of a negative size")
        return size

    def _read_status_line(self) -> tuple[int, int]:
        line = self.fp.readline(MAX_LINE_BYTES + 1)
        if not line:
            raise ConnectionError("closed without an answer")
        _current.exchange.answered = True
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise http.client.BadStatusLine("no status line of HTTP/1")
        return int(match[1]), int(match[2])

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(MAX_HEADERS):
            line = self.fp.readline(MAX_LINE_BYTES + 1)
            if line in (b"\r\n", b"\n"):
                return headers
            if not line.endswith(b"\n"):
                raise http.client.HTTPException("head cut off" if len(line) <= MAX_LINE_BYTES else "header too long")
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        raise http.client.HTTPException(f"more than {MAX_HEADERS} headers")


class _Wire(HTTPConnection):
    """A connection of urllib3's pool that carries the calling thread's exchange."""

    _twin: socket.socket | None = None
    """A second handle of the socket, which stays the same when TLS wraps the first: what the watchdog shuts down."""
    _served = False

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use this connection again."""
        return not _current.exchange.fresh and super().is_connected

    def _new_conn(self) -> socket.socket:
        exchange: Exchange = _current.exchange
        addresses = socket.getaddrinfo(self._dns_host, self.port, 0, socket.SOCK_STREAM)
        error: OSError = OSError("host has no address")
        for left, (family, kind, protocol, _, address) in zip(range(len(addresses), 0, -1), addresses, strict=True):
            remaining_s = max(0.001, exchange.deadline - time.monotonic())
            try:
                return self._connected(socket.socket(family, kind, protocol), address, remaining_s, left)
            except OSError as refused:
                error = refused
        raise error

    def _connected(self, sock: socket.socket, address: Any, remaining_s: float, left: int) -> socket.socket:
        """Connect within this address' share of the time, so that one that does not answer leaves some to the others."""
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            self._served, self._twin = False, sock.dup()
            _current.exchange.attach(self._twin)
            sock.settimeout(remaining_s / left)
            sock.connect(address)
            sock.settimeout(remaining_s)  # TLS and a proxy's tunnel come next; request() sets what holds from then on
        except OSError:
            sock.close()
            self._drop_twin()
            raise
        return sock

    def request(self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None, **_options: Any) -> None:  # type: ignore[override]
        """Send the thread's exchange with these headers; the URL is the exchange's, not `url`."""
        exchange: Exchange = _current.exchange
        if self.sock is None:
            self.connect()
        exchange.attach(self._twin)
        exchange.reused = self._served
        fields = "".join([f"{name}: {value}\r\n" for name, value in (headers or {}).items()])
        self.sock.settimeout(None)  # the watchdog ends it, and without a timeout each read is one system call less
        self.sock.sendall(f"{method} {exchange.target} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))

    def getresponse(self) -> Response:  # type: ignore[override]
        """Read the whole answer. Raises TooLargeError, http.client.HTTPException and OSError."""
        response = Response(self.sock, method="GET")
        try:
            response.begin()
            try:
                response.read_body(_current.exchange.limit_bytes if response.status == 200 else ERROR_BODY_BYTES)
            except (TooLargeError, OSError, http.client.HTTPException):
                if response.status == 200:
                    raise
                response.will_close = True  # the status says all that is worth knowing
        finally:
            response.close()
        if response.will_close:
            self.close()
        self._served = True
        return response

    def close(self) -> None:
        """Close both handles."""
        super().close()
        self._drop_twin()

    def _drop_twin(self) -> None:
        twin, self._twin = self._twin, None
        if twin is not None:
            exchange: Exchange | None = getattr(_current, "exchange", None)
            if exchange is not None:
                exchange.attach(None)
            twin.close()


class PlainWire(_Wire):
    """Over http."""


class TlsWire(_Wire, HTTPSConnection):
    """Over https; urllib3 verifies the peer."""
