"""Every misbehaviour of Netbeam that is known, against a collector that runs: nothing good is lost or held up."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import pytest

from collector.core.model import RecordType
from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Collector, Rig, SqliteTable
from tests.servers.ports import free_port
from tests.service.faults import DAY_S, FLYING, MINUTE_MS, NewRig, finish, flying, health, metric, start, wait_for_all
from tests.simulation import content
from tests.simulation.content import Entries
from tests.simulation.faults import Fault, Kind

HARMLESS = {
    Kind.SLOW, Kind.CHUNKED, Kind.CLOSE, Kind.GZIP, Kind.SHORT_POINTS, Kind.BAD_VALUES, Kind.BAD_TIMES, Kind.HUGE_NUMBERS,
    Kind.LONG_NUMBERS, Kind.OUTSIDE, Kind.DOUBLED, Kind.SHUFFLED,
}  # fmt: skip
"""What a window gets through in spite of."""
DESTROYING = {Kind.EMPTY}
"""Of a few interfaces it cannot be told from the truth."""
FAILING = [kind for kind in Kind if kind not in HARMLESS | DESTROYING]
STATUSES = (500, 503, 429, 408, 403, 410)
TIMEOUT_S = 0.8


def fault(kind: Kind, **options: object) -> Fault:
    return Fault(kind=kind, seconds=0.05 if kind is Kind.SLOW else 0.2, **options)  # type: ignore[arg-type]


def reached(rig: Rig, resources: object) -> int:
    """How far the series of these interfaces are, all of them."""
    assert isinstance(resources, set)
    return min(int(until or 0) for row in rig.table.rows() if row.name in resources for until in row.until.values())


def test_each_kind_of_fault_on_some_interfaces_holds_up_no_other(new_rig: NewRig) -> None:
    rig = flying(new_rig, 96, NETBEAM_TIMEOUT=TIMEOUT_S, NETBEAM_CONCURRENCY=16)
    talking = [each for each in rig.network.resources if not rig.network.silent(each)]
    collector = start(rig)
    kinds = [*(fault(kind) for kind in Kind if kind not in DESTROYING), *(fault(Kind.STATUS, status=each) for each in STATUSES)]
    for each, resource in zip(kinds, talking, strict=False):
        each.resources = {resource}
    bad = {resource for each, resource in zip(kinds, talking, strict=False) if each.kind in FAILING}
    good = set(rig.network.resources) - bad
    rig.behaviour.points = tuple(kinds)
    collector.wait_for_cycles(2)  # the first one may have begun before the faults
    frozen_at, present = reached(rig, bad), rig.clock() // MINUTE_MS * MINUTE_MS
    collector.wait_for(lambda: reached(rig, good) >= present, what="the others' progress")
    assert all(each.hits for each in kinds)
    rig.check()
    assert min(int(until or 0) for row in rig.table.rows() if row.name in bad for until in row.until.values()) == frozen_at
    rig.behaviour.points = ()
    recovered_s = wait_for_all(rig, collector)
    finish(rig, collector, "Netbeam: each kind on some interfaces", sum(each.hits for each in kinds), recovered_s)


@pytest.fixture
def several(tmp_path: Path) -> Iterator[list[tuple[Rig, Collector]]]:
    """Four small collectors with files for tables and standard outputs for buses, so that many faults can be tried at once."""
    started: list[tuple[Rig, Collector]] = []
    try:
        for number in range(4):
            place = tmp_path / str(number)
            place.mkdir()
            rig = flying(_small(place), 8, NETBEAM_TIMEOUT=TIMEOUT_S)
            started.append((rig.__enter__(), start(rig)))
        yield started
    finally:
        for rig, _ in started:
            rig.__exit__(None, None, None)


def _small(place: Path) -> NewRig:
    def make(count: int, **options: object) -> Rig:
        network = SimulatedNetwork.synthetic(count)
        return Rig(network, SqliteTable(place / "table.sqlite"), directory=place, **options)  # type: ignore[arg-type]

    return make


def test_each_kind_of_fault_on_all_interfaces_heals(several: list[tuple[Rig, Collector]]) -> None:
    """One after the other in each of the rigs; a kind that is harmless lets everything through all the while."""

    def suffer(place: tuple[Rig, Collector], kinds: list[Fault]) -> tuple[int, float]:
        rig, collector = place
        slowest_s = 0.0
        for each in kinds:
            before = reached(rig, set(rig.network.resources))
            rig.behaviour.points = (each,)
            collector.wait_for(lambda each=each: each.hits >= 6, what=f"{each.kind} six times")  # type: ignore[misc]
            if each.kind in HARMLESS:
                wait_for_all(rig, collector)
            else:
                rig.check()
                moved = {int(until or 0) - before for row in rig.table.rows() for until in row.until.values()}
                assert max(moved) <= 3 * FLYING * 1000, f"moved on in spite of {each.kind}"
            rig.behaviour.points = ()
            slowest_s = max(slowest_s, wait_for_all(rig, collector))
        return sum(each.hits for each in kinds), slowest_s

    kinds = [*(fault(kind) for kind in Kind if kind not in DESTROYING), *(fault(Kind.STATUS, status=each) for each in STATUSES)]
    shares = [list(islice(kinds, number, None, len(several))) for number in range(len(several))]
    with ThreadPoolExecutor(len(several)) as threads:
        results = list(threads.map(suffer, several, shares))
    for (rig, collector), (hits, slowest_s) in zip(several, results, strict=True):
        finish(rig, collector, "Netbeam: each kind on all interfaces", hits, slowest_s)


def test_lists_that_are_empty_cut_short_doubled_or_half_gone(new_rig: NewRig) -> None:
    at = free_port()
    rig = flying(new_rig, 48, METRICS_PORT=at, NETBEAM_TIMEOUT=TIMEOUT_S)
    collector = start(rig)
    names = sorted(rig.network.resources)

    def listed(edit: object, cycles: int = 2) -> None:
        rig.behaviour.edit_listing = edit  # type: ignore[assignment]
        collector.wait_for_cycles(cycles)

    for wrong in ([], {}, None, "", [None], [{"resource": ""}], {"error": "over quota"}):
        listed(content.instead(wrong), 1)
    assert "listing" in health(at)[1]
    for kind in (Kind.CUT, Kind.CUT_JSON, Kind.HTML, Kind.RESET, Kind.STATUS, Kind.REDIRECT, Kind.DRIP_HEAD):
        rig.behaviour.edit_listing, rig.behaviour.listing = None, (fault(kind, limit=3),)
        collector.wait_for(lambda: rig.behaviour.listing[0].hits >= 1)
    rig.behaviour.listing = ()
    wait_for_all(rig, collector)  # windows went on with the interfaces of the table
    assert [row.name for row in sorted(rig.table.rows(), key=lambda row: row.name)] == names
    assert all(row.active for row in rig.table.rows())
    listed(content.doubled_entries)
    assert len(rig.table.rows()) == len(names)
    assert all(each.body["description"] != "doubled" for each in rig.heard().interfaces)

    flips = cycle((content.half, content.first(20)))

    def worse(entries: Entries) -> object:
        """Half of it, or only its beginning, by turns, and whole in between: never twice in a row without the same ones."""
        return next(flips)(entries)

    turns: Iterator[Callable[[Entries], object]] = cycle((worse, lambda entries: entries))
    listed(lambda entries: next(turns)(entries), 6)
    assert all(row.active for row in rig.table.rows()), "retired by a list that no second one confirmed"
    assert collector.log_lines("until a second listing says the same")
    listed(content.half, 3)
    assert sum(row.active for row in rig.table.rows()) == len(names) // 2  # it stays gone: retired
    listed(None)
    recovered_s = wait_for_all(rig, collector)
    assert sum(row.active for row in rig.table.rows()) == len(names)
    finish(rig, collector, "Netbeam: lists empty, cut, doubled, half", 20, recovered_s)


def test_interfaces_that_flap_from_cycle_to_cycle(new_rig: NewRig) -> None:
    rig = flying(new_rig, 32)
    collector = start(rig)
    odd, even = frozenset(rig.network.resources[:8:2]), frozenset(rig.network.resources[1:8:2])
    for absent in islice(cycle((odd, even)), 8):
        rig.network.absent = absent
        collector.wait_for_cycles(1)
    rig.network.absent = frozenset()
    recovered_s = wait_for_all(rig, collector)
    assert len(rig.table.rows()) > 40
    counts = finish(rig, collector, "Netbeam: interfaces flap", 8, recovered_s)
    assert counts.duplicates == 0


def test_a_third_of_all_answers_fails_at_random_for_ten_cycles(new_rig: NewRig) -> None:
    rig = flying(new_rig, 48, NETBEAM_TIMEOUT=TIMEOUT_S, NETBEAM_CONCURRENCY=32)
    collector = start(rig)
    kinds = (Kind.STATUS, Kind.RESET, Kind.HTML, Kind.CUT, Kind.HANG, Kind.NO_POINTS)
    rig.behaviour.points = tuple(fault(kind, share=0.06, seed=number) for number, kind in enumerate(kinds))
    rig.behaviour.listing = (fault(Kind.STATUS, share=0.3),)
    collector.wait_for_cycles(10)
    faults, rig.behaviour.points, rig.behaviour.listing = rig.behaviour.points, (), ()
    recovered_s = wait_for_all(rig, collector)
    counts = finish(rig, collector, "Netbeam: 30 % of all answers for ten cycles", sum(each.hits for each in faults), recovered_s)
    assert counts.duplicates == 0


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.HANG])
def test_a_device_that_fails_whole_holds_up_no_other(new_rig: NewRig, kind: Kind) -> None:
    rig = flying(new_rig, 60, NETBEAM_TIMEOUT=0.5, POLL_INTERVAL=3)
    collector = start(rig)
    device = rig.network.resources[0].split("/")[1]
    bad = {each for each in rig.network.resources if f"/{device}/" in each}
    good = set(rig.network.resources) - bad
    assert len(bad) * len(RecordType) > 20, "too few for anybody to doubt Netbeam"
    rig.behaviour.points = (fault(kind, device=device),)
    collector.wait_for_cycles(2)  # the first one may have begun before the fault
    for _ in range(2):
        present = rig.clock() // MINUTE_MS * MINUTE_MS
        collector.wait_for_cycles(2)  # the first one may have begun before this minute
        assert reached(rig, good) >= present
    assert reached(rig, bad) < reached(rig, good)
    assert not collector.log_lines("WARNING Netbeam is not available")
    (hits,) = (each.hits for each in rig.behaviour.points)
    rig.behaviour.points = ()
    recovered_s = wait_for_all(rig, collector)
    finish(rig, collector, f"Netbeam: one device fails whole ({kind})", hits, recovered_s)


def test_silence_of_all_moves_no_checkpoint_and_is_complete_afterwards(new_rig: NewRig) -> None:
    at = free_port()
    rig = flying(new_rig, 32, METRICS_PORT=at, LATE_DATA=DAY_S)
    talking = {each for each in rig.network.resources if not rig.network.silent(each)}
    collector = start(rig)
    rig.behaviour.silence = True
    collector.wait_for_cycles(2)
    held = {row.name: row.until for row in rig.table.rows() if row.name in talking}
    collector.wait_for_cycles(3)
    assert {row.name: row.until for row in rig.table.rows() if row.name in talking} == held
    collector.wait_for(lambda: "Netbeam has had no traffic points" in health(at)[1], what="the alarm of silence")
    rig.behaviour.silence = False
    recovered_s = wait_for_all(rig, collector)
    collector.wait_for(lambda: health(at)[0] == 200)
    counts = finish(rig, collector, "Netbeam: silence of all", 5, recovered_s)
    assert counts.duplicates == 0


@pytest.mark.parametrize("cut_short", [False, True])
def test_silence_of_all_from_the_first_cycle_of_a_restart(new_rig: NewRig, cut_short: bool) -> None:
    rig = flying(new_rig, 32, LATE_DATA=DAY_S)
    assert start(rig).terminate(8) == 0
    if cut_short:  # the cycle before, so that most series have never been collected
        rig.table.sql("UPDATE esnet_interfaces SET traffic_until = NULL, errors_until = NULL, discards_until = NULL WHERE id > 2")
    before = [row.until for row in rig.table.rows()]
    rig.behaviour.silence = True
    collector = rig.start()
    collector.wait_for_cycles(3)
    assert [row.until for row in rig.table.rows()] == before
    rig.behaviour.silence = False
    recovered_s = wait_for_all(rig, collector)
    finish(rig, collector, "Netbeam: silence of all at a restart", 1, recovered_s)


def test_silence_that_begins_and_ends_in_mid_cycle_costs_nothing(new_rig: NewRig) -> None:
    rig = flying(new_rig, 96, POLL_INTERVAL=2, LATE_DATA=DAY_S)
    rig.behaviour.latency_s = 0.05
    collector = start(rig)
    series = 96 * len(RecordType)
    for silent, share in ((True, 0.7), (False, 0.3)):
        collector.wait_for_cycles(1)
        asked = rig.simulation.counts["points"] + share * series
        collector.wait_for(lambda asked=asked: rig.simulation.counts["points"] >= asked, what="some part of a cycle")  # type: ignore[misc]
        rig.behaviour.silence = silent
        collector.wait_for_cycles(2)
    recovered_s = wait_for_all(rig, collector)
    finish(rig, collector, "Netbeam: silence that begins and ends in mid-cycle", 1, recovered_s)


def test_retry_after_is_kept_and_ends_with_the_cycle(new_rig: NewRig) -> None:
    rig = flying(new_rig, 16, POLL_INTERVAL=3)
    collector = start(rig)
    rig.behaviour.points = (fault(Kind.STATUS, status=429, retry_after="1", limit=1),)
    collector.wait_for(lambda: rig.behaviour.points[0].hits, what="the 429")
    time.sleep(0.3)  # what was in flight beside it
    requests, began = rig.simulation.counts["points"], time.monotonic()
    collector.wait_for(lambda: rig.simulation.counts["points"] > requests)
    assert 0.4 < time.monotonic() - began < 2
    wait_for_all(rig, collector)
    rig.behaviour.points = (fault(Kind.STATUS, status=503, retry_after="86400", limit=1),)
    collector.wait_for_log("Netbeam asked for a pause seconds=86400")
    recovered_s = wait_for_all(rig, collector, 15)
    finish(rig, collector, "Netbeam: Retry-After", 2, recovered_s)


def test_netbeam_away_is_probed_without_a_storm(new_rig: NewRig) -> None:
    at = free_port()
    rig = flying(new_rig, 48, METRICS_PORT=at, POLL_INTERVAL=2)
    collector = start(rig)
    port_of_simulation = rig.simulation.port
    rig.simulation.stop()
    collector.wait_for(lambda: health(at)[0] == 503 and "Netbeam is down since" in health(at)[1], what="503 with Netbeam")

    def failed() -> float:
        return metric(at, 'requests_total{outcome="connection"}')

    collector.wait_for_cycles(1)
    before, began, cycles = failed(), time.monotonic(), len(collector.cycles())
    collector.wait_for_cycles(2)
    # three tries of the listing a cycle, and one probe at 0.1, 0.2, 0.4, 0.4 ... s
    most = (len(collector.cycles()) - cycles + 2) * (3 + 3) + (time.monotonic() - began) / 0.4
    # and, once, the windows that fail until it counts as away: 20, those in flight beside them, and 5 alone, three tries each
    most += (20 + 16 + 5) * 3
    assert failed() - before <= most, "a storm of requests"
    assert len(collector.log_lines("WARNING Netbeam is not available")) == 1
    assert rig.simulation.port == port_of_simulation
    rig.simulation.start()
    recovered_s = wait_for_all(rig, collector)
    collector.wait_for(lambda: health(at)[0] == 200)
    assert len(collector.log_lines("WARNING Netbeam is available again")) == 1
    finish(rig, collector, "Netbeam: away and back", 1, recovered_s)


def test_windows_are_half_open_whichever_ends_netbeam_includes(new_rig: NewRig) -> None:
    rig = flying(new_rig, 16)
    collector = start(rig)
    for begin_inclusive, end_inclusive in ((True, False), (False, True), (True, True), (False, False)):
        for descending in (False, True):
            rig.behaviour.begin_inclusive, rig.behaviour.end_inclusive = begin_inclusive, end_inclusive
            rig.behaviour.descending = descending
            collector.wait_for_cycles(1)
    recovered_s = wait_for_all(rig, collector)
    finish(rig, collector, "Netbeam: all four conventions of ends", 8, recovered_s)
    rig.check_exactly()


def test_points_are_asked_for_in_time_order_however_far_behind(new_rig: NewRig) -> None:
    rig = flying(new_rig, 16, INITIAL_LOOKBACK=round(DAY_S / 12), MAX_WINDOW=900)
    collector = start(rig)
    rig.behaviour.points = (fault(Kind.STATUS, longer_than_s=400, status=504),)
    rig.simulation.behaviour.latency_s = 0.01
    collector.wait_for_cycles(2)
    rig.behaviour.points = ()
    recovered_s = wait_for_all(rig, collector)
    finish(rig, collector, "Netbeam: long windows fail", 1, recovered_s)
    rig.check_exactly()
