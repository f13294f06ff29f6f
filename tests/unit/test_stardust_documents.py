"""Stardust's documents: which interface they belong to, and what points and interface objects they make."""

from typing import Any

import pytest

from collector.core.model import RecordType, Series, Window
from collector.source.stardust.identity import id_of, resource_of
from collector.source.stardust.listing import interface_of
from collector.source.stardust.points import Documents, points_of, sorted_out, start_ms

AT = 1_764_000_000_000
ID, OTHER = "albq-cr5::1/1/1", "albq-cr5::lag-7"


def window(record_type: RecordType = RecordType.TRAFFIC, begin_ms: int = AT, end_ms: int = AT + 900_000) -> Window:
    return Window(Series(1, "devices/albq-cr5/interfaces/1%2F1%2F1", record_type), begin_ms, end_ms)


def document(start: Any = AT, identity: Any = ID, **values: Any) -> dict[str, Any]:
    return {"_source": {"start": start, "meta": {"id": identity}, "values": values}}


def figures(delta: Any = None, rate: Any = None) -> dict[str, Any]:
    return {name: value for name, value in (("delta", delta), ("rate", rate)) if value is not None}


def taken(*hits: Any, wanted: tuple[str, ...] = (ID,)) -> Documents:
    return sorted_out(list(hits), wanted)


def points(*hits: Any, of: RecordType = RecordType.TRAFFIC) -> list[object]:
    return points_of(taken(*hits).by_id[ID], window(of))


@pytest.mark.parametrize(
    ("identity", "resource"),
    [
        ("albq-cr5::1/1/1", "devices/albq-cr5/interfaces/1%2F1%2F1"),
        ("amst-cr5::to_netherlight_nordunet_v4v6", "devices/amst-cr5/interfaces/to_netherlight_nordunet_v4v6"),
        ("a::b::c d", "devices/a/interfaces/b%3A%3Ac%20d"),
        ("a::Zürich", "devices/a/interfaces/Z%C3%BCrich"),
    ],
)
def test_an_id_and_its_resource_lead_to_each_other(identity: str, resource: str) -> None:
    assert resource_of(identity)[0] == resource
    assert id_of(resource) == identity


@pytest.mark.parametrize(
    "identity", [None, 7, ["a::b"], "", "a", "a:b", "::b", "a::", "a::..", "ä::b", "a b::c", "a::\ud800", "a::" + "x" * 128]
)
def test_an_id_that_makes_no_usable_resource_has_a_reason(identity: object) -> None:
    resource, fault, _, _ = resource_of(identity)
    assert resource is None
    assert fault


@pytest.mark.parametrize("resource", ["x", "interfaces/x", "ports/a/interfaces/b", "devices/a/interfaces/%ff"])
def test_a_row_of_another_shape_has_no_id(resource: str) -> None:
    assert id_of(resource) is None


def test_traffic_is_the_rate_of_a_single_document_and_else_its_delta_a_second() -> None:
    found = points(
        document(in_bits=figures(300, 11.5), out_bits=figures(301)),
        document(AT + 30_000, in_bits=figures(delta=46.0)),
        document(AT + 60_000, out_bits=figures(rate=0)),
    )
    assert found == [[AT, 11.5, 10], [AT + 30_000, 2, None], [AT + 60_000, None, 0]]


def test_errors_and_discards_are_counts() -> None:
    hits = (document(in_errors=figures(3.0, 0.1), out_errors=figures(rate=5.0), out_discards=figures(7, 9.0)),)
    assert points(*hits, of=RecordType.ERRORS) == [[AT, 3, None]]
    assert points(*hits, of=RecordType.DISCARDS) == [[AT, None, 7]]
    assert type(points(*hits, of=RecordType.ERRORS)[0][1]) is int  # type: ignore[index]


@pytest.mark.parametrize("value", [None, "1", True, [1], {"a": 1}, float("nan"), float("inf"), 10**30])
def test_what_is_no_usable_number_makes_no_point_and_is_never_zero(value: object) -> None:
    assert points(document(in_bits={"delta": value, "rate": value})) == []
    assert points(document(in_bits={"delta": 60, "rate": value}, out_bits=value)) == [[AT, 2, None]]


