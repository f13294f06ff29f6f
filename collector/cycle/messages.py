"""The bytes of the messages, and the identity that a repetition shares (docs/messages-and-guarantees.md)."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any

from collector.core.model import JsonObject, Message, RecordType
from collector.cycle.point_filter import HIGHEST, LOWEST, Point

INTEGER_KEYS = ("ifIndex", "speed", "vlan")
BOOLEAN_KEYS = ("lhcone", "oscars", "intercloud", "intracloud")
TEXT_KEYS = (
    "namespace", "resource", "name", "device", "description", "port", "nokiaType", "visibility", "connection", "link",
    "tags", "sector", "site", "remoteDevice", "remotePort",
)  # fmt: skip
READ_KEYS = (*TEXT_KEYS, *INTEGER_KEYS, *BOOLEAN_KEYS)
"""What the consumer reads besides `timestamp`: it drops a message that lacks one, so a missing one is sent as null."""
MAX_KEYWORD_BYTES = 32_766
"""Lucene's limit for one term."""
MAX_BODY_BYTES = 2**20
"""Of one message: brokers take more by default, but one that is refused for its size would come again for ever."""
ROOM_FOR_THE_REST = 1024
"""For the timestamp, the braces and the like."""
MAX_DEPTH = 100
"""Nothing that a source sends is nested deeper than two; beyond this a value becomes null before a parser chokes on it."""

_DECIMAL = re.compile(r"-?[0-9]{1,19}", re.ASCII)


def traffic_messages(name: str, record_type: RecordType, points: Sequence[Point]) -> list[Message]:
    """One message a point, in the points' order.

    Written by hand because it runs a million times a cycle: a template is five times as fast as `json.dumps` of a dict,
    and the same text, since every part is a checked number or a checked resource. The digest of what all points share is
    copied for each, and the message made without the named tuple's own constructor: a third less time together.
    """
    head = f'{{"name": {json.dumps(name)}, "recordType": "{record_type}", "timestamp": '
    identity = sha1(f"{name}{record_type}".encode(), usedforsecurity=False)
    make = tuple.__new__
    messages = []
    for at, into, out in points:
        inside = "null" if into is None else into
        outside = "null" if out is None else out
        message_id = identity.copy()
        message_id.update(b"%d" % at)
        body = f'{head}{at}, "in": {inside}, "out": {outside}}}'.encode()
        messages.append(make(Message, (message_id.hexdigest(), body)))
    return messages


@dataclass(frozen=True, slots=True)
class InterfaceMessage:
    """One interface's message, the digest of all but its timestamp, and the keys whose value the consumer could not index.

    The digest is the same in whatever order the source puts the keys.
    """

    message: Message
    digest: bytes
    faulty_keys: tuple[str, ...] = ()


def interface_message(interface: JsonObject, time_ms: int) -> InterfaceMessage:
    """The source's object as the consumer can index it: what it could not is null, so is what is missing, the rest as it came."""
    faults: list[str] = []
    fields: JsonObject = {}
    for key, value in interface.items():
        clean = _clean(value)
        if not _valid_text(key):
            faults.append(ascii(key))
            continue
        if not _fits(key, clean):
            clean = None
        # compared by identity where it matters: what _clean or _fits changed, at whatever depth
        if not _same(clean, value):
            faults.append(key)
        fields[key] = clean
    for key in READ_KEYS:
        fields.setdefault(key, None)
    fields.pop("timestamp", None)
    body = _encoded({**fields, "timestamp": time_ms})
    if len(body) > MAX_BODY_BYTES:
        fields, left_out = _shortened(fields)
        faults += left_out
        body = _encoded({**fields, "timestamp": time_ms})
    digest = sha1(_encoded(fields, sort_keys=True), usedforsecurity=False).digest()
    identity = "".join(str(fields[key]) for key in ("namespace", "resource", "name", "device")) + str(time_ms)
    message_id = sha1(identity.encode(), usedforsecurity=False).hexdigest()
    return InterfaceMessage(Message(message_id, body), digest, tuple(faults))


def _shortened(fields: JsonObject) -> tuple[JsonObject, list[str]]:
    """At most MAX_BODY_BYTES of them: without the keys that the consumer does not read, and then without the longest values."""
    kept = {key: fields[key] for key in READ_KEYS}
    left_out = ["(keys that the consumer does not read, of a message over 1 MiB)"]
    sizes = {key: len(_encoded({key: value})) for key, value in kept.items()}
    for key in sorted(sizes, key=lambda key: -sizes[key]):
        if sum(sizes.values()) <= MAX_BODY_BYTES - ROOM_FOR_THE_REST:
            break
        kept[key], sizes[key] = None, len(key)
        left_out.append(key)
    return kept, left_out


def _encoded(fields: Mapping[str, Any], sort_keys: bool = False) -> bytes:
    return json.dumps(fields, ensure_ascii=False, allow_nan=False, sort_keys=sort_keys).encode()


def _valid_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _clean(value: Any, depth: int = 0) -> Any:
    """The value with null in place of what no index takes, at any depth: NaN, infinities, integers of more than 64 bits, and
    text that is not valid Unicode.
    """
    if isinstance(value, str):
        return value if _valid_text(value) else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if type(value) is int:
        return value if LOWEST <= value <= HIGHEST else None
    if isinstance(value, (list, dict)) and depth >= MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [_clean(each, depth + 1) for each in value]
    if isinstance(value, dict):
        return {key: _clean(each, depth + 1) for key, each in value.items() if _valid_text(key)}
    return value


def _same(clean: Any, value: Any) -> bool:
    """Whether cleaning changed nothing; NaN differs from itself, which is just right here."""
    try:
        return bool(clean == value)
    except RecursionError:
        return False


def _fits(key: str, value: Any) -> bool:
    """Whether the consumer's index takes this value for this key."""
    if value is None:
        return True
    if key in INTEGER_KEYS:
        return _is_integer(value)
    if key in BOOLEAN_KEYS:
        return isinstance(value, bool)
    if key in TEXT_KEYS:
        return all(map(_is_keyword, value)) if isinstance(value, list) else _is_keyword(value)
    return True


def _is_integer(value: Any) -> bool:
    if isinstance(value, str):
        return _DECIMAL.fullmatch(value) is not None and LOWEST <= int(value) <= HIGHEST
    return type(value) is int and LOWEST <= value <= HIGHEST


def _is_keyword(value: Any) -> bool:
    if isinstance(value, str):
        return len(value.encode()) <= MAX_KEYWORD_BYTES
    return value is None or isinstance(value, (bool, int, float))
