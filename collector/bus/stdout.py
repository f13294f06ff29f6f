"""Messages as lines on stdout, instead of a broker: a line counts as confirmed when it is written and flushed."""

import errno
import json
import os
import re
import sys
import threading
from collections.abc import Sequence
from io import UnsupportedOperation
from typing import TextIO

from collector.core.contracts import Batch, Outcome
from collector.core.errors import ConfigurationError, UnavailableError
from collector.core.model import Message, iso
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.core.text import printable

NAME = "the standard output"
"""For people; the demonstration has no broker, and must not speak of one."""
MOST_DESCRIPTION = 60
"""Characters of an interface's description in a compact line, which should fit a terminal."""

_TERMINAL_ACTS_ON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029]")
"""Raw in JSON these are allowed: DEL, C1, bidi controls and line separators. JSON itself has C0 escaped."""


class StdoutPublisher:
    """Prints one object a line: exchange, routing_key, message_id, and body, the message's own JSON.

    What a terminal would act on is escaped in it, as JSON has it, so that the content is the same. With `compact` a line
    is for people: the time and name, then a point's record type and values, or an interface's description.

    A stdout that nobody reads any more ends the run as SIGTERM does. One that cannot be written, on a full disk say, ends
    it with a failure.
    """

    refusal: ConfigurationError | None = None

    def __init__(self, exchange: str, stop: Stop, stream: TextIO | None = None, *, compact: bool = False) -> None:
        self.outage = Outage(NAME)
        self._compact = compact
        self._exchange = json.dumps(exchange)
        self._stop = stop
        self._stream = sys.stdout if stream is None else stream
        self._lock = threading.Lock()
        self.ready = True
        """Lines can still be written."""

    def start(self) -> None:
        """Nothing has to be connected."""
        self.outage.ended()

    def publish(self, batch: Batch) -> None:
        """Write and flush the batch's lines, then tell its outcome; blocks as long as the reader of stdout does."""
        if not batch.messages:
            raise ValueError("an empty batch")
        if self._compact:
            lines = b"".join(_compact_line(each.body) for each in batch.messages)
        else:
            lines = _safe(self._lines(batch.routing_key, batch.messages))
        with self._lock:
            written = self.ready and self._write(lines)
        batch.done(Outcome.CONFIRMED if written else Outcome.LOST)

    def withdraw(self) -> None:
        """Nothing is ever in flight."""

    def close(self, timeout_s: float) -> None:
        """Write no more; safe to call again."""
        self.ready = False

    def _lines(self, routing_key: str, messages: Sequence[Message]) -> bytes:
        before = f'{{"exchange": {self._exchange}, "routing_key": {json.dumps(routing_key)}, "message_id": '.encode()
        pieces: list[bytes] = []
        for message in messages:
            pieces += (before, json.dumps(message.message_id).encode(), b', "body": ', message.body, b"}\n")
        return b"".join(pieces)

    def _write(self, lines: bytes) -> bool:
        try:
            # unbuffered (python -u), a write may take only a part
            rest = memoryview(lines)
            while rest:
                taken = self._stream.buffer.write(rest)
                if taken is None:
                    raise BlockingIOError(errno.EAGAIN, "it does not wait for its reader")
                rest = rest[taken:]
            self._stream.flush()
        except (OSError, ValueError) as error:  # ValueError: closed in this program
            self._end(error)
            return False
        return True

    def _end(self, error: OSError | ValueError) -> None:
        self.ready = False
        if isinstance(error, OSError) and error.errno not in (errno.EPIPE, errno.EBADF):
            reason = error.strerror or type(error).__name__
            self.outage.failed(reason)
            self._stop.failure = self._stop.failure or UnavailableError(f"{NAME} cannot be written: {reason}")
        self._stop.set()
        _silence(self._stream)


def _safe(lines: bytes) -> bytes:
    """Lines of JSON with the same content, and nothing in them that a terminal acts on."""
    if lines.isascii() and b"\x7f" not in lines:
        return lines
    return _TERMINAL_ACTS_ON.sub(lambda match: f"\\u{ord(match[0]):04x}", lines.decode()).encode()


def _compact_line(body: bytes) -> bytes:
    """One message in one short line for people."""
    content = json.loads(body)
    if "recordType" in content:
        into, out = ("null" if content[side] is None else content[side] for side in ("in", "out"))
        shown = f"{content['recordType']:<8} in={into} out={out}"
    else:
        shown = f"interface {printable(content['description'] or '', MOST_DESCRIPTION)}"
    name = printable(content.get("resource") or content["name"])
    return f"{iso(content['timestamp'])} {name} {shown}".rstrip().encode() + b"\n"


def _silence(stream: TextIO) -> None:
    """Send what the stream still buffers nowhere: flushed at the interpreter's end, it would fail once more, with noise."""
    try:
        descriptor = stream.fileno()
    except (ValueError, UnsupportedOperation):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
