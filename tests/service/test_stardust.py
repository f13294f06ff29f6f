"""Stardust over a real connection: listings, groups of windows, every way in which an answer is none, outages and their end."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from collector.config.systems import Secret, StardustSettings
from collector.core.contracts import Fetched
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.model import RecordType, Series, Window
from collector.core.shutdown import Stop
from collector.source.http import client
from collector.source.http.memory import ByteBudget
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.stardust import INDEX, id_of
from collector.source.simulated.stardust_server import Reply
from collector.source.stardust import api, pages, queries
from collector.source.stardust.api import Stardust
from tests.rig.stardust import stardust_network
from tests.simulation.stardust import FaultyStardust

T0 = 1_764_000_000_000
NOW_MS = T0 + 3_600_000
MINUTES_15 = 900_000
DAY_MS = 86_400_000
FOREVER = float("inf")
Distort = Callable[[dict[str, Any], bytes], Reply | bytes | None]


class Intake:
    """Implements contracts.Intake: admits up to `most` at a time, and `left` in all."""

    def __init__(self, most: int = 10**6, left: int = 10**6) -> None:
        self.most, self.left = most, left
        self.admitted: list[Window] = []
        self.released: list[Window] = []
        self.fetched: list[Fetched] = []
        self.wanted: Sequence[Window] = ()
        """What the fetch was called with."""
        self._lock = threading.Lock()

    def admit(self, windows: Sequence[Window]) -> int:
        with self._lock:
            count = min(len(windows), self.most, self.left)
            self.left -= count
            self.admitted += windows[:count]
        return count

    def release(self, windows: Sequence[Window]) -> None:
        self.released += windows

    def deliver(self, fetched: Fetched) -> None:
        self.fetched.append(fetched)

    def failures(self) -> Counter[str]:
        return Counter(each.failure for each in self.fetched if each.failure is not None)

    def failed(self) -> set[str]:
        return {each.window.series.name for each in self.fetched if each.failure is not None}

    def check(self) -> None:
        """Everything that was admitted has one answer or was released, and no series is to be asked for less."""
        answered = [each.window for each in self.fetched]
        assert Counter(map(id, self.admitted)) == Counter(map(id, [*answered, *self.released]))
        assert not any(each.shorten for each in self.fetched if each.failure is not None)


class Source(Stardust):
    """With its Stop, its Counters and the simulation at hand."""

    def __init__(self, server: FaultyStardust, **changed: Any) -> None:
        self.stop, self.counters, self.server = Stop(), Counters(), server
        once = changed.pop("once", False)
        settings = {"url": server.url, "index": INDEX, "timeout_s": 5, "concurrency": 4, **changed}
        super().__init__(StardustSettings(**settings), stop=self.stop, counters=self.counters, once=once)

    def windows(self, begin_ms: int = T0, end_ms: int = T0 + MINUTES_15) -> list[Window]:
        names = self.server.index.network.resources
        return [Window(Series(row, name, each), begin_ms, end_ms) for row, name in enumerate(names) for each in RecordType]

    def take(self, windows: Sequence[Window] | None = None, intake: Intake | None = None, until: float = FOREVER) -> Intake:
        intake = intake or Intake()
        intake.wanted = self.windows() if windows is None else windows
        self.fetch(intake.wanted, intake, until)
        intake.check()
        return intake

    def check(self, intake: Intake, but: set[str] | None = None) -> None:
        """All windows came with exactly the network's points; those of the interfaces in `but` failed."""
        assert Counter(intake.wanted) == Counter(each.window for each in intake.fetched)
        assert intake.failed() == (but or set())
        for each in intake.fetched:
            if each.failure is None:
                window = each.window
                network = self.server.index.network
                expected = network.expected_points(window.series.name, window.series.record_type, window.begin_ms, window.end_ms)
                assert each.points == [list(point) for point in expected], window


