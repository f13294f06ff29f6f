"""The page for people: what the collector does, how far behind it is, and what is wrong; page.html has the layout."""

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

import jinja2
from markupsafe import Markup

from collector import __version__
from collector.core.counters import Count, Counters
from collector.core.model import RecordType
from collector.core.report import CycleOutcome, CycleReport, ReasonKind
from collector.core.text import printable
from collector.watch.charts import charts, undone
from collector.watch.format import clock, duration, utc
from collector.watch.health import judge
from collector.watch.state import Dependency, Role, Snapshot, System

REFRESH_S = 30
"""Between two looks at the page; as often as there are cycles, where these come quicker."""
RUNNING_REFRESH_S = 5
"""While a cycle runs, so that it is seen to get on."""
SHOWN_CYCLES = 8

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
_TEMPLATES.filters |= {"duration": duration, "utc": utc, "number": "{:,}".format}
_TEMPLATES.globals |= {
    "clock": clock,
    "outcomes": {CycleOutcome.COMPLETE: "complete", CycleOutcome.CUT: "cut short", CycleOutcome.FAILED: "failed"},
    "undone": undone,
    "version": __version__,
}
_HEADLINES = {"failing": "Needs attention", "ok": "Collecting", "standby": "Standing by", "starting": "Starting"}
"""By the kind of state that the page has an icon and a colour for."""


def render(snapshot: Snapshot, counters: Counters) -> str:
    """The whole document."""
    health = judge(snapshot)
    longest_s = RUNNING_REFRESH_S if snapshot.running else REFRESH_S
    kind = "starting" if health.ok and snapshot.role is Role.STARTING else health.status
    page = _TEMPLATES.get_template("page.html")
    return page.render(
        snapshot=snapshot,
        now_ms=snapshot.now_ms,
        style=Markup(STYLE),  # noqa: S704  # a file beside this one
        refresh_s=round(min(max(snapshot.poll_interval_s, RUNNING_REFRESH_S), longest_s)),
        kind=kind,
        headline="Standby needs attention" if snapshot.role is Role.STANDBY and not health.ok else _HEADLINES[kind],
        situation=_situation(snapshot),
        reasons=health.reasons,
        comfort=_comfort(snapshot),
        left=_left(snapshot),
        newest_ms=min(snapshot.newest_ms.values(), default=None),
        worst_s=max((snapshot.lag_s(each.worst_ms) for each in snapshot.answered_up_to.values()), default=None),
        median_s=max((snapshot.lag_s(each.median_ms) for each in snapshot.answered_up_to.values()), default=None),
        states=_states(snapshot.figures) if snapshot.figures else "",
        charts=charts(snapshot.reports) if snapshot.reports else [],
        record_types=[each for each in RecordType if each in snapshot.newest_ms or each in snapshot.answered_up_to],
        cycles=snapshot.reports[: -SHOWN_CYCLES - 1 : -1],
        excused_by=_excused_by(snapshot),
        confirmed=counters.get(Count.POINTS_CONFIRMED),
        invalid=counters.get(Count.POINTS_INVALID),
        skipped=counters.get(Count.CYCLES_SKIPPED),
    )


def _situation(snapshot: Snapshot) -> str:
    """The state in a sentence or two."""
    for_s = duration((snapshot.now_ms - snapshot.role_since_ms) / 1000)
    if snapshot.role is Role.STANDBY:
        who = f" ({snapshot.holder})" if snapshot.holder else ""
        return f"Another collector{who} holds the lock and works; this one takes over when that one ends. Standby for {for_s}."
    if snapshot.role is Role.STARTING:
        waited = [each for each in snapshot.dependencies if each.system is not System.SOURCE and not each.up]
        return f"Waiting for {_names(waited) or 'the lock'} for {for_s}; no cycle has begun."
    before = "No cycle has been completed yet"
    if snapshot.last_completed_ms is not None:
        before = f"The last completed cycle ended {duration((snapshot.now_ms - snapshot.last_completed_ms) / 1000)} ago"
    if snapshot.running:
        return f"A cycle has been running for {duration((snapshot.now_ms - snapshot.running.start_ms) / 1000)}. {before}."
    # without the database there is no lock, and without the lock no cycle, whatever the clock says
    waited = [each for each in snapshot.down if each.system is System.DATABASE]
    return f"{before}; {f'the next one waits for {_names(waited)}' if waited else _due(snapshot)}."


def _due(snapshot: Snapshot) -> str:
    interval_ms = max(1, int(snapshot.poll_interval_s * 1000))
    due_ms = (snapshot.now_ms // interval_ms + 1) * interval_ms
    return f"the next one is due at {utc(due_ms, '%H:%M' if interval_ms % 60_000 == 0 else '%H:%M:%S')} UTC"


def _names(dependencies: Iterable[Dependency]) -> str:
    return " and ".join(each.name for each in dependencies)


def _comfort(snapshot: Snapshot) -> str:
    """In an outage: what it means for the data."""
    if not snapshot.down:
        return ""
    names, verb = _names(snapshot.down), "is" if len(snapshot.down) == 1 else "are"
    if snapshot.role is Role.STANDBY:
        return f"This standby cannot take over while {names} {verb} away."
    return f"Nothing is lost: the checkpoints stay, and what is missing meanwhile is caught up with once {names} {verb} back."


def _left(snapshot: Snapshot) -> tuple[str, ...]:
    """What the last cycle left for the next one, where health has no more to say about it."""
    latest = snapshot.latest
    return () if latest is None or latest.outcome is CycleOutcome.FAILED or snapshot.down else latest.texts


def _states(report: CycleReport) -> str:
    states = ((report.draining, "draining"), (report.untrusted, "untrusted"), (report.held_back, "held back"))
    return ", ".join(["active", *(f"{number:,} {state}" for number, state in states if number)])


def _excused_by(snapshot: Snapshot) -> str:
    """What was away when windows failed, so that no interface is to blame; empty where nothing was."""
    latest = snapshot.latest
    outage = latest is not None and any(each.kind is ReasonKind.DEPENDENCY for each in latest.reasons)
    return _names(snapshot.down) or ("a dependency" if outage else "")
