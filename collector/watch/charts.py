"""The last cycles as small inline SVG bar charts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from collector.core.report import CycleOutcome, CycleReport
from collector.watch.format import duration, escape, utc

FEWEST_SLOTS = 32
"""Bars keep their width until there are more cycles than this; the newest is always at the right edge."""
HEIGHT = 100
"""Of the drawing, in its own units: the page stretches it."""


def undone(report: CycleReport) -> int:
    """Windows that were tried in vain, whatever the reason."""
    return sum(number for outcome, number in report.windows.items() if outcome not in ("done", "empty"))


@dataclass(frozen=True, slots=True)
class Plot:
    """One figure of each cycle, as bars."""

    title: str
    value: Callable[[CycleReport], float]
    shown: Callable[[float], str]

    def render(self, reports: Sequence[CycleReport]) -> str:
        """The chart with its caption; bars of failed and of cut cycles look different and say so when pointed at."""
        values = [self.value(each) for each in reports]
        most = max(values)
        slots = max(len(reports), FEWEST_SLOTS)
        first = slots - len(reports)
        bars = "".join(self._bar(first + at, each, values[at] / (most or 1)) for at, each in enumerate(reports))
        failed = sum(each.outcome is CycleOutcome.FAILED for each in reports)
        summary = f"latest {self.shown(values[-1])}, most {self.shown(most)}"
        label = f"{self.title} in each of the last {len(reports)} cycles: {summary}; {failed} of these cycles failed"
        return (
            f"<figure><figcaption><b>{escape(self.title)}</b> <span>{escape(summary)}</span></figcaption>"
            f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {slots} {HEIGHT}" preserveAspectRatio="none">{bars}</svg>'
            "</figure>"
        )

    def _bar(self, slot: int, report: CycleReport, share: float) -> str:
        value = self.value(report)
        # a small figure is still seen, none is not
        height = max(2.0, share * HEIGHT) if value else 0.0
        said = f"{utc(report.start_ms, '%Y-%m-%d %H:%M')} UTC, {report.outcome}: {self.shown(value)}"
        return (
            f'<g class="{report.outcome}"><title>{escape(said)}</title>'
            f'<rect class="slot" x="{slot}" width="1" height="{HEIGHT}"/>'
            f'<rect class="bar" x="{slot + 0.1:.1f}" y="{HEIGHT - height:.1f}" width=".8" height="{height:.1f}"/></g>'
        )


PLOTS = (
    Plot("Points", lambda report: report.points, lambda value: f"{value:,.0f}"),
    Plot("Duration", lambda report: report.seconds, duration),
    Plot("Windows that failed", undone, lambda value: f"{value:,.0f}"),
)


def plots(reports: Sequence[CycleReport]) -> str:
    """All charts of these cycles, oldest first; they share their time axis, which stands below."""
    charts = "".join(each.render(reports) for each in PLOTS)
    form = "%Y-%m-%d %H:%M"
    axis = f"from {utc(reports[0].start_ms, form)} to {utc(reports[-1].start_ms, form)} UTC"
    key = '<span class="key failed">failed</span> <span class="key cut">cut short</span>'
    return f'<div class="plots">{charts}</div><p class="note">{len(reports)} cycles {axis} {key}</p>'
