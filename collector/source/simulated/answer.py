"""The simulated Netbeam's side of a connection.

HTTP/1.1 is spoken by hand, just enough of it: a simulation beside the collector must cost little of what is measured there.
"""

import asyncio
import json
import socket
import struct
from http.client import responses
from typing import Any, Protocol

MAX_HEAD_BYTES = 65_536
MOST_MS = 366 * 86_400_000
"""A longer window is a mistake."""
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
encode = json.JSONEncoder(separators=(",", ":")).encode


def encoded_answer(date: str, body: bytes = b"", status: int = 200) -> bytes:
    """A whole answer; `date` may be empty."""
    dated = f"Date: {date}\r\n" if date else ""
    length = "" if status == 204 else f"Content-Length: {len(body)}\r\n"
    head = f"HTTP/1.1 {status} {responses[status]}\r\nContent-Type: application/json\r\n{dated}{length}\r\n"
    return head.encode() + body


def encoded_points(points: object) -> bytes:
    """Netbeam's object around the points."""
    return f'{{"points":{encode(points)}}}'.encode()


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

    def answer(self, head: bytes) -> Any:
        """The whole answer, as bytes, or what a connection of the site's own kind makes of it."""

    def date(self) -> str:
        """The `Date` header, or nothing."""

    def departed(self) -> None:
        """A request that had arrived has been answered, or its client is gone."""


class Connection(asyncio.Protocol):
    """One client's connection, kept alive, one request after the other."""

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
            loop.call_at(at + delay, self.send, answer)
        else:
            self.send(answer)

    def send(self, answer: Any) -> None:
        """Send a whole answer, unless its client is gone."""
        if self._busy:
            self._transport.write(answer)
            self._done()

    def _done(self) -> None:
        self._busy = False
        self._site.departed()
        if self._last:
            self._transport.close()
        elif self._received:
            self._next()
