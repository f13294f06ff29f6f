"""The collector's queries on a real engine: what it finds, what its limits do, and what it answers when it is not whole."""

import json
import signal
import threading
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.config.systems import StardustSettings
from collector.core.contracts import Fetched
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError
from collector.core.model import GRID_MS, RecordType, Series, Window
from collector.core.shutdown import Stop
from collector.source.http import client
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.stardust import SimulatedIndex, id_of
from collector.source.stardust import groups, queries
from collector.source.stardust.api import Stardust
from collector.source.stardust.search import FaultError
from tests.rig import SqliteTable
from tests.rig.stardust import StardustRig, stardust_network
from tests.servers.opensearch import INDEX, MAPPING, TOP, OpenSearch
from tests.simulation.stardust import whole_documents

LIST = TOP.parent / "shared" / "data" / "esnet-interfaces.csv"
"""ESnet's real list, where it is at hand; else as many invented interfaces."""
COUNT = 10_679
FOREVER = float("inf")
HOUR_MS = 3_600_000


class Intake:
    """Implements contracts.Intake: admits all."""

    def __init__(self) -> None:
        self.fetched: list[Fetched] = []

    def admit(self, windows: Sequence[Window]) -> int:
        return len(windows)

    def release(self, windows: Sequence[Window]) -> None:
        pass

    def deliver(self, fetched: Fetched) -> None:
        self.fetched.append(fetched)

    def failures(self) -> Counter[str]:
        return Counter(each.failure for each in self.fetched if each.failure is not None)


class Source(Stardust):
    """Asks the node for a network that it was filled from."""

    def __init__(self, node: OpenSearch, network: SimulatedNetwork, index: str = INDEX) -> None:
        self.stop, self.counters, self.network = Stop(), Counters(), network
        settings = StardustSettings(url=node.url, index=index, timeout_s=60, concurrency=2)
        super().__init__(settings, stop=self.stop, counters=self.counters, once=True)

    def windows(self, begin_ms: int, end_ms: int) -> list[Window]:
        names = self.network.resources
        return [Window(Series(row, name, each), begin_ms, end_ms) for row, name in enumerate(names) for each in RecordType]

    def take(self, windows: Sequence[Window]) -> Intake:
        intake = Intake()
        self.fetch(windows, intake, FOREVER)
        return intake

    def check(self, intake: Intake, windows: Sequence[Window]) -> int:
        """Every window came with exactly the network's points; their number."""
        assert intake.failures() == Counter()
        assert Counter(each.window for each in intake.fetched) == Counter(windows)
        for each in intake.fetched:
            window = each.window
            expected = self.network.expected_points(window.series.name, window.series.record_type, window.begin_ms, window.end_ms)
            assert each.points == [list(point) for point in expected], window
        return sum(len(each.points) for each in intake.fetched)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(client, "RETRY_DELAYS_S", (0.05, 0.1))


@pytest.fixture
def node(opensearch: OpenSearch) -> Iterator[OpenSearch]:
    """With an empty index."""
    opensearch.make()
    yield opensearch
    opensearch.remove()


def now_ms() -> int:
    """Now, on the grid."""
    return time.time_ns() // 1_000_000 // GRID_MS * GRID_MS


def filled(node: OpenSearch, network: SimulatedNetwork, begin_ms: int, end_ms: int) -> Source:
    node.fill(whole_documents(SimulatedIndex(network), begin_ms, end_ms))
    return Source(node, network)


def test_listing_and_points_are_the_network_s(node: OpenSearch) -> None:
    now = now_ms()
    source = filled(node, stardust_network(64), now - HOUR_MS, now)
    listing = source.list(now)
    assert set(listing.interfaces) == set(source.network.resources)
    assert source.newest_ms(now) == now - GRID_MS
    windows = source.windows(now - HOUR_MS, now)
    assert source.check(source.take(windows), windows) > 10_000
    ranges = [(now - HOUR_MS + row * 20_011, now - 600_000 - row * 7) for row in range(120)]
    shifted = [Window(each.series, *ranges[row]) for row, each in enumerate(windows[:120])]
    source.check(source.take(shifted), shifted)


