"""One channel in confirm mode, and what the broker answers on it: pika's callbacks note it, the publisher's thread takes it."""

from collections.abc import Callable, Sequence
from typing import Any

import pika

from collector.bus.driver import BrokerConnection
from collector.bus.framing import Encoder
from collector.core.model import Message


class ConfirmChannel:
    """A channel on which an exchange is looked for, or declared as a durable topic exchange, and then published to.

    `found` is told that the exchange is there, and `closed` why the channel is not; the channel comes first.
    """

    def __init__(
        self,
        connection: BrokerConnection,
        exchange: str,
        declare: bool,
        mandatory: bool,
        found: Callable[..., None],
        closed: Callable[..., None],
    ) -> None:
        self.declare = declare
        self._frame_max = int(connection.params.frame_max)
        self._exchange, self._mandatory, self._found = exchange, mandatory, found
        self._answers: list[Any] = []
        self._returned: set[str] = set()
        self._encoders: dict[str, Encoder] = {}
        self._channel: Any = connection.channel(on_open_callback=self._opened)
        self._channel.add_on_close_callback(lambda _channel, reason: closed(self, reason))
        self._channel.add_on_return_callback(lambda *returned: self._returned.add(returned[2].message_id))

    def _opened(self, channel: Any) -> None:
        channel.confirm_delivery(lambda frame: self._answers.append(frame.method), callback=lambda _frame: None)
        channel.exchange_declare(
            self._exchange, "topic", passive=not self.declare, durable=True, callback=lambda _frame: self._found(self)
        )

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return bool(self._channel.is_open)

    def frames(self, routing_key: str, messages: Sequence[Message]) -> bytes:
        """The bytes that publish these messages here."""
        encoder = self._encoders.get(routing_key)
        if encoder is None:
            number = int(self._channel.channel_number)
            encoder = Encoder(self._exchange, routing_key, self._mandatory, number, self._frame_max)
            self._encoders[routing_key] = encoder
        return encoder.encode(messages)

    def take_returned(self) -> set[str]:
        """Ids of the messages that no queue took; each comes before the ack of the same message, so take them before."""
        returned, self._returned = self._returned, set()
        return returned

    def take_answers(self) -> list[tuple[int, bool, bool]]:
        """The acks and nacks that have come: tag, multiple, refused."""
        methods, self._answers = self._answers, []
        return [(method.delivery_tag, method.multiple, isinstance(method, pika.spec.Basic.Nack)) for method in methods]
