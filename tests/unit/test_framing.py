"""The bytes of published messages, compared with what pika's own marshalling makes of the same messages."""

import math

import pika.frame
import pika.spec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.bus import framing
from collector.bus.framing import DEFAULT_FRAME_MAX, Encoder
from collector.core.model import Message

ID = "0123456789abcdef0123456789abcdef01234567"


def marshalled_by_pika(
    exchange: str, routing_key: str, mandatory: bool, channel_number: int, frame_max: int, messages: list[Message]
) -> bytes:
    """As pika 1.4.4's Connection._send_message does it."""
    frames = []
    for message in messages:
        method = pika.spec.Basic.Publish(exchange=exchange, routing_key=routing_key, mandatory=mandatory)
        properties = pika.spec.BasicProperties(
            content_type="application/json", delivery_mode=2, message_id=message.message_id, app_id="esnet-collector"
        )
        frames.append(pika.frame.Method(channel_number, method).marshal())
        frames.append(pika.frame.Header(channel_number, len(message.body), properties).marshal())
        room = frame_max - pika.spec.FRAME_HEADER_SIZE - pika.spec.FRAME_END_SIZE
        frames += (
            pika.frame.Body(channel_number, message.body[chunk * room : (chunk + 1) * room]).marshal()
            for chunk in range(math.ceil(len(message.body) / room))
        )
    return b"".join(frames)


@pytest.mark.parametrize("mandatory", [True, False])
@pytest.mark.parametrize("channel_number", [1, 2047])
@pytest.mark.parametrize(
    "messages",
    [
        [],
        [Message(ID, b'{"in":1}')],
        [Message(ID, b'{"in":1}'), Message(ID[::-1], b'{"in":2}'), Message(ID, b'{"in":10}')],
        [Message(ID, b"")],
        [Message(each, b"{}") for each in ("short", "", "ü" * 20, "ü" * 40, "x" * 255)],
        [Message(ID, b"x" * length) for length in (4087, 4088, 4089, 8176, 8177, 20_000)],
    ],
    ids=["none", "one", "several", "empty body", "unusual ids", "several frames"],
)
def test_frames_are_those_of_pika(messages: list[Message], channel_number: int, mandatory: bool) -> None:
    encoder = Encoder("osg.psdata.raw", "esnet_traffic", mandatory, channel_number, 4096)
    expected = marshalled_by_pika("osg.psdata.raw", "esnet_traffic", mandatory, channel_number, 4096, messages)
    assert encoder.encode(messages) == expected
    assert encoder.encode(messages) == expected  # a second time from what the first has precomputed


@given(st.lists(st.builds(Message, st.just(ID) | st.text("aü€😀", max_size=60), st.binary(max_size=300)), max_size=8))
def test_any_ids_and_bodies_are_framed_as_pika_frames_them(messages: list[Message]) -> None:
    encoder = Encoder("an exchange", "a.key", frame_max=128)
    assert encoder.encode(messages) == marshalled_by_pika("an exchange", "a.key", True, 1, 128, messages)


def test_bodies_may_have_more_lengths_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(framing, "_MOST_SHAPES", 20)
    messages = [Message(ID, b"x" * length) for length in range(50)]
    expected = marshalled_by_pika("e", "k", True, 1, DEFAULT_FRAME_MAX, messages)
    assert Encoder("e", "k").encode(messages) == expected


def test_an_unlimited_frame_is_cut_at_the_usual_size() -> None:
    messages = [Message(ID, b"x" * 200_000)]
    assert Encoder("e", "k", frame_max=0).encode(messages) == marshalled_by_pika("e", "k", True, 1, DEFAULT_FRAME_MAX, messages)


@pytest.mark.parametrize("name", ["x" * 256, "ü" * 128, "\ud800"], ids=["long", "long in UTF-8", "lone surrogate"])
def test_names_that_amqp_cannot_carry_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"at most 255 fit|surrogates not allowed"):
        Encoder("e", name)
    with pytest.raises(ValueError, match=r"at most 255 fit|surrogates not allowed"):
        Encoder(name, "k")
    with pytest.raises(ValueError, match=r"at most 255 fit|surrogates not allowed"):
        Encoder("e", "k").encode([Message(name, b"{}")])
