"""What Netbeam's answers mean, without a server: the client is replaced by a script of answers."""

import time
from typing import Any

import pytest

from collector.core.contracts import Fetched
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.model import RecordType, Series, Window
from collector.core.shutdown import Stop
from collector.source.http.client import Answer, FailingError, RefusedError
from collector.source.http.turns import NotAskedError
from collector.source.netbeam.api import Netbeam
from tests.fakes import FakeIntake

NOW = 1_795_521_600_000
WINDOW = Window(Series(1, "devices/a/interfaces/1%2F1", RecordType.ERRORS), NOW - 900_000, NOW)


class ScriptedClient:
    """Gives one answer to all questions, and remembers them."""

    def __init__(self, answer: Answer | CollectorError) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.resumed = 0
        self.last_seen: tuple[int, float] | None = None

    def request(self, path: str, query: str = "", **_: Any) -> Answer:
        self.asked.append(path + query)
        if isinstance(self.answer, CollectorError):
            raise self.answer
        if self.answer.server_ms:
            self.last_seen = self.answer.server_ms, time.monotonic()
        return self.answer

    def resume(self) -> None:
        self.resumed += 1


def netbeam(answer: Answer | CollectorError) -> tuple[Netbeam, ScriptedClient]:
    source = Netbeam("http://netbeam.invalid/api", concurrency=2, rate=0, timeout_s=1, stop=Stop(), counters=Counters())
    client = ScriptedClient(answer)
    source._client = client  # type: ignore[assignment]
    return source, client


def listing(value: Any, server_ms: int | None = None) -> Answer:
    return Answer(200, value, server_ms)


def fetched(answer: Answer | CollectorError) -> Fetched:
    source, client = netbeam(answer)
    got: list[Fetched] = []
    source.fetch([WINDOW], FakeIntake(lambda _: True, lambda _: None, got.append), float("inf"))
    assert client.asked == [f"/devices/a/interfaces/1%2F1/errors?begin={NOW - 900_001}&end={NOW}"]
    assert [each.window for each in got] == [WINDOW]
    return got[0]


@pytest.mark.parametrize(
    ("status", "value"), [(404, None), (204, None), (200, None), (200, {"points": []}), (200, {"points": None, "new": 1})]
)
def test_no_points_in_each_of_its_forms_is_an_answer_without_points(status: int, value: Any) -> None:
    answer = fetched(Answer(status, value, None))
    assert answer.failure is None
    assert not list(answer.points)


@pytest.mark.parametrize(
    ("value", "failure"),
    [
        ({}, "answer without points"),
        ({"point": []}, "answer without points"),
        ({"points": {}}, "points is an object, not an array"),
        ({"points": "[]"}, "points is a text, not an array"),
        ({"points": False}, "points is a boolean, not an array"),
        ([], "answer is an array, not an object"),
        ("", "answer is a text, not an object"),
        (0, "answer is a number, not an object"),
    ],
)
def test_other_answers_are_failures(value: Any, failure: str) -> None:
    assert fetched(Answer(200, value, None)).failure == failure


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(200, {"a": 1}, None, beginning=b"{'a': '\x1b'}"), "listing is an object, not an array: '{'a': '\\x1b'}'"),
        (Answer(200, None, None), "listing is null, not an array"),
        (FailingError("status 500", 500, " out of\nmemory"), "status 500: 'out of\\nmemory'"),
        (FailingError("status 500", 500, ""), "status 500"),
        (RefusedError("status 401", 401, "x" * 1000), f"status 401: '{'x' * 79}…'"),
    ],
)
def test_listing_that_is_none_shows_what_came_instead(answer: Answer | CollectorError, said: str) -> None:
    source, _ = netbeam(answer)
    with pytest.raises(CollectorError) as caught:
        source.list(NOW)
    assert str(caught.value) == said
    assert isinstance(caught.value, AnswerError) is not isinstance(answer, FailingError)


def test_points_arrive_as_they_are_however_odd() -> None:
    points = [[1, 2], None, "x", [NOW, float("nan"), {}]]
    assert fetched(Answer(200, {"points": points}, None)).points is points


@pytest.mark.parametrize("error", [UnavailableError("status 503"), AnswerError("status 403")])
def test_error_of_a_request_is_the_windows_failure(error: CollectorError) -> None:
    assert fetched(error).failure == str(error)


def test_listing_keeps_the_first_of_one_resource_and_counts_the_doubles() -> None:
    entries = [{"resource": "devices/a", "n": 1}, {"resource": "devices/A"}, {"resource": "devices/a", "n": 2}]
    source, client = netbeam(listing(entries))
    result = source.list(NOW)
    assert list(result.interfaces) == ["devices/a", "devices/A"]
    assert result.interfaces["devices/a"]["n"] == 1
    assert result.skipped == ()
    assert source._counters.get(Count.LISTING_ENTRIES_SKIPPED) == 1
    assert client.asked == ["/interfaces"]
    assert client.resumed == 1


def test_entry_that_cannot_be_collected_is_skipped_with_its_index_its_resource_and_its_fault() -> None:
    resources = [7, "a b" + "\n" * 200, "x/../y", "good"]
    entries: list[Any] = [None, {}, *({"resource": resource} for resource in resources), []]
    source, _ = netbeam(listing(entries))
    result = source.list(NOW)
    assert list(result.interfaces) == ["good"]
    assert [line.split(":")[0].split(" ")[:2] for line in result.skipped] == [["entry", str(n)] for n in (0, 1, 2, 3, 4, 6)]
    assert result.skipped[4] == "entry 4 'x/../y': resource with a segment . or .."
    assert all(len(line.splitlines()) == 1 and len(line) < 300 for line in result.skipped)


