"""The bytes on the bus: strict JSON that the consumer's index takes, and an identity that a repetition shares."""

import json
import math
from hashlib import sha1
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import JsonObject, RecordType
from collector.cycle.messages import READ_KEYS, interface_message, traffic_messages
from tests.fakes import NOW_MS, interface

TEXTS = {
    "namespace", "resource", "name", "device", "description", "port", "nokiaType", "visibility", "connection", "link",
    "tags", "sector", "site", "remoteDevice", "remotePort",
}  # fmt: skip
INTEGERS = {"ifIndex", "speed", "vlan"}
BOOLEANS = {"lhcone", "oscars", "intercloud", "intracloud"}
NAME = "devices/albq-cr5/interfaces/1%2F1%2F1"
NAN, INF = math.nan, math.inf


def strict(body: bytes) -> Any:
    """The body's JSON, as a parser reads it that knows no NaN; two keys of one name are an error."""

    def unique(pairs: list[tuple[str, Any]]) -> JsonObject:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return json.loads(body.decode("utf-8"), parse_constant=refuse, object_pairs_hook=unique)


def indexable(key: str, value: Any) -> bool:
    """Whether the consumer's index takes a value, by rules written anew."""
    if value is None:
        return True
    if key in INTEGERS:
        digits = isinstance(value, str) and value.isascii() and value.lstrip("-").isdigit()
        return (type(value) is int or digits) and -(2**63) <= int(value) < 2**63
    if key in BOOLEANS:
        return type(value) is bool
    if key in TEXTS:
        values = value if isinstance(value, list) else [value]
        return all(
            each is None or type(each) in (int, float, bool) or (type(each) is str and len(each.encode()) <= 32_766)
            for each in values
        )
    return True


@pytest.mark.parametrize("record_type", RecordType)
def test_traffic_message_is_what_json_and_sha1_give_for_each_point(record_type: RecordType) -> None:
    points: list[tuple[int, Any, Any]] = [
        (NOW_MS, 0, -1), (NOW_MS + 1, None, 2**63 - 1), (NOW_MS + 2, 0.1, None),
        (NOW_MS + 3, 1e22, -0.0), (NOW_MS + 4, 5e-324, 7.0),
    ]  # fmt: skip
    messages = traffic_messages(NAME, record_type, points)
    for (at, into, out), message in zip(points, messages, strict=True):
        body = {"name": NAME, "recordType": record_type.value, "timestamp": at, "in": into, "out": out}
        assert message.body.decode() == json.dumps(body)
        assert message.message_id == sha1(f"{NAME}{record_type.value}{at}".encode(), usedforsecurity=False).hexdigest()


numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(-1e18, 1e18))
names = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)


@given(name=names, into=numbers, out=numbers, at=st.integers(10**12, 10**13 - 1))
def test_values_arrive_with_the_digits_and_the_type_that_netbeam_gave(name: str, into: Any, out: Any, at: int) -> None:
    (message,) = traffic_messages(name, RecordType.ERRORS, [(at, into, out)])
    assert message.body.decode() == json.dumps({"name": name, "recordType": "errors", "timestamp": at, "in": into, "out": out})


def test_interface_message_is_netbeam_s_object_with_its_keys_and_the_listing_s_time() -> None:
    source = interface(NAME, description="Zürich → 東京", tags=["a", "b"], timestamp="yesterday", latency={"ms": [1, 2.5]})
    made = interface_message(source, NOW_MS)
    assert strict(made.message.body) == {**source, "timestamp": NOW_MS}
    assert "Zürich → 東京".encode() in made.message.body
    assert made.faulty_keys == ()


def test_missing_keys_are_sent_as_null() -> None:
    body = strict(interface_message({"resource": NAME}, NOW_MS).message.body)
    assert body == {**dict.fromkeys(TEXTS | INTEGERS | BOOLEANS), "resource": NAME, "timestamp": NOW_MS}


@pytest.mark.parametrize(
    ("fields", "identity"),
    [
        ({"namespace": "n", "resource": NAME, "name": "x", "device": "d"}, f"n{NAME}xd{NOW_MS}"),
        ({"namespace": None, "resource": NAME, "device": "é"}, f"None{NAME}Noneé{NOW_MS}"),
        ({"namespace": 7, "resource": NAME, "name": True, "device": 1.5}, f"7{NAME}True1.5{NOW_MS}"),
        ({"namespace": ["a", None], "resource": NAME, "name": "", "device": "d"}, f"['a', None]{NAME}d{NOW_MS}"),
    ],
)
def test_message_id_is_the_sha1_of_five_values_as_python_prints_them(fields: JsonObject, identity: str) -> None:
    assert interface_message(fields, NOW_MS).message.message_id == sha1(identity.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("speed", [0, -1, 2**63 - 1, -(2**63), "100", "-5", str(2**63 - 1), None]),
        ("vlan", ["0", 4094]),
        ("ifIndex", ["1610899520"]),
        ("lhcone", [True, False, None]),
        ("tags", [[], ["a", 1, 2.5, True, None], "text", None]),
        ("description", ["", "x" * 32_766, "é" * 16_383, 5, 1.5, False]),
        ("ipv4", [["10.0.0.1", {"deep": [1]}], {}, 2**63 - 1]),
    ],
)
def test_value_that_the_index_takes_is_left_alone(key: str, values: list[Any]) -> None:
    for value in values:
        made = interface_message(interface(NAME, **{key: value}), NOW_MS)
        assert strict(made.message.body)[key] == value
        assert made.faulty_keys == ()


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("speed", [2**63, -(2**63) - 1, str(2**63), 1.0, True, [5], {}]),
        ("speed", ["", "fast", "1.0", " 5", "5\n", "+5", "1e3", "0x10", "٣"]),
        ("ifIndex", ["1 610", NAN, "9" * 400]),
        ("vlan", [[], "VLAN 7", INF]),
        ("lhcone", [0, 1, "yes", "true", "", [True], {}]),
        ("intracloud", [2, "False"]),
        ("description", ["x" * 32_767, "é" * 16_384, {}, [[]], [{"a": 1}], ["x" * 32_767], "\ud800", NAN]),
        ("tags", [{"a": 1}, [["a"]]]),
        ("ipv4", ["\udfff", -INF]),
    ],
)
def test_value_that_the_index_would_refuse_is_sent_as_null_and_named(key: str, values: list[Any]) -> None:
    for value in values:
        made = interface_message(interface(NAME, **{key: value}), NOW_MS)
        assert strict(made.message.body) == {**interface(NAME), key: None, "timestamp": NOW_MS}
        assert made.faulty_keys == (key,)


