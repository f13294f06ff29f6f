"""`status`: up to where there are points, by the table alone.

Works beside a running collector or without one: it takes no lock, writes nothing, and asks nobody but the database.
"""

import json
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from collector.commands import wiring
from collector.commands.lag import Position, RowLag, RowState, TableLag, Voice, table_lag
from collector.commands.nearest import nearest
from collector.config.configuration import Config
from collector.core import outage
from collector.core.errors import CollectorError
from collector.core.model import Table, UntrustedRow
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.cycle.rules import Rules
from collector.watch.format import duration, utc

log = logging.getLogger(__name__)

FURTHEST = 10
UNTRUSTED = 10


def status(config: Config, *, sqlite: str | None, as_json: bool, max_lag_s: float | None, name: str | None) -> int:
    """Print where the table stands, or where one interface does; the exit code.

    1: the database cannot be read, no such interface, or, with `max_lag_s`, too far behind; the reason comes first.
    """
    now_ms = int(time.time() * 1000)
    database = wiring.identity(config, sqlite).database
    found = _read(config, sqlite, now_ms, say=max_lag_s is not None and not as_json)
    if found is None:
        return 1
    rules = wiring.rules(config)
    table = table_lag(found, now_ms, rules)
    if name is not None:
        whole, table = table, table.of(name)
        if not (table.rows or table.untrusted):
            elsewhere = "" if config.share.holds(name) else f", share {config.share}, which it does not belong to"
            names = (each.row.name for each in whole.rows)
            log.error("no interface %s in the table%s%s", ascii(name), elsewhere, nearest(name, names))
            return 1
    faults = [] if max_lag_s is None else judge(table, max_lag_s)
    if as_json:
        figures = overview(table) if name is None else {"name": name, **explanation(table)}
        print(json.dumps({"database": database, **figures, "max_lag_s": max_lag_s, "faults": faults}, indent=2))
    else:
        lines = overview_lines(table) if name is None else explanation_lines(name, table, rules)
        # a monitoring system shows the first line
        first = [] if max_lag_s is None else [f"LATE: {'; '.join(faults)}" if faults else f"ok: within {max_lag_s:g} s"]
        print("\n".join([*first, f"{database}, share {config.share}" if not config.share.whole else database, *lines]))
    return 1 if faults else 0


def judge(table: TableLag, max_lag_s: float) -> list[str]:
    """What `--max-lag` finds wrong."""
    lags = table.by_record_type()
    faults = [
        f"{record_type}: the median of {lag.talking} talking series is {lag.median_s:.0f} s behind, more than {max_lag_s:g} s"
        for record_type, lag in lags.items()
        if lag.median_s is not None and lag.median_s > max_lag_s
    ]
    silent = sum(lag.silent for lag in lags.values())
    if silent and not any(lag.talking for lag in lags.values()):
        faults.append(f"none of the {silent} series that have had points talks")
    if table.untrusted and not table.counts()[RowState.ACTIVE]:
        faults.append(f"none of the {len(table.untrusted)} rows can be trusted")
    return faults


def overview(table: TableLag) -> dict[str, Any]:
    """The figures of the whole table, for `--json`."""
    return {
        "time_ms": table.now_ms,
        "settled_ms": table.settled_ms,
        "interfaces": table.counts(),
        "lag": {record_type: asdict(lag) for record_type, lag in table.by_record_type().items()},
        "furthest_behind": [{"name": name, **asdict(each)} for name, each in table.furthest(FURTHEST)],
        "untrusted": [asdict(each) for each in table.untrusted],
    }


