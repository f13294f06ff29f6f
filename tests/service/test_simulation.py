"""The simulated Netbeam over real connections."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from collector.core.model import GRID_MS, RecordType
from collector.source.simulated.netbeam import SimulatedNetbeam
from collector.source.simulated.network import Nothing, SimulatedNetwork
from collector.source.simulated.stardust import INDEX
from collector.source.stardust import queries
from tests.simulation import FaultySimulation
from tests.simulation.content import instead, with_odd_entries
from tests.simulation.faults import Fault, Kind

BASE_PATH = SimulatedNetbeam.base_path
ROOT = Path(__file__).parents[2]
NOW_MS = 1_764_000_000_000
BRACED = "devices/albq-cr5/interfaces/{a}%2D1"


class Reply(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Client:
    """One kept-alive connection."""

    def __init__(self, simulation: FaultySimulation, timeout_s: float = 5.0) -> None:
        self.connection = http.client.HTTPConnection(simulation.host, simulation.port, timeout=timeout_s)

    def get(self, path: str, **headers: str) -> Reply:
        self.connection.request("GET", BASE_PATH + path, headers=headers)
        response = self.connection.getresponse()
        return Reply(response.status, response.headers, response.read())

    def points(self, name: str, begin_ms: int, end_ms: int, record_type: str = "traffic") -> list[tuple[Any, ...]]:
        reply = self.get(f"/{name}/{record_type}?begin={begin_ms}&end={end_ms}")
        assert reply.status == 200
        return [tuple(point) for point in json.loads(reply.body)["points"]]


@pytest.fixture
def network() -> SimulatedNetwork:
    speeds = SimulatedNetwork.synthetic(100).speeds
    return SimulatedNetwork([*speeds.items(), (BRACED, 100)])


@pytest.fixture
def simulation(network: SimulatedNetwork) -> Iterator[FaultySimulation]:
    with FaultySimulation(network, clock=lambda: NOW_MS, record=True) as running:
        yield running
    assert running.at_once == 0


@pytest.fixture
def client(simulation: FaultySimulation) -> Iterator[Client]:
    made = Client(simulation)
    yield made
    made.connection.close()


@pytest.fixture
def loud(network: SimulatedNetwork) -> str:
    return next(name for name in network.resources if not network.silent(name) and "%2F" in name)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_points_and_listing_are_what_the_network_has(simulation: FaultySimulation, client: Client, loud: str) -> None:
    network = simulation.network
    reply = client.get("/interfaces")
    assert json.loads(reply.body) == network.listing(NOW_MS)
    assert reply.headers["Date"] == formatdate(NOW_MS / 1000, usegmt=True)
    for record_type in RecordType:
        expected = network.expected_points(loud, record_type, NOW_MS - 900_000, NOW_MS)
        assert client.points(loud, NOW_MS - 900_000, NOW_MS, record_type) == expected
    assert simulation.counts == {"listing": 1, "points": 3}
    assert (simulation.connections, simulation.most_at_once) == (1, 1)


def test_silent_interfaces_answer_in_every_way(simulation: FaultySimulation, client: Client) -> None:
    seen = set()
    for name in filter(simulation.network.silent, simulation.network.resources):
        reply = client.get(f"/{name}/errors?begin={NOW_MS - 60_000}&end={NOW_MS}")
        nothing = simulation.network.nothing(name, RecordType.ERRORS)
        seen.add(nothing)
        if nothing not in (Nothing.NOT_FOUND, Nothing.NO_CONTENT):
            assert (reply.status, reply.body.decode()) == (200, nothing)
        else:
            assert str(reply.status) == nothing
    assert seen == set(Nothing)
    assert simulation.connections == 1


def test_only_the_path_that_the_resource_has_is_known(simulation: FaultySimulation, client: Client, loud: str) -> None:
    window = f"begin={NOW_MS - 60_000}&end={NOW_MS}"
    assert client.get(f"/{loud.replace('%2F', '/')}/traffic?{window}").status == 404
    assert client.get(f"/{loud.replace('%2F', '%2f')}/traffic?{window}").status == 404
    assert client.get(f"/{loud}/bytes?{window}").status == 404
    assert client.get(f"/{loud}/../x/traffic?{window}").status == 404
    assert simulation.counts == {"unknown": 4}
    assert client.get(f"/{BRACED}/traffic?{window}").status == 404
    assert client.get(f"/devices/albq-cr5/interfaces/%7Ba%7D%2D1/traffic?{window}").status == 200
    assert client.get(f"/{loud}/traffic?begin=x&end=1").status == 400
    assert client.get(f"/{loud}/traffic").status == 400
    assert client.get(f"/{loud}/traffic?begin=0&end={NOW_MS}").status == 400


@pytest.mark.parametrize("begin_inclusive", [True, False])
@pytest.mark.parametrize("end_inclusive", [True, False])
def test_each_end_of_a_window_can_be_inclusive_or_not(
    simulation: FaultySimulation, client: Client, loud: str, begin_inclusive: bool, end_inclusive: bool
) -> None:
    simulation.behaviour.begin_inclusive, simulation.behaviour.end_inclusive = begin_inclusive, end_inclusive
    end_ms = NOW_MS - 900_000
    times = [point[0] for point in client.points(loud, end_ms - 2 * GRID_MS, end_ms)]
    assert (end_ms - 2 * GRID_MS in times, end_ms in times) == (begin_inclusive, end_inclusive)
    assert end_ms - GRID_MS in times
    asked_wider = client.points(loud, end_ms - 2 * GRID_MS - 1, end_ms)
    expected = simulation.network.expected_points(loud, RecordType.TRAFFIC, end_ms - 2 * GRID_MS, end_ms)
    assert [point for point in asked_wider if point[0] < end_ms] == expected


def test_no_point_is_newer_than_the_clock_less_what_settles(simulation: FaultySimulation, client: Client, loud: str) -> None:
    assert client.points(loud, NOW_MS - 60_000, NOW_MS + 600_000)[-1][0] == NOW_MS
    simulation.behaviour.settle_s = 45
    assert client.points(loud, NOW_MS - 120_000, NOW_MS)[-1][0] == NOW_MS - 60_000


def test_silence_is_empty_and_complete_afterwards(simulation: FaultySimulation, client: Client, loud: str) -> None:
    simulation.behaviour.silence = True
    assert b"[[" not in client.get(f"/{loud}/traffic?begin={NOW_MS - 60_000}&end={NOW_MS}").body
    simulation.behaviour.silence = False
    assert len(client.points(loud, NOW_MS - 60_000, NOW_MS)) == 2


def test_points_can_come_in_descending_order_and_without_a_date(simulation: FaultySimulation, client: Client, loud: str) -> None:
    simulation.behaviour.descending, simulation.behaviour.send_date = True, False
    reply = client.get(f"/{loud}/traffic?begin={NOW_MS - 60_000}&end={NOW_MS}")
    assert [point[0] for point in json.loads(reply.body)["points"]] == [NOW_MS - 30_000, NOW_MS - 60_000]
    assert "Date" not in reply.headers


def test_requests_are_recorded_with_window_and_headers(simulation: FaultySimulation, client: Client, loud: str) -> None:
    client.get(f"/{loud}/errors?end=1764000000000&begin=1763999940000", **{"User-Agent": "x/1"})
    request = simulation.requests[0]
    assert request[3:] == (loud, RecordType.ERRORS, 1763999940000, 1764000000000)
    assert "User-Agent: x/1" in request.head
    assert simulation.asked(loud, RecordType.ERRORS) == [(1763999940000, 1764000000000)]
    assert simulation.asked(loud, RecordType.TRAFFIC) == []
    assert sum(simulation.per_second.values()) == 1


def test_latency_is_waited_for_by_all_at_once(simulation: FaultySimulation, loud: str) -> None:
    simulation.behaviour.latency_s = 0.3
    clients = [Client(simulation) for _ in range(8)]
    threads = [threading.Thread(target=each.points, args=(loud, NOW_MS - 60_000, NOW_MS)) for each in clients]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began >= 0.3
    assert simulation.most_at_once == 8
    for each in clients:
        each.connection.close()


def test_requests_sent_together_and_in_pieces_are_answered_in_order(simulation: FaultySimulation) -> None:
    request = f"GET {BASE_PATH}/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    last = "GET http://netbeam.example" + BASE_PATH + "/interfaces HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    sent = (request * 2 + last).encode()
    with socket.create_connection((simulation.host, simulation.port)) as peer:
        for part in (sent[:20], sent[20:100], sent[100:]):
            peer.sendall(part)
        received = b"".join(iter(lambda: peer.recv(65536), b""))
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"404", b"404", b"200"]
    assert simulation.counts == {"unknown": 2, "listing": 1, "proxied": 1}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.RESET, ConnectionResetError),
        (Kind.HANG_UP, http.client.RemoteDisconnected),
        (Kind.CUT, http.client.IncompleteRead),
        (Kind.CUT_CHUNKED, http.client.IncompleteRead),
        (Kind.HANG, TimeoutError),
    ],
)
def test_a_broken_answer_breaks_and_the_next_one_is_right(
    simulation: FaultySimulation, loud: str, kind: Kind, error: type[Exception]
) -> None:
    for path, behaviour in ((f"/{loud}/traffic?begin={NOW_MS - 60_000}&end={NOW_MS}", "points"), ("/interfaces", "listing")):
        fault = Fault(kind=kind, limit=1)
        setattr(simulation.behaviour, behaviour, (fault,))
        broken = Client(simulation, timeout_s=0.2)
        with pytest.raises(error):
            broken.get(path)
        broken.connection.close()
        assert fault.hits == 1
        fresh = Client(simulation)
        assert fresh.get(path).status == 200
        fresh.connection.close()
    wait_until(lambda: simulation.at_once == 0)


@pytest.mark.parametrize("kind", [Kind.DRIP_HEAD, Kind.DRIP_BODY, Kind.SLOW, Kind.CHUNKED, Kind.CLOSE, Kind.GZIP])
def test_an_odd_delivery_is_right_in_the_end(simulation: FaultySimulation, client: Client, loud: str, kind: Kind) -> None:
    simulation.behaviour.points = (Fault(kind=kind, seconds=0.001),)
    reply = client.get(f"/{loud}/traffic?begin={NOW_MS - 60_000}&end={NOW_MS}")
    assert reply.status == 200
    if kind is Kind.GZIP:
        assert reply.headers["Content-Encoding"] == "gzip"
    else:
        assert len(json.loads(reply.body)["points"]) == 2
    if kind is Kind.CLOSE:
        wait_until(lambda: not simulation.open_connections)


def test_a_drip_ends_with_its_client(simulation: FaultySimulation, loud: str) -> None:
    simulation.behaviour.points = (Fault(kind=Kind.DRIP_BODY, seconds=0.05),)
    impatient = Client(simulation, timeout_s=0.2)
    impatient.connection.request("GET", f"{BASE_PATH}/{loud}/traffic?begin={NOW_MS - 60_000}&end={NOW_MS}")
    impatient.connection.getresponse().close()
    impatient.connection.close()
    wait_until(lambda: simulation.at_once == 0)


def test_a_listing_can_be_edited_and_can_fail(simulation: FaultySimulation, client: Client) -> None:
    simulation.behaviour.edit_listing = instead([])
    assert client.get("/interfaces").body == b"[]"
    simulation.behaviour.edit_listing = with_odd_entries
    assert len(json.loads(client.get("/interfaces").body)) > len(simulation.network.resources)
    simulation.behaviour.listing = (Fault(kind=Kind.STATUS, status=429, retry_after="3"),)
    reply = client.get("/interfaces")
    assert (reply.status, reply.headers["Retry-After"]) == (429, "3")


def test_it_stops_with_clients_connected_and_starts_again_on_its_port(network: SimulatedNetwork) -> None:
    simulation = FaultySimulation(network).start()
    url = simulation.url
    client = Client(simulation)
    client.get("/interfaces")
    simulation.stop()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as it happens
        client.get("/interfaces")
    client.connection.close()
    simulation.start()
    assert simulation.url == url
    assert client.get("/interfaces").status == 200
    client.connection.close()
    simulation.stop()


def test_idle_connections_can_be_reset(simulation: FaultySimulation, client: Client) -> None:
    client.get("/interfaces")
    simulation.reset_connections()
    wait_until(lambda: not simulation.open_connections)
    with pytest.raises(ConnectionError):
        client.get("/interfaces")
    client.connection.close()
    assert client.get("/interfaces").status == 200


def test_a_port_that_is_taken_is_an_error(simulation: FaultySimulation) -> None:
    with pytest.raises(OSError, match="in use"):
        FaultySimulation(simulation.network, port=simulation.port).start()


def test_the_program_prints_its_url_and_ends_with_sigterm() -> None:
    command = [sys.executable, "-m", "collector.source.simulated", "--interfaces", "7", "--latency-ms", "5"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as program:
        assert program.stdout
        url = urlsplit(program.stdout.readline().strip())
        connection = http.client.HTTPConnection(url.netloc, timeout=5)
        connection.request("GET", url.path + "/interfaces")
        assert len(json.loads(connection.getresponse().read())) == 7
        program.send_signal(signal.SIGTERM)
        figures = json.loads(program.stdout.readline())
        assert program.wait(5) == 0
        connection.close()
    assert figures["requests"] == {"listing": 1}


def test_the_program_serves_stardust_where_that_is_asked_for() -> None:
    command = [sys.executable, "-m", "collector.source.simulated", "--stardust", "--interfaces", "7"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as program:
        assert program.stdout
        url = urlsplit(program.stdout.readline().strip())
        connection = http.client.HTTPConnection(url.netloc, timeout=5)
        connection.request("POST", f"/{INDEX}/_search", queries.newest(int(time.time() * 1000)))
        answer = json.loads(connection.getresponse().read())
        connection.close()
        program.send_signal(signal.SIGTERM)
        assert program.wait(5) == 0
    assert len(answer["hits"]["hits"]) == 1
    helped = subprocess.run([*command[:3], "--help"], capture_output=True, text=True, cwd=ROOT, timeout=20, check=True)
    assert "--stardust" in helped.stdout