Make = Callable[..., Source]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(client, "RETRY_DELAYS_S", (0.005, 0.01))
    monkeypatch.setattr(api, "PROBE_FIRST_S", 0.01)
    monkeypatch.setattr(api, "PROBE_MOST_S", 0.1)
    sources = []

    def build(interfaces: int | SimulatedNetwork = 24, **changed: Any) -> Source:
        network = stardust_network(interfaces) if isinstance(interfaces, int) else interfaces
        sources.append(Source(FaultyStardust(network, clock=lambda: NOW_MS).start(), **changed))
        return sources[-1]

    yield build
    for source in sources:
        source.stop.set()
        source.close()
        source.server.stop()


def points_only(distort: Distort) -> Distort:
    """Distort the answers to queries for points."""
    return lambda body, answer: None if "aggs" in body else distort(body, answer)


def asked(body: dict[str, Any]) -> set[str]:
    """The ids that a query for points names."""
    clauses = body["query"]["bool"]["filter"][0]["bool"]["should"]
    return {each for clause in clauses for each in clause["bool"]["filter"][0]["terms"]["meta.id"]}


def changed(**keys: Any) -> Distort:
    """Answers with these keys in place of their own."""
    return lambda _, answer: json.dumps(json.loads(answer) | keys).encode()


def test_the_listing_comes_in_pages_and_is_netbeam_s(make: Make) -> None:
    source = make(2345)
    source.list(NOW_MS)
    before = source.server.counts["listing"]
    listing = source.list(NOW_MS)
    network = source.server.index.network
    assert set(listing.interfaces) == set(network.resources)
    assert (listing.time_ms, listing.skipped, listing.clock_ahead_s) == (NOW_MS, (), 0.0)
    assert before <= 6
    # in two parts of more than a page each
    assert source.server.counts["listing"] - before == 4
    name = network.resources[0]
    simulated, listed = network.interface(name), listing.interfaces[name]
    assert listed.keys() == simulated.keys()
    same = ("namespace", "resource", "name", "device", "ifIndex", "description", "speed", "vlan", "remotePort", "ipv4")
    assert {key: listed[key] for key in same} == {key: simulated[key] for key in same}


def test_fields_with_dots_in_their_names_make_the_same_listing(make: Make) -> None:
    def with_dots(_: dict[str, Any], answer: bytes) -> bytes:
        value = json.loads(answer)
        for bucket in value["aggregations"]["interfaces"]["buckets"]:
            hit = bucket["newest"]["hits"]["hits"][0]
            hit["_source"] = {f"meta.{name}": field for name, field in hit["_source"]["meta"].items()}
        return json.dumps(value).encode()

    source = make(5)
    listed = source.list(NOW_MS).interfaces
    source.server.distort = with_dots
    assert source.list(NOW_MS).interfaces == listed


def test_pages_do_not_wait_for_each_other_s_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # one answer at a time, and of each part of the listing more than one
    monkeypatch.setattr(client, "ByteBudget", lambda: ByteBudget(2**19))
    monkeypatch.setattr(queries, "PAGE", 200)
    source = make(2345, timeout_s=10)
    assert len(source.list(NOW_MS).interfaces) == 2345


def test_a_bad_entry_spoils_no_other(make: Make) -> None:
    source = make(5)

    def with_bad_entries(_: dict[str, Any], answer: bytes) -> bytes:
        value = json.loads(answer)
        good = value["aggregations"]["interfaces"]["buckets"]
        if not good:
            return answer
        bad = [{"key": {"id": each}, "newest": good[0]["newest"]} for each in ("a separator lacks", "a::..", 7, None, "aä::b")]
        value["aggregations"]["interfaces"]["buckets"] = [None, {}, {"key": {"id": "a::b"}}, *bad, *good]
        return json.dumps(value).encode()

    source.server.distort = with_bad_entries
    listing = source.list(NOW_MS)
    assert (len(listing.interfaces), len(listing.skipped)) == (5, 8)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (changed(_shards={"total": 5, "successful": 4, "failed": 1}), AnswerError),
        (changed(timed_out=True), AnswerError),
        (changed(aggregations={}), AnswerError),
        (changed(aggregations={"interfaces": {"buckets": []}}), AnswerError),
        (lambda *_: Reply(404, b"{}"), AnswerError),
        (lambda *_: Reply(401, b""), AnswerError),
        (lambda *_: Reply(503, b"{}"), UnavailableError),
        (lambda *_: Reply(200, None), UnavailableError),
        (lambda *_: b"<html>", UnavailableError),
    ],
)
def test_a_listing_that_is_not_whole_is_a_failure(make: Make, answer: Distort, error: type[CollectorError]) -> None:
    source = make()
    source.server.distort = answer
    with pytest.raises(error):
        source.list(NOW_MS)


