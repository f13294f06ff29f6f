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

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from collector.core.model import Changes, Held, Listing, NewRow, RecordType, Retirement, Row, Table
from collector.cycle.plan import History

FEW_RETIRED = 10
"""Up to so many interfaces may disappear at once without a second listing."""
FEW_NEW = 1000
"""Up to so many interfaces may appear at once without one, and up to as many as are active."""
EARLY_SHARE = 0.1
"""A listing that comes this share of a poll interval too early, at most 1 s, counts as an interval later: clocks jitter."""


@dataclass(frozen=True, slots=True)
class ReconcileRules:
    """The settings that reconciliation depends on."""

    record_types: tuple[RecordType, ...]
    lookback_ms: int
    poll_ms: int
    late_ms: int
    max_retired_share: float
    """1: every listing is believed at once, one that adds too many names too."""


def new_names(listing: Listing, table: Table) -> list[str]:
    """The names that the listing has and no row that is active or untrusted; `reconcile` needs their history."""
    known = {row.name for row in table.rows if row.active} | {row.name for row in table.untrusted}
    return [name for name in listing.interfaces if name not in known]


def reconcile(listing: Listing, table: Table, history: History, held: Held, rules: ReconcileRules) -> Changes:
    """What to insert and what to retire; `held` is what the last listing's changes held back."""
    active = [row for row in table.rows if row.active]
    missing = [row for row in active if row.name not in listing.interfaces]
    retired, still_missing = _retire(missing, len(active), listing.time_ms, held.missing, rules)
    names = new_names(listing, table)
    known = bool(table.rows or table.untrusted or any(history.get(name) for name in names))
    new, still_added = _add(names, len(active), listing.time_ms, held.added, known, rules)
    return Changes(
        new=tuple(_new_row(name, since_ms, table, history.get(name, ()), rules) for name, since_ms in new),
        retired=(*retired, *_rivals(active, listing, rules.record_types)),
        held=Held(still_missing, still_added),
    )


def _ripe_ms(now_ms: int, rules: ReconcileRules) -> int:
    """What was held back at this time or before has waited for a poll interval."""
    return now_ms - rules.poll_ms + min(1000, int(rules.poll_ms * EARLY_SHARE))


def _retire(
    missing: list[Row], active: int, now_ms: int, held: Mapping[str, int], rules: ReconcileRules
) -> tuple[list[Retirement], dict[str, int]]:
    """Retire what is missing; but too many at once only after a second listing, a poll interval later, lacks them too."""
    since = {row.name: min(held.get(row.name, now_ms), now_ms) for row in missing}
    ripe = [row for row in missing if row.name in held and since[row.name] <= _ripe_ms(now_ms, rules)]
    ripe_ids = {row.id for row in ripe}
    fresh = [row for row in missing if row.id not in ripe_ids]
    if len(fresh) > max(FEW_RETIRED, rules.max_retired_share * active):
        return _retirements(ripe, since), {row.name: since[row.name] for row in fresh}
    return _retirements(ripe + fresh, since), {}


def _retirements(rows: list[Row], since: Mapping[str, int]) -> list[Retirement]:
    # a clock that was set back must not end a row before it began
    return [Retirement(row.id, row.name, max(since[row.name], row.active_from_ms)) for row in rows]


def _add(
    names: list[str], active: int, now_ms: int, held: Mapping[str, int], known: bool, rules: ReconcileRules
) -> tuple[list[tuple[str, int]], dict[str, int]]:
    """Add what is new; but too many at once only after a second listing, a poll interval later, has them too.

    `known`: there have been rows before, so that this is not the first listing of an empty table.
    """
    since = {name: min(held.get(name, now_ms), now_ms) for name in names}
    fresh = [name for name in names if not (name in held and since[name] <= _ripe_ms(now_ms, rules))]
    if not known or rules.max_retired_share >= 1 or len(fresh) <= max(FEW_NEW, active):
        return list(since.items()), {}
    waiting = set(fresh)
    return [(name, at) for name, at in since.items() if name not in waiting], {name: since[name] for name in fresh}


def _new_row(name: str, since_ms: int, table: Table, earlier: Sequence[Row], rules: ReconcileRules) -> NewRow:
    """With checkpoints where the collector was away for longer than the lookback: at the newest checkpoint of all.

    The interface may have appeared at any time since then. One that was gone for no longer than LATE_DATA begins where it
    ended all the same, and none begins before the end of an earlier row of its name: no point comes twice.
    """
    newest_ms = table.newest_ms
    if newest_ms is None or newest_ms >= since_ms - rules.lookback_ms:
        return NewRow(name, since_ms)
    checkpoints = {}
    for record_type in rules.record_types:
        covered = [bound for row in earlier for bound in row.ends(record_type)]
        returns = bool(covered) and since_ms - max(covered) <= rules.late_ms
        checkpoints[record_type] = max(covered) if returns else max([newest_ms, *covered])
    return NewRow(name, since_ms, checkpoints)


def _rivals(active: Iterable[Row], listing: Listing, record_types: Iterable[RecordType]) -> list[Retirement]:
    """Of two active rows of one name the later one, as soon as it is nowhere ahead of the other.

    Collectors that disagree about their shares make such rows. It ends where it stands, so that nothing of it is left.
    """
    first: dict[str, Row] = {}
    wanted = tuple(record_types)
    retired = []
    for row in sorted(active, key=lambda row: row.id):
        if row.name not in listing.interfaces:
            continue
        other = first.setdefault(row.name, row)
        if other is not row and all(row.checkpoints.get(each, 0) <= other.checkpoints.get(each, 0) for each in wanted):
            retired.append(Retirement(row.id, row.name, max([row.active_from_ms, *row.checkpoints.values()])))
    return retired
