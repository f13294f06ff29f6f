"""The page for people: what the collector does, how far behind it is, and what is wrong; page.html has the layout."""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
from markupsafe import Markup

from collector import __version__
from collector.core.counters import Count
from collector.core.model import RecordType
from collector.core.report import CycleOutcome, CycleReport, ReasonKind
from collector.core.text import printable
from collector.watch.charts import charts, undone
from collector.watch.format import clock, duration, utc
from collector.watch.health import Health, asked
from collector.watch.state import Role, Snapshot, System

REFRESH_S = 30
RUNNING_REFRESH_S = 5
"""While a cycle runs, so that it is seen to get on."""
SHOWN_CYCLES = 8
MOST_REASONS = 12

_HERE = Path(__file__).parent
STYLE = (_HERE / "page.css").read_text("utf-8")
CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing but the one style sheet and the icon in the page itself may be loaded, nothing is run, nobody may frame it."""


def _fit(value: object) -> object:
    """Every text that the template writes, wherever it comes from: one line, cut, without control characters."""
    return printable(value) if type(value) is str else value


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    finalize=_fit,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {"duration": duration, "utc": utc, "number": lambda value: f"{value:,}"}


@dataclass(frozen=True, slots=True)
class _Series:
    """A row of the table of record types; None where it is not known."""

    record_type: str
    newest: str | None
    age_s: float | None
    median_s: float | None
    worst_s: float | None
    series: int | None


def refresh_s(poll_interval_s: float) -> int:
    """Between two looks at the page: as often as there are cycles, within reason."""
    return round(min(max(poll_interval_s, RUNNING_REFRESH_S), REFRESH_S))


def render(snapshot: Snapshot, health: Health, counts: Mapping[tuple[Count, str], int], now_ms: int) -> str:
    """The whole document, as of `now_ms`."""

    def total(count: Count) -> int:
        return sum(number for (counted, _), number in counts.items() if counted is count)

    kind = _kind(snapshot, health)
    reasons = list(health.reasons)
    return _TEMPLATES.get_template("page.html").render(
        now_ms=now_ms,
        snapshot=snapshot,
        style=Markup(STYLE),  # noqa: S704  # a file beside this one
        refresh_s=RUNNING_REFRESH_S if snapshot.running else refresh_s(snapshot.poll_interval_s),
        kind=kind,
        headline=_headline(kind, snapshot),
        situation=_situation(snapshot, now_ms),
        reasons=_cut(reasons),
        comfort=_comfort(snapshot),
        left=_cut(_left(snapshot)),
        newest_ms=min(snapshot.newest_ms.values(), default=None),
        clock=clock,
        worst_s=max((snapshot.lag_s(each.worst_ms, now_ms) for each in snapshot.reached.values()), default=None),
        median_s=max((snapshot.lag_s(each.median_ms, now_ms) for each in snapshot.reached.values()), default=None),
        states=_states(snapshot.figures) if snapshot.figures else "",
        charts=charts(snapshot) if snapshot.reports else [],
        record_types=_record_types(snapshot, now_ms),
        asked=asked,
        away=_away(snapshot),
        cycles=list(reversed(snapshot.reports[-SHOWN_CYCLES:])),
        undone=undone,
        outcomes={CycleOutcome.COMPLETE: "complete", CycleOutcome.CUT: "cut short", CycleOutcome.FAILED: "failed"},
        confirmed=total(Count.POINTS_CONFIRMED),
        invalid=total(Count.POINTS_INVALID),
        skipped=total(Count.CYCLES_SKIPPED),
        version=__version__,
    )


def _kind(snapshot: Snapshot, health: Health) -> str:
    if not health.ok:
        return "failing"
    return {Role.STARTING: "starting", Role.STANDBY: "standby", Role.WORKING: "ok"}[snapshot.role]


def _headline(kind: str, snapshot: Snapshot) -> str:
    if kind == "failing":
        return "Standby needs attention" if snapshot.role is Role.STANDBY else "Needs attention"
    return {"ok": "Collecting", "standby": "Standing by", "starting": "Starting"}[kind]


def _situation(snapshot: Snapshot, now_ms: int) -> str:
    """The state in a sentence or two."""
    for_s = duration((now_ms - snapshot.role_since_ms) / 1000)
    if snapshot.role is Role.STANDBY:
        who = f" ({snapshot.holder})" if snapshot.holder else ""
        return f"Another collector{who} holds the lock and works; this one takes over when that one ends. Standby for {for_s}."
    if snapshot.role is Role.STARTING:
        waited = [each.name for each in snapshot.dependencies if each.system is not System.SOURCE and not each.up]
        return f"Waiting for {' and '.join(waited) or 'the lock'} for {for_s}; no cycle has begun."
    before = "No cycle has been completed yet"
    if snapshot.last_completed_ms is not None:
        before = f"The last completed cycle ended {duration((now_ms - snapshot.last_completed_ms) / 1000)} ago"
    if snapshot.running:
        return f"A cycle has been running for {duration((now_ms - snapshot.running.start_ms) / 1000)}. {before}."
    # without the database there is no lock, and without the lock no cycle, whatever the clock says
    waited = [each.name for each in snapshot.dependencies if each.system is System.DATABASE and each.down]
    return f"{before}; {f'the next one waits for {waited[0]}' if waited else _due(snapshot, now_ms)}."


def _due(snapshot: Snapshot, now_ms: int) -> str:
    interval_ms = max(1, int(snapshot.poll_interval_s * 1000))
    due_ms = (now_ms // interval_ms + 1) * interval_ms
    return f"the next one is due at {utc(due_ms, '%H:%M' if interval_ms % 60_000 == 0 else '%H:%M:%S')} UTC"


def _away(snapshot: Snapshot) -> list[str]:
    """The names of what is down, as far as this role uses it."""
    return [each.name for each in snapshot.dependencies if each.down and asked(each, snapshot.role)]


def _comfort(snapshot: Snapshot) -> str:
    """In an outage: what it means for the data."""
    away = " and ".join(_away(snapshot))
    if not away:
        return ""
    if snapshot.role is Role.STANDBY:
        return f"This standby cannot take over while {away} is away." if " and " not in away else "This standby cannot take over."
    verb = "are" if " and " in away else "is"
    return f"Nothing is lost: the checkpoints stay, and what is missing meanwhile is caught up with once {away} {verb} back."


def _left(snapshot: Snapshot) -> list[str]:
    """What the last cycle left for the next one, where health has no more to say about it."""
    latest = snapshot.latest
    if latest is None or latest.outcome is CycleOutcome.FAILED or _away(snapshot):
        return []
    return [each.text for each in latest.reasons]


def _cut(lines: list[str]) -> list[str]:
    lines = list(dict.fromkeys(lines))
    return [*lines[:MOST_REASONS], f"and {len(lines) - MOST_REASONS} more"] if len(lines) > MOST_REASONS else lines


def _states(report: CycleReport) -> str:
    states = ((report.draining, "draining"), (report.untrusted, "untrusted"), (report.held_back, "held back"))
    return ", ".join(["active", *(f"{number:,} {state}" for number, state in states if number)])


def _record_types(snapshot: Snapshot, now_ms: int) -> list[_Series]:
    rows = []
    for each in (each for each in RecordType if each in snapshot.newest_ms or each in snapshot.reached):
        newest_ms, reached = snapshot.newest_ms.get(each), snapshot.reached.get(each)
        rows.append(
            _Series(
                record_type=str(each),
                newest=None if newest_ms is None else clock(newest_ms, now_ms),
                age_s=None if newest_ms is None else (now_ms - newest_ms) / 1000,
                median_s=snapshot.lag_s(reached.median_ms, now_ms) if reached else None,
                worst_s=snapshot.lag_s(reached.worst_ms, now_ms) if reached else None,
                series=reached.series if reached else None,
            )
        )
    return rows


def blameless(report: CycleReport) -> bool:
    """Whether windows failed because a dependency was away, so that no interface is to blame."""
    return any(each.kind is ReasonKind.DEPENDENCY for each in report.reasons)


_TEMPLATES.tests["blameless"] = blameless
