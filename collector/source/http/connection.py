"""What urllib3's connections do not do: send the exact target, end a whole answer at its deadline, and read no endless head.

urllib3's pool lends the connections and does proxies and TLS, urllib3 and http.client read the heads. Three things are
added, because urllib3 normalises the escapes in a URL, because a slow drip outlives its timeouts, and because http.client
takes a cut head for a whole one and a negative chunk for an endless one.
"""

import contextlib
import functools
import http.client
import socket
import threading
import time
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from collector.core.shutdown import Stop
from collector.source.http.host_names import Address, HostNames

STEP_S = 0.05
"""How often attempts are looked at: so much later than due is one cut, at the most."""
MOST_HEAD_BYTES = 65_536
"""http.client alone would take a hundred headers of so many bytes each."""

_current = threading.local()
_names = HostNames()


class Attempt:
    """One try of one request; `deadline` is monotonic and covers everything from the connect to the last byte."""

    __slots__ = ("_left", "_lock", "_socket", "answered", "cut", "deadline", "fresh", "new_connection", "target")

    def __init__(self, target: str, deadline: float, *, fresh: bool = False) -> None:
        self.target = target
        """What stands between the method and the version, exactly as it goes out."""
        self.deadline = deadline
        self.fresh = fresh
        """Connect anew, whatever the pool has."""
        self.new_connection = False
        """It went out on a connection of its own, which had not served before."""
        self.answered = False
        """The head of an answer has come."""
        self.cut = False
        """It was over its deadline."""
        self._socket: socket.socket | None = None
        self._left: list[socket.socket] = []
        self._lock = threading.Lock()

    def attach(self, handle: socket.socket | None) -> None:
        """The socket that `expire` shuts down; None: none."""
        with self._lock:
            self._socket = handle
        if self.cut and handle is not None:
            self.expire()

    def leave(self, handle: socket.socket) -> None:
        """Close this socket once the attempt is over: its connection is done with, but the body may still be read."""
        self._left.append(handle)

    def over(self) -> None:
        """Nothing is expired any more."""
        self.attach(None)
        for handle in self._left:
            handle.close()

    def expire(self) -> None:
        """End it, whatever it waits for; called by the watchdog, again and again while it has not ended."""
        with self._lock:
            self.cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # not connected yet, or closed by the other side
                    self._socket.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """The thread that ends attempts at their deadline, and all of them once a stop's grace is over."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop
        self._attempts: set[Attempt] = set()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._begun = threading.Condition(self._lock)

    def watch(self, attempt: Attempt) -> None:
        """Look after this attempt, and make it the calling thread's own."""
        _current.attempt = attempt
        with self._lock:
            self._attempts.add(attempt)
            if len(self._attempts) == 1:
                self._begun.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def release(self, attempt: Attempt) -> None:
        """It is over."""
        _current.attempt = None
        attempt.over()
        with self._lock:
            self._attempts.discard(attempt)

    def _run(self) -> None:
        try:
            while True:
                self._look()
        except Exception as error:
            self._stop.fail(error, "watchdog")

    def _look(self) -> None:
        with self._lock:
            self._begun.wait(STEP_S)  # time.sleep fails where a test steps the clock
            self._begun.wait_for(lambda: self._attempts)
            attempts = list(self._attempts)
        now, give_up_at = time.monotonic(), self._stop.give_up_at
        all_over = give_up_at is not None and now >= give_up_at
        for attempt in attempts:
            if all_over or now >= attempt.deadline:
                attempt.expire()