def overview_lines(table: TableLag) -> list[str]:
    """The same for people."""
    shown = {state: f"{count:,}" for state, count in table.counts().items() if count or state != RowState.DOUBLE}
    lags = [
        (record_type, f"{lag.talking:,}", _span(lag.median_s), _span(lag.worst_s), f"{lag.silent:,}", f"{lag.no_points_yet:,}")
        for record_type, lag in table.by_record_type().items()
    ]
    lines = [
        _moment(table),
        "",
        *_aligned([("interfaces", *shown), ("", *shown.values())]),
        "",
        *_aligned([("series", "talking", "median behind", "worst behind", "silent", "no points yet"), *lags]),
    ]
    if furthest := table.furthest(FURTHEST):
        rows = [
            (printable(name), each.record_type, _span(each.behind_s), utc(each.checkpoint_ms or 0)) for name, each in furthest
        ]
        lines += ["", *_aligned([("furthest behind", "", "behind", "points up to (UTC)"), *rows], left=2)]
    if table.untrusted:
        lines += ["", *(f"{_untrusted(each)}: {printable(each.name)}" for each in table.untrusted[:UNTRUSTED])]
        if (more := len(table.untrusted) - UNTRUSTED) > 0:
            lines.append(f"and {more:,} rows more")
    return lines


def explanation(table: TableLag) -> dict[str, Any]:
    """One interface's rows, for `--json`."""
    rows: list[dict[str, Any]] = [
        {
            "id": each.row.id,
            "state": each.state,
            "active_from_ms": each.row.active_from_ms,
            "active_until_ms": each.row.active_until_ms,
            "series": [asdict(position) for position in each.positions],
        }
        for each in table.rows
    ]
    untrusted = [{"id": each.id, "state": "untrusted", "reason": each.reason} for each in table.untrusted]
    return {"time_ms": table.now_ms, "settled_ms": table.settled_ms, "rows": rows + untrusted}


def explanation_lines(name: str, table: TableLag, rules: Rules) -> list[str]:
    """The same for people."""
    lines = [ascii(name)[1:-1], _moment(table)]
    for each in table.rows:
        positions = [(f"  {position.record_type}", _told(position, each.state, rules)) for position in each.positions]
        lines += ["", _row_line(each), *_aligned(positions, left=2)]
    for row in table.untrusted:
        lines += ["", _untrusted(row)]
    return lines


def _moment(table: TableLag) -> str:
    return f"{utc(table.now_ms)} UTC; points are settled up to {utc(table.settled_ms)} UTC"


def _untrusted(row: UntrustedRow) -> str:
    return f"row {row.id}: cannot be trusted and is left alone, {printable(row.reason)}"


def _row_line(each: RowLag) -> str:
    row = each.row
    since = f"row {row.id}: listed from {_exact(row.active_from_ms)}"
    if row.active_until_ms is not None:
        since += f" until {_exact(row.active_until_ms)}"
    return since + {
        RowState.ACTIVE: ", active",
        RowState.DRAINING: ", retired and still collected up to its end",
        RowState.RETIRED: ", retired and collected up to its end",
        RowState.DOUBLE: ", active but not collected, because an earlier active row has the same name",
    }[each.state]


def _told(position: Position, state: RowState, rules: Rules) -> str:
    """Up to where a series has points, and since when it has had none."""
    checkpoint_ms, behind_s = position.checkpoint_ms, position.behind_s
    if checkpoint_ms is None or behind_s is None:
        return "no points yet"
    if state is RowState.RETIRED:
        return f"done, checkpoint {_exact(checkpoint_ms)}"
    if position.voice is Voice.SILENT:
        return f"silent for more than {duration(rules.late_ms / 1000)}, checkpoint {_exact(checkpoint_ms)}"
    points = f"points up to {_exact(checkpoint_ms)}, {duration(behind_s)} behind"
    return f"{points}: silent, or not collected, since then" if behind_s * 1000 > rules.behind_ms else points


def _read(config: Config, sqlite: str | None, now_ms: int, say: bool) -> Table | None:
    """The share's part of the table; None, and a line that says why, when it cannot be read. `say`: on stdout."""
    logging.getLogger(outage.__name__).disabled = True  # there is one try, and its failure is said once
    store = wiring.store(config, sqlite, Stop())
    try:
        store.open(create=False)
        return store.read(now_ms).of(config.share)
    except CollectorError as error:
        line = f"the database cannot be read: {error}"
        if say:
            print(line)
        else:
            log.error("%s", line)
        return None
    finally:
        store.close()


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