@pytest.mark.parametrize("values", [None, [], "x", {"in_bits": None}, {"in_bits": []}, {"in_bits": 7}])
def test_a_document_without_values_is_no_point(values: object) -> None:
    hit = {"_source": {"start": AT, "meta": {"id": ID}, "values": values}}
    assert points(hit) == []


def test_exact_repeats_count_once() -> None:
    twin = document(in_bits=figures(300, 9.9), out_bits=figures(0, 0.0))
    assert points(twin, twin, document(AT + 30_000, in_bits=figures(30)), twin) == [[AT, 9.9, 0.0], [AT + 30_000, 1, None]]


def test_deltas_of_documents_that_differ_are_added_up_side_by_side() -> None:
    twins = (
        document(in_bits=figures(300, 10.0), out_bits=figures(60, 2.5), in_errors=figures(1)),
        document(in_bits=figures(600, 20.0), in_errors=figures(2)),
        document(in_bits=figures(300, 10.0), out_bits=figures(60, 2.5), in_errors=figures(1)),
    )
    assert points(*twins) == [[AT, 30, 2.5]]
    assert points(*twins, of=RecordType.ERRORS) == [[AT, 3, None]]


def test_documents_that_differ_in_another_record_type_alone_are_no_repeats() -> None:
    twins = (document(in_bits=figures(300), in_errors=figures(1)), document(in_bits=figures(300), in_errors=figures(2)))
    assert points(*twins) == [[AT, 20, None]]


def test_several_rates_without_a_delta_are_no_value() -> None:
    assert points(document(in_bits=figures(rate=1.0)), document(in_bits=figures(rate=2.0))) == []


def test_points_ascend_and_lie_in_the_half_open_window() -> None:
    starts = (AT + 899_999, AT, AT + 900_000, AT - 1, AT + 30_000)
    found = points(*(document(start, in_bits=figures(30)) for start in starts))
    assert [point[0] for point in found] == [AT, AT + 30_000, AT + 899_999]  # type: ignore[index]


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (AT, AT), (float(AT), AT), (str(AT), AT), ("2025-11-24T16:00:00.000Z", AT), ("2025-11-24T16:00:00+00:00", AT),
        ("2025-11-24T17:00:00.250+01:00", AT + 250), ("2025-11-24T16:00:00", AT), ("yesterday", None), ("", None), (None, None),
        (True, None), (AT + 0.5, None), (AT // 1000, None), ([AT], None), ("9999-99-99", None),
    ],
)  # fmt: skip
def test_a_start_is_ms_or_iso_8601(value: object, ms: int | None) -> None:
    assert start_ms(value) == ms


def test_documents_with_odd_forms_count_all_the_same() -> None:
    dotted = {"_source": {"start": AT, "meta.id": ID, "values.in_bits.delta": 60, "values.out_bits": {"rate": 4}}}
    listed = document(AT + 30_000, identity=[OTHER, ID], in_bits=figures(30))
    in_words = document("2025-11-24T16:01:00Z", in_bits=figures(90))
    assert points(dotted, listed, in_words) == [[AT, 2, 4], [AT + 30_000, 1, None], [AT + 60_000, 3, None]]


def test_dots_in_some_of_a_document_s_names_cost_no_value() -> None:
    within = document(AT, **{"in_bits.delta": 60, "out_bits": {"rate": 4}})
    beside = document(AT + 30_000, in_bits={"rate": 1})
    beside["_source"]["values.out_bits.rate"] = 5
    assert points(within, beside) == [[AT, 2, 4], [AT + 30_000, 1, 5]]


@pytest.mark.parametrize("identity", [None, 7, [], [7], {"a": 1}])
def test_a_document_without_a_usable_id_may_be_anybody_s(identity: object) -> None:
    documents = taken(document(identity=identity), document(in_bits=figures(30)))
    assert documents.of_no_interface == len(documents.dropped) == 1
    assert list(documents.by_id[ID]) == [AT]


