"""What a listing changes in the table: a function from both to `Changes`; the store applies them.

| the listing has the name | the table has                | what happens                                                    |
| ------------------------ | ---------------------------- | --------------------------------------------------------------- |
| yes                      | nothing                      | new row, or held back when too many at once                     |
| yes                      | an active row                | nothing                                                         |
| yes                      | two active rows              | the later one is retired, unless it is ahead of the other       |
| yes                      | retired rows only            | new row; the old ones keep their history                        |
| yes                      | a row that cannot be trusted | nothing: a rival row would be in the way once it is mended      |
| no                       | active rows                  | retired at the listing's time, or held back when too many at once |
| no                       | retired rows only            | nothing                                                         |
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from collector.core.model import Changes, Held, Listing, NewRow, RecordType, Retirement, Row, Table
from collector.cycle.plan import History, begin_after_earlier_rows
from collector.cycle.rules import Rules

FEW_RETIRED = 10
"""Up to so many interfaces may disappear at once without a second listing."""
FEW_NEW = 1000
"""Up to so many interfaces may appear at once without one, and up to as many as are active."""
EARLY_SHARE = 0.1
"""A listing that comes this share of a poll interval too early, at most 1 s, counts as an interval later: clocks jitter."""


def new_names(listing: Listing, table: Table) -> list[str]:
    """The names that the listing has and no row that is active or untrusted; `reconcile` needs their history."""
    known = {row.name for row in table.rows if row.active} | {row.name for row in table.untrusted}
    return [name for name in listing.interfaces if name not in known]


def reconcile(listing: Listing, table: Table, history: History, held: Held, rules: Rules) -> Changes:
    """What to insert and what to retire; `held` is what the last listing's changes held back."""
    active = [row for row in table.rows if row.active]
    missing = [row for row in active if row.name not in listing.interfaces]
    most = max(FEW_RETIRED, rules.max_retired_share * len(active))
    gone, still_missing = _accepted([row.name for row in missing], held.missing, listing.time_ms, most, rules)
    # a clock that was set back must not end a row before it began
    retired = [Retirement(row.id, row.name, max(gone[row.name], row.active_from_ms)) for row in missing if row.name in gone]
    names = new_names(listing, table)
    # the first listing of an empty table adds all that it has
    first = not (table.rows or table.untrusted or any(history.get(name) for name in names))
    most = math.inf if first or rules.max_retired_share >= 1 else max(FEW_NEW, len(active))
    new, still_added = _accepted(names, held.added, listing.time_ms, most, rules)
    return Changes(
        new=tuple(_new_row(name, since_ms, table, history.get(name, ()), rules) for name, since_ms in new.items()),
        retired=(*retired, *_rivals(active, listing, rules.record_types)),
        held=Held(still_missing, still_added),
    )


def _accepted(
    names: Sequence[str], held: Mapping[str, int], now_ms: int, most: float, rules: Rules
) -> tuple[dict[str, int], dict[str, int]]:
    """The names that change something now, and those that are held back, each with the time that showed it first.

    More than `most` at once wait until a second listing, a poll interval later, says the same.
    """
    since = {name: min(held.get(name, now_ms), now_ms) for name in names}
    ripe_ms = now_ms - rules.poll_ms + min(1000, int(rules.poll_ms * EARLY_SHARE))
    fresh = [name for name in names if name not in held or since[name] > ripe_ms]
    waiting = {name: since[name] for name in fresh} if len(fresh) > most else {}
    return {name: at for name, at in since.items() if name not in waiting}, waiting


def _new_row(name: str, since_ms: int, table: Table, earlier: Sequence[Row], rules: Rules) -> NewRow:
    """With checkpoints where the collector was away for longer than the lookback: at the newest checkpoint of all.

    The interface may have appeared at any time since then.
    """
    newest_ms = table.newest_ms
    if newest_ms is None or newest_ms >= since_ms - rules.lookback_ms:
        return NewRow(name, since_ms)
    checkpoints = {
        each: begin_after_earlier_rows(since_ms, newest_ms, [bound for row in earlier for bound in row.ends(each)], rules)
        for each in rules.record_types
    }
    return NewRow(name, since_ms, checkpoints)


def _rivals(active: Iterable[Row], listing: Listing, record_types: Iterable[RecordType]) -> list[Retirement]:
    """Of two active rows of one name, in the order of the ids, the later one, as soon as it is nowhere ahead of the other.

    Collectors that disagree about their shares make such rows. It ends where it stands, so that nothing of it is left.
    """
    first: dict[str, Row] = {}
    wanted = tuple(record_types)
    retired = []
    for row in active:
        if row.name not in listing.interfaces:
            continue
        other = first.setdefault(row.name, row)
        if other is not row and all(row.checkpoints.get(each, 0) <= other.checkpoints.get(each, 0) for each in wanted):
            retired.append(Retirement(row.id, row.name, max([row.active_from_ms, *row.checkpoints.values()])))
    return retired
