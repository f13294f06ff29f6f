"""From windows to confirmed messages: asks the source as fast as the broker confirms, and tells what became of each window.

The threads, and who hands what to whom:

    cycle -- windows --> feed thread -> source's threads -- answers --> Intake -- batches --> publisher's thread
    cycle <-- results -- inbox <------------------------------------------------ outcomes ---------'

Used by the cycle and by the backfill. Nothing here knows a checkpoint.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from collector.core.contracts import Batch, Fetched, Outcome, Publisher, Source
from collector.core.counters import Count, Counters
from collector.core.limited_log import LimitedLog
from collector.core.model import Message, Window
from collector.core.report import WindowOutcome
from collector.core.shutdown import Stop
from collector.cycle.flow_control import FlowControl
from collector.cycle.messages import traffic_messages
from collector.cycle.point_filter import Selection, select

log = logging.getLogger(__name__)

TICK_S = 0.5
"""At least so often the caller gets to do its own work, results or not."""

_POINTS = {
    Outcome.CONFIRMED: Count.POINTS_CONFIRMED,
    Outcome.UNACCEPTABLE: Count.POINTS_CONFIRMED,
    Outcome.RETURNED: Count.POINTS_RETURNED,
    Outcome.REFUSED: Count.POINTS_REFUSED,
}
_INTERFACES = {
    Outcome.CONFIRMED: Count.INTERFACES_CONFIRMED,
    Outcome.RETURNED: Count.INTERFACES_RETURNED,
    Outcome.REFUSED: Count.INTERFACES_REFUSED,
}
_WINDOWS = {
    Outcome.CONFIRMED: WindowOutcome.DONE,
    Outcome.UNACCEPTABLE: WindowOutcome.DONE,  # the rest of it is confirmed, and what was given up never comes
    Outcome.RETURNED: WindowOutcome.RETURNED,
    Outcome.REFUSED: WindowOutcome.REFUSED,
    Outcome.LOST: WindowOutcome.LOST,
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
    def answered(self) -> bool:
        """Whether nothing of the window is left to do but the checkpoint."""
        return self.outcome in (WindowOutcome.DONE, WindowOutcome.EMPTY)


@dataclass(frozen=True, slots=True)
class InterfaceResult:
    """What became of an interface's message."""

    resource: str
    outcome: Outcome


