"""What the publisher needs of pika beyond its public interface, in one place; tests/unit/test_driver.py watches over it.

pika reads whatever a server sends, and without a bound. What it raises then has any type, and its name for the loss is
guessed from the stage at which it came. Here what a broker may send is bounded, and the first cause is kept.
"""

import logging
import time
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

import pika
import pika.exceptions
import pika.frame
from pika.adapters.select_connection import IOLoop

from collector.core.text import printable

MAX_FRAME_BYTES = 1 << 20
"""The frames that are agreed on have 128 kB at the most; a broker's greeting comes before that."""
MAX_CONTENT_BYTES = 1 << 21
"""Of a message that the broker returns: it was ours, and ours have 1 MiB at the most."""
FRAME_TYPES = b"\x01\x02\x03\x08"
"""Method, header, body, heartbeat: with one of these a frame begins."""
OTHER_VERSION = b"A"
"""With "AMQP" begins the answer of a broker that speaks another version."""
TLS_ALERT = b"\x15\x03"
"""With these begins what a TLS server says to somebody who does not speak TLS."""


class BrokenBrokerError(Exception):
    """A broker sent what no broker sends."""


class BrokerConnection(pika.SelectConnection):  # type: ignore[misc]  # pika has no types here
    """A connection that reads within bounds, writes frames as they are, and can be dropped at any moment."""

    fault: str | None = None
    """What was wrong with what the broker sent; it ended the connection."""

    @property
    def offers_confirms(self) -> bool:
        """Whether the broker says that it confirms what is published; a server may send anything as its capabilities."""
        capabilities = self.server_capabilities
        return isinstance(capabilities, dict) and capabilities.get("publisher_confirms") is True

    def write(self, frames: bytes) -> None:
        """Send frames past `Channel.basic_publish`, in one write.

        basic_publish makes and marshals three objects a message. From publish to confirm (batches of 30, 20,000 messages in
        flight, RabbitMQ 3.10 on loopback, no pauses) a message takes 7 us of CPU this way, and 16 us that way.
        """
        self._output_marshaled_frames((frames,))

    @property
    def unsent_bytes(self) -> int:
        """What was handed over and the socket has not taken yet."""
        size: int = self._get_write_buffer_size()
        return size

    def abort(self) -> None:
        """Close the socket in the loop's next turn, without a word to the broker, which may be frozen.

        The public close() waits for the broker's answer, and in the middle of the login it trips an assertion.
        """
        self._terminate_stream(pika.exceptions.AMQPConnectionError("given up"))

    def _on_data_available(self, data_in: bytes) -> None:
        try:
            super()._on_data_available(data_in)
        except Exception as error:  # whatever the bytes of a broken server raise; pika closes the connection for it
            ours = isinstance(error, BrokenBrokerError)
            said = str(error) if ours else f"the broker sent what cannot be read: {type(error).__name__} {error}"
            self.fault = self.fault or printable(said, 200)
            raise

    def _read_frame(self) -> tuple[int, object]:
        read: tuple[int, object] = pika.frame.decode_frame(self._frame_buffer)
        if read[1].__class__ is not pika.frame.Method:  # nearly all are, and there is one for every few messages
            _check(read[1], self._frame_buffer)
        return read


class Loop(IOLoop):  # type: ignore[misc]
    """pika's loop, turned by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.activate_poller()

    def turn(self) -> None:
        """Reads, writes and timers; waits as long as the next timer is away, and 5 s at the most."""
        self.poll()
        self.process_timeouts()

    def every(self, seconds: float, call: Callable[[], object]) -> None:
        """Call this again and again, so long apart; a turn then waits no longer than that."""

        def again() -> None:
            self.call_later(seconds, again)
            call()

        self.call_later(seconds, again)

    def wake(self, after_s: float = 0.0) -> None:
        """End the wait of the turn, at once or that much later. Any thread."""
        self.add_callback_threadsafe(partial(self.call_later, after_s, _nothing))

    def end(self, connection: BrokerConnection | None, until: float) -> None:
        """Disconnect in good order, at `until` without a word, and close. Nobody waits for anything any more."""
        with closing(self), suppress(Exception):
            if connection is not None and connection.is_open:
                connection.close()
                self.wake(max(0.0, until - time.monotonic()))
                while not connection.is_closed and time.monotonic() < until:
                    self.turn()
            if connection is not None and not connection.is_closed:
                connection.abort()
            for _ in range(3):  # a connection that is still being made takes several turns to go away
                self.process_timeouts()


def _nothing() -> None:
    """Being called is enough."""


def _check(frame: object, received: bytes) -> None:
    """Raises BrokenBrokerError for a frame, or for the beginning of one, that would take memory without bound."""
    if frame is None:
        _check_unfinished(received)
    elif isinstance(frame, pika.frame.Header) and frame.body_size > MAX_CONTENT_BYTES:
        raise BrokenBrokerError(f"the broker sent a message of {frame.body_size} bytes")
    elif isinstance(frame, pika.frame.Body) and not frame.fragment:
        raise BrokenBrokerError("the broker sent an empty piece of a message")


def _check_unfinished(received: bytes) -> None:
    """Raises BrokenBrokerError when this is no beginning of a frame, or of one that is too long."""
    if received[:2] == TLS_ALERT:
        raise BrokenBrokerError("this port speaks TLS (RMQ_PORT, RMQ_TLS)")
    if received[:1] not in FRAME_TYPES + OTHER_VERSION:
        raise BrokenBrokerError(f"this port does not speak AMQP 0-9-1 but '{_shown(received)}' (RMQ_PORT, RMQ_TLS)")
    if len(received) > MAX_FRAME_BYTES:
        raise BrokenBrokerError(f"the broker sent a frame of over {MAX_FRAME_BYTES} bytes")


def _shown(received: bytes) -> str:
    """The beginning of what came, for a person."""
    return printable(bytes(received[:20]).decode("ascii", "replace"))


def silence_pika() -> None:
    """Have pika log nothing: the outage's lines say it all, once and without tracebacks.

    Not even at CRITICAL, by which a broken server could write a line a frame.
    """
    logging.getLogger("pika").setLevel(logging.CRITICAL + 1)
