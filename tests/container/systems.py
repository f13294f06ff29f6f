"""The three systems around the collector, as containers or inside them: simulated Netbeam, RabbitMQ and the database."""

import base64
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import pika
import pika.exceptions

from tests.container.engine import DATABASE, Project, docker, published, wait_for

BASE_PATH = "/api/network/esnet/prod"
LOOKBACK_MS = 1_800_000
"""INITIAL_LOOKBACK by default."""
ODD_PASSWORD = """a'b "c" $d ${e} #f"""
"""What neither `docker run --env-file` nor the `.env` of docker-compose hands on unchanged."""
RECORD_TYPES = ("traffic", "errors", "discards")
INTERFACES = 60
DIRECT = build_opener(ProxyHandler({}))
"""Whatever proxy this machine uses."""

Point = tuple[str, str, int]
"""Resource, record type, timestamp in ms."""


class Netbeam:
    """A simulated Netbeam in a container."""

    def __init__(self, container: str) -> None:
        self.url = f"http://{container}:8080{BASE_PATH}"
        host, port = published(container, 8080)
        self._base = f"http://{host}:{port}{BASE_PATH}"
        wait_for("a simulated Netbeam that answers", self._answers, about=container)

    def _answers(self) -> bool:
        try:
            return bool(self.listing())
        except OSError:
            return False

    def _get(self, path: str) -> Any:
        with DIRECT.open(f"{self._base}/{path}", timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def listing(self) -> list[dict[str, Any]]:
        """The interfaces."""
        found: list[dict[str, Any]] = self._get("interfaces")
        return found

    def points(self, resource: str, record_type: str, begin_ms: int, end_ms: int) -> set[Point]:
        """The points of the window, its end left out."""
        path = f"{quote(resource, safe='/%')}/{record_type}?begin={begin_ms}&end={end_ms}"
        try:
            answer = self._get(path) or {}
        except OSError as error:  # 404: this one has no points
            if getattr(error, "code", None) != 404:
                raise
            return set()
        return {(resource, record_type, at[0]) for at in answer.get("points") or [] if begin_ms <= at[0] < end_ms}


class Bus:
    """An exchange in the broker's container with a queue that takes everything, and what has been read from it."""

    def __init__(self, container: str) -> None:
        self._address = published(container, 5672)
        self.exchange = f"exchange-{secrets.token_hex(3)}"
        self.bodies: list[tuple[str, dict[str, Any]]] = []
        """Routing key and message, in the order in which they came."""
        with self._channel() as channel:
            channel.exchange_declare(self.exchange, "topic", durable=True)
            channel.queue_declare(self.exchange, durable=True)
            channel.queue_bind(self.exchange, self.exchange, "#")

    @contextmanager
    def _channel(self) -> Iterator[Any]:
        connection = pika.BlockingConnection(pika.ConnectionParameters(*self._address))
        try:
            yield connection.channel()
        finally:
            connection.close()

    def read(self) -> int:
        """Take what is in the queue; how many messages have come in all."""
        with self._channel() as channel:
            last = 0
            for method, _, body in channel.consume(self.exchange, inactivity_timeout=0.3):
                if method is None:
                    break
                self.bodies.append((method.routing_key, json.loads(body)))
                last = method.delivery_tag
            if last:
                channel.basic_ack(last, multiple=True)
            channel.cancel()  # what came since goes back into the queue
        return len(self.bodies)

    def points(self) -> set[Point]:
        """The points that have come."""
        self.read()
        return {(body["name"], body["recordType"], body["timestamp"]) for key, body in self.bodies if key == "esnet_traffic"}

    def interfaces(self) -> set[str]:
        """The resources whose interface messages have come."""
        self.read()
        return {body["resource"] for key, body in self.bodies if key == "esnet_interfaces"}


def broker_answers(container: str) -> bool:
    """Whether the broker's port takes a login."""
    try:
        pika.BlockingConnection(pika.ConnectionParameters(*published(container, 5672))).close()
    except pika.exceptions.AMQPError:
        return False
    return True


def add_broker_user(container: str, user: str, password: str) -> bool:
    """Create a user who may do all; whether the management API took it (Debian's rabbitmqctl spoils odd arguments)."""
    host, port = published(container, 15672)
    permissions = {"configure": ".*", "write": ".*", "read": ".*"}
    guest = base64.b64encode(b"guest:guest").decode()
    for path, body in ((f"users/{user}", {"password": password, "tags": ""}), (f"permissions/%2F/{user}", permissions)):
        headers = {"Authorization": f"Basic {guest}", "Content-Type": "application/json"}
        request = Request(f"http://{host}:{port}/api/{path}", json.dumps(body).encode(), headers, method="PUT")
        try:
            DIRECT.open(request, timeout=30).close()
        except OSError:
            return False
    return True


class Database:
    """The database's container, asked as root through its own client."""

    def __init__(self, root_password: str) -> None:
        self._root_password = root_password

    def ask(self, statement: str) -> list[list[str]]:
        """The rows of the answer; NULL is the text NULL."""
        client = ("mysql", "--user=root", "--batch", "--skip-column-names")
        words = ("exec", "--interactive", "--env", f"MYSQL_PWD={self._root_password}", DATABASE, *client)
        return [line.split("\t") for line in docker(*words, text=statement).out.splitlines()]

    def create(self, user: str = "esnet_user", password: str = "") -> str:
        """A fresh database that the user may use, who gets the password if one is given; the database's name."""
        name = f"esnet_{secrets.token_hex(3)}"
        literal = password.replace("'", "''")
        user = f"'{user}'@'%'"
        anew = f"DROP USER IF EXISTS {user}; CREATE USER {user} IDENTIFIED BY '{literal}';" if password else ""
        self.ask(f"CREATE DATABASE {name} DEFAULT CHARACTER SET latin1; {anew} GRANT ALL ON {name}.* TO {user};")
        return name

    def rows(self, name: str) -> list[list[str]]:
        """Of the table: name, active_from, and how far each record type has come."""
        columns = ", ".join(("name", "active_from", *(f"{each}_until" for each in RECORD_TYPES)))
        return self.ask(f"SELECT {columns} FROM {name}.esnet_interfaces ORDER BY name")

    def reached(self, name: str, netbeam: Netbeam) -> set[Point]:
        """Every point that Netbeam has before the checkpoints: what must be on the bus."""
        return {
            point
            for resource, active_from, *checkpoints in self.rows(name)
            for record_type, until in zip(RECORD_TYPES, checkpoints, strict=True)
            if until != "NULL"
            for point in netbeam.points(resource, record_type, int(active_from) - LOOKBACK_MS, int(until))
        }


@dataclass(frozen=True, slots=True)
class OddPasswords:
    """Settings for users whose password no `.env` could hold, and a directory of files that hold it."""

    settings: dict[str, str]
    folder: Path


class Stack(Project):
    """A compose project with its settings, and with the database that the other tests use too."""

    def __init__(self, project: Project, settings: dict[str, str], bus: Bus) -> None:
        super().__init__(project.directory, project.name)
        self.settings = settings
        self.bus = bus
        self.database = Database(settings["MYSQL_ROOT_PASSWORD"])
