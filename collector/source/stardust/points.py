"""Points from documents: which belong together, and what they say in Netbeam's terms."""

import functools
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from collector.core.model import GRID_MS, RecordType, Window, is_time, iso_ms
from collector.core.text import printable
from collector.source.stardust.identity import shown
from collector.source.stardust.queries import FIELDS

STEP_S = GRID_MS // 1000
"""A document stands for so many seconds."""
_NUMBERS: tuple[type, ...] = (int, float)
_MOST = 2.0**68
"""A number beyond this is no counter's; thirty times what a point can hold is within it."""
ASKED_FOR = 3
"""How many fields a document has when no name of them has a dot: `start`, `meta` and `values`."""
DEEPEST = 8
"""Levels of a document that are looked at; what is read lies on the fourth at the most."""

Values = Any
"""What a document has below `values`; of several that differ, a list of them."""


@dataclass(slots=True)
class Documents:
    """An answer's documents by interface and `start`."""

    by_id: dict[str, dict[int, Values]]
    dropped: list[str] = field(default_factory=list)
    """A line for each document that has no series, or no usable start."""
    of_no_interface: int = 0
    """How many of these name no interface: they may be of any that was asked for."""


def sorted_out(hits: Iterable[Any], wanted: Collection[str]) -> Documents:
    """The documents of these interfaces; exact repeats count once."""
    documents = Documents({each: {} for each in wanted})
    by_id = documents.by_id
    for hit in hits:
        try:
            source = hit["_source"]
            starts = by_id[source["meta"]["id"]]
            start, values = source["start"], source["values"]
            dotted = len(source) != ASKED_FOR or "." in "".join(values)
        except (KeyError, TypeError):
            _take_odd(hit, documents)
            continue
        if dotted or type(start) is not int or not is_time(start):
            _take_odd(hit, documents)
        elif start not in starts:
            starts[start] = values
        else:
            starts[start] = _with_twin(starts[start], values)
    return documents


def _take_odd(hit: Any, documents: Documents) -> None:
    """A document that is not of the usual form: names with dots, an id that is a list, a start in words; or unusable."""
    source = nested(hit.get("_source")) if isinstance(hit, dict) else {}
    meta = source.get("meta")
    ids = meta.get("id") if isinstance(meta, dict) else None
    named = [each for each in (ids if isinstance(ids, list) else [ids]) if isinstance(each, str)]
    known = [each for each in named if each in documents.by_id]
    start, begun = start_ms(source.get("start")), printable(source.get("start"), 40)
    if not named:
        documents.of_no_interface += 1
        documents.dropped.append(f"document without a usable meta.id start={begun}")
    elif not known:
        documents.dropped.append(f"document of an interface that was not asked for id={shown(named[0])}")
    elif start is None:
        documents.dropped.append(f"document without a usable start id={shown(known[0])} start={begun}")
    else:
        for each in known:
            starts = documents.by_id[each]
            values = source.get("values")
            starts[start] = _with_twin(starts[start], values) if start in starts else values


def _with_twin(known: Values, values: Values) -> Values:
    several = known if isinstance(known, list) else [known]
    return several if values in several else [*several, values]


def nested(source: Any, levels: int = DEEPEST) -> dict[str, Any]:
    """A document with `a.b` in place of b within a, put right; anything else is an empty one."""
    if not isinstance(source, dict) or not levels:
        return {}
    whole: dict[str, Any] = {}
    for name, value in source.items():
        inner = nested(value, levels - 1) if isinstance(value, dict) else value
        *outer, last = name.split(".")
        place = whole
        for each in outer:
            deeper = place.setdefault(each, {})
            place = deeper if isinstance(deeper, dict) else {}
        if isinstance(inner, dict) and isinstance(place.get(last), dict):
            place[last].update(inner)
        else:
            place[last] = inner
    return whole


def start_ms(value: Any) -> int | None:
    """A time in ms, or in ISO 8601, as a document may have it."""
    if isinstance(value, str):
        return _parsed(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if is_time(value) else None


@functools.lru_cache(maxsize=4096)
def _parsed(text: str) -> int | None:
    if text.isascii() and text.isdigit():
        return start_ms(int(text)) if len(text) == 13 else None
    return iso_ms(text)


def points_of(documents: Mapping[int, Values], window: Window) -> list[object]:
    """The window's points, by time: `[timestamp_ms, in, out]`; none where neither side has a usable value."""
    begin_ms, end_ms, record_type = window.begin_ms, window.end_ms, window.series.record_type
    inside, outside = FIELDS[record_type]
    figure, side, plain = ("rate", _traffic, _NUMBERS) if record_type is RecordType.TRAFFIC else ("delta", _count, (int,))
    points: list[object] = []
    for start in sorted(documents):
        if not begin_ms <= start < end_ms:
            continue
        values = documents[start]
        try:
            # nearly all are so: numbers on both sides, taken as they are
            inward, outward = values[inside][figure], values[outside][figure]
            if type(inward) in plain and type(outward) in plain and -_MOST <= inward <= _MOST and -_MOST <= outward <= _MOST:
                points.append([start, inward, outward])
                continue
        except (KeyError, TypeError):
            pass
        if type(values) is list:
            inward, outward = _merged(values, inside, record_type), _merged(values, outside, record_type)
        else:
            inward, outward = side(values, inside), side(values, outside)
        if inward is not None or outward is not None:
            points.append([start, inward, outward])
    return points


def _traffic(values: Values, name: str) -> int | float | None:
    """Bits a second of a single document: its rate, else its delta over the step."""
    try:
        figures = values[name]
        rate: int | float = figures.get("rate")
    except (KeyError, TypeError, AttributeError):
        return None
    if _is_usable(rate):
        return rate
    delta = figures.get("delta")
    return round(delta / STEP_S) if _is_usable(delta) else None


def _count(values: Values, name: str) -> int | None:
    """How many in a single document's interval."""
    try:
        delta = values[name]["delta"]
    except (KeyError, TypeError):
        return None
    return round(delta) if _is_usable(delta) else None


def _merged(several: list[Values], name: str, record_type: RecordType) -> int | float | None:
    """One side of a point that several documents share: the one's that has it, else the sum of their deltas."""
    side = _traffic if record_type is RecordType.TRAFFIC else _count
    having = [each for each in several if side(each, name) is not None]
    if len(having) < 2:
        return side(having[0], name) if having else None
    deltas: list[int | float] = [each[name]["delta"] for each in having if _is_usable(each[name].get("delta"))]
    if not deltas:
        return None
    return round(sum(deltas) / STEP_S) if record_type is RecordType.TRAFFIC else round(sum(deltas))


def _is_usable(value: Any) -> bool:
    return type(value) in _NUMBERS and -_MOST <= value <= _MOST