def test_a_page_that_repeats_itself_ends_the_listing(make: Make) -> None:
    source = make(1200)
    first = source.server.index.search({"aggs": {"interfaces": {"composite": {"size": 1000}}}}, NOW_MS)
    source.server.distort = lambda *_: first
    with pytest.raises(AnswerError, match="no end"):
        source.list(NOW_MS)


def test_a_listing_that_has_no_end_or_no_measure_does_not_fill_the_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(4, timeout_s=60)
    meta = {"descr": "x" * 400, "ipv4": {"deep": "y"}}
    number = [0]

    def endless(body: dict[str, Any], answer: bytes) -> bytes:
        number[0] += 1
        ids = [f"{'abcd'[number[0] % 4]}{number[0]}::{each:04}" for each in range(1000)]
        found = [{"key": {"id": each}, "newest": {"hits": {"hits": [{"_source": {"meta": meta}}]}}} for each in ids]
        page = {"interfaces": {"buckets": found, "after_key": {"id": ids[-1]}}}
        return json.dumps(json.loads(answer) | {"aggregations": page}).encode()

    source.server.distort = endless
    monkeypatch.setattr(pages, "MOST_TEXT", 1_000_000)
    with pytest.raises(AnswerError, match="million characters"):
        source.list(NOW_MS)
    monkeypatch.setattr(pages, "MOST_ENTRIES", 5000)
    with pytest.raises(AnswerError, match="over 5000 entries"):
        source.list(NOW_MS)
    assert number[0] < 40


def test_a_few_queries_bring_every_series_its_points(make: Make) -> None:
    source = make(200)
    windows = source.windows()
    windows.sort(key=lambda window: hash(window.series.name + window.series.record_type))
    source.check(source.take(windows))
    assert source.server.counts["points"] == 2
    assert source.counters.get(Count.DOCUMENTS_DROPPED) == 0


def test_series_whose_checkpoints_differ_get_what_each_lacks(make: Make) -> None:
    source = make(12)
    ranges = ((T0 + 61_001, T0 + 300_000), (T0 + 45_000, T0 + 900_000), (T0 - 7_200_000, T0 + 1))
    windows = [Window(each.series, *ranges[number % 3]) for number, each in enumerate(source.windows())]
    source.check(source.take(windows))


def test_a_window_of_a_name_that_stardust_cannot_have_has_no_points(make: Make) -> None:
    source = make(1)
    by_hand = Window(Series(9, "by-hand", RecordType.TRAFFIC), T0, T0 + MINUTES_15)
    intake = source.take([by_hand])
    assert [(each.window, each.points, each.failure) for each in intake.fetched] == [(by_hand, (), None)]
    assert source.take([by_hand], Intake(left=0)).fetched == []


def test_twins_are_merged_and_services_left_out(make: Make) -> None:
    source = make(SimulatedNetwork([("devices/a/interfaces/b", None)]))
    first = {"start": T0, "meta": {"id": "a::b"}, "values": {"in_bits": {"delta": 300, "rate": 10.0}}}
    other = {"start": T0, "meta": {"id": "a::b"}, "values": {"in_bits": {"delta": 600, "rate": 20.0}}}
    service = {"start": T0, "meta": {"id": "a::b", "service_type": "vprn"}, "values": {"in_bits": {"delta": 9999}}}
    allowed = {"start": T0 + 30_000, "meta": {"id": ["a::b", "c::d"], "service_type": "ies"}, "values": {"in_bits": {"delta": 3}}}
    source.server.index.more = (first, other, first, service, allowed)
    assert source.take().fetched[0].points == [[T0, 30, None], [T0 + 30_000, 0, None]]