class _Head:
    """Stands in for the socket's file while the head is read."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._left = MOST_HEAD_BYTES

    def readline(self, most: int) -> bytes:
        line: bytes = self._file.readline(min(most, self._left + 1))
        whole = line.endswith(b"\n")
        self._left -= len(line)
        if self._left < 0:
            raise http.client.HTTPException(f"head of over {MOST_HEAD_BYTES} bytes")
        if not whole and (line or self._left < MOST_HEAD_BYTES):  # an end before the first byte is http.client's to name
            raise http.client.HTTPException("head cut off")
        return line

    def close(self) -> None:
        self._file.close()


class Response(http.client.HTTPResponse):
    """http.client's, with a bounded head that is whole and chunks that have a size."""

    def begin(self) -> None:
        """Read the head. Raises http.client.HTTPException."""
        file = self.fp
        self.fp = _Head(file)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            if self.fp is not None:
                self.fp = file

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]
        if size < 0:  # http.client reads until the other side ends then, whatever the limit
            raise http.client.HTTPException("chunk of a negative size")
        return size


@functools.lru_cache(maxsize=64)
def _header_line(header: str, value: str) -> bytes:
    line = f"{header}: {value}".encode("latin-1")
    if b"\n" in line or b"\r" in line:
        raise ValueError(f"header {header} of more than one line")
    return line


class _Direct(HTTPConnection):
    """A connection of urllib3's pool that carries the calling thread's attempt."""

    response_class = Response
    _second_handle: socket.socket | None = None
    """A second handle of the socket, which stays the same when TLS wraps the first: what the watchdog shuts down."""

    @property
    def is_connected(self) -> bool:
        """Whether the pool may use this connection again."""
        return not _current.attempt.fresh and super().is_connected

    def putrequest(self, method: str, url: str, *arguments: Any, **options: Any) -> None:
        """Send the attempt's target in place of what urllib3 made of the URL."""
        _current.attempt.attach(self._second_handle)
        super().putrequest(method, _current.attempt.target, *arguments, **options)

    def putheader(self, header: str, value: str) -> None:  # type: ignore[override]
        """Add a line, made once: most are the same in each request, and checking them costs more than all else that is sent."""
        self._output(_header_line(header, value))  # type: ignore[attr-defined]

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers, the one that did so last before the others."""
        attempt: Attempt = _current.attempt
        attempt.new_connection = True
        error: OSError | None = None
        try:
            addresses = _names.addresses(self._dns_host, self.port, attempt.deadline)
            for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
                remaining_s = max(0.001, attempt.deadline - time.monotonic())
                try:
                    connected = self._connected(address, remaining_s / left)
                    # for TLS and a proxy's tunnel, which come next; the watchdog ends what follows
                    connected.settimeout(remaining_s)
                    _names.answered(self._dns_host, self.port, address)
                    return connected
                except OSError as refused:
                    error = refused
            _names.failed(self._dns_host, self.port)
        except OSError as unknown:
            error = unknown
        # no OSError: urllib3 passes over a reset while it sends, and would read from a connection that is not there
        raise NewConnectionError(self, "not connected") from error

    def _connected(self, where: Address, seconds: float) -> socket.socket:
        """Connect within this address' share of the time, so that one that does not answer leaves some to the others."""
        attempt: Attempt = _current.attempt
        *kind, address = where
        sock = socket.socket(*kind)
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            self._second_handle = sock.dup()
            attempt.attach(self._second_handle)
            sock.settimeout(seconds)
            sock.connect(address)
        except OSError:
            sock.close()
            attempt.attach(None)
            self._close_second_handle()
            raise
        return sock

    def close(self) -> None:
        """Close both handles; the second one after the attempt, since http.client closes first where the end is the body's."""
        super().close()
        attempt: Attempt | None = getattr(_current, "attempt", None)
        if attempt is not None and self._second_handle is not None:
            attempt.leave(self._second_handle)
            self._second_handle = None
        self._close_second_handle()

    def _close_second_handle(self) -> None:
        handle, self._second_handle = self._second_handle, None
        if handle is not None:
            handle.close()


class PlainConnection(_Direct):
    """Over http."""


class TlsConnection(_Direct, HTTPSConnection):
    """Over https; urllib3 verifies the peer."""
