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

from collector.core.contracts import Store
from collector.core.counters import Count, Counters
from collector.core.errors import LockLostError
from collector.core.model import GRID_MS, Move, Series, Window
from collector.core.report import CycleReport, WindowOutcome
from collector.cycle.pipeline import WindowResult
from collector.cycle.series_state import SeriesStates


def next_checkpoint(
    window: Window, newest_ms: int | None, confirmed_ms: int, table_newest_ms: int | None, late_ms: int
) -> int | None:
    """Where the checkpoint moves after this answer; None when it stays.

    `newest_ms` is the answer's newest point, `confirmed_ms` where the series stands after what came before in this cycle, and
    `table_newest_ms` the newest checkpoint of any series as the cycle began: it shows up to when the source had points.
    """
    best_ms = confirmed_ms
    if late_ms == 0 or window.superseded:
        best_ms = window.end_ms
    elif newest_ms is not None:
        best_ms = window.end_ms if window.end_ms - newest_ms <= GRID_MS else newest_ms + 1
    if table_newest_ms is not None:
        best_ms = max(best_ms, min(window.end_ms, table_newest_ms - late_ms))
    return best_ms if best_ms > confirmed_ms else None


class Checkpoints:
    """Keeps what is confirmed until it is written, over an outage of the store too; used by the cycle's thread alone."""

    def __init__(self, store: Store, states: SeriesStates, counters: Counters, late_ms: int) -> None:
        self._store, self._states, self._counters = store, states, counters
        self._late_ms = late_ms
        self._table_newest_ms: int | None = None
        self._unwritten: dict[Series, list[WindowOutcome]] = {}
        """The windows that have brought a series beyond what its row holds."""

    def begin(self, table_newest_ms: int | None) -> None:
        """A new cycle, whose table has just been read: all that was confirmed before has been written."""
        self._table_newest_ms = table_newest_ms

    def ended(self, result: WindowResult, report: CycleReport) -> None:
        """Note a window's outcome. One that is done is counted when its checkpoint is written, or at once when that stays."""
        if not result.done:
            self._count(report, result.outcome)
            return
        window, state = result.window, self._states.of(result.window.series)
        if state.confirmed_ms is None:
            state.confirmed_ms = window.begin_ms if state.checkpoint_ms is None else state.checkpoint_ms
        to_ms = next_checkpoint(window, result.newest_ms, state.confirmed_ms, self._table_newest_ms, self._late_ms)
        if to_ms is None:
            self._count(report, result.outcome)
        else:
            state.confirmed_ms = to_ms
            self._unwritten.setdefault(window.series, []).append(result.outcome)

    def write(self, report: CycleReport) -> set[Series]:
        """Move the checkpoints of all that is confirmed: nothing else moves one.

        Returns the series whose row held another value than it should, since somebody has changed it: these are not done.
        Raises LockLostError when this is no longer the writer; what is not written then is written by the next call.
        """
        if not self._store.holds_lock():
            raise LockLostError("the lock is not ours any more")
        states = {series: self._states.of(series) for series in self._unwritten}
        if not states:
            return set()
        moves = [Move(series, state.checkpoint_ms, state.confirmed_ms) for series, state in states.items() if state.confirmed_ms]
        refused = {move.series for move in self._store.advance(moves)}
        for series, outcomes in self._unwritten.items():
            state = states[series]
            if series in refused:
                # it is asked again, as if it had never been answered
                state.answered_ms = state.settled_ms = None
                self._count(report, WindowOutcome.MOVED, len(outcomes))
            else:
                state.checkpoint_ms = state.confirmed_ms
                for outcome in outcomes:
                    self._count(report, outcome)
        report.checkpoints_moved += len(moves) - len(refused)
        self._unwritten = {}
        return refused

    def _count(self, report: CycleReport, outcome: WindowOutcome, number: int = 1) -> None:
        report.windows[outcome] += number
        self._counters.add(Count.WINDOWS, number, outcome)
