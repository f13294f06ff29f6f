"""The page for people: what the collector does, how far behind it is, and what is wrong, in one HTML document without scripts."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from collector import __version__
from collector.core.counters import Count
from collector.core.report import CycleOutcome, CycleReport
from collector.watch.charts import plots, undone
from collector.watch.format import duration, escape, utc
from collector.watch.health import Health, asked
from collector.watch.state import Dependency, Role, Snapshot
from collector.watch.style import STYLE

REFRESH_S = 30
SHOWN_CYCLES = 8
MOST_REASONS = 12

CONTENT_SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing but the one style sheet and the icon in the page itself may be loaded, nothing is run, nobody may frame it."""

_ICONS = {
    "ok": '<circle cx="12" cy="12" r="10"/><path d="m7.5 12.3 3 3 6-6.3"/>',
    "standby": '<circle cx="12" cy="12" r="10"/><path d="M9.5 8.5v7m5-7v7"/>',
    "starting": '<circle cx="12" cy="12" r="10"/><path d="M12 7v5l3 2"/>',
    "failing": '<path d="M12 3 1.8 20.5h20.4z"/><path d="M12 9.5v5m0 2.7v.3"/>',
}


def render(snapshot: Snapshot, health: Health, counts: Mapping[tuple[Count, str], int], now_ms: int) -> str:
    """The whole document, as of `now_ms`."""
    kind = _kind(snapshot, health)
    latest = snapshot.latest
    sections = [
        _state(kind, snapshot, health, now_ms),
        _tiles(latest) if latest else "",
        _section("Last cycles", plots(snapshot.reports)) if snapshot.reports else "",
        _section("Lag by record type", _lag(latest), "half") if latest else "",
        _section("Dependencies", _dependencies(snapshot), "half" if latest else ""),
        _section("Interfaces that fail most", _failing(latest)) if latest else "",
        _section("Cycle by cycle", _cycles(snapshot.reports), "cycles") if snapshot.reports else "",
    ]
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><meta http-equiv="refresh" content="{REFRESH_S}">'
        f'<title>{_headline(kind, snapshot)} · ESnet Collector</title><link rel="icon" href="{_favicon(kind)}">'
        f"<style>{STYLE}</style></head><body>"
        f"<header><h1>ESnet Collector</h1><span>{utc(now_ms)} UTC</span></header>"
        f"<main>{''.join(sections)}</main>{_footer(snapshot, counts)}</body></html>\n"
    )


def _favicon(kind: str) -> str:
    """A dot in the colour of the state, so that one of many tabs is found."""
    tone = {"ok": "1f9d61", "standby": "4a74cf", "starting": "7a8594", "failing": "d23b32"}[kind]
    circle = f"%3Ccircle cx='1' cy='1' r='1' fill='%23{tone}'/%3E"
    return f"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 2 2'%3E{circle}%3C/svg%3E"


def _kind(snapshot: Snapshot, health: Health) -> str:
    if not health.ok:
        return "failing"
    return {Role.STARTING: "starting", Role.STANDBY: "standby", Role.WORKING: "ok"}[snapshot.role]


def _headline(kind: str, snapshot: Snapshot) -> str:
    if kind == "failing":
        return "Standby needs attention" if snapshot.role is Role.STANDBY else "Needs attention"
    return {"ok": "Collecting", "standby": "Standing by", "starting": "Starting"}[kind]


def _state(kind: str, snapshot: Snapshot, health: Health, now_ms: int) -> str:
    reasons = _list(health.reasons)
    latest = snapshot.latest
    if latest and latest.reasons and latest.outcome is not CycleOutcome.FAILED:
        left = _list(latest.texts, "soft")
        reasons += f'<p class="soft left">The last cycle left something for the next one:</p>{left}'
    return (
        f'<section class="state {kind}"><svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{_ICONS[kind]}</svg>'
        f"<div><h2>{_headline(kind, snapshot)}</h2><p>{_situation(snapshot, now_ms)}</p>{reasons}</div></section>"
    )