FAILURES: dict[str, Distort] = {
    "timed out": changed(timed_out=True),
    "terminated early": changed(terminated_early=True),
    "a failed shard": changed(_shards={"total": 5, "successful": 4, "skipped": 0, "failed": 1}),
    "no shards": changed(_shards={"total": 0, "successful": 0, "skipped": 0, "failed": 0}),
    "a missing shard": changed(_shards={"total": 5, "successful": 4, "skipped": 0, "failed": 0}),
    "inexact": changed(hits={"total": {"value": 0, "relation": "gte"}, "hits": []}),
    "fewer than counted": changed(hits={"total": {"value": 7, "relation": "eq"}, "hits": []}),
    "more than counted": changed(hits={"total": {"value": 0, "relation": "eq"}, "hits": [{}]}),
    "without hits": lambda *_: b'{"took":1,"timed_out":false,"_shards":{"total":1,"successful":1,"failed":0}}',
    "no index": lambda *_: Reply(404, b'{"error":{"reason":"no such index"},"status":404}'),
    "no login": lambda *_: Reply(401, b""),
    "forbidden": lambda *_: Reply(403, b"{}"),
    "too many requests": lambda *_: Reply(429, b""),
    "unavailable": lambda *_: Reply(503, b"{}"),
    "breaker": lambda *_: Reply(400, b'{"error":{"type":"circuit_breaking_exception","reason":"Data too large"}}'),
    "rejected": lambda *_: Reply(400, b'{"error":{"type":"es_rejected_execution_exception"}}'),
    "a redirect": lambda *_: Reply(302, b"", (("Location", "http://127.0.0.1:1/"),)),
    "no content": lambda *_: Reply(204, b""),
    "a page": lambda *_: b"<html>",
    "null": lambda *_: b"null",
    "cut off": lambda *_: Reply(200, b'{"took":1'),
    "hung up": lambda *_: Reply(200, None),
}


@pytest.mark.parametrize("fault", FAILURES)
def test_what_is_no_whole_answer_is_never_no_points(make: Make, fault: str) -> None:
    source = make(2, concurrency=1, once=True)
    source.server.distort = points_only(FAILURES[fault])
    intake = source.take()
    assert intake.fetched
    assert all(each.failure for each in intake.fetched)
    source.server.distort = None
    source.check(source.take())


@pytest.mark.parametrize("fault", ["too many requests", "breaker", "rejected", "timed out"])
def test_what_is_too_much_is_asked_for_in_halves_and_fails_alone(make: Make, fault: str) -> None:
    source = make(64)
    bad = source.server.index.network.resources[40]
    source.server.distort = points_only(lambda body, answer: FAILURES[fault](body, answer) if id_of(bad) in asked(body) else None)
    source.check(source.take(), but={bad})
    assert 7 <= source.server.counts["points"] <= 3 * 13
    assert not source.outage.down


def test_a_refusal_that_makes_it_away_is_asked_for_in_halves_too(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "FAILURES", 1)
    source = make(8)
    bad = source.server.index.network.resources[5]
    refuse = FAILURES["breaker"]
    source.server.distort = points_only(lambda body, answer: refuse(body, answer) if id_of(bad) in asked(body) else None)
    source.check(source.take(), but={bad})


def test_a_timeout_is_asked_for_in_halves(make: Make) -> None:
    source = make(8, timeout_s=0.3)
    slow = id_of(source.server.index.network.resources[3])

    def wait(body: dict[str, Any], _: bytes) -> None:
        source.server.latency_s = 0.6 if slow in asked(body) and len(asked(body)) > 2 else 0

    source.server.distort = points_only(wait)
    source.check(source.take())
    assert source.server.counts["points"] >= 5


