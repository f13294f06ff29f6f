"""Health: when /healthz and /livez say that something is wrong, and what they say."""

from dataclasses import replace

import pytest

from collector.core.report import CycleOutcome, CycleReport, Reason, ReasonKind
from collector.watch.health import alive, judge
from collector.watch.state import Dependency, Identity, Role, Snapshot, System

START_MS = 1_764_000_000_000
HEALTHY = Snapshot(
    identity=Identity(),
    settle_delay_s=900,
    role=Role.WORKING,
    role_since_ms=START_MS,
    started_ms=START_MS,
    poll_interval_s=900,
    now_ms=START_MS,
    now_s=1.0,
    beat_s=0.0,
    awaited_since_s=0.0,
)


SYSTEMS = {"MySQL": System.DATABASE, "RabbitMQ": System.BROKER, "Netbeam": System.SOURCE}


def dependency(name: str, down: bool = True, error: str = "connection refused") -> Dependency:
    return Dependency(system=SYSTEMS[name], name=name, down=down, up_once=True, since_ms=START_MS, last_error=error)


def cycle(outcome: CycleOutcome, reasons: tuple[str, ...] = (), kind: ReasonKind = ReasonKind.FAILURE) -> CycleReport:
    return CycleReport(start_ms=START_MS, seconds=1, outcome=outcome, reasons=[Reason(each, kind) for each in reasons])


def test_working_collector_is_ok_within_three_intervals() -> None:
    health = judge(replace(HEALTHY, now_s=2699.9))
    assert (health.ok, health.status, health.reasons) == (True, "ok", ())


@pytest.mark.parametrize("role", [Role.WORKING, Role.STARTING])
def test_three_intervals_without_a_completed_cycle_are_a_failure_from_the_start_too(role: Role) -> None:
    health = judge(replace(HEALTHY, role=role, now_s=2700.0))
    assert (health.ok, health.status) == (False, "failing")
    assert health.reasons == ("no cycle completed for 45 min; one is due every 15 min",)


def test_completed_cycle_starts_the_three_intervals_anew() -> None:
    assert judge(replace(HEALTHY, awaited_since_s=2000.0, now_s=4000.0)).ok


def test_last_cycle_that_failed_is_a_failure_with_its_reasons() -> None:
    failed = cycle(CycleOutcome.FAILED, ("listing: timeout", "30 windows failed"))
    assert judge(replace(HEALTHY, latest=failed)).reasons == ("the last cycle failed: listing: timeout; 30 windows failed",)
    assert judge(replace(HEALTHY, latest=cycle(CycleOutcome.FAILED))).reasons == ("the last cycle failed",)


@pytest.mark.parametrize("outcome", [CycleOutcome.COMPLETE, CycleOutcome.CUT])
def test_complete_and_cut_cycles_are_no_failures_by_themselves(outcome: CycleOutcome) -> None:
    assert judge(replace(HEALTHY, latest=cycle(outcome, ("3 windows failed",)))).ok


def test_dependency_that_is_down_is_a_failure_with_name_time_and_error() -> None:
    health = judge(replace(HEALTHY, dependencies=(dependency("MySQL"), dependency("Netbeam", down=False))))
    assert health.reasons == ("MySQL is down since 2025-11-24 16:00:00 UTC: connection refused",)


def test_dependency_that_was_not_tried_yet_is_no_failure() -> None:
    untried = Dependency(system=System.DATABASE, name="MySQL", down=False, up_once=False, since_ms=START_MS, last_error="")
    assert judge(replace(HEALTHY, role=Role.STARTING, dependencies=(untried,))).ok


def test_every_reason_is_given_at_once() -> None:
    both = (dependency("MySQL"), dependency("RabbitMQ"))
    bad = replace(HEALTHY, latest=cycle(CycleOutcome.FAILED, ("no listing",)), dependencies=both, now_s=9999.0)
    assert len(judge(bad).reasons) == 4


def test_outage_that_goes_on_is_said_once_and_not_as_the_last_cycle_s_reason_too() -> None:
    failed = cycle(CycleOutcome.FAILED, ("MySQL: connection refused",), ReasonKind.DEPENDENCY)
    failed.add(ReasonKind.NO_TRY, "30 windows got no try")
    during = replace(HEALTHY, latest=failed, dependencies=(dependency("MySQL"),))
    assert judge(during).reasons == ("MySQL is down since 2025-11-24 16:00:00 UTC: connection refused",)
    after = replace(HEALTHY, latest=failed, dependencies=(dependency("MySQL", down=False),))
    assert judge(after).reasons == ("the last cycle failed: MySQL: connection refused; 30 windows got no try",)
    failed.add(ReasonKind.FAILURE, "no listing")
    assert judge(during).reasons[1:] == ("the last cycle failed: no listing",)


def test_reasons_are_cut_and_escaped() -> None:
    odd = dependency("MySQL", error="\x1b[2J\u202e" + "x" * 10_000_000)
    (reason,) = judge(replace(HEALTHY, dependencies=(odd,))).reasons
    assert "\\x1b[2J\\u202e" in reason
    assert len(reason) < 600


def test_standby_is_ok_however_long_it_lasts_and_says_so() -> None:
    health = judge(replace(HEALTHY, role=Role.STANDBY, now_s=1e6))
    assert (health.ok, health.status) == (True, "standby")


@pytest.mark.parametrize("name", ["MySQL", "RabbitMQ"])
def test_standby_that_could_not_take_over_is_a_failure(name: str) -> None:
    health = judge(replace(HEALTHY, role=Role.STANDBY, dependencies=(dependency(name),)))
    assert (health.ok, health.status) == (False, "failing")


def test_standby_is_not_judged_by_what_it_knew_of_netbeam_before() -> None:
    down = (dependency("Netbeam"),)
    assert judge(replace(HEALTHY, role=Role.STANDBY, dependencies=down)).ok
    assert not judge(replace(HEALTHY, role=Role.WORKING, dependencies=down)).ok


@pytest.mark.parametrize(("interval_s", "most_s"), [(5, 300), (150, 300), (900, 1800), (3600, 7200)])
def test_loop_is_alive_until_five_minutes_or_two_intervals_without_a_beat(interval_s: float, most_s: float) -> None:
    snapshot = replace(HEALTHY, poll_interval_s=interval_s, beat_s=50.0)
    assert alive(replace(snapshot, now_s=50.0 + most_s))
    assert not alive(replace(snapshot, now_s=50.1 + most_s))