def _situation(snapshot: Snapshot, now_ms: int) -> str:
    """The state in one line."""
    for_s = duration((now_ms - snapshot.role_since_ms) / 1000)
    if snapshot.role is Role.STANDBY:
        return f"Another collector is at work; this one takes over when that one ends. Standing by for {for_s}."
    if snapshot.role is Role.STARTING:
        return f"Waiting for its dependencies for {for_s}; no cycle has begun."
    interval_ms = max(1, int(snapshot.poll_interval_s * 1000))
    due_ms = (now_ms // interval_ms + 1) * interval_ms
    due = f"the next one is due at {utc(due_ms, '%H:%M' if interval_ms % 60_000 == 0 else '%H:%M:%S')} UTC."
    if snapshot.last_completed_ms is None:
        return f"No cycle has been completed yet; {due}"
    return f"The last completed cycle ended {duration((now_ms - snapshot.last_completed_ms) / 1000)} ago; {due}"


def _tiles(latest: CycleReport) -> str:
    worst_s = max((_behind(latest, each.worst_ms) for each in latest.reached.values()), default=None)
    tiles = [
        ("Points", f"{latest.points:,}", "in the last cycle"),
        ("Duration", duration(latest.seconds), f"database {duration(latest.database_s)}"),
        ("Interfaces", f"{latest.active:,}", _states(latest)),
        ("Furthest behind", "none" if worst_s is None else duration(worst_s), f"{latest.idle:,} idle series left out"),
    ]
    items = "".join(f"<div><dt>{title}</dt><dd>{figure}<small>{more}</small></dd></div>" for title, figure, more in tiles)
    return f'<section><dl class="tiles">{items}</dl></section>'


def _states(latest: CycleReport) -> str:
    states = ((latest.draining, "draining"), (latest.untrusted, "untrusted"), (latest.held_back, "held back"))
    return ", ".join(["active", *(f"{number:,} {state}" for number, state in states if number)])


def _behind(latest: CycleReport, reached_ms: int) -> float:
    return max(0, latest.settled_ms - reached_ms) / 1000


def _lag(latest: CycleReport) -> str:
    if not latest.reached:
        return _note("The last cycle left no figures.")
    rows = [
        (_head(kind), _number(duration(_behind(latest, each.median_ms))), _number(duration(_behind(latest, each.worst_ms))),
         _number(f"{each.series:,}"))
        for kind, each in latest.reached.items()
    ]
    return _table(("Record type", "Median", "Worst", "Series"), rows, numbers_from=1)


def _dependencies(snapshot: Snapshot) -> str:
    if not snapshot.dependencies:
        return _note("None.")
    rows = [
        (f'<th scope="row">{escape(each.name)}</th>', f"<td>{_dependency(each, snapshot.role)}</td>")
        for each in snapshot.dependencies
    ]
    return _table((), rows)


def _dependency(dependency: Dependency, role: Role) -> str:
    since = f"since {utc(dependency.since_ms)}"
    if not asked(dependency, role):
        return '<span class="soft">not asked while standing by</span>'
    if dependency.down:
        return f'<span class="bad">down</span> {since}<br><span class="soft">{escape(dependency.last_error)}</span>'
    if not dependency.up_once:
        return '<span class="soft">not tried yet</span>'
    before = f'<br><span class="soft">before: {escape(dependency.last_error)}</span>' if dependency.last_error else ""
    return f'<span class="good">up</span> {since}{before}'


def _failing(latest: CycleReport) -> str:
    if not latest.failing:
        return _note("No window failed in the last cycle.")
    rows = [(_head(name), _number(f"{number:,}")) for name, number in latest.failing]
    return _table(("Interface", "Windows failed in the last cycle"), rows, numbers_from=1)


def _cycles(reports: Sequence[CycleReport]) -> str:
    tones = {CycleOutcome.COMPLETE: "", CycleOutcome.CUT: "warn", CycleOutcome.FAILED: "bad"}
    words = {CycleOutcome.COMPLETE: "complete", CycleOutcome.CUT: "cut short", CycleOutcome.FAILED: "failed"}
    rows = [
        (
            f'<th scope="row"><span class="wide">{utc(each.start_ms, "%Y-%m-%d ")}</span>{utc(each.start_ms, "%H:%M:%S")}</th>',
            f'<td class="{tones[each.outcome or CycleOutcome.CUT]}">{words[each.outcome or CycleOutcome.CUT]}</td>',
            _number(f"{each.seconds:,.0f} s" if each.seconds >= 10 else duration(each.seconds)),
            _number(f"{each.points:,}"),
            _number(f"{undone(each):,}"),
        )
        for each in reversed(reports[-SHOWN_CYCLES:])
    ]
    return _table(("Start (UTC)", "Outcome", "Duration", "Points", "Failed"), rows, numbers_from=2)


def _footer(snapshot: Snapshot, counts: Mapping[tuple[Count, str], int]) -> str:
    def total(count: Count) -> str:
        return f"{sum(number for (counted, _), number in counts.items() if counted is count):,}"

    return (
        f"<footer><p>Since the start at {utc(snapshot.started_ms)}: {total(Count.POINTS_CONFIRMED)} points confirmed, "
        f"{total(Count.POINTS_INVALID)} dropped as invalid, {total(Count.CYCLES_SKIPPED)} cycles skipped. "
        f"All times are UTC; this page renews itself every {REFRESH_S} s. Version {__version__}. "
        'See also <a href="/metrics">metrics</a> and <a href="/healthz">health</a>.</p></footer>'
    )


def _section(title: str, body: str, width: str = "") -> str:
    return f'<section class="{width}"><h2>{title}</h2>{body}</section>'


def _note(text: str) -> str:
    return f'<p class="note">{text}</p>'


def _head(text: object) -> str:
    return f'<th scope="row" class="name">{escape(text)}</th>'


def _number(text: str) -> str:
    return f'<td class="number">{text}</td>'


def _list(lines: Sequence[str], tone: str = "") -> str:
    if not lines:
        return ""
    more = [f"and {len(lines) - MOST_REASONS} more"] if len(lines) > MOST_REASONS else []
    return f'<ul class="{tone}">' + "".join(f"<li>{escape(each)}</li>" for each in [*lines[:MOST_REASONS], *more]) + "</ul>"


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]], numbers_from: int = 99) -> str:
    """A table of cells that are HTML already; columns from `numbers_from` on are set to the right."""
    heads = "".join(
        f'<th scope="col"{" class=number" if at >= numbers_from else ""}>{title}</th>' for at, title in enumerate(titles)
    )
    head = f"<thead><tr>{heads}</tr></thead>" if titles else ""
    lines = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<div><table>{head}<tbody>{lines}</tbody></table></div>"
