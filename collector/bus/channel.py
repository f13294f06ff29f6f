"""One channel in confirm mode, and what the broker answers on it: pika's callbacks note it, the publisher's thread takes it."""

from collections.abc import Callable
from typing import Any

import pika

from collector.bus.driver import BrokerConnection


class ConfirmChannel:
    """A channel on which an exchange is looked for, or declared, and then published to.

    `opened` and `closed` are told as pika tells it, the channel first.
    """

    def __init__(self, connection: BrokerConnection, opened: Callable[..., None], closed: Callable[..., None]) -> None:
        self._answers: list[Any] = []
        self._returned: set[str] = set()
        self._channel: Any = connection.channel(on_open_callback=lambda _channel: opened(self))
        self._channel.add_on_close_callback(lambda _channel, reason: closed(self, reason))
        self._channel.add_on_return_callback(lambda *returned: self._returned.add(returned[2].message_id))

    @property
    def number(self) -> int:
        """What frames on this channel carry."""
        return int(self._channel.channel_number)

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return bool(self._channel.is_open)

    def find(self, exchange: str, declare: bool, found: Callable[..., None]) -> None:
        """Turn confirms on and look for the exchange, or `declare` it as a durable topic exchange; `found` is told."""
        self._channel.confirm_delivery(lambda frame: self._answers.append(frame.method), callback=lambda _frame: None)
        self._channel.exchange_declare(exchange, "topic", passive=not declare, durable=True, callback=lambda _frame: found(self))

    def take_returned(self) -> set[str]:
        """Ids of the messages that no queue took; each comes before the ack of the same message, so take them before."""
        returned, self._returned = self._returned, set()
        return returned

    def take_answers(self) -> list[tuple[int, bool, bool]]:
        """The acks and nacks that have come: tag, multiple, refused."""
        methods, self._answers = self._answers, []
        return [(method.delivery_tag, method.multiple, isinstance(method, pika.spec.Basic.Nack)) for method in methods]
