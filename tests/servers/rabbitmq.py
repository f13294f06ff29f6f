"""RabbitMQ for tests and benchmarks: vhosts, queues, permissions, alarms, and what a consumer gets.

Nothing here needs pytest.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pika
import pika.exceptions

from tests.servers.rabbit_node import RabbitNode, Tls

__all__ = ["EXCHANGE", "Delivered", "RabbitServer", "Tls", "Vhost"]

EXCHANGE = "osg.psdata.raw"


@dataclass(frozen=True, slots=True)
class Vhost:
    """A virtual host with one user, and where to find it."""

    host: str
    port: int
    name: str
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as a consumer got it."""

    routing_key: str
    message_id: str
    body: bytes
    properties: Any = field(repr=False)


class RabbitServer(RabbitNode):
    """One broker; what it knows survives `stop`, `kill` and `start`, and is gone with `close`."""

    def fresh_vhost(self, queues: Mapping[str, str] | Iterable[str] = (), exchange: str | None = EXCHANGE) -> Vhost:
        """A new vhost with a user who may do all, the durable topic exchange, and transient queues.

        `queues` are names, or names with the binding key of each (`#` when only names are given).
        """
        name, password = secrets.token_hex(4), secrets.token_hex(8)
        vhost = Vhost(self.host, self.port, f"v{name}", f"u{name}", password)
        self.eval(
            f"ok = rabbit_vhost:add({_text(vhost.name)}, {_ACTING}),"
            f"ok = rabbit_auth_backend_internal:add_user({_text(vhost.user)}, {_text(password)}, {_ACTING})"
        )
        self.set_permissions(vhost)
        bindings = queues if isinstance(queues, Mapping) else dict.fromkeys(queues, "#")
        if exchange is not None:
            with self.channel(vhost) as channel:
                channel.exchange_declare(exchange, "topic", durable=True)
            for queue, key in bindings.items():
                self.declare_queue(vhost, queue, key, exchange=exchange)
        return vhost

    def remove_vhost(self, vhost: Vhost) -> None:
        """Delete a vhost with all that is in it, and its user."""
        self.eval(
            f"rabbit_vhost:delete({_text(vhost.name)}, {_ACTING}),"
            f"rabbit_auth_backend_internal:delete_user({_text(vhost.user)}, {_ACTING})"
        )

    def set_permissions(self, vhost: Vhost, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
        """What the vhost's user may do: regular expressions; an empty one is nothing.

        A channel that has published goes on for as long as it is busy: the broker caches what it allowed.
        """
        self.eval(
            "ok = rabbit_auth_backend_internal:set_permissions("
            f"{_text(vhost.user)}, {_text(vhost.name)}, {_text(configure)}, {_text(write)}, {_text(read)}, {_ACTING})"
        )

    def set_password(self, vhost: Vhost, password: str) -> None:
        """Give the vhost's user another password."""
        self.eval(
            f"ok = rabbit_auth_backend_internal:change_password({_text(vhost.user)}, {_text(password)}, {_ACTING})"
        )

    @contextmanager
    def channel(self, vhost: Vhost) -> Iterator[Any]:
        """A blocking channel of pika's, for what a test has to set up."""
        credentials = pika.PlainCredentials(vhost.user, vhost.password)
        parameters = pika.ConnectionParameters(vhost.host, vhost.port, vhost.name, credentials, heartbeat=600)
        connection = pika.BlockingConnection(parameters)
        try:
            yield connection.channel()
        finally:
            with suppress(pika.exceptions.AMQPError):
                connection.close()

    def declare_queue(
        self,
        vhost: Vhost,
        queue: str,
        key: str = "#",
        *,
        exchange: str = EXCHANGE,
        durable: bool = False,
        arguments: Mapping[str, object] | None = None,
    ) -> None:
        """Declare a queue and bind it; with arguments such as `x-max-length` and `x-overflow`."""
        with self.channel(vhost) as channel:
            channel.queue_declare(queue, durable=durable, arguments=dict(arguments or {}))
            channel.queue_bind(queue, exchange, key)

    def queue_length(self, vhost: Vhost, queue: str) -> int:
        """How many messages wait in a queue."""
        with self.channel(vhost) as channel:
            return int(channel.queue_declare(queue, passive=True).method.message_count)

    def purge(self, vhost: Vhost, queue: str) -> None:
        """Empty a queue."""
        with self.channel(vhost) as channel:
            channel.queue_purge(queue)

    def drain(self, vhost: Vhost, queue: str) -> list[Delivered]:
        """Take every message that is in the queue now, in order."""
        taken: list[Delivered] = []
        with self.channel(vhost) as channel:
            expected = channel.queue_declare(queue, passive=True).method.message_count

            def keep(_channel: object, method: Any, properties: Any, body: bytes) -> None:
                taken.append(Delivered(method.routing_key, properties.message_id, body, properties))

            channel.basic_consume(queue, keep, auto_ack=True)
            while len(taken) < expected:
                channel.connection.process_data_events(time_limit=1)
        return taken

    def declare_exchange(self, vhost: Vhost, exchange: str = EXCHANGE) -> None:
        """Declare the durable topic exchange."""
        with self.channel(vhost) as channel:
            channel.exchange_declare(exchange, "topic", durable=True)

    def delete_exchange(self, vhost: Vhost, exchange: str = EXCHANGE) -> None:
        """Delete an exchange with its bindings."""
        with self.channel(vhost) as channel:
            channel.exchange_delete(exchange)

    def exchange_exists(self, vhost: Vhost, exchange: str = EXCHANGE) -> bool:
        """Whether there is such an exchange."""
        name = f"rabbit_misc:r({_text(vhost.name)}, exchange, {_text(exchange)})"
        return self.eval(f"rabbit_exchange:exists({name})") == "true"

    def connections(self, vhost: Vhost) -> int:
        """How many connections the vhost has."""
        return int(self.eval(f"length({self._connections_of(vhost)})"))

    def close_connections(self, vhost: Vhost, reason: str = "closed by the test") -> int:
        """Close the vhost's connections from the broker's side, as an operator would; returns how many."""
        close = f"[rabbit_networking:close_connection(P, {json.dumps(reason)}) || P <- {self._connections_of(vhost)}]"
        return int(self.eval(f"length({close})"))

    @staticmethod
    def _connections_of(vhost: Vhost) -> str:
        vhost_of = "proplists:get_value(vhost, rabbit_networking:connection_info(P, [vhost]))"
        return f"[P || P <- rabbit_networking:connections(), {vhost_of} =:= {_text(vhost.name)}]"

    def alarm(self, on: bool) -> None:
        """Raise or clear the memory alarm: who publishes while it is on is blocked."""
        resource = "{resource_limit, memory, node()}"
        self.eval(f"rabbit_alarm:set_alarm({{{resource}, []}})" if on else f"rabbit_alarm:clear_alarm({resource})")


def _text(value: str) -> str:
    return f"<<{json.dumps(value)}>>"


_ACTING = _text("test")
