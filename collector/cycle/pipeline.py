"""From windows to confirmed messages: asks the source as fast as the broker confirms, and tells what became of each window.

The threads, and what one hands to another:

    cycle -- windows --> feed thread -> source's threads -- answers --> intake -- batches --> publisher's thread
    cycle <-- results ------------------------------------------------- intake <-- outcomes ---------'

Used by the cycle and by the backfill. Nothing here knows a checkpoint.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from collector.core.contracts import Batch, Fetched, Outcome, Publisher, Source
from collector.core.counters import Count, Counters
from collector.core.limited_log import LimitedLog
from collector.core.model import Message, Series, Window
from collector.core.report import WindowOutcome
from collector.core.shutdown import Stop
from collector.cycle.flow_control import FlowControl
from collector.cycle.messages import traffic_messages
from collector.cycle.point_filter import Point, Selection, select

TICK_S = 0.5
"""At least so often the caller gets to do its own work, results or not."""

_WINDOWS: dict[Outcome, tuple[WindowOutcome, Count | None]] = {
    Outcome.CONFIRMED: (WindowOutcome.DONE, Count.POINTS_CONFIRMED),
    # the rest of it is confirmed, and what was given up never comes
    Outcome.UNACCEPTABLE: (WindowOutcome.DONE, Count.POINTS_CONFIRMED),
    Outcome.RETURNED: (WindowOutcome.RETURNED, Count.POINTS_RETURNED),
    Outcome.REFUSED: (WindowOutcome.REFUSED, Count.POINTS_REFUSED),
    Outcome.LOST: (WindowOutcome.LOST, None),
}
"""What a batch's outcome means for its window, and what its points count as."""
_INTERFACES = {
    Outcome.CONFIRMED: Count.INTERFACES_CONFIRMED,
    Outcome.RETURNED: Count.INTERFACES_RETURNED,
    Outcome.REFUSED: Count.INTERFACES_REFUSED,
}
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What became of a window that was asked for: DONE and EMPTY when all that it had is confirmed by the broker."""

    window: Window
    outcome: WindowOutcome
    points: int = 0
    newest_ms: int | None = None
    """Its newest point, published or not."""
    failure: str = ""
    shorten: bool = True
    """With a failure: whether the series' next window should be shorter."""
    seconds: float = field(default=0.0, compare=False)
    """From its admission to its outcome."""

    @property
    def done(self) -> bool:
        """Whether the source has answered and the broker has confirmed all of it: only the checkpoint is left to do."""
        return self.outcome in (WindowOutcome.DONE, WindowOutcome.EMPTY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Moves windows, or interface messages, one call at a time.

    Each call is a generator of what has come since the last yield, at least every `TICK_S`, possibly nothing. It ends when
    everything admitted has its outcome: at once after a stop's grace, and soon after `until`, the monotonic time at which the
    cycle is over. What was not admitted has no result.
    """

    source: Source
    publisher: Publisher
    flow: FlowControl
    interface_key: str
    traffic_key: str
    stop: Stop
    counters: Counters
    limited: LimitedLog
    monotonic: Callable[[], float] = time.monotonic

    def interfaces(self, messages: Iterable[tuple[str, Message]], until: float) -> Iterator[list[tuple[str, Outcome]]]:
        """Publish interface messages, each with its resource; a full queue is not waited for, since points are due.

        Yields resources with their message's outcome.
        """
        results = _Results[tuple[str, Outcome]]()

        def done(resource: str, outcome: Outcome) -> None:
            if count := _INTERFACES.get(outcome):
                self.counters.add(count)
            self.flow.settle(self.interface_key, outcome, 1)
            results.put((resource, outcome))

        def feed() -> None:
            for resource, message in messages:
                if not self.flow.admit(self.interface_key, (1,), patient=False):
                    return
                results.expect()
                self.counters.add(Count.INTERFACES_PUBLISHED)
                self.publisher.publish(Batch(self.interface_key, (message,), partial(done, resource)))

        return self._run(feed, results, until)

    def windows(
        self, windows: Sequence[Window], until: float, room_for: Callable[[Window], int] = lambda window: window.grid_points
    ) -> Iterator[list[WindowResult]]:
        """Fetch windows, of each series one, and publish their points; `room_for` says how many messages to expect of one."""
        results = _Results[WindowResult]()
        intake = _Intake(self, room_for, results)
        return self._run(lambda: self.source.fetch(windows, intake, until), results, until)

    def _run(self, feed: Callable[[], None], results: "_Results[_Result]", until: float) -> Iterator[list[_Result]]:
        """Run `feed` in a thread of its own, and yield what comes until all is in."""

        def feed_to_the_end() -> None:
            try:
                feed()
            except Exception as error:
                self.stop.fail(error, "feed")
            finally:
                results.feed_ended()

        threading.Thread(target=feed_to_the_end, name="feed", daemon=True).start()
        while not results.complete:
            some = results.take(TICK_S)
            self._give_up_late(until)
            yield some
            if self.stop.give_up_at is not None and self.monotonic() >= self.stop.give_up_at:
                self.flow.shut()
                self.publisher.withdraw()
                yield results.take(0)
                return

    def _give_up_late(self, until: float) -> None:
        """Once the cycle is over nothing waits for a broker that is away; one that is there has its own deadline."""
        over = self.monotonic() >= until or self.stop.is_set() or self.flow.patience_ended
        if over and not self.publisher.ready:
            self.flow.shut()
            self.publisher.withdraw()


class _Intake:
    """Implements contracts.Intake for one fetch: room for what is asked, and the points of the answers on the bus."""

    def __init__(self, pipeline: Pipeline, room_for: Callable[[Window], int], results: "_Results[WindowResult]") -> None:
        self._flow, self._key, self._publisher = pipeline.flow, pipeline.traffic_key, pipeline.publisher
        self._counters, self._limited, self._monotonic = pipeline.counters, pipeline.limited, pipeline.monotonic
        self._room_for = room_for
        self._results = results
        self._admitted: dict[Series, tuple[int, float]] = {}
        """The room of each window that is admitted and not delivered yet, and since when."""

    def admit(self, windows: Sequence[Window]) -> int:
        """See contracts.Intake."""
        room = self._flow.admit(self._key, [self._room_for(window) for window in windows])
        at = self._monotonic()
        for window, taken in zip(windows, room, strict=False):
            self._admitted[window.series] = taken, at
        return len(room)

    def release(self, windows: Sequence[Window]) -> None:
        """See contracts.Intake."""
        for window in windows:
            taken, _ = self._admitted.pop(window.series)
            self._flow.settle(self._key, None, taken)

    def deliver(self, fetched: Fetched) -> None:
        """See contracts.Intake."""
        window = fetched.window
        room, admitted = self._admitted.pop(window.series)
        selection = select(fetched.points, window)
        self._note_rejected(window, selection)
        answer = _Answer(window, len(selection.points), selection.newest_ms, fetched.failure, fetched.shorten, admitted)
        self._results.expect()
        if answer.points:
            self._publish(answer, selection.points, room)
        else:
            self._flow.settle(self._key, None, room)
            silent = WindowOutcome.EMPTY if answer.newest_ms is None else WindowOutcome.DONE
            self._end(answer, silent if answer.failure is None else WindowOutcome.FAILED)

    def _publish(self, answer: "_Answer", points: Sequence[Point], room: int) -> None:
        name, record_type = answer.window.series.name, answer.window.series.record_type
        self._flow.resize(room, answer.points)
        self._counters.add(Count.POINTS_PUBLISHED, answer.points, record_type)
        self._publisher.publish(Batch(self._key, traffic_messages(name, record_type, points), partial(self._settle, answer)))

    def _settle(self, answer: "_Answer", outcome: Outcome) -> None:
        """The batch of this answer has its outcome."""
        window_outcome, count = _WINDOWS[outcome]
        if count is not None:
            self._counters.add(count, answer.points, answer.window.series.record_type)
        self._flow.settle(self._key, outcome, answer.points)
        self._end(answer, window_outcome)

    def _end(self, answer: "_Answer", outcome: WindowOutcome) -> None:
        window, points, newest_ms, failure, shorten, admitted = answer
        seconds = self._monotonic() - admitted
        self._results.put(WindowResult(window, outcome, points, newest_ms, failure or "", shorten, seconds))

    def _note_rejected(self, window: Window, selection: Selection) -> None:
        if not (selection.invalid or selection.double or selection.outside or selection.without_value):
            return
        series = window.series
        for count, number in (
            (Count.POINTS_INVALID, selection.invalid),
            (Count.POINTS_DOUBLE, selection.double),
            (Count.POINTS_OUTSIDE, selection.outside),
            (Count.POINTS_WITHOUT_VALUE, selection.without_value),
        ):
            self._counters.add(count, number, series.record_type)
        if selection.invalid or selection.far_outside:
            self._limited.warning(
                "points dropped",
                "name=%s record_type=%s begin=%d end=%d invalid=%d outside=%d example=%s",
                series.name,
                series.record_type,
                window.begin_ms,
                window.end_ms,
                selection.invalid,
                selection.far_outside,
                selection.invalid_example or "none",
            )


class _Answer(NamedTuple):
    """What is kept of an answer while its messages are in flight: the memory that it came in is free again."""

    window: Window
    points: int
    """How many were published."""
    newest_ms: int | None
    failure: str | None
    shorten: bool
    admitted: float
    """When its window was admitted, in monotonic time."""


class _Results(Generic[_Result]):
    """Results as they come from other threads, and whether there are more to come."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Result | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._due = 0
        """Expected, and not taken yet."""
        self._fed = False

    def expect(self) -> None:
        """One more will come."""
        with self._lock:
            self._due += 1

    def put(self, result: _Result) -> None:
        """One that was expected."""
        self._queue.put(result)

    def feed_ended(self) -> None:
        """Nothing more will be expected."""
        self._fed = True
        self._queue.put(None)

    @property
    def complete(self) -> bool:
        """Whether all that was expected has been taken, and nothing more will be."""
        return self._fed and not self._due

    def take(self, seconds: float) -> list[_Result]:
        """Everything that is there; waits up to that long for the first."""
        some: list[_Result | None] = []
        try:
            some.append(self._queue.get(timeout=seconds) if seconds else self._queue.get_nowait())
            while True:
                some.append(self._queue.get_nowait())
        except queue.Empty:
            results = [each for each in some if each is not None]
        with self._lock:
            self._due -= len(results)
        return results
