"""The last cycles as small bar charts: here the geometry, in page.html the drawing."""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.core.report import CycleOutcome, CycleReport, WindowOutcome
from collector.watch.format import duration, utc

FEWEST_SLOTS = 32
"""Bars keep their width until there are more cycles than this; the newest is always at the right edge."""
TALL = 4.0
"""A bar that is so many times as tall as three in four are would flatten the others: it is cut off, and says its number."""
FEWEST_PERCENT = 2.0
"""Of the chart's height: a small figure is still seen, none is not."""
LABEL_PERCENT = 14.0
"""Numbers on cut bars stand at least so far apart."""
_STEPS_S = tuple(
    float(number * unit) for unit, numbers in
    ((1, (1, 2, 5, 10, 20, 30)), (60, (1, 2, 5, 10, 20, 30)), (3600, (1, 2, 4, 6, 12)), (86_400, (1, 2, 4, 10, 20, 40, 100)))
    for number in numbers
)  # fmt: skip
"""Ends of an axis of time, whose halves are round as well."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One cycle. Positions and sizes are percents of the chart, from the left and from the bottom."""

    x: float
    width: float
    height: float
    outcome: str
    said: str
    cut_off: bool
    number: str
    """Written on a bar that is cut off, unless a taller one is too near."""


@dataclass(frozen=True, slots=True)
class Chart:
    """What page.html draws: bars, three ticks from the top to nothing, and the same in words."""

    title: str
    summary: str
    label: str
    ticks: tuple[str, str, str]
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    value: Callable[[CycleReport], float]
    shown: Callable[[float], str]
    end: Callable[[float], float]
    """The end of the axis on which this value is the greatest."""
    cuts: bool = True


def undone(report: CycleReport) -> int:
    """Windows that were tried in vain, whatever the reason."""
    return sum(report.windows[each] for each in WindowOutcome if each not in (WindowOutcome.DONE, WindowOutcome.EMPTY))


def charts(reports: Sequence[CycleReport]) -> list[Chart]:
    """All charts of the cycles that have ended, of which there must be some; they share their axis of time."""
    return [_chart(each, reports) for each in _FIGURES]


def _lag_s(report: CycleReport) -> float:
    return max((report.lag_ms(each) / 1000 for each in report.answered_up_to.values()), default=0.0)


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _round_number(value: float) -> float:
    """The next number that is 2, 4 or 10 times a power of ten: its half is as round."""
    power = 10.0 ** math.floor(math.log10(value)) if value >= 1 else 1.0
    return next(factor * power for factor in (2, 4, 10, 20) if factor * power >= value)


def _round_span(value: float) -> float:
    at = bisect.bisect_left(_STEPS_S, value)
    return _STEPS_S[at] if at < len(_STEPS_S) else 86_400 * _round_number(value / 86_400)


_FIGURES = (
    _Figure("Points", lambda report: report.points, _number, _round_number),
    # how far behind is what matters here: a bar is never cut off
    _Figure("Furthest behind at a cycle's end", _lag_s, duration, _round_span, cuts=False),
    _Figure("Duration", lambda report: report.seconds, duration, _round_span),
    _Figure("Windows that failed", undone, _number, _round_number),
)


def _chart(figure: _Figure, reports: Sequence[CycleReport]) -> Chart:
    values = [figure.value(each) for each in reports]
    most = max(values)
    usual = _usual(values) if figure.cuts else most
    # a bar that is cut off stands out over the others
    end = figure.end(max(usual * (1.25 if usual < most else 1.0), 1.0))
    failed = sum(each.outcome is CycleOutcome.FAILED for each in reports)
    summary = f"latest {figure.shown(values[-1])}, most {figure.shown(most)}"
    label = f"{figure.title} in each of the last {len(reports)} cycles: {summary}; {failed} of these cycles failed"
    ticks = (figure.shown(end), figure.shown(end / 2), "0")
    return Chart(figure.title, summary, label, ticks, _bars(figure, reports, values, end))


def _usual(values: Sequence[float]) -> float:
    """The greatest value that is not far above what three in four cycles have."""
    ordered = sorted(each for each in values if each)
    if not ordered:
        return 0.0
    limit = TALL * ordered[(len(ordered) - 1) * 3 // 4]
    return max(each for each in ordered if each <= limit)


def _bars(figure: _Figure, reports: Sequence[CycleReport], values: Sequence[float], end: float) -> tuple[Bar, ...]:
    width = 100 / max(len(reports), FEWEST_SLOTS)
    first = 100 - width * len(reports)
    numbered: list[int] = []
    for at in sorted(range(len(values)), key=lambda at: -values[at]):
        if values[at] > end and all(abs(at - each) * width >= LABEL_PERCENT for each in numbered):
            numbered.append(at)
    return tuple(
        Bar(
            x=first + width * at,
            width=width,
            height=min(100.0, max(FEWEST_PERCENT, 100 * value / end)) if value else 0.0,
            outcome=str(report.outcome),
            said=f"{utc(report.start_ms, '%Y-%m-%d %H:%M')} UTC, {report.outcome}: {figure.shown(value)}",
            cut_off=value > end,
            number=figure.shown(value) if at in numbered else "",
        )
        for at, (report, value) in enumerate(zip(reports, values, strict=True))
    )
