"""The metrics: what is shown, under which names, and when."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import __version__
from collector.core.counters import BUCKETS_S, Count, Counters, RequestOutcome
from collector.core.model import RecordType
from collector.core.outage import Outage
from collector.core.report import AnsweredUpTo, CycleOutcome, CycleReport, WindowOutcome
from collector.watch.metrics import COUNTERS, PREFIX, Metrics
from collector.watch.state import CollectorState, Identity, Role, System
from tests.described import METRICS

START_MS = 1_764_000_000_000
NOW_MS = START_MS + 100_000
CYCLE = CycleReport(
    start_ms=START_MS,
    seconds=42.5,
    outcome=CycleOutcome.COMPLETE,
    active=10_000,
    draining=12,
    untrusted=3,
    held_back=7,
    idle=4_000,
    outstanding=25,
    planned=30,
    points=900,
    database_s=1.5,
    answered_up_to={
        RecordType.TRAFFIC: AnsweredUpTo(NOW_MS - 2_700_000, NOW_MS - 960_000, 6000),
        RecordType.ERRORS: AnsweredUpTo(NOW_MS - 1_020_000, NOW_MS - 800_000, 6000),
    },
    newest_ms={RecordType.TRAFFIC: NOW_MS - 905_000},
)

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def outages() -> dict[System, Outage]:
    return {System.SOURCE: Outage("Netbeam"), System.DATABASE: Outage("MySQL"), System.BROKER: Outage("RabbitMQ")}


class Clock:
    """The wall clock, moved by hand."""

    seconds = NOW_MS / 1000

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def state(outages: dict[System, Outage], clock: Clock) -> CollectorState:
    return CollectorState(outages, 900, 900, Identity(share="2/3"), monotonic=lambda: 1000.0, now=clock)


@pytest.fixture
def metrics(state: CollectorState, counters: Counters) -> Metrics:
    return Metrics(state, counters)


def scrape(metrics: Metrics) -> Samples:
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scrape(metrics).get((PREFIX + name, tuple(sorted(labels.items()))))


def test_every_metric_has_the_prefix_of_the_collector(metrics: Metrics) -> None:
    assert all(name.startswith("esnet_collector_") for name, _ in scrape(metrics))
    assert all(each.name.startswith("esnet_collector_") for each in METRICS)


def test_list_of_metrics_is_what_is_shown_with_types_labels_and_help(metrics: Metrics, state: CollectorState) -> None:
    state.enter(Role.WORKING)
    state.add(CYCLE)
    state.count_free_shares(1)
    families = list(text_string_to_metric_families(metrics.render()[0].decode()))
    shown = {}
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        shown[name] = (family.type, labels, family.documentation)
    own = {name: found for name, found in shown.items() if not name.startswith(f"{PREFIX}process_")}
    assert own == {each.name: (each.kind, set(each.labels), each.help) for each in METRICS}
    assert len(METRICS) == len({each.name for each in METRICS})
    assert f"{PREFIX}process_resident_memory_bytes" in shown


def test_every_count_has_a_counter() -> None:
    assert set(COUNTERS) == set(Count)


def test_counters_without_increments_are_shown_as_zero_for_each_documented_label(metrics: Metrics) -> None:
    samples = scrape(metrics)
    for each in COUNTERS.values():
        labels: list[tuple[tuple[str, str], ...]] = [((each.labels[0], text),) for text in each.values] if each.labels else [()]
        assert [samples[each.name, label] for label in labels] == [0.0] * len(labels)


def test_documented_labels_are_those_that_the_docstrings_of_the_counts_name() -> None:
    assert COUNTERS[Count.REQUESTS].values == ("ok", "no_content", "timeout", "connection", "status", "unreadable", "refused")
    assert COUNTERS[Count.WINDOWS].values == tuple(WindowOutcome)
    assert COUNTERS[Count.POINTS_CONFIRMED].values == ("traffic", "errors", "discards")
    assert COUNTERS[Count.CYCLES].values == tuple(CycleOutcome)
    assert COUNTERS[Count.RECONNECTS].values == ("mysql", "rabbitmq")


def test_counters_show_counts_by_label(metrics: Metrics, counters: Counters) -> None:
    counters.add(Count.POINTS_CONFIRMED, 1234, RecordType.ERRORS)
    counters.add(Count.WINDOWS, 5, "done")
    counters.add(Count.WINDOWS, 2, "unforeseen")
    assert value(metrics, "points_confirmed_total", record_type="errors") == 1234
    assert value(metrics, "points_confirmed_total", record_type="traffic") == 0
    assert value(metrics, "windows_total", outcome="done") == 5
    assert value(metrics, "windows_total", outcome="unforeseen") == 2
    assert value(metrics, "windows_total", outcome="failed") == 0


def test_latency_histogram_is_cumulative_with_sum_and_count(metrics: Metrics, counters: Counters) -> None:
    for seconds in (0.01, 0.025, 0.3, 100.0):
        counters.add_request(RequestOutcome.OK, seconds)
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    assert [value(metrics, "request_seconds_bucket", le=each) for each in bounds] == [2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4]
    assert value(metrics, "request_seconds_count") == 4
    assert value(metrics, "request_seconds_sum") == pytest.approx(100.335)


def test_gauges_show_the_last_cycle(metrics: Metrics, state: CollectorState) -> None:
    state.enter(Role.WORKING)
    state.add(CYCLE)
    assert value(metrics, "cycle_seconds") == 42.5
    assert value(metrics, "cycle_database_seconds") == 1.5
    assert value(metrics, "last_completed_cycle_timestamp_seconds") == START_MS / 1000 + 42.5
    assert value(metrics, "lag_seconds", record_type="traffic", stat="worst") == 1800
    assert value(metrics, "lag_seconds", record_type="errors", stat="median") == 0
    assert value(metrics, "lag_seconds", record_type="discards", stat="worst") is None
    states = {"active": 10_000, "draining": 12, "untrusted": 3, "held_back": 7}
    assert {state: value(metrics, "interfaces", state=state) for state in states} == states
    assert value(metrics, "windows_outstanding") == 25
    assert value(metrics, "series_idle") == 4000


def test_lag_and_freshness_grow_with_the_clock_between_cycles_and_in_an_outage(
    metrics: Metrics, state: CollectorState, clock: Clock
) -> None:
    state.enter(Role.WORKING)
    state.add(CYCLE)
    assert value(metrics, "freshness_seconds", record_type="traffic") == 905
    clock.seconds += 600
    assert value(metrics, "lag_seconds", record_type="traffic", stat="worst") == 2400
    assert value(metrics, "lag_seconds", record_type="errors", stat="median") == 500
    assert value(metrics, "freshness_seconds", record_type="traffic") == 1505
    state.add(CycleReport(start_ms=NOW_MS, seconds=1.0, outcome=CycleOutcome.FAILED))
    clock.seconds += 600
    assert value(metrics, "lag_seconds", record_type="traffic", stat="worst") == 3000
    assert value(metrics, "freshness_seconds", record_type="traffic") == 2105
    assert value(metrics, "interfaces", state="active") == 10_000


def test_running_cycle_shows_how_far_it_is_the_first_one_too(metrics: Metrics, state: CollectorState, clock: Clock) -> None:
    assert value(metrics, "cycle_windows_planned") is None
    state.enter(Role.WORKING)
    running = CycleReport(start_ms=NOW_MS, planned=100, done=5, points=40)
    state.begin(running)
    clock.seconds += 12
    names = ("running_seconds", "windows_planned", "windows_done", "points")
    assert [value(metrics, f"cycle_{each}") for each in names] == [12, 100, 5, 40]
    running.outcome = CycleOutcome.COMPLETE
    state.add(running)
    assert [value(metrics, f"cycle_{each}") for each in names] == [0, 100, 5, 40]


def test_share_and_role_are_labels_and_free_shares_are_shown_once_they_are_known(metrics: Metrics, state: CollectorState) -> None:
    assert value(metrics, "share_info", share="2/3", role="starting") == 1
    assert value(metrics, "shares_free") is None
    state.enter(Role.STANDBY)
    state.count_free_shares(1)
    assert value(metrics, "share_info", share="2/3", role="standby") == 1
    assert value(metrics, "shares_free") == 1


def test_gauges_of_the_last_cycle_are_absent_before_the_first(metrics: Metrics) -> None:
    assert value(metrics, "cycle_seconds") is None
    assert value(metrics, "last_completed_cycle_timestamp_seconds") is None
    assert value(metrics, "poll_interval_seconds") == 900
    assert value(metrics, "build_info", version=__version__) == 1


def test_standby_says_so_and_shows_no_figures_of_an_older_cycle(metrics: Metrics, state: CollectorState) -> None:
    state.enter(Role.WORKING)
    state.add(CYCLE)
    assert value(metrics, "standby") == 0
    state.enter(Role.STANDBY)
    assert value(metrics, "standby") == 1
    assert value(metrics, "lag_seconds", record_type="traffic", stat="worst") is None
    assert value(metrics, "dependency_up", dependency="netbeam") is None
    assert value(metrics, "dependency_up", dependency="mysql") == 0


def test_dependency_is_up_between_its_first_success_and_its_next_failure(metrics: Metrics, outages: dict[System, Outage]) -> None:
    mysql = outages[System.DATABASE]
    assert value(metrics, "dependency_up", dependency="mysql") == 0
    mysql.ended()
    assert value(metrics, "dependency_up", dependency="mysql") == 1
    mysql.failed("gone")
    assert value(metrics, "dependency_up", dependency="mysql") == 0


def test_healthy_agrees_with_the_health_check(metrics: Metrics, outages: dict[System, Outage]) -> None:
    assert value(metrics, "healthy") == 1
    outages[System.BROKER].failed("connection refused")
    assert value(metrics, "healthy") == 0


def test_openmetrics_is_given_to_who_asks_for_it(metrics: Metrics) -> None:
    body, content_type = metrics.render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
    assert metrics.render()[1].startswith("text/plain")


def test_two_instances_do_not_get_into_each_others_way(state: CollectorState, counters: Counters) -> None:
    assert scrape(Metrics(state, counters)).keys() == scrape(Metrics(state, counters)).keys()
