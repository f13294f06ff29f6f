"""`status`: how far each record type has been collected, by the table alone.

Works beside a running collector or without one: it takes no lock, writes nothing, and asks nobody but the database.
"""

import difflib
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from collector.commands import wiring
from collector.commands.lag import Position, RowStanding, Standing, State, stand
from collector.config.configuration import Config
from collector.core import outage
from collector.core.errors import CollectorError
from collector.core.model import Series, Table, Window
from collector.core.shutdown import Stop
from collector.cycle.plan import PlanRules, spans
from collector.watch.format import duration, utc

log = logging.getLogger(__name__)

FURTHEST = 10
SUGGESTED = 5
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")


def status(config: Config, *, sqlite: str | None, as_json: bool, max_lag_s: float | None, name: str | None) -> int:
    """Print where the table stands, or where one interface does; the exit code.

    1: the database cannot be read, no such interface, or, with `max_lag_s`, too far behind.
    """
    now_ms = int(time.time() * 1000)
    table = _read(config, sqlite, now_ms)
    if table is None:
        return 1
    rules = wiring.plan_rules(config)
    standing = stand(table, now_ms, rules, config.idle_backoff_s + 2 * config.poll_interval_s)
    due: dict[Series, Window] = {}
    if name is not None:
        whole, standing = standing, standing.of(name)
        if not (standing.rows or standing.untrusted):
            log.error("no interface %s in the table%s", ascii(name), _nearest(name, whole))
            return 1
        due = _due(Table(tuple(each for each in table.rows if each.name == name)), now_ms, rules)
    faults = [] if max_lag_s is None else judge(standing, max_lag_s)
    if as_json:
        figures = overview(standing) if name is None else {"name": name, **explanation(standing, due)}
        print(json.dumps({**figures, "max_lag_s": max_lag_s, "faults": faults}, indent=2))
    else:
        print("\n".join(overview_lines(standing) if name is None else explanation_lines(name, standing, due)))
    for fault in faults:
        log.error("%s", fault)
    return 1 if faults else 0


def judge(standing: Standing, max_lag_s: float) -> list[str]:
    """What `--max-lag` finds wrong, a line each."""
    faults = [
        f"{record_type}: the median of {lag.series} active series is {lag.median_s:.0f} s behind, more than {max_lag_s:g} s"
        for record_type, lag in standing.lag().items()
        if lag.median_s > max_lag_s
    ]
    if standing.untrusted and not standing.count(State.ACTIVE):
        faults.append(f"none of the {len(standing.untrusted)} rows can be trusted")
    if late := standing.late:
        worst = max(late, key=lambda each: each.behind_s)
        faults.append(
            f"{len(late)} series {'is' if len(late) == 1 else 'are'} late, more than {standing.late_after_s:g} s behind:"
            f" {worst.series.name} {worst.series.record_type} has come to {utc(worst.reached_ms)} UTC"
        )
    return faults


def overview(standing: Standing) -> dict[str, Any]:
    """The figures of the whole table, for `--json`."""
    late = standing.late
    return {
        "time_ms": standing.now_ms,
        "due_until_ms": standing.due_ms,
        "interfaces": {
            **{state.value: standing.count(state) for state in State},
            "untrusted": len(standing.untrusted),
        },
        "lag": {
            record_type.value: {
                "worst_s": lag.worst_s,
                "median_s": lag.median_s,
                "series": lag.series,
                "late": sum(each.series.record_type is record_type for each in late),
            }
            for record_type, lag in standing.lag().items()
        },
        "late": len(late),
        "late_after_s": standing.late_after_s,
        "furthest_behind": [{"name": each.series.name, **_figures(each)} for each in standing.furthest(FURTHEST)],
    }


def overview_lines(standing: Standing) -> list[str]:
    """The same for people."""
    shown = {**{state.value: standing.count(state) for state in State}, "untrusted": len(standing.untrusted)}
    if not shown[State.DOUBLE.value]:
        del shown[State.DOUBLE.value]
    late = standing.late
    lines = [
        f"{utc(standing.now_ms)} UTC; points are due up to {utc(standing.due_ms)} UTC",
        "",
        *_aligned([("interfaces", *shown), ("", *(f"{count:,}" for count in shown.values()))]),
        "",
        *_aligned(
            [("active series", "worst", "median", "series")]
            + [
                (record_type.value, duration(lag.worst_s), duration(lag.median_s), f"{lag.series:,}")
                for record_type, lag in standing.lag().items()
            ]
        ),
        "",
        f"late series: {len(late):,} (more than {duration(standing.late_after_s)} behind)",
    ]
    if furthest := standing.furthest(FURTHEST):
        rows = [
            (each.series.name, each.series.record_type.value, duration(each.behind_s), utc(each.reached_ms), "late" * each.late)
            for each in furthest
        ]
        lines += ["", *_aligned([("furthest behind", "", "behind", "has come to (UTC)", ""), *rows], left=2)]
    return lines


