"""Which of a source's points go on the bus: validity first, then the window.

The consumer stops for good at one value that its index refuses, so nothing of the kind may leave.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from collector.core.model import Window, is_time

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The consumer's index holds signed 64-bit integers."""
FAR_OUTSIDE_MS = 60_000
"""A point further outside of its window than this is worth a warning; nearer ones are a source's rounding of the ends."""

Value = int | float | None
Point = tuple[int, Value, Value]
"""Timestamp in ms, in, out."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The points of one window that go out, ascending and each timestamp once; and how many do not, by cause."""

    points: list[Point]
    newest_ms: int | None = None
    """The newest point inside the window with a valid time, whatever else is wrong with it, but not one without a value."""
    invalid: int = 0
    double: int = 0
    outside: int = 0
    far_outside: int = 0
    without_value: int = 0
    """Neither in nor out: the source has no value yet."""
    invalid_example: str = ""
    """The first invalid point, shortened."""


def select(raw: Sequence[object], window: Window) -> Selection:
    """Sort out an answer's points. Of two points of one timestamp the first valid one counts."""
    begin_ms, end_ms = window.begin_ms, window.end_ms
    chosen: dict[int, Point] = {}
    rejected: list[object] = []
    double, newest_ms, ascending = 0, 0, True
    for point in raw:
        # the common case in one expression, since it runs a million times a cycle: a triple of integers in the window
        if (
            type(point) is list
            and len(point) >= 3
            and type(at := point[0]) is int
            and begin_ms <= at < end_ms
            and is_value(into := point[1])
            and is_value(out := point[2])
            and not (into is None and out is None)
        ):
            if at in chosen:
                double += 1
                continue
            ascending = ascending and at > newest_ms
            newest_ms = at
            chosen[at] = (at, into, out)
        else:
            rejected.append(point)
    points = list(chosen.values())
    if not ascending:
        points.sort(key=lambda point: point[0])
    if not rejected:
        return Selection(points, points[-1][0] if points else None, double=double)
    return _judged(points, double, rejected, window)


def is_value(value: object) -> bool:
    """Whether the consumer's index takes it: a finite number within 64 bits, or null; a boolean is no number."""
    return value is None or ((type(value) is int or type(value) is float) and LOWEST <= value <= HIGHEST)


def _judged(points: list[Point], double: int, rejected: list[object], window: Window) -> Selection:
    newest_ms = points[-1][0] if points else 0
    invalid: list[object] = []
    outside: list[int] = []
    without_value = 0
    for point in rejected:
        at = point[0] if type(point) is list and point and is_time(point[0]) else None
        inside = at is not None and window.begin_ms <= at < window.end_ms
        if at is None or not _has_values(point):
            invalid.append(point)
            newest_ms = max(newest_ms, at if inside and at is not None else 0)
        elif inside:
            without_value += 1
        else:
            outside.append(at)
    return Selection(
        points,
        newest_ms or None,
        invalid=len(invalid),
        double=double,
        outside=len(outside),
        far_outside=sum(at < window.begin_ms - FAR_OUTSIDE_MS or at > window.end_ms + FAR_OUTSIDE_MS for at in outside),
        without_value=without_value,
        invalid_example=_shown(invalid[0]) if invalid else "",
    )


def _has_values(point: object) -> bool:
    """Whether a list that begins with a time goes on with in and out as the index takes them, null included."""
    return isinstance(point, list) and len(point) >= 3 and is_value(point[1]) and is_value(point[2])


def _shown(point: object) -> str:
    """A few characters of a hostile value: it may be huge, deep, or a number that `repr` refuses."""
    if isinstance(point, list):
        return "[" + ", ".join(_shown_value(value) for value in point[:3]) + (", …" if len(point) > 3 else "") + "]"
    return _shown_value(point)


def _shown_value(value: object) -> str:
    if isinstance(value, str):
        return ascii(value[:20])
    if isinstance(value, int) and abs(value) > 10**20:
        return "a huge number"
    return f"a {type(value).__name__}" if isinstance(value, (list, dict)) else json.dumps(value)
