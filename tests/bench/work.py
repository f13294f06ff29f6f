"""The work that collector, rivals and floor share: which windows are asked for, and where messages go."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pika

from collector.core.model import Message, RecordType
from collector.cycle.messages import traffic_messages
from tests.bench.stage import CYCLE_S, Stage, settled_ms

EXCHANGE = "osg.psdata.raw"
TRAFFIC_KEY = "esnet_traffic"
POINTS = CYCLE_S // 30
"""Of a window of 15 minutes."""


@dataclass(frozen=True, slots=True)
class Request:
    """One window, as a rival asks for it."""

    url: str
    name: str
    record_type: str


def requests_of(stage: Stage, share: float, part: int = 0) -> list[Request]:
    """A share of the requests of a cycle, spread evenly over the list; the parts differ.

    Without names that hold a `%2D`: requests, which rivals and floor use, asks for `-` instead, and nobody is there.
    """
    end_ms = settled_ms()
    query = f"?begin={end_ms - CYCLE_S * 1000}&end={end_ms - 1}"
    every = max(1, round(1 / share))
    series = [(name, each.value) for name in stage.resources if "%2D" not in name for each in RecordType][part % every :: every]
    return [Request(f"{stage.netbeam.url}/{name}/{each}{query}", name, each) for name, each in series]


def write_requests(path: Path, requests: Sequence[Request]) -> Path:
    """For a rival in another process."""
    path.write_text(json.dumps([asdict(each) for each in requests]))
    return path


def read_requests(path: str) -> list[Request]:
    """What `write_requests` wrote."""
    return [Request(**each) for each in json.loads(Path(path).read_text())]


def batches(count: int, name: str = "devices/albq-cr5/interfaces/1%2F1%2F1") -> list[list[Message]]:
    """Messages as a cycle has them, one list for each window, `count` in all."""
    made = []
    for number in range(count // POINTS):
        start_ms = 1_700_000_000_000 + number * CYCLE_S * 1000
        points = [(start_ms + 30_000 * each, 123_456_789 + number * each, 98_765_432 - each) for each in range(POINTS)]
        made.append(traffic_messages(name, RecordType.TRAFFIC, points))
    return made


def connection_parameters() -> pika.ConnectionParameters:
    """Where the messages go, from the same variables as the collector's."""
    credentials = pika.PlainCredentials(os.environ["RMQ_USER"], os.environ["RMQ_PASS"])
    where = os.environ["RMQ_HOST"], int(os.environ["RMQ_PORT"]), os.environ["RMQ_VHOST"]
    return pika.ConnectionParameters(*where, credentials, heartbeat=0)


def properties(message_id: str) -> pika.BasicProperties:
    """Of a traffic message."""
    return pika.BasicProperties("application/json", delivery_mode=2, message_id=message_id, app_id="esnet-collector")
