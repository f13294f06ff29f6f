"""What the simulated sources share: an HTTP server on loopback, in a thread of its own.

HTTP/1.1 is spoken by hand, just enough of it: a simulation beside the collector must cost little of what is measured there.
"""

import asyncio
import logging
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate
from http.client import responses
from types import TracebackType
from typing import Any, ClassVar, Self

from collector.source.simulated.network import SimulatedNetwork

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_LENGTH = re.compile(rb"\ncontent-length: *([0-9]+)")


def wall_ms() -> int:
    """The time of the machine."""
    return time.time_ns() // 1_000_000


def encoded_answer(date: str, body: bytes = b"", status: int = 200, headers: tuple[tuple[str, str], ...] = ()) -> bytes:
    """A whole answer; `date` may be empty."""
    lines = [f"HTTP/1.1 {status} {responses[status]}", "Content-Type: application/json"]
    if date:
        lines.append(f"Date: {date}")
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def target_of(head: bytes) -> tuple[bytes, bytes]:
    """Path and query of the request line; of a whole URL, as a proxy is asked, too."""
    target = head.split(b" ", 2)[1]
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path, _, query = target.partition(b"?")
    return path, query


class Connection(asyncio.Protocol):
    """One client's connection, kept alive, one request after the other."""

    _transport: asyncio.Transport

    def __init__(self, server: "SimulatedServer") -> None:
        self._server = server
        self._received = b""
        self._busy = False
        self._last = False

    def connection_made(self, transport: Any) -> None:
        """Remember where to write to."""
        self._transport = transport
        self._server.connections += 1
        self._server.open_connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was on its way has no receiver any more."""
        self._server.open_connections.discard(self)
        if self._busy:
            self._busy = False
            self._server.at_once -= 1

    def abort(self) -> None:
        """End it with a reset."""
        if not self._transport.is_closing():
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def data_received(self, received: bytes) -> None:
        """Take in a part of a request; start on it when it is complete."""
        self._received += received
        if not self._busy:
            self._next()

    def _next(self) -> None:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            if len(self._received) > MAX_HEAD_BYTES:
                self.abort()
            return
        fields = head.lower()
        announced = _LENGTH.search(fields)
        length = int(announced[1]) if announced else 0
        if len(rest) < length:
            return
        self._received = rest[length:]
        self._busy = True
        self._last = b"\nconnection: close" in fields
        loop = asyncio.get_running_loop()
        at = loop.time()
        self._server.arrived(head)
        # made before the wait, which is to take no longer than was asked for: after it, thirty answers may be due at once
        answer = self._server.answer(head, rest[:length])
        if self._server.latency_s > 0:
            loop.call_at(at + self._server.latency_s, self.send, answer)
        else:
            self.send(answer)

    def send(self, answer: Any) -> None:
        """Send a whole answer, unless its client is gone; None: close without one."""
        if not self._busy:
            return
        if answer is None:
            self._transport.close()
        else:
            self._transport.write(answer)
            self._done()

    def _done(self) -> None:
        self._busy = False
        self._server.at_once -= 1
        if self._last:
            self._transport.close()
        elif self._received:
            self._next()


class SimulatedServer:
    """Serves a network by its own clock and no further, from `start` to `stop`; it may be started again, on the same port.

    `counts` has the number of requests by what they asked for.
    """

    base_path: ClassVar[str] = ""
    connection: ClassVar[type[Connection]] = Connection

    def __init__(
        self, network: SimulatedNetwork, *, clock: Callable[[], int] = wall_ms, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.network = network
        self.clock = clock
        self.host, self.port = host, port
        self.latency_s = 0.0
        """Before each answer."""
        self.settle_s = 0.0
        """Points younger than this are not there yet."""
        self.send_date = True
        """Whether answers tell the simulation's clock."""
        self.counts: Counter[str] = Counter()
        self.connections = 0
        self.open_connections: set[Connection] = set()
        self.at_once = self.most_at_once = 0
        self.failure: BaseException | None = None
        self._date = (0, "")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL, for the collector's setting."""
        return f"http://{self.host}:{self.port}{self.base_path}"

    def start(self) -> Self:
        """Serve from now on. Raises OSError when the port is taken."""
        listener = socket.create_server((self.host, self.port), backlog=512)
        self.port = listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._failed)
        made = self._loop.create_server(lambda: self.connection(self), sock=listener, backlog=512)
        self._listening = self._loop.run_until_complete(made)
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulation", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End all connections with a reset, and refuse new ones. Raises what went wrong within the simulation, if anything."""
        if self._loop and self._listening and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._listening.close()
            self._reset_connections()
            while self.open_connections:
                self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()
            self._loop = None
        if self.failure:
            raise RuntimeError("the simulation failed") from self.failure

    def _reset_connections(self) -> None:
        for connection in tuple(self.open_connections):
            connection.abort()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        log.error("the simulation met an unexpected error: %s", context.get("message"), exc_info=context.get("exception"))
        self.failure = context.get("exception") or RuntimeError(str(context.get("message")))

    def arrived(self, head: bytes) -> None:
        """Count a request that has come."""
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)

    def answer(self, head: bytes, body: bytes) -> Any:
        """What this request gets: bytes, as long as the connections are no others; None: no answer."""
        raise NotImplementedError

    def date(self) -> str:
        """The simulation's clock, as a header, or nothing."""
        if not self.send_date:
            return ""
        second = self.clock() // 1000
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True))
        return self._date[1]
