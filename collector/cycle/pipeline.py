"""From windows to confirmed messages: asks the source as fast as the broker confirms, and tells what became of each window.

Used by the cycle and by the backfill. Nothing here knows a checkpoint.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from collector.core.contracts import Batch, Fetched, Outcome, Publisher, Source
from collector.core.counters import Count, Counters
from collector.core.model import Message, Window
from collector.core.shutdown import Stop
from collector.cycle.flow_control import Gate
from collector.cycle.messages import traffic_messages
from collector.cycle.point_filter import Selection, select

log = logging.getLogger(__name__)

TICK_S = 0.5
"""At least so often the caller gets to do its own work, results or not."""

_POINTS = {
    Outcome.CONFIRMED: Count.POINTS_CONFIRMED,
    Outcome.RETURNED: Count.POINTS_RETURNED,
    Outcome.REFUSED: Count.POINTS_REFUSED,
}
_INTERFACES = {
    Outcome.CONFIRMED: Count.INTERFACES_CONFIRMED,
    Outcome.RETURNED: Count.INTERFACES_RETURNED,
    Outcome.REFUSED: Count.INTERFACES_REFUSED,
}
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What became of a window that was asked for: the outcome of its messages, or why Netbeam gave none."""

    window: Window
    outcome: Outcome | None
    """None: not fetched; CONFIRMED with no points: an empty window."""
    points: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class InterfaceResult:
    """What became of an interface's message."""

    resource: str
    outcome: Outcome


