"""`status`: up to where there are points, by the table alone.

Works beside a running collector or without one: it takes no lock, writes nothing, and asks nobody but the database.
"""

import json
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from collector.commands import wiring
from collector.commands.lag import LagRules, Position, RowStanding, Standing, State, Voice, stand
from collector.commands.nearest import nearest
from collector.config.configuration import Config
from collector.core import outage
from collector.core.errors import CollectorError
from collector.core.model import Table
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.cycle.plan import collected, spans
from collector.watch.format import duration, utc

log = logging.getLogger(__name__)

FURTHEST = 10
UNTRUSTED = 10


def status(config: Config, *, sqlite: str | None, as_json: bool, max_lag_s: float | None, name: str | None) -> int:
    """Print where the table stands, or where one interface does; the exit code.

    1: the database cannot be read, no such interface, or, with `max_lag_s`, too far behind; the reason comes first.
    """
    now_ms = int(time.time() * 1000)
    database = wiring.identity(config, sqlite, to_stdout=True).database
    table = _read(config, sqlite, now_ms, say=max_lag_s is not None and not as_json)
    if table is None:
        return 1
    rules = LagRules(
        config.record_types, config.settle_delay_s, config.late_data_s, wiring.alarm_rules(config).behind_ms / 1000
    )
    plan = wiring.plan_rules(config)
    ids = {row.id for row, _ in collected(table.rows)}
    standing = stand(table, ids, {span.series.row_id for span in spans(table.rows, {}, now_ms, plan)}, now_ms, rules)
    if name is not None:
        whole, standing = standing, standing.of(name)
        if not (standing.rows or standing.untrusted):
            elsewhere = "" if config.share.holds(name) else f", share {config.share}, which it does not belong to"
            names = (each.row.name for each in whole.rows)
            log.error("no interface %s in the table%s%s", ascii(name), elsewhere, nearest(name, names))
            return 1
    faults = [] if max_lag_s is None else judge(standing, max_lag_s)
    if as_json:
        figures = overview(standing) if name is None else {"name": name, **explanation(standing)}
        print(json.dumps({"database": database, **figures, "max_lag_s": max_lag_s, "faults": faults}, indent=2))
    else:
        lines = overview_lines(standing) if name is None else explanation_lines(name, standing, rules)
        # a monitoring system shows the first line
        first = [] if max_lag_s is None else [f"LATE: {'; '.join(faults)}" if faults else f"ok: within {max_lag_s:g} s"]
        print("\n".join([*first, f"{database}, share {config.share}" if not config.share.whole else database, *lines]))
    return 1 if faults else 0


def judge(standing: Standing, max_lag_s: float) -> list[str]:
    """What `--max-lag` finds wrong."""
    lags = standing.lag()
    faults = [
        f"{record_type}: the median of {lag.talking} talking series is {lag.median_s:.0f} s behind, more than {max_lag_s:g} s"
        for record_type, lag in lags.items()
        if lag.median_s is not None and lag.median_s > max_lag_s
    ]
    silent = sum(lag.silent for lag in lags.values())
    if silent and not any(lag.talking for lag in lags.values()):
        faults.append(f"none of the {silent} series that have had points talks")
    if standing.untrusted and not standing.count(State.ACTIVE):
        faults.append(f"none of the {len(standing.untrusted)} rows can be trusted")
    return faults


def overview(standing: Standing) -> dict[str, Any]:
    """The figures of the whole table, for `--json`."""
    return {
        "time_ms": standing.now_ms,
        "settled_ms": standing.settled_ms,
        "interfaces": {**{state.value: standing.count(state) for state in State}, "untrusted": len(standing.untrusted)},
        "lag": {
            record_type.value: {
                "talking": lag.talking,
                "median_s": lag.median_s,
                "worst_s": lag.worst_s,
                "silent": lag.silent,
                "no_points_yet": lag.unheard,
            }
            for record_type, lag in standing.lag().items()
        },
        "furthest_behind": [{"name": each.row.name, **_figures(each)} for each in standing.furthest(FURTHEST)],
        "untrusted": [{"id": each.id, "name": each.name, "reason": each.reason} for each in standing.untrusted],
    }


