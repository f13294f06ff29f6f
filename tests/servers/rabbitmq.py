"""Debian's RabbitMQ for tests and benchmarks: a node of its own in a temporary directory, on free loopback ports.

The node is asked through `erl_call` (10 ms) rather than `rabbitmqctl` (2 s). Nothing here needs pytest.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import pika.exceptions

EXCHANGE = "osg.psdata.raw"
START_S = 60.0
STOP_S = 30.0

_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"


@dataclass(frozen=True, slots=True)
class Vhost:
    """A virtual host with one user, and where to find it."""

    host: str
    port: int
    name: str
    user: str
    password: str


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the server's certificate, its key, and the authority of clients' certificates; a client may have none."""

    ca_file: str
    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True)
class Delivered:
    """A message as a consumer got it."""

    routing_key: str
    message_id: str
    body: bytes
    properties: Any = field(repr=False)


def free_ports(number: int) -> list[int]:
    """Loopback ports that nobody listens on at this moment."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class RabbitServer:
    """One broker; what it knows survives `stop`, `kill` and `start`, and is gone with `close`."""

    def __init__(self, tls: Tls | None = None) -> None:
        self.host = "127.0.0.1"
        self.port, self.tls_port, self._dist_port, self._epmd_port = free_ports(4)
        self.directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
        self.node = f"test{self.port}@localhost"
        self.vhosts: list[str] = []
        self._cookie = secrets.token_hex(16)
        self._tls = tls
        self._broker: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._environment = self._prepare()

    def _prepare(self) -> dict[str, str]:
        """Write the node's files; returns its environment."""
        cookie = self.directory / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        (self.directory / "enabled_plugins").write_text("[].\n")
        lines = [f"listeners.tcp.1 = 127.0.0.1:{self.port}", "disk_free_limit.absolute = 1MB", "log.file.level = warning"]
        if self._tls:
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self._tls.ca_file}",
                f"ssl_options.certfile = {self._tls.cert_file}",
                f"ssl_options.keyfile = {self._tls.key_file}",
                "ssl_options.verify = verify_peer",
                "ssl_options.fail_if_no_peer_cert = false",
            ]
        (self.directory / "rabbitmq.conf").write_text("\n".join(lines) + "\n")
        return {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.directory / "advanced"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "detached": "yes",  # the start script then becomes the broker, so that our child is the broker itself
        }

    def __enter__(self) -> "RabbitServer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the broker and wait until it takes connections. Raises RuntimeError with the end of its log."""
        if self._epmd is None:
            # erl would start one as a daemon that outlives it
            self._epmd = self._spawn(["epmd", "-address", "127.0.0.1", "-port", str(self._epmd_port)], "epmd")
            self._wait(lambda: self._answers(self._epmd_port), 10.0, "epmd")
        self._broker = self._spawn([_SERVER], "broker")
        self._wait(self._up, START_S, "broker")

    def _spawn(self, command: Sequence[str], name: str) -> subprocess.Popen[bytes]:
        with open(self.directory / f"{name}.out", "ab") as output:
            return subprocess.Popen(
                command, env=self._environment, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _wait(self, condition: Any, timeout_s: float, name: str) -> None:
        until = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > until or (name == "broker" and self._broker and self._broker.poll() is not None):
                raise RuntimeError(f"{name} did not start: {(self.directory / f'{name}.out').read_text()[-2000:]}")
            time.sleep(0.05)

    @staticmethod
    def _answers(port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def _up(self) -> bool:
        if not self._answers(self.port):
            return False
        try:
            return self.eval("rabbit:is_running()") == "true"
        except RuntimeError:
            return False

    @property
    def pid(self) -> int:
        """The broker's process id."""
        assert self._broker is not None
        return self._broker.pid

    def stop(self) -> None:
        """Shut the broker down in good order: it closes its connections and keeps durable queues."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the broker at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._broker is None:
            return
        self._broker.send_signal(number)
        try:
            self._broker.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._broker.kill()
            self._broker.wait()
        self._broker = None

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """End `freeze`; safe to call again."""
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen for as long as the block runs."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def close(self) -> None:
        """Stop what was started and remove its files."""
        if self._broker is not None:
            self.thaw()
            self.kill()
        if self._epmd is not None:
            self._epmd.terminate()
            self._epmd.wait()
            self._epmd = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def eval(self, expression: str) -> str:
        """Evaluate Erlang in the broker; returns the value's text. Raises RuntimeError when it fails."""
        # a name of its own: the broker refuses a second node of one name until it has noticed that the first is gone
        name = f"c{secrets.token_hex(4)}"
        command = ["erl_call", "-c", self._cookie, "-h", name, "-n", self.node, "-timeout", "20", "-e"]
        done = subprocess.run(command, env=self._environment, input=f"{expression}.\n".encode(), capture_output=True, check=False)
        answer = done.stdout.decode()
        match = re.fullmatch(r"\{ok, (.*)\}\s*", answer, re.DOTALL)
        if done.returncode or not match:
            raise RuntimeError(f"{expression}: {answer or done.stderr.decode()}")
        return match[1]

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
        self.vhosts.append(vhost.name)
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