def test_an_answer_of_10_000_documents_is_asked_for_in_parts(make: Make) -> None:
    source = make(SimulatedNetwork([(f"devices/a/interfaces/{number}", 1000) for number in range(40)]))
    windows = source.windows(T0 - 3 * 3_600_000)
    source.check(source.take(windows))
    # 40 interfaces of 390 documents each: too many for one answer, and then in parts of what one query is to have
    assert source.server.counts["points"] > 4
    before = source.server.counts["points"]
    source.check(source.take(windows))
    assert source.server.counts["points"] - before == 5


def test_one_interface_s_10_000_documents_are_asked_for_in_halves_of_the_time(make: Make) -> None:
    source = make(SimulatedNetwork([("devices/a/interfaces/b", 1000)]))
    source.check(source.take(source.windows(T0 - 4 * DAY_MS)))
    assert source.server.counts["points"] == 3


def test_a_time_between_two_windows_of_an_interface_is_not_asked_for(make: Make) -> None:
    source = make(SimulatedNetwork([("devices/a/interfaces/b", 1000)]))
    early, late = source.windows(T0 - 16 * DAY_MS, T0 - 16 * DAY_MS + 3_600_000), source.windows(T0 - 4 * DAY_MS, T0)
    source.check(source.take([*early, *late]))
    assert source.server.counts["points"] == 5


def test_halves_of_the_time_do_not_wait_for_each_other_s_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # one answer at a time
    monkeypatch.setattr(client, "ByteBudget", lambda: ByteBudget(2**19))
    source = make(SimulatedNetwork([("devices/a/interfaces/b", 1000)]), timeout_s=4, once=True)
    source.check(source.take(source.windows(T0 - 8 * DAY_MS)))
    assert source.server.counts["points"] == 7


def test_more_documents_of_an_interface_than_memory_takes_ask_for_shorter_windows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MOST_OF_ONE", 11_000)
    source, intake = make(SimulatedNetwork([("devices/a/interfaces/b", 1000)])), Intake()
    source.fetch(source.windows(T0 - 4 * DAY_MS, T0), intake, FOREVER)
    assert intake.failures() == {"11520 documents of one interface": 3}
    assert all(each.shorten for each in intake.fetched)


def test_ten_thousand_documents_of_one_moment_are_a_failure(make: Make) -> None:
    source = make(1, once=True)
    source.server.distort = points_only(changed(hits={"total": {"value": 10_000, "relation": "eq"}, "hits": []}))
    intake = source.take(source.windows(T0, T0 + 3))
    assert len(intake.failures()) == 1


