"""Health: when /healthz and /livez say that something is wrong, and what they say."""

from dataclasses import replace

import pytest

from collector.core.report import CycleOutcome, CycleReport, Reason, ReasonKind
from collector.watch.health import alive, judge
from collector.watch.state import Dependency, Role, Snapshot

START_MS = 1_764_000_000_000
HEALTHY = Snapshot(
    role=Role.WORKING,
    role_since_ms=START_MS,
    started_ms=START_MS,
    poll_interval_s=900,
    beat=0.0,
    awaited_since=0.0,
    last_completed_ms=None,
    reports=(),
    latest=None,
    dependencies=(),
)


def dependency(name: str, down: bool = True, error: str = "connection refused") -> Dependency:
    return Dependency(name=name, down=down, up_once=True, since_ms=START_MS, last_error=error)


def cycle(outcome: CycleOutcome, reasons: tuple[str, ...] = ()) -> CycleReport:
    why = [Reason(each, ReasonKind.FAILURE) for each in reasons]
    return CycleReport(start_ms=START_MS, seconds=1, outcome=outcome, reasons=why)


def test_working_collector_is_ok_within_three_intervals() -> None:
    health = judge(HEALTHY, 2699.9)
    assert (health.ok, health.status, health.reasons) == (True, "ok", ())


@pytest.mark.parametrize("role", [Role.WORKING, Role.STARTING])
def test_three_intervals_without_a_completed_cycle_are_a_failure_from_the_start_too(role: Role) -> None:
    health = judge(replace(HEALTHY, role=role), 2700.0)
    assert (health.ok, health.status) == (False, "failing")
    assert health.reasons == ("no cycle completed for 45 min; one is due every 15 min",)


def test_completed_cycle_starts_the_three_intervals_anew() -> None:
    assert judge(replace(HEALTHY, awaited_since=2000.0), 4000.0).ok


def test_last_cycle_that_failed_is_a_failure_with_its_reasons() -> None:
    failed = cycle(CycleOutcome.FAILED, ("listing: timeout", "30 windows failed"))
    assert judge(replace(HEALTHY, latest=failed), 1.0).reasons == ("the last cycle failed: listing: timeout; 30 windows failed",)
    assert judge(replace(HEALTHY, latest=cycle(CycleOutcome.FAILED)), 1.0).reasons == ("the last cycle failed",)


@pytest.mark.parametrize("outcome", [CycleOutcome.COMPLETE, CycleOutcome.CUT])
def test_complete_and_cut_cycles_are_no_failures_by_themselves(outcome: CycleOutcome) -> None:
    assert judge(replace(HEALTHY, latest=cycle(outcome, ("3 windows failed",))), 1.0).ok


def test_dependency_that_is_down_is_a_failure_with_name_time_and_error() -> None:
    health = judge(replace(HEALTHY, dependencies=(dependency("MySQL"), dependency("Netbeam", down=False))), 1.0)
    assert health.reasons == ("MySQL is down since 2025-11-24 16:00:00 UTC: connection refused",)


def test_dependency_that_was_not_tried_yet_is_no_failure() -> None:
    untried = Dependency(name="MySQL", down=False, up_once=False, since_ms=START_MS, last_error="")
    assert judge(replace(HEALTHY, role=Role.STARTING, dependencies=(untried,)), 1.0).ok


def test_every_reason_is_given_at_once() -> None:
    bad = replace(HEALTHY, latest=cycle(CycleOutcome.FAILED), dependencies=(dependency("MySQL"), dependency("RabbitMQ")))
    assert len(judge(bad, 9999.0).reasons) == 4


def test_standby_is_ok_however_long_it_lasts_and_says_so() -> None:
    health = judge(replace(HEALTHY, role=Role.STANDBY), 1e6)
    assert (health.ok, health.status, health.role) == (True, "standby", Role.STANDBY)


@pytest.mark.parametrize("name", ["MySQL", "RabbitMQ"])
def test_standby_that_could_not_take_over_is_a_failure(name: str) -> None:
    health = judge(replace(HEALTHY, role=Role.STANDBY, dependencies=(dependency(name),)), 1.0)
    assert (health.ok, health.status) == (False, "failing")


def test_standby_is_not_judged_by_what_it_knew_of_netbeam_before() -> None:
    down = (dependency("Netbeam"),)
    assert judge(replace(HEALTHY, role=Role.STANDBY, dependencies=down), 1.0).ok
    assert not judge(replace(HEALTHY, role=Role.WORKING, dependencies=down), 1.0).ok


@pytest.mark.parametrize(("interval_s", "most_s"), [(5, 300), (150, 300), (900, 1800), (3600, 7200)])
def test_loop_is_alive_until_five_minutes_or_two_intervals_without_a_beat(interval_s: float, most_s: float) -> None:
    snapshot = replace(HEALTHY, poll_interval_s=interval_s, beat=50.0)
    assert alive(snapshot, 50.0 + most_s)
    assert not alive(snapshot, 50.1 + most_s)
