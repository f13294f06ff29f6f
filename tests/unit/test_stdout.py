"""What a consumer of the printed messages reads, and how a stdout that is gone ends the run."""

import errno
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.bus.stdout import StdoutPublisher
from collector.core.contracts import Batch, Outcome
from collector.core.model import Message
from collector.core.shutdown import Stop

ROOT = Path(__file__).parents[2]
FIRST = Message("0" * 40, b'{"name": "a/b", "in": 12345678901234567890, "out": 1.50}')
SECOND = Message("1" * 40, '{"description": "Zürich"}'.encode())


def publish(publisher: StdoutPublisher, *messages: Message) -> list[Outcome]:
    outcomes: list[Outcome] = []
    publisher.publish(Batch("esnet_traffic", messages, outcomes.append))
    return outcomes


def stream_of_bytes() -> io.TextIOWrapper:
    """A standard output; with an encoding that cannot write everything, since the publisher's lines are bytes already."""
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


def printed(stream: io.TextIOWrapper) -> str:
    assert isinstance(stream.buffer, io.BytesIO)
    return stream.buffer.getvalue().decode()


class FullDisk(io.RawIOBase):
    def write(self, _content: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Trickle(io.RawIOBase):
    """Takes three bytes a write, as an unbuffered stream may."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        piece = bytes(content)[:3]  # type: ignore[call-overload]
        self.written += piece
        return len(piece)


def test_a_message_is_one_line_with_its_own_json_as_body() -> None:
    stream = stream_of_bytes()
    publisher = StdoutPublisher('an "exchange"', Stop(), stream)
    publisher.start()
    assert publisher.ready
    assert publish(publisher, FIRST, SECOND) == [Outcome.CONFIRMED]
    lines = printed(stream).splitlines()
    address = {"exchange": 'an "exchange"', "routing_key": "esnet_traffic"}
    assert [json.loads(line) for line in lines] == [
        {**address, "message_id": each.message_id, "body": json.loads(each.body)} for each in (FIRST, SECOND)
    ]
    assert FIRST.body.decode() in lines[0]  # digits as they were, not as a float would print them


@pytest.mark.parametrize("acted_on", ["\x7f", "\x85", "\x9b31m", "\u061c", "\u200f", "\u202e", "\u2067", "\u2028", "\u2029"])
def test_what_a_terminal_acts_on_is_escaped_and_the_content_stays(acted_on: str) -> None:
    text = f'Zürich 😀 {acted_on} {{"\\'
    stream = stream_of_bytes()
    publish(StdoutPublisher("e", Stop(), stream), Message("0" * 40, json.dumps({"d": text}, ensure_ascii=False).encode()))
    assert json.loads(printed(stream))["body"] == {"d": text}
    assert acted_on not in printed(stream)
    assert "Zürich 😀" in printed(stream)


def test_compact_lines_are_for_people() -> None:
    bodies = [
        {"name": "devices/a/interfaces/1%2F1", "recordType": "traffic", "timestamp": 1_700_000_010_000, "in": 12, "out": None},
        {
            "resource": "devices/a/interfaces/1%2F1",
            "name": "1/1",
            "description": "to \x1b[2J\u202eZürich",
            "timestamp": 1_700_000_000_000,
        },
        {"resource": "devices/a/interfaces/1%2F2", "name": "1/2", "description": None, "timestamp": 1_700_000_000_000},
        {"resource": "r", "name": "1/2", "description": "x" * 500, "timestamp": 1_700_000_000_000},
    ]
    stream = stream_of_bytes()
    messages = [Message("0" * 40, json.dumps(each).encode()) for each in bodies]
    assert publish(StdoutPublisher("e", Stop(), stream, compact=True), *messages) == [Outcome.CONFIRMED]
    assert printed(stream).splitlines() == [
        "2023-11-14T22:13:30Z devices/a/interfaces/1%2F1 traffic  in=12 out=null",
        "2023-11-14T22:13:20Z devices/a/interfaces/1%2F1 interface to \\x1b[2J\\u202eZürich",
        "2023-11-14T22:13:20Z devices/a/interfaces/1%2F2 interface",
        f"2023-11-14T22:13:20Z r interface {'x' * 59}…",
    ]


def test_a_stream_that_takes_a_part_at_a_time_gets_everything() -> None:
    trickle = Trickle()
    stream = io.TextIOWrapper(trickle, write_through=True)  # type: ignore[type-var]
    assert publish(StdoutPublisher("e", Stop(), stream), FIRST) == [Outcome.CONFIRMED]
    assert json.loads(trickle.written)["message_id"] == FIRST.message_id


def test_an_empty_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        publish(StdoutPublisher("e", Stop(), stream_of_bytes()))


def test_after_close_batches_are_lost() -> None:
    stream = stream_of_bytes()
    publisher = StdoutPublisher("e", Stop(), stream)
    publisher.close(1.0)
    publisher.close(1.0)
    assert not publisher.ready
    assert publish(publisher, FIRST) == [Outcome.LOST]
    assert printed(stream) == ""


def test_a_stream_that_this_program_closed_stops_the_run() -> None:
    stop, stream = Stop(), stream_of_bytes()
    publisher = StdoutPublisher("e", stop, stream)
    stream.close()
    assert publish(publisher, FIRST) == [Outcome.LOST]
    assert stop.is_set()
    assert stop.failure is None


def test_a_full_disk_stops_the_run_with_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    stop = Stop()
    publisher = StdoutPublisher("e", stop, io.TextIOWrapper(FullDisk(), write_through=True))  # type: ignore[type-var]
    with caplog.at_level(logging.WARNING):
        assert publish(publisher, FIRST) == [Outcome.LOST]
        assert publish(publisher, FIRST) == [Outcome.LOST]
    assert stop.is_set()
    assert "No space left" in str(stop.failure)
    assert [record.getMessage() for record in caplog.records] == [
        "the standard output is not available error='No space left on device'"
    ]


def test_a_reader_that_leaves_stops_the_run_without_noise() -> None:
    program = (
        "from collector.core.contracts import Batch; from collector.core.model import Message\n"
        "from collector.bus.stdout import StdoutPublisher; from collector.core.shutdown import Stop\n"
        "import sys\n"
        "stop, outcomes = Stop(), []\n"
        "publisher = StdoutPublisher('e', stop)\n"
        "while not stop.is_set():\n"
        "    publisher.publish(Batch('k', [Message('i', b'{}')], outcomes.append))\n"
        "sys.exit(0 if outcomes[-1] == 'lost' and stop.failure is None else 'wrong')\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, timeout=20, check=False)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (0, b"")
