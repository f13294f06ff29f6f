"""The invariant itself: whatever is lost, early, wrong or malformed, it says so. A proof that cannot fail proves nothing."""

import json
from collections.abc import Callable
from hashlib import sha1
from types import SimpleNamespace
from typing import Any

import pytest

from collector.core.model import RecordType
from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Heard, InvariantError, TableRow, check_invariant, compare
from tests.rig.heard import EXCHANGE, INTERFACE_KEY, TRAFFIC_KEY
from tests.rig.tables import RECORD_TYPES

NETWORK = SimulatedNetwork([("devices/a/interfaces/1", 1000), ("devices/a/interfaces/2", None)])
NAME, SILENT = NETWORK.resources
MINUTE_MS, LOOKBACK_MS = 60_000, 1_800_000
NOW_MS = 1_790_000_040_000
BEGIN_MS = NOW_MS - LOOKBACK_MS
END_MS = NOW_MS - MINUTE_MS
PROPERTIES = {"content_type": "application/json", "delivery_mode": 2, "app_id": "esnet-collector"}


def row(row_id: int = 1, name: str = NAME, until_ms: int | None = END_MS, ended_ms: int | None = None, **until: int) -> TableRow:
    untils = {each: until.get(each, until_ms) for each in RECORD_TYPES}
    text = {each: None if at is None else str(at) for each, at in untils.items()}
    ended = None if ended_ms is None else str(ended_ms)
    return TableRow(row_id, name, "1" if ended is None else "0", str(NOW_MS), ended, text)


def message(at: int, into: object, out: object, record_type: str = "traffic", **more: object) -> tuple[str, dict[str, Any]]:
    message_id = sha1(f"{NAME}{record_type}{at}".encode(), usedforsecurity=False).hexdigest()
    return message_id, {"name": NAME, "recordType": record_type, "timestamp": at, "in": into, "out": out, **more}


def hear(
    heard: Heard, body: object, message_id: str, key: str = TRAFFIC_KEY, properties: dict[str, object] | None = None
) -> None:
    made = SimpleNamespace(**{**PROPERTIES, "message_id": message_id, **(properties or {})})
    heard.take_delivery(key, EXCHANGE, made, body if isinstance(body, bytes) else json.dumps(body).encode())


def all_points(begin_ms: int = BEGIN_MS, end_ms: int = END_MS) -> list[tuple[str, dict[str, Any]]]:
    points = {each: NETWORK.expected_points(NAME, each, begin_ms, end_ms) for each in RecordType}
    return [message(*point, record_type=each.value) for each in RecordType for point in points[each]]


def heard_of(messages: list[tuple[str, dict[str, Any]]]) -> Heard:
    heard = Heard()
    for message_id, body in messages:
        hear(heard, body, message_id)
    return heard


def test_everything_in_its_place_is_fine() -> None:
    counts = check_invariant(NETWORK, [row(), row(2, SILENT)], heard_of(all_points()), now_ms=NOW_MS)
    assert (counts.points, counts.duplicates, counts.beyond) == (len(all_points()), 0, 0)


