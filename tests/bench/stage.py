"""What every measure stands on: a real MariaDB, a real RabbitMQ, the simulated Netbeam, and collectors as processes."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.bench.netbeam import TOP, SimulatedNetbeam, network
from tests.rig import Bus, Collector, MysqlTable
from tests.rig.bus import QUEUE
from tests.servers.databases import MariaDB
from tests.servers.rabbitmq import RabbitServer

SETTLE_S = 900
CYCLE_S = 900
MINUTE_MS = 60_000
SETTINGS = {"METRICS_PORT": "0", "NETBEAM_CONCURRENCY": "32"}
"""Of every collector; the rest has the collector's own defaults unless a measure says otherwise."""
CHUNK = 1000
EMPTIED_S = 0.1
"""How often a queue is emptied where that is not what is measured."""


@dataclass(frozen=True, slots=True)
class Place:
    """A database and a vhost of one measure."""

    table: MysqlTable
    bus: Bus

    @property
    def environment(self) -> dict[str, str]:
        """For a collector or a rival."""
        return {**self.table.environment, **self.bus.environment}

    def purge(self) -> int:
        """Empty the queue; how many messages were in it."""
        with self.bus.rabbit.channel(self.bus.vhost) as channel:
            return int(channel.queue_purge(QUEUE).method.message_count)

    @contextmanager
    def emptied(self) -> Iterator[list[int]]:
        """Keep the queue short, as with consumers; the list's one item is how many messages came, complete after the block.

        The broker keeps a transient queue in the memory of one process, and collects garbage in all of it: with 240,000
        messages in the queue everybody is slower by a quarter, rivals too. Real consumers would cost the broker more than this.
        """
        end, taken = threading.Event(), [0]

        def empty() -> None:
            with self.bus.rabbit.channel(self.bus.vhost) as channel:
                while not end.wait(EMPTIED_S):
                    taken[0] += int(channel.queue_purge(QUEUE).method.message_count)

        with ThreadPoolExecutor(1) as pool:
            emptying = pool.submit(empty)
            try:
                yield taken
            finally:
                end.set()
            emptying.result()
        taken[0] += self.purge()


class Stage:
    """The servers of one run of the benchmark; `interfaces` is how long the list is."""

    def __init__(self, interfaces: int) -> None:
        self.resources = network(interfaces).resources
        self.database, self.rabbit = MariaDB(), RabbitServer()
        self._scratch = tempfile.TemporaryDirectory(prefix="esnet-benchmark-")
        self.directory = Path(self._scratch.name)
        self._places: list[Place] = []

    def __enter__(self) -> "Stage":
        self.database.start()
        self.rabbit.start()
        self.netbeam = SimulatedNetbeam(len(self.resources))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.netbeam.close()
        self.rabbit.close()
        self.database.stop()
        self._scratch.cleanup()

    def place(self, *, durable: bool = False) -> Place:
        """A fresh database and vhost, with a queue that takes everything; the one before is gone."""
        while self._places:
            self._places.pop().bus.close()
        place = Place(MysqlTable(self.database), Bus(self.rabbit, durable=durable))
        self._places.append(place)
        return place

    def collector(self, place: Place, *words: str, **settings: object) -> Collector:
        """Start a collector; an empty settings file keeps a `.env` of whoever runs this out of it."""
        env_file = self.directory / "settings.env"
        env_file.touch()
        environment = {"NETBEAM_URL": self.netbeam.url, **place.environment, **SETTINGS}
        environment |= {name: str(value) for name, value in settings.items()}
        return Collector((*words, "--env-file", str(env_file)), environment, self.directory)

    def broker_cpu_s(self) -> float:
        """What the broker has used so far."""
        return cpu_s(self.rabbit.pid)


def run_module(module: str, *words: object, python: str = sys.executable, settings: Mapping[str, str] | None = None) -> Any:
    """Run a module of the benchmark in a process of its own; what it prints as JSON. Raises CalledProcessError."""
    environment = {**os.environ, **(settings or {})}
    command = ["setpriv", "--pdeathsig", "KILL", python, "-m", module, *map(str, words)]
    done = subprocess.run(command, cwd=TOP, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def fill(table: MysqlTable, resources: Sequence[str], checkpoint_ms: int) -> None:
    """Make the table, with every interface active and every series collected up to that time."""
    table.create()
    columns = "name, status, active_from, traffic_until, errors_until, discards_until"
    for start in range(0, len(resources), CHUNK):
        some = resources[start : start + CHUNK]
        marks = ", ".join(["(%s, '1', %s, %s, %s, %s)"] * len(some))
        values = [value for name in some for value in (name, *[str(checkpoint_ms)] * 4)]
        table.sql(f"INSERT INTO esnet_interfaces ({columns}) VALUES {marks}", values)


def rewind(table: MysqlTable, checkpoint_ms: int) -> None:
    """Set every checkpoint, as an operator would."""
    table.sql("UPDATE esnet_interfaces SET traffic_until = %s, errors_until = %s, discards_until = %s", [str(checkpoint_ms)] * 3)


def settled_ms() -> int:
    """Up to where a cycle that starts now collects."""
    return (time.time_ns() // 1_000_000 - SETTLE_S * 1000) // MINUTE_MS * MINUTE_MS


def await_early_minute(seconds: float = 10.0) -> None:
    """Wait until the current minute goes on for so long, so that what is prepared now is what the cycle finds."""
    left = 60 - time.time() % 60
    if left < seconds:
        time.sleep(left + 0.1)


def cpu_s(pid: int) -> float:
    """CPU seconds of another process so far, of all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