def overview_lines(standing: Standing) -> list[str]:
    """The same for people."""
    shown = {**{state.value: standing.count(state) for state in State}, "untrusted": len(standing.untrusted)}
    if not shown[State.DOUBLE.value]:
        del shown[State.DOUBLE.value]
    lags = [
        (record_type.value, f"{lag.talking:,}", _span(lag.median_s), _span(lag.worst_s), f"{lag.silent:,}", f"{lag.unheard:,}")
        for record_type, lag in standing.lag().items()
    ]
    lines = [
        f"{utc(standing.now_ms)} UTC; points are settled up to {utc(standing.settled_ms)} UTC",
        "",
        *_aligned([("interfaces", *shown), ("", *(f"{count:,}" for count in shown.values()))]),
        "",
        *_aligned([("series", "talking", "median behind", "worst behind", "silent", "no points yet"), *lags]),
    ]
    if furthest := standing.furthest(FURTHEST):
        rows = [
            (printable(each.row.name), each.record_type.value, _span(each.behind_s), utc(each.checkpoint_ms or 0))
            for each in furthest
        ]
        lines += ["", *_aligned([("furthest behind", "", "behind", "points up to (UTC)"), *rows], left=2)]
    if standing.untrusted:
        lines += ["", *(f"{_untrusted(each.id, each.reason)}: {printable(each.name)}" for each in standing.untrusted[:UNTRUSTED])]
        if (more := len(standing.untrusted) - UNTRUSTED) > 0:
            lines.append(f"and {more:,} rows more")
    return lines


def explanation(standing: Standing) -> dict[str, Any]:
    """One interface's rows, for `--json`."""
    rows: list[dict[str, Any]] = [
        {
            "id": each.row.id,
            "state": each.state.value,
            "active_from_ms": each.row.active_from_ms,
            "active_until_ms": each.row.active_until_ms,
            "series": [_figures(position) for position in each.positions],
        }
        for each in standing.rows
    ]
    untrusted = [{"id": each.id, "state": "untrusted", "reason": each.reason} for each in standing.untrusted]
    return {"time_ms": standing.now_ms, "settled_ms": standing.settled_ms, "rows": rows + untrusted}


def explanation_lines(name: str, standing: Standing, rules: LagRules) -> list[str]:
    """The same for people."""
    lines = [ascii(name)[1:-1], f"{utc(standing.now_ms)} UTC; points are settled up to {utc(standing.settled_ms)} UTC"]
    for each in standing.rows:
        positions = [(f"  {position.record_type}", _told(position, each.state, rules)) for position in each.positions]
        lines += ["", _row_line(each), *_aligned(positions, left=2)]
    for row in standing.untrusted:
        lines += ["", _untrusted(row.id, row.reason)]
    return lines


def _untrusted(row_id: int, reason: str) -> str:
    return f"row {row_id}: cannot be trusted and is left alone, {printable(reason)}"


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


def _told(position: Position, state: State, rules: LagRules) -> str:
    """Up to where a series has points, and since when it has had none."""
    checkpoint_ms, behind_s = position.checkpoint_ms, position.behind_s
    if checkpoint_ms is None or behind_s is None:
        return "no points yet"
    if state is State.RETIRED:
        return f"done, checkpoint {_exact(checkpoint_ms)}"
    if position.voice is Voice.SILENT:
        return f"silent for more than {duration(rules.late_s)}, checkpoint {_exact(checkpoint_ms)}"
    points = f"points up to {_exact(checkpoint_ms)}, {duration(behind_s)} behind"
    return f"{points}: silent, or not collected, since then" if behind_s > rules.pause_s else points


def _read(config: Config, sqlite: str | None, now_ms: int, say: bool) -> Table | None:
    """The share's part of the table; None, and a line that says why, when it cannot be read. `say`: on stdout."""
    store = wiring.store(config, sqlite, Stop())
    try:
        with _quiet():
            store.open(create=False)
            table = store.read(now_ms)
    except CollectorError as error:
        line = f"the database cannot be read: {error}"
        if say:
            print(line)
        else:
            log.error("%s", line)
        return None
    finally:
        store.close()
    holds = config.share.holds
    rows = tuple(each for each in table.rows if holds(each.name))
    return Table(rows, tuple(each for each in table.untrusted if holds(each.name)), table.newest_ms)


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


def _figures(position: Position) -> dict[str, Any]:
    return {
        "record_type": position.record_type.value,
        "checkpoint_ms": position.checkpoint_ms,
        "behind_s": position.behind_s,
        "voice": position.voice.value,
    }


def _span(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


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
