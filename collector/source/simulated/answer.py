"""Answers of the simulated Netbeam, and the ways in which they go over a connection.

HTTP/1.1 is spoken by hand, just enough of it: a simulation beside the collector must cost little of what is measured there.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http.client import responses
from typing import Any, Protocol

MAX_HEAD_BYTES = 65_536
MOST_MS = 366 * 86_400_000
"""A longer window is a mistake."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Delivery(Enum):
    """How an answer goes over the connection."""

    WHOLE = auto()
    CHUNKED = auto()
    CLOSE = auto()
    """Whole, and then the connection is closed, though nothing in the answer said so."""
    CUT = auto()
    """Half of the body that `Content-Length` promised."""
    CUT_CHUNKED = auto()
    """One chunk of two, and no end."""
    DRIP_HEAD = auto()
    """A byte every `pace_s`, from the first one on."""
    DRIP_BODY = auto()
    """The head at once, and then a byte every `pace_s`."""
    RESET = auto()
    """No answer: the connection is reset."""
    HANG_UP = auto()
    """No answer: the connection is closed."""
    HANG = auto()
    """No answer and no end."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back; header lines without line ends."""

    status: int = 200
    body: bytes = b""
    headers: tuple[str, ...] = ("Content-Type: application/json",)
    delivery: Delivery = Delivery.WHOLE
    pace_s: float = 0.0

    def head(self, date: str) -> bytes:
        """The status line and all headers; `date` may be empty."""
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, 'Unknown')}", *self.headers]
        if date:
            lines.append(f"Date: {date}")
        if self.delivery in (Delivery.CHUNKED, Delivery.CUT_CHUNKED):
            lines.append("Transfer-Encoding: chunked")
        elif self.status != 204:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n"


def target_of(head: bytes) -> tuple[bytes, bytes]:
    """Path and query of the request line; of a whole URL, as a proxy is asked, too."""
    target = head.split(b" ", 2)[1]
    if not target.startswith(b"/"):
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path, _, query = target.partition(b"?")
    return path, query


def window_of(query: bytes) -> tuple[int, int] | None:
    """`begin` and `end` in ms; None when they are no window."""
    try:
        fields = dict(part.split(b"=", 1) for part in query.split(b"&"))
        begin_ms, end_ms = int(fields[b"begin"]), int(fields[b"end"])
    except (ValueError, KeyError):
        return None
    return (begin_ms, end_ms) if 0 <= end_ms - begin_ms <= MOST_MS else None


class Site(Protocol):
    """What a connection asks."""

    def opened(self, connection: "Connection") -> None:
        """A client has connected."""

    def lost(self, connection: "Connection") -> None:
        """The connection is gone."""

    def arrived(self, head: bytes) -> float:
        """A request has come; returns the seconds after which it is answered."""

    def answer(self, head: bytes) -> Answer | bytes:
        """The answer, or all its bytes where they are ready to be sent."""

    def date(self) -> str:
        """The `Date` header, or nothing."""

    def departed(self) -> None:
        """A request that had arrived has been answered, or its client is gone."""


class Connection(asyncio.Protocol):
    """One client's connection, kept alive, one request after the other."""

    __slots__ = ("_busy", "_last", "_received", "_site", "_transport")

    _transport: asyncio.Transport

    def __init__(self, site: Site) -> None:
        self._site = site
        self._received = b""
        self._busy = False
        self._last = False

    def connection_made(self, transport: Any) -> None:
        """Remember where to write to."""
        self._transport = transport
        self._site.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever was on its way has no receiver any more."""
        self._site.lost(self)
        if self._busy:
            self._busy = False
            self._site.departed()

    def abort(self) -> None:
        """End it with a reset."""
        if not self._transport.is_closing():
            peer: socket.socket = self._transport.get_extra_info("socket")
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def data_received(self, received: bytes) -> None:
        """Take in a part of a request; start on it when its head is complete. A body is not expected."""
        self._received += received
        if not self._busy:
            self._next()

    def _next(self) -> None:
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            if len(self._received) > MAX_HEAD_BYTES:
                self.abort()
            return
        self._received = rest
        self._busy = True
        self._last = b"\nconnection: close" in head.lower()
        loop = asyncio.get_running_loop()
        at = loop.time()
        delay = self._site.arrived(head)
        # made before the wait, which is to take no longer than was asked for: after it, thirty answers may be due at once
        answer = self._site.answer(head)
        if delay > 0:
            loop.call_at(at + delay, self._answer, answer)
        else:
            self._answer(answer)

    def _answer(self, answer: Answer | bytes) -> None:
        if not self._busy:
            return
        if isinstance(answer, bytes):
            self._transport.write(answer)
            self._done()
        elif answer.pace_s and answer.delivery is Delivery.WHOLE:
            _later(answer.pace_s, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        head, body, delivery, write = answer.head(self._site.date()), answer.body, answer.delivery, self._transport.write
        middle = len(body) // 2
        if delivery is Delivery.RESET:
            self.abort()
        elif delivery is Delivery.HANG_UP:
            self._transport.close()
        elif delivery is Delivery.CUT:
            write(head + body[:middle])
            self._transport.close()
        elif delivery is Delivery.CUT_CHUNKED:
            write(head + _chunk(body[:middle]))
            self._transport.close()
        elif delivery is Delivery.DRIP_HEAD:
            self._drip(head + body, answer.pace_s)
        elif delivery is Delivery.DRIP_BODY:
            write(head)
            self._drip(body, answer.pace_s)
        elif delivery is not Delivery.HANG:
            self._last |= delivery is Delivery.CLOSE
            write(head + (_chunk(body[:middle]) + _chunk(body[middle:]) + b"0\r\n\r\n" if delivery is Delivery.CHUNKED else body))
            self._done()

    def _drip(self, rest: bytes, pace_s: float) -> None:
        if not self._busy:
            return
        self._transport.write(rest[:1])
        if len(rest) > 1:
            _later(pace_s, self._drip, rest[1:], pace_s)
        else:
            self._done()

    def _done(self) -> None:
        self._busy = False
        self._site.departed()
        if self._last:
            self._transport.close()
        elif self._received:
            self._next()


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part) if part else b""


def _later(seconds: float, call: Callable[..., None], *arguments: object) -> None:
    asyncio.get_running_loop().call_later(seconds, call, *arguments)
