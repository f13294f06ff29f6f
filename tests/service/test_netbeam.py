"""Netbeam over a real connection: listings, windows, outages and their end."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from collector.core.contracts import Fetched
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, UnavailableError
from collector.core.model import GRID_MS, RecordType, Series, Window
from collector.core.shutdown import Stop
from collector.cycle.point_filter import select
from collector.source.http import client
from collector.source.netbeam import workers
from collector.source.netbeam.api import Netbeam
from tests.fakes import FakeIntake
from tests.service.rawserver import DROP, RawServer, Request, Script, json_reply, reply, scripted

T0 = 1_795_521_600_000
FOREVER = float("inf")


class Source(Netbeam):
    """With its Stop and its Counters at hand, and what it delivered."""

    def __init__(self, url: str, concurrency: int, timeout_s: float, once: bool) -> None:
        self.stop, self.counters = Stop(), Counters()
        self.delivered: list[Fetched] = []
        self.released: list[Window] = []
        super().__init__(
            url, concurrency=concurrency, rate=0, timeout_s=timeout_s, stop=self.stop, counters=self.counters, once=once
        )

    def take(self, windows: list[Window], until: float = FOREVER) -> None:
        self.fetch(windows, FakeIntake(lambda _: True, self.released.append, self.delivered.append), until)

    def failures(self) -> Counter[str]:
        return Counter(each.failure for each in self.delivered if each.failure)


Make = Callable[..., Source]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(client, "RETRY_DELAYS_S", (0.005, 0.01))
    monkeypatch.setattr(workers, "PROBE_FIRST_S", 0.01)
    monkeypatch.setattr(workers, "PROBE_MOST_S", 0.1)
    sources = []

    def build(server: RawServer, concurrency: int = 8, timeout_s: float = 5, once: bool = False) -> Source:
        sources.append(Source(f"{server.url}/api", concurrency, timeout_s, once))
        return sources[-1]

    yield build
    for source in sources:
        source.stop.set()
        source.close()


def windows(count: int, devices: int = 10) -> list[Window]:
    names = [f"devices/d{number * devices // count}/interfaces/1%2F{number}" for number in range(count)]
    return [Window(Series(number, name, RecordType.TRAFFIC), T0, T0 + 900_000) for number, name in enumerate(names)]


def points(request: Request) -> bytes:
    """Half-open, as the collector's own windows are."""
    asked = parse_qs(urlsplit(request.target).query)
    return json_reply({"points": [[at, 1, 2] for at in range(T0, T0 + 90_000, GRID_MS) if int(asked["begin"][0]) <= at]})


def test_listing_of_the_real_size_is_read(make: Make) -> None:
    padding = {f"key{number}": "value of some length" for number in range(13)}
    entries = [{"resource": f"devices/d{n // 69}/interfaces/{n}", "name": "x", **padding} for n in range(10_679)]
    body = json.dumps(entries)
    assert len(body) > 5_000_000
    with RawServer(scripted(reply(body, headers={"Date": "Tue, 24 Nov 2026 12:00:00 GMT"}))) as server:
        source = make(server)
        listing = source.list(T0 + 5_000_000)
        assert len(listing.interfaces) == 10_679
        assert listing.time_ms == T0
        assert listing.clock_ahead_s == pytest.approx(5000, abs=10)
        assert T0 <= source.latest_ms(T0 + 5_000_000) <= T0 + 10_000
        assert server.targets() == ["/api/interfaces"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply("[]"), AnswerError),
        (reply(""), AnswerError),
        (reply(status=404), AnswerError),
        (reply(status=204), AnswerError),
        (reply("<html>", status=200), UnavailableError),
        (reply(status=301, headers={"Location": "/api/interfaces"}), AnswerError),
        (DROP, UnavailableError),
    ],
)
def test_listing_that_cannot_be_used_is_an_error(make: Make, answer: bytes | None, error: type[Exception]) -> None:
    with RawServer(scripted(answer)) as server:
        source = make(server)
        with pytest.raises(error):
            source.list(T0)
        assert source.outage.down is (error is UnavailableError)


@pytest.mark.parametrize("answer", [reply(status=404), reply(status=204), reply(), reply("null"), reply('{"points": null}')])
def test_window_without_points_is_done_with_one_request(make: Make, answer: bytes) -> None:
    with RawServer(scripted(answer)) as server:
        source = make(server)
        source.take(windows(1))
        assert [(each.failure, list(each.points)) for each in source.delivered] == [(None, [])]
        assert len(server.requests) == 1