def test_documents_of_every_form_count_as_they_should(node: OpenSearch) -> None:
    now, network = now_ms(), SimulatedNetwork([("devices/a/interfaces/b%2F1", 1), ("devices/a/interfaces/c", 1)])
    at = now - 600_000

    def document(start: object, identity: object = "a::b/1", service: object = None, **values: object) -> dict[str, Any]:
        meta = {"id": identity, "descr": "x", **({"service_type": service} if service else {})}
        return {"start": start, "@timestamp": now, "meta": meta, "values": values}

    traffic = {"in_bits": {"delta": 300, "rate": 10.25}}
    in_words = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime((at + 60_000) / 1000))
    node.fill([
        document(at, **traffic), {**document(at, **traffic), "@timestamp": now - 1},
        document(at + 30_000, **traffic), document(at + 30_000, in_bits={"delta": 600}, out_bits={"delta": 30}),
        document(in_words, in_bits={"delta": 45}),
        document(at + 90_000, ["a::b/1", "z::z"], in_bits={"rate": 1.5}),
        document(at + 120_000, service="vprn", in_bits={"rate": 7.0}),
        document(at + 120_000, service="ies", in_bits={"rate": 8.0}),
        document(at + 150_000, in_bits={"delta": None, "rate": None}), document(at + 180_000),
        document(None, **traffic),
        {"start": at + 210_000, "@timestamp": now, "meta.id": "a::b/1", "values.in_bits.rate": 3.5},
        document(at, "a::c", service="l3vpn", in_errors={"delta": 3}), document(at, "other::c", **traffic),
        document(at, "gone::c", service="vprn", **traffic), document(at, "no separator", **traffic),
    ])  # fmt: skip
    source = Source(node, network)
    intake = source.take(source.windows(now - HOUR_MS, now))
    assert intake.failures() == Counter()
    points = {(each.window.series.name[-1], each.window.series.record_type.value): each.points for each in intake.fetched}
    assert points == {
        ("1", "traffic"): [
            [at, 10.25, None], [at + 30_000, 30, 1], [at + 60_000, 2, None], [at + 90_000, 1.5, None], [at + 120_000, 8.0, None],
            [at + 210_000, 3.5, None],
        ],
        ("1", "errors"): [], ("1", "discards"): [], ("c", "traffic"): [], ("c", "errors"): [[at, 3, None]], ("c", "discards"): [],
    }  # fmt: skip
    listing = source.list(now)
    expected = ("a/interfaces/b%2F1", "a/interfaces/c", "other/interfaces/c", "z/interfaces/z")
    assert sorted(listing.interfaces) == [f"devices/{each}" for each in expected]
    assert listing.skipped == ("entry 'no separator': id without ::",)


def test_esnet_s_list_is_collected_whole(node: OpenSearch) -> None:
    now = now_ms()
    network = SimulatedNetwork.from_csv(LIST) if LIST.exists() else stardust_network(COUNT)
    source = filled(node, network, now - 300_000, now)
    listing = source.list(now)
    assert listing.skipped == ()
    assert set(listing.interfaces) == set(network.resources)
    windows = source.windows(now - 300_000, now)
    assert source.check(source.take(windows), windows) > 100_000
    assert sum(source.counters.get(Count.REQUESTS, each) for each in ("ok", "no_content")) <= 150


def test_more_than_10_000_documents_come_in_parts_and_halves(node: OpenSearch) -> None:
    now = now_ms()
    source = filled(node, SimulatedNetwork([(f"devices/a/interfaces/{each}", 10) for each in range(60)]), now - 6 * HOUR_MS, now)
    windows = source.windows(now - 6 * HOUR_MS, now)
    assert source.check(source.take(windows), windows) == 3 * 60 * 720
    lonely = filled(node, SimulatedNetwork([("devices/lonely/interfaces/b", 10)]), now - 100 * HOUR_MS, now)
    windows = lonely.windows(now - 100 * HOUR_MS, now)
    assert lonely.check(lonely.take(windows), windows) == 3 * 12_000


def test_the_largest_query_that_is_made_is_one_that_the_engine_takes(node: OpenSearch, monkeypatch: pytest.MonkeyPatch) -> None:
    now = now_ms()
    source = filled(node, stardust_network(1), now - 300_000, now)
    names = [f"devices/a-long-name-of-a-device-{number}/interfaces/b%2F1%2Fc" for number in range(groups.INTERFACES)]
    ranges = [now - 9 * HOUR_MS + number * 300_000 for number in range(groups.CLAUSES)]
    windows = [Window(Series(row, name, RecordType.TRAFFIC), ranges[row % len(ranges)], now) for row, name in enumerate(names)]
    monkeypatch.setattr(groups, "UNKNOWN", 1.0)
    assert source.check(_without_network(source.take(windows)), []) == 0
    assert source.counters.get(Count.REQUESTS, "ok") == 1


def _without_network(intake: Intake) -> Intake:
    """An intake whose windows all came without points."""
    assert all(not each.points and each.failure is None for each in intake.fetched)
    intake.fetched.clear()
    return intake