def explanation(standing: Standing, due: dict[Series, Window]) -> dict[str, Any]:
    """One interface's rows, for `--json`."""
    rows: list[dict[str, Any]] = [
        {
            "id": each.row.id,
            "state": each.state.value,
            "active_from_ms": each.row.active_from_ms,
            "active_until_ms": each.row.active_until_ms,
            "series": [{**_figures(position), "due": _window(due.get(position.series))} for position in each.positions],
        }
        for each in standing.rows
    ]
    untrusted = [{"id": each.id, "state": "untrusted", "reason": each.reason} for each in standing.untrusted]
    return {"time_ms": standing.now_ms, "due_until_ms": standing.due_ms, "rows": rows + untrusted}


def explanation_lines(name: str, standing: Standing, due: dict[Series, Window]) -> list[str]:
    """The same for people."""
    lines = [ascii(name)[1:-1], f"{utc(standing.now_ms)} UTC; points are due up to {utc(standing.due_ms)} UTC"]
    for each in standing.rows:
        positions = [_position_line(position, each.state, due.get(position.series)) for position in each.positions]
        lines += ["", _row_line(each), *_aligned(positions, left=5)]
    for row in standing.untrusted:
        lines += ["", f"row {row.id}: cannot be trusted and is left alone, {row.reason}"]
    return lines


def _row_line(each: RowStanding) -> str:
    row = each.row
    since = f"row {row.id}: listed from {_exact(row.active_from_ms)}"
    if row.active_until_ms is not None:
        since += f" until {_exact(row.active_until_ms)}"
    return since + {
        State.ACTIVE: ", active",
        State.DRAINING: ", retired and still collected up to its end",
        State.RETIRED: ", retired and collected up to its end",
        State.DOUBLE: ", active but not collected, because an earlier active row has the same name",
    }[each.state]


def _position_line(position: Position, state: State, window: Window | None) -> tuple[str, ...]:
    checkpoint_ms = position.checkpoint_ms
    nothing = "nothing is due any more" if state is State.RETIRED else f"nothing is due yet, next: {utc(position.reached_ms)} on"
    return (
        f"  {position.series.record_type}",
        "no checkpoint yet" if checkpoint_ms is None else f"checkpoint {_exact(checkpoint_ms)}",
        f"{duration(position.behind_s)} behind",
        "late" if position.late else "not late",
        f"due next: {_exact(window.begin_ms)} to {_exact(window.end_ms)}" if window else nothing,
    )


def _read(config: Config, sqlite: str | None, now_ms: int) -> Table | None:
    """The table; None, and a line that says why, when it cannot be read."""
    store = wiring.store(config, sqlite, Stop())
    try:
        with _quiet():
            store.open(create=False)
            return store.read(now_ms)
    except CollectorError as error:
        log.error("the database cannot be read: %s", error)
        return None
    finally:
        store.close()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without an outage's own lines: there is one try, and its failure is said once."""
    logger = logging.getLogger(outage.__name__)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _due(table: Table, now_ms: int, rules: PlanRules) -> dict[Series, Window]:
    """What a cycle that began now would ask for first, of each series."""
    return {span.series: span.window(rules.max_window_ms) for span in spans(table, now_ms, rules)}


def _nearest(name: str, standing: Standing) -> str:
    """The names that were perhaps meant: those that hold the text, escaped or not, and then those that look like it."""
    names = list(dict.fromkeys(each.row.name for each in standing.rows))
    wanted = _plain(name)
    holding = [each for each in names if wanted and wanted in _plain(each)]
    alike = difflib.get_close_matches(name, names, n=SUGGESTED, cutoff=0.5) if len(holding) < SUGGESTED else []
    nearest = list(dict.fromkeys(holding + alike))[:SUGGESTED]
    return f"; the nearest: {', '.join(nearest)}" if nearest else ""


def _plain(name: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)), name).lower()


def _figures(position: Position) -> dict[str, Any]:
    return {
        "record_type": position.series.record_type.value,
        "checkpoint_ms": position.checkpoint_ms,
        "reached_ms": position.reached_ms,
        "behind_s": position.behind_s,
        "late": position.late,
    }


def _window(window: Window | None) -> dict[str, int] | None:
    return {"begin_ms": window.begin_ms, "end_ms": window.end_ms} if window else None


def _exact(ms: int) -> str:
    """For reading, and as the table holds it."""
    return f"{utc(ms)} UTC ({ms})"


def _aligned(rows: Iterable[Sequence[str]], left: int = 1) -> list[str]:
    """Columns of one width each; the first `left` of them begin at the left, the others end at the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            text.ljust(width) if index < left else text.rjust(width)
            for index, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return [line.rstrip() for line in lines]
