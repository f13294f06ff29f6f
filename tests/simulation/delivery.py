"""The ways in which the answers of a misbehaving Netbeam go over a connection."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from http.client import responses
from typing import Any

from collector.source.simulated.netbeam import encoded_points
from collector.source.simulated.server import Connection


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

    @classmethod
    def of_points(cls, points: object) -> "Answer":
        """Netbeam's object around the points."""
        return cls(body=encoded_points(points))

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


class OddConnection(Connection):
    """Sends what is ready as it is, and every `Answer` in its own way."""

    def send(self, answer: Any) -> None:
        """Begin with an answer, unless its client is gone."""
        if not self._busy:
            return
        if isinstance(answer, bytes):
            super().send(answer)
        elif answer.pace_s and answer.delivery is Delivery.WHOLE:
            _later(answer.pace_s, self._send, answer)
        else:
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        head, body, delivery, write = answer.head(self._server.date()), answer.body, answer.delivery, self._transport.write
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


def _chunk(part: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(part), part) if part else b""


def _later(seconds: float, call: Callable[..., None], *arguments: object) -> None:
    asyncio.get_running_loop().call_later(seconds, call, *arguments)