def test_a_document_without_an_id_costs_its_own_series_nothing_but_itself(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    source = make(SimulatedNetwork([(f"devices/a/interfaces/{number}", 1000) for number in range(16)]))
    broken = "a::11"

    def spoil(body: dict[str, Any], answer: bytes) -> bytes | None:
        if broken not in asked(body):
            return None
        value = json.loads(answer)
        value["hits"]["hits"].append({"_source": {"start": T0, "meta": {"id": None}, "values": {"in_bits": {"delta": 1}}}})
        value["hits"]["total"]["value"] += 1
        return json.dumps(value).encode()

    source.server.distort = points_only(spoil)
    source.check(source.take())
    assert source.counters.get(Count.DOCUMENTS_DROPPED) == 1
    assert [record.message for record in caplog.records] == [
        f"document of Stardust dropped reason=document without a usable meta.id start={T0}"
    ]
    assert source.server.counts["points"] == 9


def test_late_documents_come_when_their_window_is_asked_for_again(make: Make) -> None:
    source = make(16)
    source.server.index.withheld = lambda identity, start: start > T0 + 300_000
    assert max(point[0] for each in source.take().fetched for point in each.points) == T0 + 300_000  # type: ignore[index]
    source.server.index.withheld = None
    source.check(source.take())


def test_a_login_is_sent_and_its_refusal_is_a_failure(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    source = make(2, user="me", password=Secret(value="login-secret"), once=True, concurrency=1)
    source.server.distort = points_only(lambda *_: Reply(401, b'{"error":{"reason":"unable to authenticate user [me]"}}'))
    source.list(NOW_MS)
    intake = source.take()
    assert all("401" in text for text in intake.failures())
    assert "login-secret" not in caplog.text + str(intake.failures())
    assert source.server.logins == {"Basic bWU6bG9naW4tc2VjcmV0"}


def test_after_five_failed_queries_it_is_away_until_a_probe_succeeds(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    source = make(1000, concurrency=1)
    refused = threading.Event()
    left = [11]

    def fail(*_: object) -> Reply | None:
        left[0] -= 1
        if left[0] <= 0:
            return None
        refused.set()
        return Reply(404, b"{}")

    source.server.distort = points_only(fail)
    intake = source.take()
    assert not source.outage.down
    assert len({record.message.partition(" seconds")[0] for record in caplog.records}) == 2
    # five groups, and then five single interfaces
    assert 5 * 105 < len(intake.failed()) < 5 * 120 + 6
    source.check(intake, but=intake.failed())


def test_once_ends_its_fetch_when_it_is_away(make: Make) -> None:
    source = make(1000, concurrency=2, once=True)
    source.server.distort = points_only(lambda *_: Reply(503, b"{}"))
    intake = source.take()
    assert source.outage.down
    assert 0 < len(intake.fetched) < 3000
    assert source.server.counts["points"] <= 6 * 3


def test_an_outage_is_waited_for_no_longer_than_the_cycle(make: Make) -> None:
    source = make(1000)
    source.server.stop()
    began = time.monotonic()
    source.take(until=time.monotonic() + 1)
    assert time.monotonic() - began < 5
    assert source.outage.down
    source.server.start()
    source.check(source.take())
    assert not source.outage.down


def test_only_what_is_admitted_is_asked_for(make: Make) -> None:
    source = make(48)
    for most in (1, 7, 100):
        source.check(source.take(intake=Intake(most=most)))
    source.server.queries.clear()
    intake = source.take(intake=Intake(left=4))
    assert len(intake.fetched) == 4
    assert len(set().union(*map(asked, source.server.queries))) == 2
    assert source.take(intake=Intake(left=0)).fetched == []


def test_a_pause_beyond_the_cycle_ends_the_fetch(make: Make) -> None:
    source = make(1000)
    source.server.distort = points_only(lambda *_: Reply(429, b"", (("Retry-After", "600"),)))
    began = time.monotonic()
    intake = source.take(until=time.monotonic() + 60)
    assert time.monotonic() - began < 10
    assert intake.released
    assert not intake.fetched


def test_a_stop_ends_a_fetch_within_its_grace(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.core.shutdown.GRACE_S", 0.3)
    source = make(1000)
    source.server.latency_s = 30
    threading.Timer(0.2, source.stop.set).start()
    began = time.monotonic()
    source.fetch(source.windows(), Intake(), FOREVER)
    assert time.monotonic() - began < 3


def test_the_newest_document_and_its_absence_are_told(make: Make) -> None:
    source = make(1)
    assert source.newest_ms(NOW_MS) == NOW_MS
    source.server.distort = changed(hits={"total": {"value": 0, "relation": "eq"}, "hits": []})
    assert source.newest_ms(NOW_MS) is None


def test_a_clock_that_is_told_bounds_ours(make: Make) -> None:
    source = make(4)
    assert source.latest_ms(NOW_MS + 5) == NOW_MS + 5
    source.server.send_date = True
    listing = source.list(NOW_MS + 7_000)
    assert listing.time_ms == NOW_MS
    assert listing.clock_ahead_s == pytest.approx(7, abs=2)
    assert NOW_MS <= source.latest_ms(NOW_MS + 86_400_000) <= NOW_MS + 5_000
    early = source.take(source.windows(T0, NOW_MS + 60_000))
    assert set(early.failures()) == {"our clock is ahead of Stardust's, is NTP running?"}
    with pytest.raises(AnswerError, match="more than a day"):
        source.list(NOW_MS + 90_000_000)
