"""Messages to the broker, the bare way and through the collector's publisher: `python -m tests.bench.publish bare|collector N`.

Both publish the same messages, made beforehand, with as many in flight and every one confirmed. Prints seconds and CPU.
"""

import json
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pika

from collector.bus.publisher import AmqpPublisher
from collector.config.systems import RabbitSettings, Secret
from collector.core.contracts import Batch, Outcome
from collector.core.counters import Counters
from collector.core.model import Message
from collector.core.shutdown import Stop
from collector.cycle.flow_control import ROOM
from tests.bench.work import EXCHANGE, TRAFFIC_KEY, batches, connection_parameters, properties

WAIT_S = 600.0


class BareLoop:
    """pika's SelectConnection as one commonly writes it: mandatory, confirms, and with each confirm as many more as fit."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self._sent = self._confirmed = 0
        self._began = self.seconds = self.cpu_s = 0.0
        self._connection = pika.SelectConnection(
            connection_parameters(), on_open_callback=lambda connection: connection.channel(on_open_callback=self._opened)
        )

    def run(self) -> None:
        """Publish all, and wait for the last confirm."""
        self._connection.ioloop.start()

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.confirm_delivery(self._on_confirm)
        self._began, self.cpu_s = time.monotonic(), -time.process_time()
        self._publish()

    def _publish(self) -> None:
        while self._sent < len(self._messages) and self._sent - self._confirmed < ROOM:
            message = self._messages[self._sent]
            self._channel.basic_publish(EXCHANGE, TRAFFIC_KEY, message.body, properties(message.message_id), mandatory=True)
            self._sent += 1

    def _on_confirm(self, frame: Any) -> None:
        # RabbitMQ acks in order here, so the tag alone tells how many
        self._confirmed = max(self._confirmed, frame.method.delivery_tag)
        if self._confirmed == len(self._messages):
            self.seconds, self.cpu_s = time.monotonic() - self._began, self.cpu_s + time.process_time()
            self._connection.add_on_close_callback(lambda *_: self._connection.ioloop.stop())
            self._connection.close()
        else:
            self._publish()


def bare(work: Sequence[Sequence[Message]]) -> tuple[float, float]:
    """Seconds and CPU seconds."""
    loop = BareLoop([message for batch in work for message in batch])
    loop.run()
    return loop.seconds, loop.cpu_s


def through_publisher(work: Sequence[Sequence[Message]]) -> tuple[float, float]:
    """Seconds and CPU seconds of the collector's publisher; the room before it is kept as the gate keeps it."""
    where = connection_parameters()
    password = Secret(where.credentials.password)
    settings = RabbitSettings(hosts=(where.host,), port=where.port, user=where.credentials.username, password=password,
                              vhost=where.virtual_host)  # fmt: skip
    publisher = AmqpPublisher(settings, EXCHANGE, Stop(), Counters())
    publisher.start()
    deadline = time.monotonic() + WAIT_S
    while not publisher.ready:
        if time.monotonic() > deadline:
            raise RuntimeError(f"no broker: {publisher.outage.last_error}")
        time.sleep(0.01)
    room, changed, outcomes = ROOM, threading.Condition(), dict.fromkeys(Outcome, 0)
    began, cpu_s = time.monotonic(), -time.process_time()
    for messages in work:

        def done(outcome: Outcome, count: int = len(messages)) -> None:
            nonlocal room
            with changed:
                room += count
                outcomes[outcome] += 1
                changed.notify()

        with changed:
            while room < len(messages):
                changed.wait()
            room -= len(messages)
        publisher.publish(Batch(TRAFFIC_KEY, messages, done))
    with changed:
        while room < ROOM:
            changed.wait()
    seconds, cpu_s = time.monotonic() - began, cpu_s + time.process_time()
    publisher.close(5)
    if outcomes[Outcome.CONFIRMED] != len(work):
        raise RuntimeError(f"not all confirmed: {outcomes}")
    return seconds, cpu_s


def main() -> int:
    """Run it."""
    work = batches(int(sys.argv[2]))
    count = sum(map(len, work))
    seconds, cpu_s = (bare if sys.argv[1] == "bare" else through_publisher)(work)
    print(json.dumps({"messages": count, "seconds": seconds, "cpu_s": cpu_s}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