def test_every_single_missing_point_is_found() -> None:
    points = all_points()
    for index in (0, len(points) // 2, len(points) - 1):
        with pytest.raises(InvariantError, match="missing") as caught:
            check_invariant(NETWORK, [row()], heard_of(points[:index] + points[index + 1 :]))
        assert caught.value.counts.missing == 1
        assert str(points[index][1]["timestamp"]) in str(caught.value)


def test_a_checkpoint_that_is_ahead_is_found() -> None:
    with pytest.raises(InvariantError, match="missing"):
        check_invariant(NETWORK, [row(traffic=END_MS + MINUTE_MS)], heard_of(all_points()))
    with pytest.raises(InvariantError, match="ahead of Netbeam's own time"):
        check_invariant(NETWORK, [row(2, SILENT, NOW_MS + 1)], Heard(), now_ms=NOW_MS)


def test_what_is_confirmed_and_not_written_is_no_fault_but_counted() -> None:
    counts = check_invariant(NETWORK, [row(traffic=END_MS - MINUTE_MS)], heard_of(all_points()))
    assert counts.beyond == 2


def test_a_duplicate_is_counted_and_must_have_the_same_values() -> None:
    points = all_points()
    assert check_invariant(NETWORK, [row()], heard_of([*points, points[5]])).duplicates == 1
    other = (points[5][0], {**points[5][1], "in": 7})
    with pytest.raises(InvariantError, match="other values"):
        check_invariant(NETWORK, [row()], heard_of([*points, other]))


@pytest.mark.parametrize("change", [{"in": 1}, {"out": 0.5}, {"in": "float"}])
def test_a_wrong_value_is_found(change: dict[str, object]) -> None:
    points = all_points()
    message_id, body = next(each for each in points if type(each[1]["in"]) is int)
    wrong = {**body, **{key: float(body["in"]) if value == "float" else value for key, value in change.items()}}
    with pytest.raises(InvariantError, match="the bus has"):
        check_invariant(NETWORK, [row()], heard_of([(message_id, wrong), *points]))


def test_a_point_that_does_not_exist_is_found() -> None:
    with pytest.raises(InvariantError, match="Netbeam has no point"):
        check_invariant(NETWORK, [row()], heard_of([*all_points(), message(BEGIN_MS + 1234, 1, 1)]))


def test_a_later_row_of_a_name_goes_on_where_the_earlier_one_ended() -> None:
    ended_ms = BEGIN_MS + 10 * MINUTE_MS
    first = row(1, ended_ms=ended_ms, until_ms=ended_ms, errors=ended_ms + MINUTE_MS)
    early = compare(NETWORK, [first, row(2)], heard_of(all_points()))
    assert (early.missing, early.points) == (0, len(all_points()))
    late = compare(NETWORK, [row(2)], heard_of(all_points(ended_ms)))
    assert late.missing == 3 * 20


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda body: {**body, "more": 1}, "keys are"),
        (lambda body: {key: value for key, value in body.items() if key != "out"}, "keys are"),
        (lambda body: {**body, "timestamp": body["timestamp"] // 1000}, "out of the contract"),
        (lambda body: {**body, "timestamp": str(body["timestamp"])}, "out of the contract"),
        (lambda body: {**body, "in": True}, "index would refuse"),
        (lambda body: {**body, "in": 2**63}, "index would refuse"),
        (lambda body: {**body, "in": "1"}, "index would refuse"),
        (lambda body: {**body, "name": "devices/b"}, "message_id"),
        (lambda body: json.dumps(body).replace('"in": ', '"in": NaN, "x": ').encode(), "no strict JSON"),
        (lambda body: json.dumps(body).replace('"in": ', '"in": 1, "in": ').encode(), "no strict JSON"),
        (lambda body: b"\xff", "no strict JSON"),
        (lambda body: [body], "no object"),
    ],
)
def test_a_message_out_of_the_contract_is_a_fault(spoil: Callable[[Any], object], said: str) -> None:
    heard = Heard()
    message_id, body = all_points()[0]
    hear(heard, spoil(body), message_id)
    assert said in heard.faults[0]
    with pytest.raises(InvariantError):
        check_invariant(NETWORK, [], heard)


@pytest.mark.parametrize("properties", [{"content_type": "text/plain"}, {"delivery_mode": 1}, {"app_id": None}])
def test_other_properties_are_a_fault(properties: dict[str, object]) -> None:
    heard = Heard()
    message_id, body = all_points()[0]
    hear(heard, body, message_id, properties=properties)
    assert "properties are" in heard.faults[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"ifIndex": None, "tags": ["a", None, 1], "newKey": {"deep": [1]}}, None),
        ({"speed": "fast"}, "speed"),
        ({"vlan": 1.5}, "vlan"),
        ({"lhcone": 1}, "lhcone"),
        ({"description": "x" * 32_767}, "description"),
        ({"tags": [["nested"]]}, "tags"),
        ({"sector": {"a": 1}}, "sector"),
        ({"timestamp": 0}, "timestamp"),
        ({"site": "absent"}, "site"),
    ],
)
def test_an_interface_must_fit_the_index(change: dict[str, object], said: str | None) -> None:
    body: dict[str, Any] = {**NETWORK.interface(NAME), "timestamp": NOW_MS, **change}
    if body["site"] == "absent":
        del body["site"]
    identity = "".join(str(body.get(key)) for key in ("namespace", "resource", "name", "device", "timestamp"))
    heard = Heard()
    hear(heard, body, sha1(identity.encode(), usedforsecurity=False).hexdigest(), INTERFACE_KEY)
    assert len(heard.faults) == (said is not None)
    assert (said or "") in "".join(heard.faults)
