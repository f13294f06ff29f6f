"""Which of Netbeam's points go on the bus: validity first, then the window (SPEC section 4: the consumer stops for good
at one value that its index refuses, so nothing of the kind may leave)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from collector.core.model import Window, is_time

LOWEST, HIGHEST = -(2**63), 2**63 - 1
"""The consumer's index holds signed 64-bit integers."""
FAR_OUTSIDE_MS = 60_000
"""A point further outside of its window than this is worth a warning; nearer ones are Netbeam's rounding of the ends."""

Value = int | float | None
Point = tuple[int, Value, Value]
"""Timestamp in ms, in, out."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The points of one window that go out, ascending and each timestamp once; and how many do not, by cause."""

    points: list[Point]
    invalid: int = 0
    double: int = 0
    outside: int = 0
    far_outside: int = 0
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
        return Selection(points, double=double)
    return _judged(points, double, rejected, window)


def is_value(value: object) -> bool:
    """Whether the consumer's index takes it: a finite number within 64 bits, or null; a boolean is no number."""
    return value is None or ((type(value) is int or type(value) is float) and LOWEST <= value <= HIGHEST)


def _judged(points: list[Point], double: int, rejected: list[object], window: Window) -> Selection:
    invalid = [point for point in rejected if not _is_valid(point)]
    outside = [point[0] for point in rejected if _is_valid(point)]  # type: ignore[index]
    far = sum(at < window.begin_ms - FAR_OUTSIDE_MS or at > window.end_ms + FAR_OUTSIDE_MS for at in outside)
    example = _shown(invalid[0]) if invalid else ""
    return Selection(points, len(invalid), double, len(outside), far, example)


def _is_valid(point: object) -> bool:
    return (
        type(point) is list and len(point) >= 3 and is_time(point[0]) and is_value(point[1]) and is_value(point[2])
    )


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
    if value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
        return {None: "null", True: "true", False: "false"}[value] if value is None or isinstance(value, bool) else repr(value)
    return repr(value) if isinstance(value, float) else f"a {type(value).__name__}"
