"""The Prometheus metrics: the counters, and gauges from the state. Never a label per interface."""

from collections.abc import Callable, Iterable, Iterator, Mapping
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
from collector.watch.health import judge
from collector.watch.state import CollectorState, Role, Snapshot

PREFIX = "esnet_collector_"


@dataclass(frozen=True, slots=True)
class Description:
    """One metric as docs/watching.md lists it; `values` are those of its only label that are shown from the start, with 0."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    values: tuple[str, ...] = ()


def _counter(count: Count, help_text: str, label: str = "", values: Iterable[str] = ()) -> tuple[Count, Description]:
    return count, Description(f"{PREFIX}{count}_total", "counter", (label,) if label else (), help_text, tuple(values))


_BY_TYPE = ("record_type", tuple(RecordType))
COUNTERS: Mapping[Count, Description] = dict(
    (
        _counter(Count.REQUESTS, "Requests to the source, each try counted.", "outcome", RequestOutcome),
        _counter(Count.POINTS_PUBLISHED, "Points handed to the broker.", *_BY_TYPE),
        _counter(Count.POINTS_CONFIRMED, "Points that the broker has confirmed.", *_BY_TYPE),
        _counter(Count.POINTS_RETURNED, "Points that no queue took.", *_BY_TYPE),
        _counter(Count.POINTS_REFUSED, "Points that the broker refused, because a queue is full, say.", *_BY_TYPE),
        _counter(Count.POINTS_INVALID, "Points dropped because the index would refuse them.", *_BY_TYPE),
        _counter(Count.POINTS_OUTSIDE, "Points dropped because they lay outside the window asked for.", *_BY_TYPE),
        _counter(Count.POINTS_WITHOUT_VALUE, "Points without a value of in or out (yet), not published.", *_BY_TYPE),
        _counter(Count.POINTS_DOUBLE, "Points dropped because their timestamp had come before in the same answer.", *_BY_TYPE),
        _counter(Count.INTERFACES_PUBLISHED, "Interface messages handed to the broker."),
        _counter(Count.INTERFACES_CONFIRMED, "Interface messages that the broker has confirmed."),
        _counter(Count.INTERFACES_RETURNED, "Interface messages that no queue took."),
        _counter(Count.INTERFACES_REFUSED, "Interface messages that the broker refused."),
        _counter(Count.MESSAGES_UNACCEPTABLE, "Messages given up because the broker refuses them for their size or form."),
        _counter(Count.INTERFACE_VALUES_INVALID, "Values of interfaces sent as null because the index would refuse them."),
        _counter(Count.LISTING_ENTRIES_SKIPPED, "Entries of listings that cannot be collected."),
        _counter(
            Count.DOCUMENTS_DROPPED, "Documents of Stardust dropped because they do not say of which interface or when they are."
        ),
        _counter(Count.WINDOWS, "Windows tried, by what became of them.", "outcome", WindowOutcome),
        _counter(Count.CYCLES, "Cycles that ended, by how.", "outcome", CycleOutcome),
        _counter(Count.CYCLES_SKIPPED, "Cycles that were due while another one ran."),
        _counter(Count.RECONNECTS, "Connections made again after a loss.", "dependency", ("mysql", "rabbitmq")),
    )
)
LATENCY = Description(f"{PREFIX}request_seconds", "histogram", (), "Seconds that a request to the source took, whole answer.")


Value = float | Mapping[tuple[str, ...], float] | None
"""What a gauge shows: a number, a number for each combination of its labels' values, or nothing while it is not known."""


def _gauge(name: str, help_text: str, *labels: str) -> Description:
    return Description(PREFIX + name, "gauge", labels, help_text)


def _usable(now: Snapshot) -> Value:
    return {(each.name.lower(),): each.up for each in now.asked}


def _freshness(now: Snapshot) -> Value:
    return {(kind,): max(0.0, (now.now_ms - newest_ms) / 1000) for kind, newest_ms in now.newest_ms.items()}


def _lag(now: Snapshot) -> Value:
    return {
        (kind, stat): now.lag_s(answered_ms)
        for kind, answered in now.answered_up_to.items()
        for stat, answered_ms in (("worst", answered.worst_ms), ("median", answered.median_ms))
    }


def _interfaces(now: Snapshot) -> Value:
    table = now.figures
    if table is None:
        return None
    return {
        ("active",): table.active,
        ("draining",): table.draining,
        ("untrusted",): table.untrusted,
        ("held_back",): table.held_back,
    }


def _running_s(now: Snapshot) -> Value:
    if now.running:
        return max(0.0, (now.now_ms - now.running.start_ms) / 1000)
    return 0 if now.latest else None