class Transfer:
    """Moves batches of windows, or interface messages, one call at a time.

    Each call is a generator of what has come since the last yield, at least every `TICK_S`, possibly nothing. It ends when
    everything admitted has its outcome: at once after a stop's grace, and soon after `until`, the monotonic time at which the
    cycle is over. What was not admitted has no result.
    """

    def __init__(
        self,
        source: Source,
        publisher: Publisher,
        gate: Gate,
        *,
        interface_key: str,
        traffic_key: str,
        stop: Stop,
        counters: Counters,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._publisher = publisher
        self._gate = gate
        self._interface_key = interface_key
        self._traffic_key = traffic_key
        self._stop = stop
        self._counters = counters
        self._monotonic = monotonic

    def interfaces(self, messages: Iterable[tuple[str, Message]], until: float) -> Iterator[list[InterfaceResult]]:
        """Publish interface messages, each with its resource; none is waited for while their queue is full, points are due."""
        inbox: queue.SimpleQueue[InterfaceResult | None] = queue.SimpleQueue()
        flight = _Flight()

        def feed() -> None:
            for resource, message in messages:
                if not self._gate.admit(self._interface_key, 1, patient=False):
                    return
                self._counters.add(Count.INTERFACES_PUBLISHED)
                flight.began()
                done = self._interface_done(resource, inbox, flight)
                self._publisher.publish(Batch(self._interface_key, (message,), done))

        return self._results(feed, inbox, flight, until)

    def windows(self, windows: Sequence[Window], until: float) -> Iterator[list[WindowResult]]:
        """Fetch windows and publish their points."""
        inbox: queue.SimpleQueue[WindowResult | None] = queue.SimpleQueue()
        flight = _Flight()

        intake = _Intake(self, inbox, flight)

        def feed() -> None:
            self._source.fetch(windows, intake, until)

        return self._results(feed, inbox, flight, until)

    def admit(self, windows: Sequence[Window]) -> int:
        """Wait for the first one's room; the others are asked for later."""
        return int(self._gate.admit(self._traffic_key, windows[0].grid_points))

    def _interface_done(
        self, resource: str, inbox: "queue.SimpleQueue[InterfaceResult | None]", flight: "_Flight"
    ) -> Callable[[Outcome], None]:
        def done(outcome: Outcome) -> None:
            if count := _INTERFACES.get(outcome):
                self._counters.add(count)
            self._gate.settle(self._interface_key, outcome, 1)
            inbox.put(InterfaceResult(resource, outcome))
            flight.ended()

        return done

    def publish_window(self, fetched: Fetched, inbox: "queue.SimpleQueue[WindowResult | None]", flight: "_Flight") -> None:
        window = fetched.window
        if fetched.failure is not None:
            self.give_room_back(window)
            inbox.put(WindowResult(window, None, failure=fetched.failure))
            return
        selection = select(fetched.points, window)
        self._note_rejected(window, selection)
        points = len(selection.points)
        self._gate.exchange_room(window.grid_points, points)
        if not points:
            self._gate.settle(self._traffic_key, None, 0)
            inbox.put(WindowResult(window, Outcome.CONFIRMED))
            return

        def done(outcome: Outcome) -> None:
            if count := _POINTS.get(outcome):
                self._counters.add(count, points)
            self._gate.settle(self._traffic_key, outcome, points)
            inbox.put(WindowResult(window, outcome, points))
            flight.ended()

        self._counters.add(Count.POINTS_PUBLISHED, points)
        flight.began()
        series = window.series
        messages = traffic_messages(series.name, series.record_type, selection.points)
        self._publisher.publish(Batch(self._traffic_key, messages, done))

    def give_room_back(self, window: Window) -> None:
        """Nothing is published of a window that was admitted."""
        self._gate.exchange_room(window.grid_points, 0)
        self._gate.settle(self._traffic_key, None, 0)

    def _note_rejected(self, window: Window, selection: Selection) -> None:
        if not (selection.invalid or selection.double or selection.outside):
            return
        self._counters.add(Count.POINTS_INVALID, selection.invalid)
        self._counters.add(Count.POINTS_DOUBLE, selection.double)
        self._counters.add(Count.POINTS_OUTSIDE, selection.outside)
        if selection.invalid or selection.far_outside:
            log.warning(
                "points dropped name=%s record_type=%s begin=%d end=%d invalid=%d outside=%d example=%s",
                window.series.name,
                window.series.record_type,
                window.begin_ms,
                window.end_ms,
                selection.invalid,
                selection.far_outside,
                selection.invalid_example or "none",
            )

    def _results(
        self, feed: Callable[[], None], inbox: "queue.SimpleQueue[_Result | None]", flight: "_Flight", until: float
    ) -> Iterator[list[_Result]]:
        """Run `feed` in a thread of its own, and yield what arrives in the inbox until all is in."""

        def feed_to_the_end() -> None:
            try:
                feed()
            except Exception as error:
                self._stop.fail(error, "feed")
            finally:
                inbox.put(None)

        threading.Thread(target=feed_to_the_end, name="feed", daemon=True).start()
        feeding = True
        while feeding or not flight.landed or not inbox.empty():
            results = _drain(inbox, TICK_S)
            if None in results:
                feeding = False
            self._give_up_late(until)
            yield [result for result in results if result is not None]
            if self._is_over():
                self._gate.shut()
                self._publisher.withdraw()
                yield [result for result in _drain(inbox, 0) if result is not None]
                return

    def _is_over(self) -> bool:
        return self._stop.give_up_at is not None and self._monotonic() >= self._stop.give_up_at

    def _give_up_late(self, until: float) -> None:
        """Once the cycle is over nothing waits for a broker that is away; one that is there has its own deadline."""
        over = self._monotonic() >= until or self._stop.is_set() or self._gate.patience_ended
        if over and not self._publisher.ready:
            self._gate.shut()
            self._publisher.withdraw()


class _Intake:
    """Implements contracts.Intake for one call of `windows`."""

    def __init__(self, pipeline: Transfer, inbox: "queue.SimpleQueue[WindowResult | None]", flight: "_Flight") -> None:
        self._pipeline, self._inbox, self._flight = pipeline, inbox, flight

    def admit(self, windows: Sequence[Window]) -> int:
        return self._pipeline.admit(windows)

    def release(self, windows: Sequence[Window]) -> None:
        for window in windows:
            self._pipeline.give_room_back(window)

    def deliver(self, fetched: Fetched) -> None:
        self._pipeline.publish_window(fetched, self._inbox, self._flight)


class _Flight:
    """How many batches are on their way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._batches = 0

    def began(self) -> None:
        with self._lock:
            self._batches += 1

    def ended(self) -> None:
        with self._lock:
            self._batches -= 1

    @property
    def landed(self) -> bool:
        with self._lock:
            return self._batches == 0


def _drain(inbox: "queue.SimpleQueue[_Result | None]", seconds: float) -> list[_Result | None]:
    """Everything in the inbox; waits up to that long for the first."""
    results: list[_Result | None] = []
    try:
        results.append(inbox.get(timeout=seconds) if seconds else inbox.get_nowait())
        while True:
            results.append(inbox.get_nowait())
    except queue.Empty:
        return results
