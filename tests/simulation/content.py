"""Wrong content of the simulated Netbeam's answers: points and listings as they have been seen, and as they could be.

Whatever is added to an answer is unusable, is one too many, or lies outside of the window; the good points and entries stay.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

from collector.core.model import JsonObject
from collector.source.simulated.netbeam import encoded_points
from collector.source.simulated.network import Point, encode

Entries = Sequence[JsonObject]
DAY_MS = 86_400_000
BAD_VALUES: tuple[object, ...] = (float("nan"), float("inf"), float("-inf"), "12", "", [1], {"a": 1}, True, False, "\ud800")
HUGE_VALUES: tuple[object, ...] = (2**63, -(2**63) - 1, 10**30, 1e30, -1e308)


def _mixed(points: list[Point], wrong: Sequence[Any]) -> bytes:
    mixed: list[Any] = list(points)
    for number, each in enumerate(wrong):
        mixed.insert(number * (len(points) + len(wrong)) // len(wrong), each)
    return encoded_points(mixed)


def short_points(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """Points that are no triples, among the good ones."""
    return _mixed(points, [[], [begin_ms], [begin_ms, 1], None, 7, "point", {"timestamp": begin_ms}])


def bad_values(points: list[Point], begin_ms: int, end_ms: int, values: Sequence[object] = BAD_VALUES) -> bytes:
    """Points with values that are no numbers, on the good ones' times, before and after them: the valid one of two counts."""
    times = [point[0] for point in points] or [begin_ms]
    return _mixed(points, [[times[number % len(times)], *((1, bad), (bad, 1))[number % 2]] for number, bad in enumerate(values)])


def huge_numbers(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """Points with numbers that do not fit into 64 bits, in the same way."""
    return bad_values(points, begin_ms, end_ms, HUGE_VALUES)


def long_numbers(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """The good points among some with integers of 5,000 digits, as time and as value."""
    return _filled(points, begin_ms, b"9" * 5000)


def _filled(points: list[Point], begin_ms: int, value: bytes) -> bytes:
    """With this text, which no encoder makes, for a time, an in and an out."""
    mark = "text in its place"
    times = [point[0] for point in points] or [begin_ms]
    wrong = [[mark, 1, 1], [times[0], mark, 1], [times[-1], 1, mark]]
    return _mixed(points, wrong).replace(encode(mark).encode(), value)


def bad_times(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """Points whose time is no integer of 13 digits."""
    near = begin_ms + 1000
    times = (None, str(near), near + 0.5, float(near), near // 1000, near * 1000, True, [near], -near, 0)
    return _mixed(points, [[time, 1, 1] for time in times])


def outside(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """Valid points that nobody asked for, just outside of the window and far away."""
    times = (begin_ms - DAY_MS, begin_ms - 30_000, end_ms + 30_000, end_ms + DAY_MS)
    return _mixed(points, [[time, 1, 1] for time in times])


def doubled_points(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """Each point is followed by another one of the same time with other values, which is one too many."""
    return encoded_points([each for time, inward, outward in points for each in ((time, inward, outward), (time, 1, 2))])


def shuffled(points: list[Point], begin_ms: int, end_ms: int) -> bytes:
    """The points in any order."""
    random.Random(begin_ms).shuffle(points)
    return encoded_points(points)


BAD_RESOURCES: tuple[object, ...] = (
    None, 7, "", ["devices/a/interfaces/b"], "x" * 129, "devices/zürich/interfaces/1", "devices/\ud800/interfaces/1",
    "devices/a b/interfaces/1", "devices/a/interfaces/1\n2", "devices/a/interfaces/1?x=1", "devices/a/interfaces/1#x",
    "http://example.org/devices/a", "//example.org/a", "/devices/a/interfaces/1", "devices//interfaces/1",
    "devices/a/interfaces/1/", "devices/a/interfaces/1%2", "devices/a/interfaces/%zz", "devices/./interfaces/1",
    "devices/../../interfaces/1", "devices/a/%2e%2E/1",
)  # fmt: skip
"""Every way in which an entry cannot be collected."""

ODD_VALUES: tuple[tuple[str, object], ...] = (
    ("ifIndex", "first"), ("ifIndex", 2**63), ("speed", "10G"), ("speed", 1.5), ("vlan", True), ("vlan", [1]), ("vlan", "4094"),
    ("lhcone", "yes"), ("oscars", 1), ("intercloud", None), ("intracloud", "true"), ("description", "d" * 32_767),
    ("description", "\ud800"), ("description", {"text": "nested"}), ("tags", ["a", None, 1]), ("tags", [["nested"]]),
    ("connection", float("nan")), ("ipv4", {"deep": [float("inf"), "\ud800"]}), ("newKey", {"nested": [1, 2]}),
    ("timestamp", "never"),
)  # fmt: skip
"""Keys with values that the consumer's index would refuse, and some that are only unusual."""


def with_odd_entries(entries: Entries) -> object:
    """The right entries after every odd one: no objects, bad resources; and at the end the first entry once more."""
    odd: list[object] = [None, 7, "text", [], {}, *({**entries[0], "resource": bad} for bad in BAD_RESOURCES)]
    return [*odd, *entries, {**entries[0], "description": "doubled"}]


def with_odd_values(entries: Entries) -> object:
    """The right entries, one of ODD_VALUES in each of the first ones, and a key missing in each that has no such value."""
    odd = [{**entry, key: value} for entry, (key, value) in zip(entries, ODD_VALUES, strict=False)]
    rest = ({key: value for key, value in entry.items() if key != "sector"} for entry in entries[len(odd) :])
    return [*odd, *rest]


def doubled_entries(entries: Entries) -> object:
    """Each entry twice, the second time with another description: the first counts."""
    return [*entries, *({**entry, "description": "doubled"} for entry in entries)]


def first(count: int) -> Callable[[Entries], object]:
    """Only the first so many entries."""
    return lambda entries: entries[:count]


def half(entries: Entries) -> object:
    """Every second entry."""
    return entries[::2]


def instead(listing: object) -> Callable[[Entries], object]:
    """Something else as a whole: `[]`, an object, text."""
    return lambda entries: listing