GAUGES: Mapping[Description, Callable[[Snapshot], Value]] = {
    _gauge("build_info", "Always 1; the label names the version.", "version"): lambda _: {(__version__,): 1},
    _gauge("healthy", "1 while /healthz answers 200, otherwise 0."): lambda now: judge(now).ok,
    _gauge("standby", "1 while another collector holds the lock, otherwise 0."): lambda now: now.role is Role.STANDBY,
    _gauge("share_info", "Always 1; the labels name this collector's share and what it does.", "share", "role"): (
        lambda now: {(now.identity.share, now.role): 1}
    ),
    _gauge("shares_free", "Shares that no collector works on; absent while that is not known."): lambda now: now.shares_free,
    _gauge("dependency_up", "1 while the dependency is usable; absent where this role does not use it.", "dependency"): _usable,
    _gauge("poll_interval_seconds", "Seconds from one cycle to the next."): lambda now: now.poll_interval_s,
    _gauge("settle_delay_seconds", "Seconds that the source gets to complete its data."): lambda now: now.settle_delay_s,
    _gauge("last_completed_cycle_timestamp_seconds", "When the last completed cycle ended; absent before the first."): (
        lambda now: None if now.last_completed_ms is None else now.last_completed_ms / 1000
    ),
    _gauge("freshness_seconds", "Age of the newest point on the bus; after a start, of a checkpoint.", "record_type"): _freshness,
    _gauge(
        "lag_seconds", "How far series are behind what could be collected; stat is worst or median.", "record_type", "stat"
    ): _lag,
    _gauge("interfaces", "Interfaces by state: active, draining, untrusted, held_back.", "state"): _interfaces,
    _gauge("series_idle", "Series left out because they have been silent for a while."): (
        lambda now: now.figures.idle if now.figures else None
    ),
    _gauge("cycle_running_seconds", "Seconds that the running cycle has taken so far; 0 between cycles."): _running_s,
    _gauge("cycle_windows_planned", "Windows planned in the running cycle so far, or in the last one."): (
        lambda now: now.cycle.planned if now.cycle else None
    ),
    _gauge("cycle_windows_done", "Those of them that have an outcome."): lambda now: now.cycle.done if now.cycle else None,
    _gauge("cycle_points", "Points confirmed in the running cycle so far, or in the last one."): (
        lambda now: now.cycle.points if now.cycle else None
    ),
    _gauge("cycle_seconds", "Seconds that the last cycle took."): lambda now: now.latest.seconds if now.latest else None,
    _gauge("cycle_database_seconds", "Seconds of the last cycle that went into the database."): (
        lambda now: now.latest.database_s if now.latest else None
    ),
    _gauge("windows_outstanding", "Windows that were due in the last cycle and got no try."): (
        lambda now: now.latest.outstanding if now.latest else None
    ),
}
"""Each with how it is read from the state. Those from `freshness_seconds` on speak of cycles: they are absent on a standby."""


class Metrics(Collector):
    """Everything that /metrics shows, read anew each time: the collector's own metrics, and those of its Unix process."""

    def __init__(self, state: CollectorState, counters: Counters) -> None:
        self._state = state
        self._counters = counters
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(namespace=PREFIX.rstrip("_"), registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The text in the best form that the Accept header allows, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """The collector's own metrics, for the registry."""
        yield from _counters(self._counters)
        yield _latency(self._counters)
        snapshot = self._state.snapshot()
        for gauge, read in GAUGES.items():
            value = read(snapshot)
            if value is None:
                continue
            family = GaugeMetricFamily(gauge.name, gauge.help, labels=gauge.labels)
            for labels, number in value.items() if isinstance(value, Mapping) else [((), value)]:
                family.add_metric(labels, number)
            yield family


def _counters(counters: Counters) -> Iterator[Metric]:
    counts = sorted(counters.counts().items())
    for count, counter in COUNTERS.items():
        numbers = dict.fromkeys(counter.values if counter.labels else ("",), 0)
        numbers |= {label: number for (counted, label), number in counts if counted is count}
        family = CounterMetricFamily(counter.name, counter.help, labels=counter.labels)
        for label, number in numbers.items():
            family.add_metric((label,) if counter.labels else (), number)
        yield family


def _latency(counters: Counters) -> Metric:
    numbers, sum_s = counters.latencies()
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    family = HistogramMetricFamily(LATENCY.name, LATENCY.help)
    family.add_metric((), list(zip(bounds, accumulate(numbers), strict=True)), sum_s)
    return family