def test_what_is_beyond_the_engine_s_limits_is_a_failure(node: OpenSearch) -> None:
    ids = [f"a::{number}" for number in range(65_537)]
    now = now_ms()
    source = filled(node, stardust_network(4), now - 300_000, now)
    with pytest.raises(FaultError, match="status 400"):
        source._search.ask(queries.points([queries.Clause(now - 300_000, now, (RecordType.TRAFFIC,), ids)]), FOREVER)
    page = json.loads(queries.listing(now))
    page["aggs"]["interfaces"]["composite"]["size"] = 65_536
    with pytest.raises(FaultError, match="status"):
        source._search.ask(json.dumps(page).encode(), FOREVER)


def test_an_index_that_is_gone_or_closed_is_a_failure(node: OpenSearch) -> None:
    now = now_ms()
    source = filled(node, stardust_network(4), now - 300_000, now)
    windows = source.windows(now - 300_000, now)
    node.ask("POST", f"/{INDEX}/_close")
    assert "closed" in next(iter(source.take(windows).failures()))
    with pytest.raises(AnswerError):
        source.list(now)
    node.ask("POST", f"/{INDEX}/_open?wait_for_active_shards=all")
    source.check(source.take(windows), windows)
    node.remove()
    assert "no such index" in next(iter(source.take(windows).failures()))
    with pytest.raises(AnswerError):
        source.list(now)


def test_an_alias_of_which_a_part_cannot_answer_is_a_failure_and_not_the_rest(
    node: OpenSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = now_ms()
    network = stardust_network(4)
    filled(node, network, now - 300_000, now)
    broken = json.loads(json.dumps(MAPPING))
    broken["mappings"]["properties"]["start"] = {"type": "text"}
    node.make("broken", **broken)
    node.ask("POST", "/_aliases", {"actions": [{"add": {"index": each, "alias": "both"}} for each in (INDEX, "broken")]})
    source = Source(node, network, "both")
    windows = source.windows(now - 300_000, now)
    try:
        assert len(source.take(windows).failures()) == 1
        # even if an engine gave what is left: then it comes with status 200
        monkeypatch.setattr(queries, "PARAMETERS", queries.PARAMETERS.replace("allow_partial_search_results=false", "x=y")[:0])
        assert "of 10 shards 5 answered" in next(iter(source.take(windows).failures()))
    finally:
        node.remove("broken")


def test_a_breaker_that_trips_is_a_failure_of_its_windows(node: OpenSearch) -> None:
    now = now_ms()
    source = filled(node, stardust_network(8), now - 300_000, now)
    windows = source.windows(now - 300_000, now)
    node.ask("PUT", "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": "400b"}})
    try:
        intake = source.take(windows)
        assert intake.fetched
        assert "Data too large" in next(iter(intake.failures()))
        assert all(each.failure for each in intake.fetched)
    finally:
        node.ask("PUT", "/_cluster/settings", {"transient": {"network.breaker.inflight_requests.limit": None}})
    source.check(source.take(windows), windows)


def test_a_node_that_is_killed_in_the_middle_loses_nothing(node: OpenSearch, tmp_path: Path) -> None:
    now = now_ms()
    network = stardust_network(400)
    node.fill(whole_documents(SimulatedIndex(network), now - 1_800_000, now + 600_000))
    node.ask("POST", f"/{INDEX}/_flush")
    with StardustRig(network, SqliteTable(tmp_path / "table.sqlite"), directory=tmp_path, INITIAL_LOOKBACK=1200) as rig:
        collector = rig.start("run", STARDUST_URL=node.url, POLL_INTERVAL=2, STARDUST_TIMEOUT=5)
        collector.wait_for(lambda: collector.stdout.count("\n") > 1000, what="the first points")
        node.kill()
        collector.wait_for_log("Stardust is not available", timeout_s=90)
        node.start()
        collector.wait_for_log("Stardust is available again", timeout_s=90)
        collector.wait_for_cycles(2, timeout_s=90)
        collector.signal(signal.SIGKILL)
        counts = rig.check()
        assert counts.points > 10_000


def test_queries_at_once_see_each_one_s_own_answer(node: OpenSearch) -> None:
    now = now_ms()
    source = filled(node, stardust_network(100), now - 900_000, now)
    windows = source.windows(now - 900_000, now)
    intakes = [Intake() for _ in range(3)]
    threads = [threading.Thread(target=source.fetch, args=(windows, each, FOREVER)) for each in intakes]
    for each in threads:
        each.start()
    for each in threads:
        each.join(120)
    for intake in intakes:
        source.check(intake, windows)
    assert id_of(source.network.resources[0]).count("::") == 1


def test_a_query_that_the_engine_does_not_know_is_refused(node: OpenSearch) -> None:
    with pytest.raises(urllib.error.HTTPError):
        node.ask("POST", f"/{INDEX}/_search", {"query": {"nonsense": {}}})