def test_what_is_no_json_becomes_null_at_any_depth_and_the_rest_stays() -> None:
    made = interface_message(interface(NAME, tags=["a", "\ud800"], extra={"x": [1, {"y": NAN, "z": 2}], "\ud800": 3}), NOW_MS)
    body = strict(made.message.body)
    assert (body["tags"], body["extra"]) == (["a", None], {"x": [1, {"y": None, "z": 2}]})
    assert set(made.faulty_keys) == {"tags", "extra"}


def test_key_that_is_no_unicode_is_left_out_and_named() -> None:
    made = interface_message(interface(NAME, **{"\ud800": 1}), NOW_MS)
    assert strict(made.message.body) == {**interface(NAME), "timestamp": NOW_MS}
    assert made.faulty_keys == (r"'\ud800'",)


def test_bottomless_nesting_does_not_break_the_message() -> None:
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    assert strict(interface_message(interface(NAME, extra=deep), NOW_MS).message.body)["resource"] == NAME


def test_digest_tells_a_change_but_neither_time_nor_order() -> None:
    source = interface(NAME)
    digest = interface_message(source, NOW_MS).digest
    assert interface_message({**source, "timestamp": 5}, NOW_MS + 1).digest == digest
    assert interface_message(dict(reversed(source.items())), NOW_MS).digest == digest
    assert interface_message({**source, "speed": 7}, NOW_MS).digest != digest
    assert interface_message({**source, "brandNew": None}, NOW_MS).digest != digest


texts = st.one_of(st.text(max_size=4), st.sampled_from(["\ud800", "x" * 32_767, "12", "-", "9" * 19, "9" * 20, "true"]))
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**66), 2**66), st.floats(), texts)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=2)),
    max_leaves=4,
)
keys = st.one_of(st.sampled_from(sorted(TEXTS | INTEGERS | BOOLEANS | {"timestamp", "ipv4"})), texts)


@given(source=st.dictionaries(keys, anything, max_size=6))
def test_any_object_becomes_strict_json_that_the_index_takes(source: JsonObject) -> None:
    made = interface_message(source, NOW_MS)
    body = strict(made.message.body)
    assert body.keys() >= TEXTS | INTEGERS | BOOLEANS | {"timestamp"}
    assert body["timestamp"] == NOW_MS
    assert all(indexable(key, value) for key, value in body.items())
    assert all(value is None or key in source or key == "timestamp" for key, value in body.items())
    unchanged = {key: value for key, value in body.items() if key in source and key not in (*made.faulty_keys, "timestamp")}
    assert unchanged == {key: source[key] for key in unchanged}
    identity = "".join(str(body[key]) for key in ("namespace", "resource", "name", "device", "timestamp"))
    assert made.message.message_id == sha1(identity.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30, [1, 10**30], {"deep": [10**30]}])
def test_integers_that_no_index_holds_are_null_in_any_key(value: Any) -> None:
    for key in ("description", "ipv4", "newKey"):
        made = interface_message(interface(NAME, **{key: value}), NOW_MS)
        assert "000000000000000000" not in json.dumps(strict(made.message.body)[key])
        assert made.faulty_keys == (key,)


def test_a_message_of_over_a_mebibyte_leaves_out_what_the_consumer_does_not_read_and_then_its_longest_values() -> None:
    made = interface_message(interface(NAME, unknown="x" * 17 * 2**20), NOW_MS)
    body = strict(made.message.body)
    assert len(made.message.body) < 2000
    assert body["description"] == "to the north"
    assert set(body) == {*READ_KEYS, "timestamp"}
    assert len(made.faulty_keys) == 1
    tags = ["y" * 32_000] * 40
    made = interface_message(interface(NAME, tags=tags, unknown=1), NOW_MS)
    body = strict(made.message.body)
    assert (body["tags"], body["resource"]) == (None, NAME)
    assert len(made.message.body) <= 2**20
    assert "tags" in made.faulty_keys
