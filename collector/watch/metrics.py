"""The Prometheus metrics: the counters, and gauges from the state. Never a label per interface."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from collector import __version__
from collector.core.counters import BUCKETS_S, Count, Counters, RequestOutcome
from collector.core.model import RecordType
from collector.core.report import CycleOutcome, WindowOutcome
from collector.watch.health import asked, judge
from collector.watch.state import CollectorState, Role, Snapshot

PREFIX = "esnet_collector_"

Sample = tuple[tuple[str, ...], float]
"""The values of a gauge's labels, and its value."""


@dataclass(frozen=True, slots=True)
class Description:
    """One metric as README lists it; `values` are those of its only label that are shown from the start, with 0."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    values: tuple[str, ...] = ()


Gauge = tuple[Description, list[Sample]]
"""A gauge with what it shows now."""


_POINTS = frozenset(count for count in Count if count.value.startswith("points_"))
_LABELS: Mapping[Count, tuple[str, tuple[str, ...]]] = {
    **{count: ("record_type", tuple(RecordType)) for count in _POINTS},
    Count.REQUESTS: ("outcome", tuple(RequestOutcome)),
    Count.WINDOWS: ("outcome", tuple(WindowOutcome)),
    Count.CYCLES: ("outcome", tuple(CycleOutcome)),
    Count.RECONNECTS: ("dependency", ("mysql", "rabbitmq")),
}
_HELP: Mapping[Count, str] = {
    Count.REQUESTS: "Requests to the source, each try counted.",
    Count.POINTS_PUBLISHED: "Points handed to the broker.",
    Count.POINTS_CONFIRMED: "Points that the broker has confirmed.",
    Count.POINTS_RETURNED: "Points that no queue took.",
    Count.POINTS_REFUSED: "Points that the broker refused, because a queue is full, say.",
    Count.POINTS_INVALID: "Points dropped because the index would refuse them.",
    Count.POINTS_OUTSIDE: "Points dropped because they lay outside the window asked for.",
    Count.POINTS_DOUBLE: "Points dropped because their timestamp had come before in the same answer.",
    Count.POINTS_WITHOUT_VALUE: "Points without a value of in or out (yet), not published.",
    Count.INTERFACES_PUBLISHED: "Interface messages handed to the broker.",
    Count.INTERFACES_CONFIRMED: "Interface messages that the broker has confirmed.",
    Count.INTERFACES_RETURNED: "Interface messages that no queue took.",
    Count.INTERFACES_REFUSED: "Interface messages that the broker refused.",
    Count.MESSAGES_UNACCEPTABLE: "Messages given up because the broker refuses them for their size or form.",
    Count.INTERFACE_VALUES_INVALID: "Values of interfaces sent as null because the index would refuse them.",
    Count.LISTING_ENTRIES_SKIPPED: "Entries of listings that cannot be collected.",
    Count.DOCUMENTS_DROPPED: "Documents of Stardust dropped because they do not say of which interface or when they are.",
    Count.WINDOWS: "Windows tried, by what became of them.",
    Count.CYCLES: "Cycles that ended, by how.",
    Count.CYCLES_SKIPPED: "Cycles that were due while another one ran.",
    Count.RECONNECTS: "Connections made again after a loss.",
}


def _counter(count: Count) -> Description:
    label, values = _LABELS.get(count, ("", ()))
    return Description(f"{PREFIX}{count.value}_total", "counter", (label,) if label else (), _HELP[count], values)


COUNTERS: Mapping[Count, Description] = {count: _counter(count) for count in Count}
LATENCY = Description(f"{PREFIX}request_seconds", "histogram", (), "Seconds that a request to the source took, whole answer.")


def _gauge(name: str, help_text: str, *labels: str) -> Description:
    return Description(PREFIX + name, "gauge", labels, help_text)


BUILD = _gauge("build_info", "Always 1; the label names the version.", "version")
HEALTHY = _gauge("healthy", "1 while /healthz answers 200, otherwise 0.")
STANDBY = _gauge("standby", "1 while another collector holds the lock, otherwise 0.")
DEPENDENCY_UP = _gauge("dependency_up", "1 while the dependency is usable; absent where this role does not use it.", "dependency")
POLL_INTERVAL = _gauge("poll_interval_seconds", "Seconds from one cycle to the next.")
LAST_COMPLETED = _gauge("last_completed_cycle_timestamp_seconds", "When the last completed cycle ended; absent before the first.")
ROLE = _gauge("share_info", "Always 1; the labels name this collector's share and what it does.", "share", "role")
SHARES_FREE = _gauge("shares_free", "Shares that no collector works on; absent while that is not known.")
SETTLE_DELAY = _gauge("settle_delay_seconds", "Seconds that the source gets to complete its data.")
FRESHNESS = _gauge("freshness_seconds", "Age of the newest point on the bus; after a start, of a checkpoint.", "record_type")
LAG = _gauge("lag_seconds", "How far series are behind what could be collected; stat is worst or median.", "record_type", "stat")
INTERFACES = _gauge("interfaces", "Interfaces by state: active, draining, untrusted, held_back.", "state")
IDLE = _gauge("series_idle", "Series left out because they have been silent for a while.")
RUNNING_SECONDS = _gauge("cycle_running_seconds", "Seconds that the running cycle has taken so far; 0 between cycles.")
PLANNED = _gauge("cycle_windows_planned", "Windows planned in the running cycle so far, or in the last one.")
DONE = _gauge("cycle_windows_done", "Those of them that have an outcome.")
POINTS = _gauge("cycle_points", "Points confirmed in the running cycle so far, or in the last one.")
CYCLE_SECONDS = _gauge("cycle_seconds", "Seconds that the last cycle took.")
CYCLE_DATABASE_SECONDS = _gauge("cycle_database_seconds", "Seconds of the last cycle that went into the database.")
OUTSTANDING = _gauge("windows_outstanding", "Windows that were due in the last cycle and got no try.")

METRICS: tuple[Description, ...] = (
    *COUNTERS.values(),
    LATENCY,
    *(BUILD, HEALTHY, STANDBY, ROLE, SHARES_FREE, DEPENDENCY_UP, POLL_INTERVAL, SETTLE_DELAY, LAST_COMPLETED),
    *(FRESHNESS, LAG, INTERFACES, IDLE),
    *(RUNNING_SECONDS, PLANNED, DONE, POINTS),
    *(CYCLE_SECONDS, CYCLE_DATABASE_SECONDS, OUTSTANDING),
)
"""Every metric of the collector's own, in the order in which they are shown; gauges from `FRESHNESS` on speak of cycles and are
absent on a standby and as long as nothing is known."""


class _Reading(Collector):
    """Reads counters and state anew at each scrape."""

    def __init__(
        self, state: CollectorState, counters: Counters, monotonic: Callable[[], float], now: Callable[[], float]
    ) -> None:
        self._state = state
        self._counters = counters
        self._monotonic = monotonic
        self._now = now

    def collect(self) -> Iterator[Metric]:
        yield from _counters(self._counters)
        yield _latency(self._counters)
        snapshot = self._state.snapshot()
        healthy = judge(snapshot, self._monotonic()).ok
        now_ms = int(self._now() * 1000)
        for description, samples in [
            *_state(snapshot, healthy),
            *_table(snapshot, now_ms),
            *_running(snapshot, now_ms),
            *_last_cycle(snapshot),
        ]:
            family = GaugeMetricFamily(description.name, description.help, labels=description.labels)
            for labels, value in samples:
                family.add_metric(labels, value)
            yield family


def _counters(counters: Counters) -> Iterator[Metric]:
    counts = counters.counts()
    for count, description in COUNTERS.items():
        family = CounterMetricFamily(description.name, description.help, labels=description.labels)
        if description.labels:
            met = sorted(label for counted, label in counts if counted is count and label not in description.values)
            for label in (*description.values, *met):
                family.add_metric((label,), counts.get((count, label), 0))
        else:
            family.add_metric((), sum(number for (counted, _), number in counts.items() if counted is count))
        yield family


def _latency(counters: Counters) -> Metric:
    numbers, sum_s = counters.latencies()
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    family = HistogramMetricFamily(LATENCY.name, LATENCY.help)
    family.add_metric((), list(zip(bounds, accumulate(numbers), strict=True)), sum_s)
    return family


def _state(snapshot: Snapshot, healthy: bool) -> list[Gauge]:
    known = [each for each in snapshot.dependencies if asked(each, snapshot.role)]
    completed_ms = snapshot.last_completed_ms
    return [
        (BUILD, [((__version__,), 1)]),
        (HEALTHY, [((), healthy)]),
        (STANDBY, [((), snapshot.role is Role.STANDBY)]),
        (ROLE, [((snapshot.identity.share, snapshot.role.value), 1)]),
        (SHARES_FREE, [] if snapshot.shares_free is None else [((), snapshot.shares_free)]),
        (DEPENDENCY_UP, [((each.name.lower(),), each.up) for each in known]),
        (POLL_INTERVAL, [((), snapshot.poll_interval_s)]),
        (SETTLE_DELAY, [((), snapshot.settle_delay_s)]),
        (LAST_COMPLETED, [] if completed_ms is None else [((), completed_ms / 1000)]),
    ]


def _table(snapshot: Snapshot, now_ms: int) -> list[Gauge]:
    """What moves with the clock, and what holds as long as no cycle says otherwise."""
    figures = snapshot.figures
    ages: list[Sample] = [((str(kind),), max(0.0, (now_ms - newest_ms) / 1000)) for kind, newest_ms in snapshot.newest_ms.items()]
    if figures is None:
        return [(FRESHNESS, ages)]
    states = {
        "active": figures.active,
        "draining": figures.draining,
        "untrusted": figures.untrusted,
        "held_back": figures.held_back,
    }
    lags: list[Sample] = [
        ((str(kind), stat), snapshot.lag_s(reached_ms, now_ms))
        for kind, reached in snapshot.reached.items()
        for stat, reached_ms in (("worst", reached.worst_ms), ("median", reached.median_ms))
    ]
    return [
        (FRESHNESS, ages),
        (LAG, lags),
        (INTERFACES, [((state,), number) for state, number in states.items()]),
        (IDLE, [((), figures.idle)]),
    ]


def _running(snapshot: Snapshot, now_ms: int) -> list[Gauge]:
    running = snapshot.running
    cycle = running or snapshot.latest
    if cycle is None:
        return []
    return [
        (RUNNING_SECONDS, [((), max(0.0, (now_ms - running.start_ms) / 1000) if running else 0)]),
        (PLANNED, [((), cycle.planned)]),
        (DONE, [((), cycle.done)]),
        (POINTS, [((), cycle.points)]),
    ]


def _last_cycle(snapshot: Snapshot) -> list[Gauge]:
    last = snapshot.latest
    if last is None:
        return []
    return [
        (CYCLE_SECONDS, [((), last.seconds)]),
        (CYCLE_DATABASE_SECONDS, [((), last.database_s)]),
        (OUTSTANDING, [((), last.outstanding)]),
    ]


class Metrics:
    """Everything that /metrics shows: the collector's own metrics, and those of its Unix process under the same prefix."""

    def __init__(
        self,
        state: CollectorState,
        counters: Counters,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Reading(state, counters, monotonic, now))
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text in the best form that the Accept header allows, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type
