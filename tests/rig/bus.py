"""The bus as its consumer sees it: a vhost of its own, one queue that takes both keys, and everything that was heard there."""

import json
import time
from collections.abc import Mapping
from typing import Any

from tests.rig.heard import INTERFACE_KEY, TRAFFIC_KEY, Heard
from tests.servers.rabbitmq import RabbitServer

QUEUE = "everything"
PREFETCH = 2000
ACK_EVERY = 500
IDLE_S = 10.0
"""A queue that says it has messages and delivers none for so long is broken."""


class Bus:
    """A fresh vhost of a broker. A `durable` queue keeps what the broker has confirmed even when it is killed."""

    def __init__(self, rabbit: RabbitServer, *, durable: bool = False, arguments: Mapping[str, object] | None = None) -> None:
        self.rabbit = rabbit
        self.vhost = rabbit.fresh_vhost()
        self.heard = Heard()
        self.secrets = (self.vhost.password,)
        rabbit.declare_queue(self.vhost, QUEUE, TRAFFIC_KEY, durable=durable, arguments=arguments)
        self.bind(INTERFACE_KEY)

    @property
    def environment(self) -> dict[str, str]:
        """For a collector's environment."""
        return {
            "RMQ_HOST": self.vhost.host,
            "RMQ_PORT": str(self.vhost.port),
            "RMQ_USER": self.vhost.user,
            "RMQ_PASS": self.vhost.password,
            "RMQ_VHOST": self.vhost.name,
        }

    def bind(self, routing_key: str) -> None:
        """Have the queue take this key."""
        with self.rabbit.channel(self.vhost) as channel:
            channel.queue_bind(QUEUE, "osg.psdata.raw", routing_key)

    def unbind(self, routing_key: str) -> None:
        """Have no queue take this key."""
        with self.rabbit.channel(self.vhost) as channel:
            channel.queue_unbind(QUEUE, "osg.psdata.raw", routing_key)

    def waiting(self) -> int:
        """How many messages are in the queue."""
        return self.rabbit.queue_length(self.vhost, QUEUE)

    def drain(self) -> Heard:
        """Take every message that is in the queue now, and return all that was heard so far.

        Acknowledged by hand: what comes after those is left in the queue, whole and in order.
        """
        with self.rabbit.channel(self.vhost) as channel:
            expected = channel.queue_declare(QUEUE, passive=True).method.message_count
            taken = 0

            def take(_channel: object, method: Any, properties: Any, body: bytes) -> None:
                nonlocal taken
                if taken == expected:
                    return
                taken += 1
                self.heard.take_delivery(method.routing_key, method.exchange, properties, body)
                if taken == expected or taken % ACK_EVERY == 0:
                    channel.basic_ack(method.delivery_tag, multiple=True)

            channel.basic_qos(prefetch_count=PREFETCH)
            channel.basic_consume(QUEUE, take)
            seen, deadline = 0, time.monotonic() + IDLE_S
            while taken < expected:
                channel.connection.process_data_events(time_limit=1)
                if taken > seen:
                    seen, deadline = taken, time.monotonic() + IDLE_S
                elif time.monotonic() > deadline:
                    raise RuntimeError(f"the queue stopped after {taken} of {expected} messages")
        self._await_return()
        return self.heard

    def _await_return(self) -> None:
        """Wait until what came beyond those that were taken is in the queue again.

        The broker puts back what a closed channel had only after it has let the channel go: who counts at once finds less.
        """
        queue = f"rabbit_misc:r(<<{json.dumps(self.vhost.name)}>>, queue, <<{json.dumps(QUEUE)}>>)"
        count = f"{{ok, Q}} = rabbit_amqqueue:lookup({queue}), [{{_, N}}] = rabbit_amqqueue:info(Q, [messages_unacknowledged]), N"
        deadline = time.monotonic() + IDLE_S
        while self.rabbit.eval(count) != "0":
            if time.monotonic() > deadline:
                raise RuntimeError("the queue did not get back what a closed channel had")

    def close(self) -> None:
        """Remove the vhost with everything in it."""
        self.rabbit.remove_vhost(self.vhost)
