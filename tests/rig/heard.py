"""What was heard on the bus, and whether the consumer could have taken it, by rules that are written down anew here."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

EXCHANGE, INTERFACE_KEY, TRAFFIC_KEY = "osg.psdata.raw", "esnet_interfaces", "esnet_traffic"
RECORD_TYPES = ("traffic", "errors", "discards")
TRAFFIC_KEYS = ["in", "name", "out", "recordType", "timestamp"]
INTEGER_KEYS = ("ifIndex", "speed", "vlan")
BOOLEAN_KEYS = ("lhcone", "oscars", "intercloud", "intracloud")
TEXT_KEYS = (
    "namespace", "resource", "name", "device", "description", "port", "nokiaType", "visibility", "connection", "link",
    "tags", "sector", "site", "remoteDevice", "remotePort",
)  # fmt: skip
MOST_FAULTS = 20
KEYWORD_BYTES = 32_766

Value = int | float | None
Series = tuple[str, str]
"""A resource and a record type."""


@dataclass(frozen=True, slots=True)
class InterfaceMessage:
    """An interface's message: `timestamp_ms` is the time of the listing."""

    message_id: str
    resource: str
    timestamp_ms: int
    body: Mapping[str, Any]


class Heard:
    """All messages so far, kept small: a million points are some 200 MB.

    `faults` says what the consumer could not have taken, or what no correct collector sends; at most MOST_FAULTS lines.
    """

    def __init__(self, interface_key: str = INTERFACE_KEY, traffic_key: str = TRAFFIC_KEY) -> None:
        self.interface_key, self.traffic_key = interface_key, traffic_key
        self.points: dict[Series, dict[int, tuple[Value, Value]]] = {}
        self.interfaces: list[InterfaceMessage] = []
        self.messages: Counter[str] = Counter()
        """By routing key."""
        self.duplicates = 0
        """Points that came again."""
        self.interface_duplicates = 0
        self.out_of_order: Counter[str] = Counter()
        """By resource, points that came for the first time after a later one of their record type."""
        self.faults: list[str] = []
        self.fault_count = 0
        self._newest: dict[Series, int] = {}
        self._interface_ids: set[str] = set()

    @property
    def point_count(self) -> int:
        """Different points."""
        return sum(map(len, self.points.values()))

    def series(self, resource: str, record_type: str = "traffic") -> list[int]:
        """The timestamps of a series, in the order in which they came for the first time."""
        return list(self.points.get((resource, record_type), ()))

    def latest_interfaces(self) -> dict[str, InterfaceMessage]:
        """The newest message of each resource."""
        return {each.resource: each for each in self.interfaces}

    def take_delivery(self, routing_key: str, exchange: str, properties: Any, body: bytes) -> None:
        """A message as RabbitMQ delivered it, with pika's properties."""
        wanted = ("application/json", 2, "esnet-collector")
        found = (properties.content_type, properties.delivery_mode, properties.app_id)
        if found != wanted:
            self._fault(f"properties are {found}, not {wanted}", body)
        if exchange != EXCHANGE:
            self._fault(f"exchange is {exchange!r}", body)
        try:
            message = _strict(body.decode())
        except ValueError as error:
            self._fault(f"body is no strict JSON: {error}", body)
            return
        self.take(routing_key, properties.message_id, message)

    def take_line(self, line: str) -> None:
        """A line that `--stdout` printed."""
        try:
            message = _strict(line)
        except ValueError as error:
            self._fault(f"line is no strict JSON: {error}", line)
            return
        if sorted(message) != ["body", "exchange", "message_id", "routing_key"] or message["exchange"] != EXCHANGE:
            self._fault("line with other keys or another exchange", line)
            return
        self.take(message["routing_key"], message["message_id"], message["body"])

    def take(self, routing_key: str, message_id: object, body: Any) -> None:
        """A message's body, parsed strictly."""
        self.messages[routing_key] += 1
        if not isinstance(body, dict):
            self._fault("body is no object", body)
        elif routing_key == self.traffic_key:
            self._take_point(message_id, body)
        elif routing_key == self.interface_key:
            self._take_interface(message_id, body)
        else:
            self._fault(f"routing key is {routing_key!r}", body)

    def _take_point(self, message_id: object, body: dict[str, Any]) -> None:
        if sorted(body) != TRAFFIC_KEYS:
            self._fault(f"keys are {sorted(body)}", body)
            return
        name, record_type, at, point = body["name"], body["recordType"], body["timestamp"], (body["in"], body["out"])
        if type(name) is not str or record_type not in RECORD_TYPES or type(at) is not int or not 10**12 <= at < 10**13:
            self._fault("name, record type or timestamp out of the contract", body)
            return
        if not all(map(_is_value, point)):
            self._fault("in or out that the index would refuse", body)
        if message_id != _sha1(f"{name}{record_type}{at}"):
            self._fault(f"message_id is {message_id!r}", body)
        series = (name, record_type)
        known = self.points.setdefault(series, {})
        if at in known:
            self.duplicates += 1
            if not same(known[at], point):
                self._fault(f"came with other values than before, {known[at]}", body)
            return
        known[at] = point
        newest = self._newest.get(series, 0)
        if at < newest:
            self.out_of_order[name] += 1
        self._newest[series] = max(at, newest)

    def _take_interface(self, message_id: object, body: dict[str, Any]) -> None:
        keys = (*INTEGER_KEYS, *BOOLEAN_KEYS, *TEXT_KEYS, "timestamp")
        if missing := [key for key in keys if key not in body]:
            self._fault(f"interface without {missing}", body)
            return
        at, resource = body["timestamp"], body["resource"]
        if type(at) is not int or not 10**12 <= at < 10**13 or type(resource) is not str:
            self._fault("interface with a timestamp or resource out of the contract", body)
            return
        refused = [key for key in INTEGER_KEYS if not _is_integer(body[key])]
        refused += [key for key in BOOLEAN_KEYS if body[key] is not None and type(body[key]) is not bool]
        refused += [key for key in TEXT_KEYS if not _is_text(body[key])]
        if refused:
            self._fault(f"interface with values that the index would refuse: {refused}", body)
        identity = "".join(str(body[key]) for key in ("namespace", "resource", "name", "device", "timestamp"))
        if message_id != _sha1(identity):
            self._fault(f"interface with message_id {message_id!r}", body)
        if str(message_id) in self._interface_ids:
            self.interface_duplicates += 1
        self._interface_ids.add(str(message_id))
        self.interfaces.append(InterfaceMessage(str(message_id), resource, at, body))

    def _fault(self, what: str, body: object) -> None:
        self.fault_count += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"{what}: {str(body)[:300]}")


def same(one: tuple[Value, Value], other: tuple[Value, Value]) -> bool:
    """Whether two points have the same in and out; an integer and a float of one size are not the same."""
    return one == other and [type(each) for each in one] == [type(each) for each in other]


def _sha1(text: str) -> str:
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def _strict(text: str) -> Any:
    """Raises ValueError for what is not strict JSON: NaN, a key twice, half a surrogate pair."""
    text.encode()
    value = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_once_each)
    if "\\u" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key stands there twice")
    return made


def _is_value(value: object) -> bool:
    if value is None:
        return True
    return (type(value) is int or (type(value) is float and math.isfinite(value))) and -(2**63) <= value < 2**63


def _is_integer(value: object) -> bool:
    if isinstance(value, str):
        return value.removeprefix("-").isdigit() and value.isascii() and -(2**63) <= int(value) < 2**63
    return value is None or (type(value) is int and -(2**63) <= value < 2**63)


def _is_text(value: object) -> bool:
    if isinstance(value, list):
        return not any(isinstance(each, list) for each in value) and all(map(_is_text, value))
    if isinstance(value, str):
        return len(value.encode()) <= KEYWORD_BYTES
    return value is None or isinstance(value, bool | int | float)