@pytest.mark.parametrize("value", [[], None, {}, "", 7, [1, 2], [{}], [{"resource": ""}], {"interfaces": [{"resource": "a"}]}])
def test_listing_without_a_usable_entry_is_an_answer_error_and_no_outage(value: Any) -> None:
    source, _ = netbeam(listing(value))
    with pytest.raises(AnswerError, match="listing"):
        source.list(NOW)
    assert not source.outage.down


def test_listing_that_cannot_be_had_is_an_outage_until_it_can() -> None:
    source, client = netbeam(UnavailableError("status 503"))
    with pytest.raises(UnavailableError):
        source.list(NOW)
    assert source.outage.down
    assert source.outage.last_error == "listing: status 503"
    client.answer = listing([{"resource": "a"}])
    source.list(NOW)
    assert not source.outage.down


def test_listing_that_the_stop_prevents_is_no_outage() -> None:
    source, _ = netbeam(NotAskedError("not asked: the collector stops"))
    source._stop.set()
    with pytest.raises(UnavailableError):
        source.list(NOW)
    assert not source.outage.down


def test_listing_that_works_does_not_end_an_outage_of_the_points() -> None:
    source, client = netbeam(UnavailableError("status 503"))
    windows = [Window(Series(n, f"devices/{n}", RecordType.TRAFFIC), NOW - 900_000, NOW) for n in range(30)]
    source._workers._once = True
    source.fetch(windows, FakeIntake(lambda _: True, lambda _: None, lambda _: None), float("inf"))
    assert source.outage.down
    client.answer = listing([{"resource": "a"}])
    source.list(NOW)
    assert source.outage.down
    client.answer = Answer(404, None, None)
    source.fetch(windows, FakeIntake(lambda _: True, lambda _: None, lambda _: None), float("inf"))
    assert not source.outage.down


@pytest.mark.parametrize(
    ("ahead_ms", "time_ms"), [(0, NOW), (90_000, NOW), (-90_000, NOW - 90_000), (-500, NOW - 500), (500, NOW)]
)
def test_listings_time_is_the_earlier_of_both_clocks(ahead_ms: int, time_ms: int) -> None:
    source, _ = netbeam(listing([{"resource": "a"}], NOW))
    result = source.list(NOW + ahead_ms)
    assert result.time_ms == min(NOW, NOW + ahead_ms) == time_ms
    assert result.clock_ahead_s == pytest.approx(ahead_ms / 1000, abs=0.5)


def test_listing_without_a_date_has_our_time() -> None:
    source, _ = netbeam(listing([{"resource": "a"}]))
    assert source.list(NOW).time_ms == NOW
    assert source.list(NOW).clock_ahead_s == 0
    assert source.latest_ms(NOW + 5) == NOW + 5


def test_clock_of_a_machine_that_has_just_come_up_fails_the_listing_alone() -> None:
    source, _ = netbeam(listing([{"resource": "a"}], NOW))
    with pytest.raises(AnswerError, match="our clock is wrong, is NTP running"):
        source.list(86_400_000)


@pytest.mark.parametrize("apart_ms", [-86_461_000, 86_461_000, -NOW, -2 * NOW])
def test_listing_dated_more_than_a_day_from_our_clock_is_a_failure_that_says_so(apart_ms: int) -> None:
    source, _ = netbeam(listing([{"resource": "a"}], NOW + apart_ms))
    with pytest.raises(AnswerError, match=r"listing is dated .* more than a day from our clock"):
        source.list(NOW)


def test_listing_of_too_many_entries_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.source.netbeam.api.MOST_ENTRIES", 2)
    source, _ = netbeam(listing([{"resource": each} for each in "abc"]))
    with pytest.raises(AnswerError, match="listing of 3 entries, at most 2"):
        source.list(NOW)


def test_answer_with_more_points_than_the_grid_allows_is_a_failure() -> None:
    most = 40 * WINDOW.grid_points
    assert fetched(Answer(200, {"points": [[1, 2, 3]] * most})).failure is None
    failure = fetched(Answer(200, {"points": [[1, 2, 3]] * (most + 1)})).failure
    assert failure == f"{most + 1} points, {most} at the most can be right"


def test_the_date_of_a_failed_answer_tells_netbeams_time_too() -> None:
    source, client = netbeam(UnavailableError("status 503"))
    client.last_seen = NOW, time.monotonic()
    assert NOW <= source.latest_ms(NOW + 3_600_000) < NOW + 60_000


@pytest.mark.parametrize(("ahead_ms", "failed"), [(0, False), (1, True), (3_600_000, True)])
def test_a_window_that_ends_later_than_netbeams_clock_is_no_answer(ahead_ms: int, failed: bool) -> None:
    source, _ = netbeam(Answer(200, {"points": []}, NOW))
    window = Window(WINDOW.series, WINDOW.begin_ms, NOW + ahead_ms)
    got: list[Fetched] = []
    source.fetch([window], FakeIntake(lambda _: True, lambda _: None, got.append), float("inf"))
    assert [each.failure is not None for each in got] == [failed]


def test_netbeams_clock_is_counted_on_while_later_listings_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    source, client = netbeam(listing([{"resource": "a"}], NOW))
    source.list(NOW + 7_200_000)
    client.answer = UnavailableError("status 503")
    clock[0] += 900
    with pytest.raises(UnavailableError):
        source.list(NOW + 8_100_000)
    assert source.latest_ms(NOW + 8_100_000) == NOW + 900_000
    assert source.latest_ms(NOW) == NOW
