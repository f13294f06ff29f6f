"""What the publishers' tests share: batches with ids of their own, a record of what they were told, and waiting."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from collector.bus.broker import Timing
from collector.bus.publisher import AmqpPublisher
from collector.config.systems import RabbitSettings, Secret
from collector.core.contracts import Batch, Outcome, Publisher
from collector.core.counters import Counters
from collector.core.model import Message
from collector.core.shutdown import Stop
from tests.servers.rabbitmq import EXCHANGE, Vhost

QUICK = Timing(connect=2.0, heartbeat=1, confirm=2.0, first_delay=0.1, most_delay=0.4, proof=0.5)
"""The publisher's times, short enough for a test."""
KEY = "esnet_traffic"


def wait_for(condition: Callable[[], object], timeout_s: float = 20.0, what: str = "") -> None:
    """Wait until a condition holds; fails the test when it takes too long."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.01)


class Sender:
    """Publishes batches of unique messages and remembers what each was told."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.ids: list[list[str]] = []
        self.told: dict[int, list[Outcome]] = {}
        self._lock = threading.Lock()

    def send(self, size: int = 10, key: str = KEY, body: bytes | None = None) -> int:
        """Publish a batch; returns its number."""
        with self._lock:
            number = len(self.ids)
            self.ids.append([f"{number:032d}{index:08d}" for index in range(size)])
            self.told[number] = []
        messages = [Message(each, body or b'{"name": "%d"}' % number) for each in self.ids[number]]
        self.publisher.publish(Batch(key, messages, self.told[number].append))
        return number

    def send_many(self, batches: int, in_flight: int = 50, pause: Callable[[int], None] = lambda _: None) -> None:
        """Publish batches with so many of them in flight, at the most."""
        for number in range(batches):
            wait_for(lambda: self.untold < in_flight, 60.0, "confirms")
            self.send()
            pause(number)

    @property
    def untold(self) -> int:
        """How many batches have not been told their outcome yet."""
        with self._lock:
            return sum(not outcomes for outcomes in self.told.values())

    def outcomes(self, timeout_s: float = 30.0) -> Counter[Outcome]:
        """Wait until every batch has been told its outcome; each is told once."""
        wait_for(lambda: not self.untold, timeout_s, "outcomes")
        assert all(len(outcomes) == 1 for outcomes in self.told.values())
        return Counter(outcomes[0] for outcomes in self.told.values())

    def confirmed_ids(self) -> list[str]:
        """The ids of all messages of confirmed batches, in the order of publishing."""
        return [each for number, outcomes in self.told.items() if outcomes == [Outcome.CONFIRMED] for each in self.ids[number]]


def settings_of(place: Vhost, **changes: Any) -> RabbitSettings:
    """How the publisher reaches a vhost."""
    fields = {"hosts": (place.host,), "port": place.port, "user": place.user, "vhost": place.name}
    return RabbitSettings(**{**fields, "password": Secret(place.password), **changes})


@contextmanager
def publisher_on(
    place: Vhost,
    exchange: str = EXCHANGE,
    *,
    ready: bool = True,
    counters: Counters | None = None,
    timing: Timing = QUICK,
    **changes: Any,
) -> Iterator[AmqpPublisher]:
    """A publisher that runs, ready unless that is not expected; closed at the end, when it must not have failed."""
    stop = Stop()
    publisher = AmqpPublisher(settings_of(place, **changes), exchange, stop, counters or Counters(), timing)
    publisher.start()
    try:
        if ready:
            wait_for(lambda: publisher.ready, what="ready")
        yield publisher
    finally:
        publisher.close(2.0)
    assert not stop.is_set()