@pytest.mark.parametrize("hit", [document(identity=OTHER), document(identity=[OTHER]), document("never"), document(None)])
def test_a_document_of_nobody_or_without_a_start_is_dropped_alone(hit: object) -> None:
    documents = taken(hit, document(in_bits=figures(30)))
    assert (documents.of_no_interface, len(documents.dropped)) == (0, 1)
    assert list(documents.by_id[ID]) == [AT]


@pytest.mark.parametrize("hit", [None, 7, [], {}, {"_source": None}, {"_source": {"meta": [1], "start": AT, "values": {}}}])
def test_what_is_no_document_is_of_no_interface(hit: object) -> None:
    assert taken(hit).of_no_interface == 1


META: dict[str, Any] = {
    "id": ID, "device": "elsewhere", "ifindex": 1610899520, "descr": "to the north", "alias": "n", "speed": 100_000,
    "vrtr_ifencapvalue": 101, "port_name": "1/1/1", "port_mode": 2, "descr_parts": ["ALBQ", "Show", "INTRACLOUD"],
    "oscars_id": "x", "intercloud": [True, False], "remote": {"device": "denv-cr5", "port": "2/1/1"},
    "ipv4": ["10.0.0.1", "10.0.0.2"],
}  # fmt: skip


def test_an_interface_object_has_netbeam_s_keys() -> None:
    assert interface_of(ID, META) == {
        "namespace": "esnet/prod", "resource": "devices/albq-cr5/interfaces/1%2F1%2F1", "name": "1/1/1", "device": "albq-cr5",
        "ifIndex": "1610899520", "description": "to the north", "speed": 100_000, "vlan": 101, "port": "1/1/1",
        "nokiaType": "network", "visibility": "SHOW", "connection": None, "link": None, "tags": [], "sector": None, "site": None,
        "lhcone": None, "oscars": True, "intercloud": True, "intracloud": True, "remoteDevice": "denv-cr5", "remotePort": "2/1/1",
        "ipv4": "10.0.0.1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "key", "expected"),
    [
        ({"descr": None}, "description", "n"),
        ({"descr": "", "alias": None}, "description", None),
        ({"speed": 0}, "speed", None),
        ({"vrtr_ifencapvalue": 0}, "vlan", None),
        ({"vrtr_ifencapvalue": 4095}, "vlan", None),
        ({"vrtr_ifencapvalue": "4094"}, "vlan", 4094),
        ({"vrtr_ifencapvalue": "any"}, "vlan", None),
        ({"port_mode": 1}, "nokiaType", "access"),
        ({"port_mode": "3"}, "nokiaType", "hybrid"),
        ({"port_mode": 4}, "nokiaType", None),
        ({"descr_parts": "a:HIDE:b"}, "visibility", "HIDE"),
        ({"descr_parts": ["SHOWN", "unhide"]}, "visibility", None),
        ({"descr_parts": None}, "intracloud", False),
        ({"descr_parts": "no-intracloud"}, "intracloud", False),
        ({"oscars_id": ""}, "oscars", False),
        ({"oscars_id": [""]}, "oscars", False),
        ({"oscars_id": None}, "oscars", False),
        ({"intercloud": False}, "intercloud", False),
        ({"intercloud": None}, "intercloud", None),
        ({"remote": None}, "remoteDevice", None),
        ({"ipv4": "10.0.0.9"}, "ipv4", "10.0.0.9"),
        ({"ipv4": []}, "ipv4", None),
        ({"ifindex": None}, "ifIndex", None),
        ({"ifindex": "7"}, "ifIndex", "7"),
    ],
)
def test_each_key_comes_from_its_field(changed: dict[str, Any], key: str, expected: object) -> None:
    made = interface_of(ID, META | changed)
    assert isinstance(made, dict)
    assert made[key] == expected


def test_fields_with_dots_in_their_names_are_found() -> None:
    made = interface_of(ID, {"remote.device": "a", "remote.port": "b"})
    assert isinstance(made, dict)
    assert (made["remoteDevice"], made["remotePort"]) == ("a", "b")
    assert interface_of("no separator", META) == "entry 'no separator': id without ::"
