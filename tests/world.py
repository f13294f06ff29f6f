"""A cycle over fakes and a clock that stands still: what the unit tests of the cycle and of the pipeline run."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest

from collector.core.contracts import Batch, Outcome
from collector.core.counters import Counters
from collector.core.limited_log import LimitedLog
from collector.core.model import RecordType, Row
from collector.core.report import CycleReport
from collector.core.share import WHOLE, Share
from collector.core.shutdown import Stop
from collector.cycle import flow_control as flow_module
from collector.cycle import pipeline as pipeline_module
from collector.cycle.cycle import Cycle
from collector.cycle.flow_control import FlowControl
from collector.cycle.pipeline import Pipeline
from collector.cycle.rules import Rules
from tests.fakes import HOUR_MS, NOW_MS, Clock, FakePublisher, FakeSource, FakeStore, Points, resource, three_points

INTERFACES, TRAFFIC = "interfaces", "traffic"
"""Routing keys."""
POLL_S = 900
SETTLED_MS = NOW_MS - 900_000
"""Up to where everything is due in a cycle at NOW_MS."""
RULES = Rules(
    record_types=(RecordType.TRAFFIC,), poll_ms=POLL_S * 1000, settle_ms=900_000, lookback_ms=1_800_000,
    max_window_ms=6 * HOUR_MS, max_backlog_ms=0, idle_backoff_ms=HOUR_MS, late_ms=24 * HOUR_MS, snapshot_s=86_400.0,
    max_retired_share=0.2,
)  # fmt: skip
"""The default settings but for shorter windows, and for traffic alone."""
ROOM = 5000
MOST_TURNS = 3000
"""A test that goes on for longer hangs: it waits for something that only its clock could bring."""
_T = TypeVar("_T")


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the waits that a test cannot do without take a millisecond."""
    monkeypatch.setattr(flow_module, "POLL_S", 0.001)
    monkeypatch.setattr(pipeline_module, "TICK_S", 0.001)


def limited(results: Iterator[_T]) -> Iterator[_T]:
    """What a transfer yields; fails when that does not end."""
    for turn, result in enumerate(results):
        assert turn < MOST_TURNS, "the transfer hangs"
        yield result


def behind(count: int, length_ms: int = 900_000, checkpoint: bool = True, first_id: int = 1) -> list[Row]:
    """Active rows whose traffic has been collected up to so long before `SETTLED_MS`."""
    checkpoints = {RecordType.TRAFFIC: SETTLED_MS - length_ms} if checkpoint else {}
    return [
        Row(number, resource(number), NOW_MS - 24 * HOUR_MS, None, checkpoints) for number in range(first_id, first_id + count)
    ]


def happened(report: CycleReport) -> dict[str, int]:
    """How many windows had each outcome; only those that came about."""
    return {outcome.value: count for outcome, count in report.windows.items() if count}


class World:
    """Traffic of these rows, all of them listed unless `listed` says otherwise, with the default settings."""

    def __init__(
        self,
        rows: Iterable[Row] = (),
        points: Points = three_points,
        *,
        listed: Iterable[str] | None = None,
        once: bool = False,
        record_types: tuple[RecordType, ...] = (RecordType.TRAFFIC,),
        max_window_ms: int = 6 * HOUR_MS,
        max_backlog_ms: int = 0,
        idle_ms: int = HOUR_MS,
        late_ms: int = 24 * HOUR_MS,
        share: Share = WHOLE,
        patience_s: float | None = None,
        poll_s: int = POLL_S,
        settle_ms: int = 900_000,
    ) -> None:
        rows = list(rows)
        self.poll_s = poll_s
        self.step_s = 0.0
        """How far the clock goes on each time that the cycle's loop turns."""
        self.on_turn: Callable[[], None] = lambda: None
        """Done each time that the cycle's loop turns."""
        self._turns = 0
        self.reports: list[CycleReport] = []
        """Of all cycles that have begun."""
        self.journal: list[str] = []
        """What was asked of the source and the store, in order."""
        self.clock, self.stop, self.counters = Clock(), Stop(), Counters()
        self.stop._monotonic = self.clock.monotonic
        names = dict.fromkeys(row.name for row in rows if row.active) if listed is None else listed
        self.source = FakeSource(names, points, self.journal)
        self.store = FakeStore(*rows, journal=self.journal)
        self.publisher = FakePublisher()
        self.flow = FlowControl(
            self.publisher, self.stop, exchange="ex", may_work=self.store.holds_lock, patience_s=patience_s, room=ROOM,
            monotonic=self.clock.monotonic,
        )  # fmt: skip
        self.pipeline = Pipeline(
            source=self.source, publisher=self.publisher, flow=self.flow, interface_key=INTERFACES, traffic_key=TRAFFIC,
            stop=self.stop, counters=self.counters, limited=LimitedLog(logging.getLogger("cycle")),
            monotonic=self.clock.monotonic,
        )  # fmt: skip
        self.rules = replace(
            RULES, record_types=tuple(record_types), poll_ms=poll_s * 1000, settle_ms=settle_ms, max_window_ms=max_window_ms,
            max_backlog_ms=max_backlog_ms, idle_backoff_ms=idle_ms, late_ms=late_ms, share=share, once=once,
        )  # fmt: skip
        self.restart()

    def restart(self) -> None:
        """Another process begins: what is kept in memory is gone."""
        self.cycle = Cycle(
            self.pipeline, self.store, self.rules, place=lambda row_id: 0, begun=self.reports.append, beat=self._count_turns
        )

    def run(self, seconds: float = math.inf) -> CycleReport:
        """One cycle that lasts so long at the most, from now on; all room is free again after it."""
        report = self.cycle.run(self.clock.now_ms, self.clock.seconds + seconds)
        self.assert_room_is_free()
        return report

    def next(self, seconds: float = math.inf) -> CycleReport:
        """Like `run`, on the next multiple of the poll interval."""
        self.clock.advance(self.poll_s - self.clock.now_ms / 1000 % self.poll_s)
        return self.run(seconds)

    def _count_turns(self) -> None:
        self._turns += 1
        assert self._turns < MOST_TURNS, "the cycle hangs"
        self.clock.advance(self.step_s)
        self.on_turn()

    def assert_room_is_free(self) -> None:
        """Every message that room was taken for has given it back."""
        assert self.flow._room == ROOM

    def checkpoints(self, record_type: RecordType = RecordType.TRAFFIC) -> list[int | None]:
        """How far each row is beyond `SETTLED_MS`, in ms, in the order of the ids."""
        held = [self.store.rows[row_id].checkpoints.get(record_type) for row_id in sorted(self.store.rows)]
        return [None if each is None else each - SETTLED_MS for each in held]

    def on_answer(self, number: int, action: Callable[[], None]) -> None:
        """Do this while the source answers for the n-th window from now on, the first being 1."""
        points, start = self.source.points, len(self.source.asked)

        def answer(window: object) -> object:
            if len(self.source.asked) - start == number:
                action()
            return points(window)  # type: ignore[arg-type]

        self.source.points = answer  # type: ignore[assignment]

    def outcomes(self, *outcomes: Outcome | None) -> None:
        """What becomes of the next batches of points; those after them are confirmed."""
        left = list(outcomes)

        def answer(batch: Batch) -> Outcome | None:
            return left.pop(0) if batch.routing_key == TRAFFIC and left else Outcome.CONFIRMED

        self.publisher.answer = answer

    @property
    def asked(self) -> list[int]:
        """The ids of the rows whose windows were asked for, in order."""
        return [window.series.row_id for window in self.source.asked]
