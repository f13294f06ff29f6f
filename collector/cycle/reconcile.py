"""What a listing changes in the table (SPEC section 2): a function from both to `Changes`; the store applies them.

| the listing has the name | the table has                | what happens                                                    |
| ------------------------ | ---------------------------- | --------------------------------------------------------------- |
| yes                      | nothing                      | new row                                                         |
| yes                      | an active row                | nothing                                                         |
| yes                      | retired rows only            | new row; the old ones keep their history                        |
| yes                      | a row that cannot be trusted | nothing: a rival row would be in the way once it is mended      |
| no                       | active rows                  | retired at the listing's time, or held back when too many at once |
| no                       | retired rows only            | nothing                                                         |
"""

from collections.abc import Mapping
from dataclasses import dataclass

from collector.core.model import Changes, Listing, NewRow, RecordType, Retirement, Row, Table

FEW = 10
"""Up to so many interfaces may disappear at once without a second listing."""
EARLY_SHARE = 0.1
"""A listing that comes this share of a poll interval too early, at most 1 s, counts as an interval later: clocks jitter."""


@dataclass(frozen=True, slots=True)
class ReconcileRules:
    """The settings that reconciliation depends on."""

    record_types: tuple[RecordType, ...]
    lookback_ms: int
    poll_ms: int
    max_retired_share: float


def reconcile(listing: Listing, table: Table, held: Mapping[str, int], rules: ReconcileRules) -> Changes:
    """What to insert and what to retire; `held` is what the last listing's changes held back."""
    active = [row for row in table.rows if row.active]
    known = {row.name for row in active} | {row.name for row in table.untrusted}
    new = [name for name in listing.interfaces if name not in known]
    missing = [row for row in active if row.name not in listing.interfaces]
    retired, still_held = _retire(missing, len(active), listing.time_ms, held, rules)
    starts = _starts_after_absence(listing.time_ms, table, rules)
    earlier = _rows_by_name(table, set(new)) if starts else {}
    return Changes(
        new=tuple(NewRow(name, listing.time_ms, _start(starts, earlier.get(name, ()))) for name in new),
        retired=tuple(retired),
        held=still_held,
    )


def _retire(
    missing: list[Row], active: int, now_ms: int, held: Mapping[str, int], rules: ReconcileRules
) -> tuple[list[Retirement], dict[str, int]]:
    """Retire what is missing; but too many at once only after a second listing, a poll interval later, lacks them too."""
    ripe_ms = now_ms - rules.poll_ms + min(1000, int(rules.poll_ms * EARLY_SHARE))
    since = {row.name: min(held.get(row.name, now_ms), now_ms) for row in missing}
    ripe = [row for row in missing if row.name in held and since[row.name] <= ripe_ms]
    fresh = [row for row in missing if not (row.name in held and since[row.name] <= ripe_ms)]
    if len(fresh) > max(FEW, rules.max_retired_share * active):
        return _retirements(ripe, since), {row.name: since[row.name] for row in fresh}
    return _retirements(ripe + fresh, since), {}


def _retirements(rows: list[Row], since: Mapping[str, int]) -> list[Retirement]:
    # a clock that was set back must not end a row before it began
    return [Retirement(row.id, row.name, max(since[row.name], row.active_from_ms)) for row in rows]


def _starts_after_absence(now_ms: int, table: Table, rules: ReconcileRules) -> dict[RecordType, int]:
    """Where new rows start when the collector was away for longer than the lookback: at the newest checkpoint of all.

    The interface may have appeared at any time since then. Empty when the lookback reaches far enough.
    """
    checkpoints = [row.checkpoints[each] for row in table.rows for each in rules.record_types if each in row.checkpoints]
    newest_ms = max(checkpoints, default=now_ms)
    return dict.fromkeys(rules.record_types, newest_ms) if newest_ms < now_ms - rules.lookback_ms else {}


def _rows_by_name(table: Table, names: set[str]) -> dict[str, list[Row]]:
    earlier: dict[str, list[Row]] = {}
    for row in table.rows:
        if row.name in names:
            earlier.setdefault(row.name, []).append(row)
    return earlier


def _start(starts: Mapping[RecordType, int], earlier: list[Row] | tuple[()]) -> dict[RecordType, int]:
    """Never before the end of an earlier row of the name: no point comes twice."""
    return {
        record_type: max([start_ms, *(bound for row in earlier for bound in row.ends(record_type))])
        for record_type, start_ms in starts.items()
    }
