"""What the simulated Netbeam does wrong: nothing of it loses a point, and each fault strikes where it is told to."""

import json
import math
from typing import Any

import pytest

from collector.core.model import RecordType, resource_fault
from collector.source.http.body import Limits, json_value
from collector.source.http.memory import ByteBudget, Reservation
from collector.source.simulated.netbeam import encoded_points
from collector.source.simulated.network import SimulatedNetwork
from tests.simulation import content
from tests.simulation.delivery import Answer, Delivery
from tests.simulation.faults import Fault, Kind

NOW_MS = 1_764_000_000_000
NETWORK = SimulatedNetwork.synthetic(24)
NAME = next(name for name in NETWORK.resources if not NETWORK.silent(name))
BEGIN_MS, END_MS = NOW_MS - 900_000, NOW_MS
POINTS = NETWORK.expected_points(NAME, RecordType.TRAFFIC, BEGIN_MS, END_MS)
GOOD = Answer(body=encoded_points(POINTS))
ADDING = (Kind.SHORT_POINTS, Kind.BAD_VALUES, Kind.BAD_TIMES, Kind.HUGE_NUMBERS, Kind.OUTSIDE, Kind.DOUBLED, Kind.SHUFFLED)


def publishable(points: list[Any]) -> list[tuple[Any, ...]]:
    """What may be published, told again in the plainest way."""

    def number(value: Any) -> bool:
        return value is None or (type(value) in (int, float) and math.isfinite(value) and -(2**63) <= value < 2**63)

    kept: dict[int, tuple[Any, ...]] = {}
    for point in points:
        if isinstance(point, list) and len(point) >= 3 and type(point[0]) is int and all(map(number, point[1:3])):
            kept.setdefault(point[0], tuple(point[:3]))
    return [kept[time] for time in sorted(kept) if BEGIN_MS <= time < END_MS]


@pytest.mark.parametrize("kind", ADDING)
@pytest.mark.parametrize("count", [len(POINTS), 1])
def test_wrong_points_come_with_all_the_good_ones(kind: Kind, count: int) -> None:
    answer = Fault(kind=kind).apply(GOOD, POINTS[:count], BEGIN_MS - 1, END_MS)
    received = json.loads(answer.body)["points"]
    assert publishable(received) == POINTS[:count]
    assert count == 1 or received != json.loads(GOOD.body)["points"]


def test_points_that_no_parser_takes_come_with_all_the_good_ones() -> None:
    body = Fault(kind=Kind.LONG_NUMBERS).apply(GOOD, POINTS, BEGIN_MS, END_MS).body
    with pytest.raises(ValueError, match="integer"):
        json.loads(body)
    assert publishable(json_value(body, Limits(len(body)), Reservation(ByteBudget(), 0))["points"]) == POINTS


def test_every_fault_changes_the_answer() -> None:
    quick = [kind for kind in Kind if kind not in (Kind.OVERSIZE, Kind.GZIP_BOMB)]
    assert [kind for kind in quick if Fault(kind=kind).apply(GOOD, POINTS, BEGIN_MS, END_MS) == GOOD] == []


@pytest.mark.parametrize("kind", [Kind.INVALID_JSON, Kind.CUT_JSON, Kind.DEEP_JSON, Kind.NOT_UTF8, Kind.HTML])
def test_an_unreadable_body_cannot_be_read(kind: Kind) -> None:
    answer = Fault(kind=kind).apply(GOOD, POINTS, BEGIN_MS, END_MS)
    with pytest.raises((ValueError, RecursionError)):
        json.loads(answer.body)


def test_a_status_comes_with_its_retry_after() -> None:
    head = Fault(kind=Kind.STATUS, status=429, retry_after="7").apply(GOOD, POINTS, BEGIN_MS, END_MS).head("today")
    assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 7\r\n" in head
    assert b"\r\nDate: today\r\n" in head


def test_a_head_fits_its_body() -> None:
    assert b"\r\nContent-Length: 3\r\n\r\n" in Answer(body=b"abc").head("")
    assert b"Content-Length" not in Answer(204).head("")
    assert b"Transfer-Encoding: chunked" in Answer(body=b"abc", delivery=Delivery.CHUNKED).head("")


def struck(fault: Fault, name: str = NAME, record_type: RecordType = RecordType.TRAFFIC, length_ms: int = 900_000) -> bool:
    return fault.strikes(name, record_type, length_ms)


def test_a_fault_strikes_only_where_it_is_told_to() -> None:
    device = NAME.split("/")[1]
    assert struck(Fault(kind=Kind.RESET))
    assert struck(Fault(kind=Kind.RESET, resources={NAME}, device=device, record_types={RecordType.TRAFFIC}, longer_than_s=899))
    assert not struck(Fault(kind=Kind.RESET, resources={NAME + "0"}))
    assert not struck(Fault(kind=Kind.RESET, device=device[:-1]))
    assert not struck(Fault(kind=Kind.RESET, record_types={RecordType.ERRORS}))
    assert not struck(Fault(kind=Kind.RESET, longer_than_s=900))


def test_a_fault_strikes_the_first_tries_of_each_series() -> None:
    fault = Fault(kind=Kind.RESET, tries=2)
    assert [struck(fault) for _ in range(4)] == [True, True, False, False]
    assert struck(fault, record_type=RecordType.ERRORS)
    assert fault.hits == 3


def test_a_fault_ends_at_its_limit() -> None:
    fault = Fault(kind=Kind.RESET, limit=2)
    assert [struck(fault, name) for name in "abcd"] == [True, True, False, False]


def test_a_share_of_the_requests_is_struck_the_same_ones_with_the_same_seed() -> None:
    faults = [Fault(kind=Kind.RESET, share=0.3, seed=5) for _ in range(2)]
    hits = [[struck(fault) for _ in range(500)] for fault in faults]
    assert hits[0] == hits[1]
    assert 100 < sum(hits[0]) < 200


def test_odd_entries_are_refused_and_the_right_ones_stay() -> None:
    entries = NETWORK.listing(NOW_MS)
    odd = json.loads(json.dumps(content.with_odd_entries(entries)))
    usable: dict[str, Any] = {}
    for entry in odd:
        if isinstance(entry, dict) and resource_fault(entry.get("resource")) is None:
            usable.setdefault(entry["resource"], entry)
    assert list(usable.values()) == entries
    assert len(odd) == len(entries) + len(content.BAD_RESOURCES) + 6


def test_listings_can_be_cut_doubled_halved_and_replaced() -> None:
    entries = NETWORK.listing(NOW_MS)
    assert content.first(3)(entries) == entries[:3]
    assert content.half(entries) == entries[::2]
    assert content.instead({})(entries) == {}
    assert content.doubled_entries(entries)[:24] == entries  # type: ignore[index]
    odd: Any = content.with_odd_values(entries)
    assert [entry["resource"] for entry in odd] == [entry["resource"] for entry in entries]
    assert "sector" not in odd[-1]
