"""What is used of pika beyond its public interface: this fails when another version of pika has it otherwise."""

import inspect
import re
import struct
from typing import Any

import pika
import pika.connection
import pika.exceptions
import pika.frame
import pika.spec
import pytest
from pika.connection import Connection

from collector.bus.driver import MAX_CONTENT_BYTES, MAX_FRAME_BYTES, BrokenBrokerError, BrokerConnection


class Transport:
    """Where pika hands bytes to, without a socket."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.aborted = 0

    def write(self, content: bytes) -> None:
        self.written.append(content)

    def get_write_buffer_size(self) -> int:
        return sum(len(each) for each in self.written)

    def abort(self) -> None:
        self.aborted += 1


class Loop:
    """What pika asks of a loop while a connection is made elsewhere: nothing."""

    READ, WRITE, ERROR = 1, 4, 8


@pytest.fixture
def connected() -> tuple[BrokerConnection, Transport]:
    """A connection over a transport; pika has said hello."""
    connection = BrokerConnection(pika.ConnectionParameters(), custom_ioloop=Loop(), internal_connection_workflow=False)
    transport = Transport()
    connection._proto_connection_made(transport)
    assert transport.written == [b"AMQP\x00\x00\x09\x01"]
    transport.written.clear()
    return connection, transport


def signature(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_pika_has_the_private_methods_that_are_used() -> None:
    assert signature(Connection._output_marshaled_frames) == ["self", "marshaled_frames"]
    assert signature(pika.SelectConnection._get_write_buffer_size) == ["self"]
    assert signature(Connection._terminate_stream) == ["self", "error"]
    assert signature(Connection._on_data_available) == ["self", "data_in"]
    assert signature(Connection._read_frame) == ["self"]
    assert "return frame.decode_frame(self._frame_buffer)" in inspect.getsource(Connection._read_frame)


def test_frames_are_written_as_they_are_and_count_as_unsent(connected: tuple[BrokerConnection, Transport]) -> None:
    connection, transport = connected
    connection.write(b"several frames")
    assert transport.written == [b"several frames"]
    assert connection.unsent_bytes == len(b"several frames")


def test_a_connection_can_be_dropped_at_any_moment(connected: tuple[BrokerConnection, Transport]) -> None:
    connection, transport = connected
    connection.abort()
    assert transport.aborted == 1


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"HTTP/1.1 400", "does not speak AMQP 0-9-1 but 'HTTP/1.1 400' "),
        (b"J\0\0\0\x0a5.6\x1b\xff", "but 'J\\x00\\x00\\x00\\n5.6\\x1b\ufffd' "),
        (b"\x15\x03\x03\x00\x02\x02\x46", "speaks TLS"),
        (struct.pack(">BHI", 1, 0, 2**32 - 1) + b"\0" * MAX_FRAME_BYTES, "a frame of over"),
        (pika.frame.Header(1, MAX_CONTENT_BYTES + 1, pika.spec.BasicProperties()).marshal(), "a message of 2097153 bytes"),
        (pika.frame.Body(1, b"").marshal(), "an empty piece"),
    ],
)
def test_what_no_broker_sends_is_an_error_of_its_own(
    connected: tuple[BrokerConnection, Transport], sent: bytes, said: str
) -> None:
    connection, _ = connected
    with pytest.raises(BrokenBrokerError, match=re.escape(said)):
        connection._proto_data_received(sent)
    assert said in str(connection.fault)


def test_whatever_pika_raises_about_what_was_sent_is_kept_as_the_cause(connected: tuple[BrokerConnection, Transport]) -> None:
    connection, _ = connected
    with pytest.raises(KeyError):
        connection._proto_data_received(struct.pack(">BHII", 1, 0, 4, 0xFFFF_FFFF) + b"\xce")
    assert connection.fault == "the broker sent what cannot be read: KeyError 4294967295"


def test_a_frame_may_come_in_pieces(connected: tuple[BrokerConnection, Transport]) -> None:
    connection, transport = connected
    start = pika.frame.Method(0, pika.spec.Connection.Start(server_properties={"capabilities": {}})).marshal()
    for index in range(len(start)):
        connection._proto_data_received(start[index : index + 1])
    assert connection.server_capabilities == {}
    assert connection.fault is None
    assert transport.written, "no login"