@pytest.mark.parametrize("begin_included", [True, False])
@pytest.mark.parametrize("end_included", [True, False])
def test_each_point_comes_out_once_whichever_ends_netbeam_includes(
    make: Make, begin_included: bool, end_included: bool
) -> None:
    def script(request: Request) -> bytes:
        asked = parse_qs(urlsplit(request.target).query)
        begin, end = int(asked["begin"][0]), int(asked["end"][0])
        grid = range(T0 - 10 * GRID_MS, T0 + 100 * GRID_MS, GRID_MS)
        inside = [at for at in grid if (begin < at or (begin_included and at == begin)) and at <= end]
        return json_reply({"points": [[at, 1, 2] for at in inside if at < end or end_included]})

    series = Series(1, "devices/a", RecordType.TRAFFIC)
    edges = [T0, T0 + 20 * GRID_MS, T0 + 20 * GRID_MS + 7, T0 + 30 * GRID_MS - 1, T0 + 40 * GRID_MS]
    with RawServer(script) as server:
        source = make(server, concurrency=1)
        source.take([Window(series, begin, end) for begin, end in itertools.pairwise(edges)])
    times = [point[0] for each in source.delivered for point in select(each.points, each.window).points]
    assert times == list(range(T0, T0 + 40 * GRID_MS, GRID_MS))


def test_concurrency_is_a_hard_limit_and_each_worker_keeps_its_connection(make: Make) -> None:
    def script(request: Request) -> bytes:
        time.sleep(0.002)
        return points(request)

    with RawServer(script) as server:
        source = make(server, concurrency=6)
        for _ in range(3):
            source.take(windows(100))
        assert server.connections <= 6
        assert 2 <= server.most_at_once <= 6
        assert len(server.requests) == len(source.delivered) == 300


def test_connections_that_idled_away_between_two_cycles_are_no_failure(make: Make) -> None:
    with RawServer(points) as server:
        source = make(server)
        for _ in range(3):
            source.take(windows(50))
            server.close_connections()
        assert not source.failures()
        assert source.counters.get(Count.REQUESTS, "ok") == 150


def test_netbeam_that_is_gone_is_probed_until_it_is_back(make: Make) -> None:
    script: list[Script] = [lambda _: reply(status=503)]
    with RawServer(lambda request: script[0](request)) as server:
        source = make(server)
        batch = windows(500, devices=50)
        fetching = threading.Thread(target=source.take, args=(batch,))
        fetching.start()
        wait_for(lambda: source.outage.down)
        tried = len(server.requests)
        assert tried <= (20 + 7 + 5) * 3
        wait_for(lambda: len(server.requests) >= tried + 5)
        script[0] = points
        fetching.join(10)
        assert not fetching.is_alive()
        assert not source.outage.down
        assert Counter(each.window for each in source.delivered) == Counter(batch)
        assert len(source.delivered) - source.failures()["status 503"] >= 450


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, ten seconds at the most."""
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_away_ends_a_cycle_of_once_at_once(make: Make) -> None:
    with RawServer(scripted(reply(status=500))) as server:
        source = make(server, once=True)
        source.take(windows(1000, devices=50))
        assert source.outage.down
        assert 25 <= len(source.delivered) <= 32
        assert len(server.requests) == 3 * len(source.delivered)


def test_listing_that_works_while_all_points_fail_leaves_the_outage_standing(make: Make) -> None:
    def script(request: Request) -> bytes:
        return json_reply([{"resource": "a"}]) if request.target.endswith("/interfaces") else reply(status=502)

    with RawServer(script) as server:
        source = make(server)
        for _ in range(2):
            source.list(T0)
            source.take(windows(100), time.monotonic() + 0.3)
            assert source.outage.down
            assert source.outage.last_error == "status 502"


def test_pause_beyond_the_cycle_ends_the_fetch_and_is_no_outage(make: Make) -> None:
    listing = json_reply([{"resource": "a"}])
    busy = reply(status=429, headers={"Retry-After": "3600"})
    with RawServer(lambda request: listing if request.target.endswith("/interfaces") else busy) as server:
        source = make(server)
        began = time.monotonic()
        source.take(windows(200), began + 60)
        assert time.monotonic() - began < 3
        assert len(server.requests) <= 8
        assert 1 <= len(source.released) <= 16
        assert not source.delivered
        assert not source.outage.down
        server.script = lambda request: listing if request.target.endswith("/interfaces") else points(request)
        source.list(T0)
        source.delivered.clear()
        source.take(windows(200), time.monotonic() + 10)
        assert not source.failures()


def test_pause_that_the_listing_meets_does_not_hold_up_the_cycle(make: Make) -> None:
    with RawServer(scripted(reply(status=503, headers={"Retry-After": "7200"}))) as server:
        source = make(server)
        for _ in range(2):
            with pytest.raises(UnavailableError):
                source.list(T0)
        assert len(server.requests) == 2
        source.take(windows(200), time.monotonic() + 60)
        assert len(server.requests) == 2
        assert source.outage.down


def test_stop_ends_a_fetch_once_what_is_in_flight_is_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.core.shutdown.GRACE_S", 0.3)
    hanging = threading.Event()

    def script(request: Request) -> bytes | None:
        request.sock.sendall(b"HTTP/1.1 200 OK\r\n")
        hanging.wait(5)
        return DROP

    with RawServer(script) as server:
        source = make(server, concurrency=4, timeout_s=30)
        threading.Timer(0.1, source.stop.set).start()
        began = time.monotonic()
        source.take(windows(100))
        assert time.monotonic() - began < 3
        hanging.set()
        assert len(server.requests) == 4
        assert len(source.delivered) + len(source.released) == 4
        source.take(windows(100))
        assert len(server.requests) == 4