class Pipeline:
    """Moves windows, or interface messages, one call at a time.

    Each call is a generator of what has come since the last yield, at least every `TICK_S`, possibly nothing. It ends when
    everything admitted has its outcome: at once after a stop's grace, and soon after `until`, the monotonic time at which the
    cycle is over. What was not admitted has no result.
    """

    def __init__(
        self,
        source: Source,
        publisher: Publisher,
        flow: FlowControl,
        *,
        interface_key: str,
        traffic_key: str,
        stop: Stop,
        counters: Counters,
        limited: LimitedLog | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._flow = flow
        self._interface_key = interface_key
        self._traffic_key = traffic_key
        self._stop = stop
        self._counters = counters
        self._limited = limited or LimitedLog(log)
        self._monotonic = monotonic

    def interfaces(self, messages: Iterable[tuple[str, Message]], until: float) -> Iterator[list[InterfaceResult]]:
        """Publish interface messages, each with its resource; none is waited for while their queue is full, points are due."""
        inbox: _Inbox[InterfaceResult] = _Inbox()

        def publish(resource: str, message: Message) -> None:
            def done(outcome: Outcome) -> None:
                if count := _INTERFACES.get(outcome):
                    self._counters.add(count)
                self._flow.settle(self._interface_key, outcome, 1)
                inbox.land(InterfaceResult(resource, outcome))

            self._counters.add(Count.INTERFACES_PUBLISHED)
            inbox.expect()
            self._publisher.publish(Batch(self._interface_key, (message,), done))

        def feed() -> None:
            for resource, message in messages:
                if not self._flow.admit(self._interface_key, (1,), patient=False):
                    return
                publish(resource, message)

        return self._results(feed, inbox, until)

    def windows(
        self, windows: Sequence[Window], until: float, places: Callable[[Window], int] = lambda window: window.grid_points
    ) -> Iterator[list[WindowResult]]:
        """Fetch windows and publish their points; `places` says how many messages to expect of a window."""
        inbox: _Inbox[WindowResult] = _Inbox()

        def publish(fetched: Fetched, taken: int, admitted: float) -> None:
            self._publish(fetched, taken, admitted, inbox)

        intake = _Intake(self._flow, self._traffic_key, places, publish, self._monotonic)
        return self._results(lambda: self._source.fetch(windows, intake, until), inbox, until)

    def _publish(self, fetched: Fetched, taken: int, admitted: float, inbox: "_Inbox[WindowResult]") -> None:
        """Publish an answer's points; `taken` are its places in the bounded buffer, which it has had since `admitted`."""
        window, record_type = fetched.window, fetched.window.series.record_type
        selection = select(fetched.points, window)
        self._note_rejected(window, selection)
        points = len(selection.points)
        self._flow.resize(taken, points)
        if not points:
            self._flow.settle(self._traffic_key, None, 0)
            if fetched.failure is not None:
                result = WindowResult(window, WindowOutcome.FAILED, failure=fetched.failure, shorten=fetched.shorten)
            else:
                outcome = WindowOutcome.EMPTY if selection.newest_ms is None else WindowOutcome.DONE
                result = WindowResult(window, outcome, newest_ms=selection.newest_ms)
            inbox.note(replace(result, seconds=self._monotonic() - admitted))
            return

        def done(outcome: Outcome) -> None:
            if count := _POINTS.get(outcome):
                self._counters.add(count, points, record_type)
            self._flow.settle(self._traffic_key, outcome, points)
            seconds = self._monotonic() - admitted
            inbox.land(WindowResult(window, _WINDOWS[outcome], points, selection.newest_ms, seconds=seconds))

        self._counters.add(Count.POINTS_PUBLISHED, points, record_type)
        inbox.expect()
        messages = traffic_messages(window.series.name, record_type, selection.points)
        self._publisher.publish(Batch(self._traffic_key, messages, done))

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

    def _results(self, feed: Callable[[], None], inbox: "_Inbox[_Result]", until: float) -> Iterator[list[_Result]]:
        """Run `feed` in a thread of its own, and yield what arrives in the inbox until all is in."""

        def feed_to_the_end() -> None:
            try:
                feed()
            except Exception as error:
                self._stop.fail(error, "feed")
            finally:
                inbox.feed_ended()

        threading.Thread(target=feed_to_the_end, name="feed", daemon=True).start()
        while not inbox.complete:
            results = inbox.take(TICK_S)
            self._give_up_late(until)
            yield results
            if self._stop.give_up_at is not None and self._monotonic() >= self._stop.give_up_at:
                self._flow.shut()
                self._publisher.withdraw()
                yield inbox.take(0)
                return

    def _give_up_late(self, until: float) -> None:
        """Once the cycle is over nothing waits for a broker that is away; one that is there has its own deadline."""
        over = self._monotonic() >= until or self._stop.is_set() or self._flow.patience_ended
        if over and not self._publisher.ready:
            self._flow.shut()
            self._publisher.withdraw()


class _Intake:
    """Implements contracts.Intake for one fetch."""

    def __init__(
        self,
        flow: FlowControl,
        key: str,
        places: Callable[[Window], int],
        publish: Callable[[Fetched, int, float], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._flow, self._key, self._places, self._publish, self._monotonic = flow, key, places, publish, monotonic
        self._taken: dict[Window, tuple[int, float]] = {}
        """The places of each window that is admitted and not delivered yet, and since when."""

    def admit(self, windows: Sequence[Window]) -> int:
        """See contracts.Intake."""
        places = [self._places(window) for window in windows]
        admitted = self._flow.admit(self._key, places)
        at = self._monotonic()
        self._taken.update((window, (taken, at)) for window, taken in zip(windows[:admitted], places, strict=False))
        return admitted

    def release(self, windows: Sequence[Window]) -> None:
        """See contracts.Intake."""
        for window in windows:
            self._flow.resize(self._taken.pop(window)[0], 0)
            self._flow.settle(self._key, None, 0)

    def deliver(self, fetched: Fetched) -> None:
        """See contracts.Intake."""
        self._publish(fetched, *self._taken.pop(fetched.window))


class _Inbox(Generic[_Result]):
    """Results as they come from other threads, and whether there are more to come."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: queue.SimpleQueue[_Result | None] = queue.SimpleQueue()
        self._in_flight = 0
        self._feeding = True

    def expect(self) -> None:
        """A batch is on its way."""
        with self._lock:
            self._in_flight += 1

    def land(self, result: _Result) -> None:
        """The result of a batch that was on its way."""
        self._results.put(result)
        with self._lock:
            self._in_flight -= 1

    def note(self, result: _Result) -> None:
        """A result of something that nothing was published of."""
        self._results.put(result)

    def feed_ended(self) -> None:
        """Nothing more will be expected or noted."""
        with self._lock:
            self._feeding = False
        self._results.put(None)

    @property
    def complete(self) -> bool:
        """Whether everything has been taken and nothing is to come."""
        with self._lock:
            return not (self._feeding or self._in_flight) and self._results.empty()

    def take(self, seconds: float) -> list[_Result]:
        """Everything that is there; waits up to that long for the first."""
        results: list[_Result | None] = []
        try:
            results.append(self._results.get(timeout=seconds) if seconds else self._results.get_nowait())
            while True:
                results.append(self._results.get_nowait())
        except queue.Empty:
            return [each for each in results if each is not None]
