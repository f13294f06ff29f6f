"""Up to where a series counts as collected: the rule, and the one place that moves a checkpoint.

A checkpoint follows the newest point, because silence proves nothing: the source may be late, in part or in whole. Silence
is believed after LATE_DATA, so that a dead interface trails by no more than that, and a real gap holds up nothing.

| the answer's newest point       | the checkpoint moves to                                            |
| ------------------------------- | ------------------------------------------------------------------ |
| within 30 s of the window's end | the window's end                                                   |
| earlier                         | 1 ms after that point                                              |
| none                            | nowhere                                                            |
| any, or none                    | at least LATE_DATA before the table's newest checkpoint, but never |
|                                 | beyond the window's end                                            |
| any, or none, with LATE_DATA=0  | the window's end                                                   |
| any, or none, of a retired row  | the window's end                                                   |
| whose successor has had points  |                                                                    |
"""

from collections import Counter
from dataclasses import dataclass, field

from collector.core.contracts import Store
from collector.core.errors import LockLostError
from collector.core.model import GRID_MS, Move, Series, Window
from collector.core.report import CycleReport, WindowOutcome


def next_checkpoint(
    window: Window, newest_ms: int | None, reached_ms: int, table_newest_ms: int | None, late_ms: int
) -> int | None:
    """Where the checkpoint moves after this answer; None when it stays.

    `newest_ms` is the answer's newest point, `reached_ms` where the series stands after what came before in this cycle, and
    `table_newest_ms` the newest checkpoint of any series as the cycle began: it shows up to when the source had points.
    """
    candidates = [reached_ms]
    if late_ms == 0 or window.superseded:
        candidates.append(window.end_ms)
    if newest_ms is not None:
        candidates.append(window.end_ms if window.end_ms - newest_ms <= GRID_MS else newest_ms + 1)
    if table_newest_ms is not None:
        candidates.append(min(window.end_ms, table_newest_ms - late_ms))
    best_ms = max(candidates)
    return best_ms if best_ms > reached_ms else None


@dataclass(slots=True)
class _Step:
    """What is on the bus and not yet in the table, of one series."""

    from_ms: int | None
    to_ms: int
    windows: Counter[WindowOutcome] = field(default_factory=Counter)


class Checkpoints:
    """Keeps what is confirmed until it is written, over an outage of the store too; used by the cycle's thread alone."""

    def __init__(self, store: Store, late_ms: int) -> None:
        self._store = store
        self._late_ms = late_ms
        self._table_newest_ms: int | None = None
        self._steps: dict[Series, _Step] = {}
        self._held: dict[Series, int | None] = {}
        """What the rows hold that this cycle has written."""
        self._begun: dict[Series, int] = {}
        """Where the series without a checkpoint began in this cycle."""

    def begin(self, table_newest_ms: int | None) -> None:
        """A new cycle, whose table has just been read."""
        self._table_newest_ms = table_newest_ms
        self._held.clear()
        self._begun.clear()

    def answered(self, window: Window, newest_ms: int | None, report: CycleReport) -> None:
        """A window was answered, and what it had is confirmed by the broker."""
        series = window.series
        outcome = WindowOutcome.EMPTY if newest_ms is None else WindowOutcome.DONE
        step = self._steps.get(series)
        held_ms = self._held.get(series, window.checkpoint_ms)
        begun_ms = self._begun.setdefault(series, window.begin_ms) if held_ms is None else held_ms
        reached_ms = step.to_ms if step else begun_ms
        to_ms = next_checkpoint(window, newest_ms, reached_ms, self._table_newest_ms, self._late_ms)
        if to_ms is None:
            report.windows[outcome] += 1
            return
        if step is None:
            step = self._steps[series] = _Step(held_ms, to_ms)
        step.to_ms = to_ms
        step.windows[outcome] += 1

    def write(self, report: CycleReport) -> tuple[dict[Series, int], set[Series]]:
        """Move the checkpoints of all that is confirmed: nothing else moves one.

        Returns the new checkpoints, and the series whose row held another value than it should: these are not done. Raises
        LockLostError when this is no longer the writer; what is not written then is written by the next call.
        """
        if not self._store.holds_lock():
            raise LockLostError("the lock is not ours any more")
        steps = self._steps
        if not steps:
            return {}, set()
        moves = [Move(series, step.from_ms, step.to_ms) for series, step in steps.items()]
        refused = {move.series for move in self._store.advance(moves)}
        self._steps = {}
        moved: dict[Series, int] = {}
        for series, step in steps.items():
            if series in refused:
                report.windows[WindowOutcome.MOVED] += step.windows.total()
                continue
            moved[series] = self._held[series] = step.to_ms
            for outcome, count in step.windows.items():
                report.windows[outcome] += count
        report.checkpoints_moved += len(moved)
        return moved, refused
