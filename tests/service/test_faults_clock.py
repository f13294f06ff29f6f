"""The collector's clock steps and Netbeam's does not: nothing is lost, nothing comes early, wherever on earth the machine stands.

The collector's clock is faked by libfaketime, in the real calls to the C library; the monotonic clock is left alone.
"""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Clock, Collector, Rig, SqliteTable
from tests.simulation.faults import Fault, Kind

NewRig = Callable[..., Rig]
DAY_S, HOUR_S = 86_400.0, 3600.0
MINUTE_MS = 60_000
LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
"""Of Debian's package `faketime`; the variant for programs with threads."""


class Times:
    """Netbeam's clock, which is right, and the collector's, which is `ahead_s` before it. Both run, a day ago."""

    def __init__(self, path: Path) -> None:
        self.right = Clock(behind_s=DAY_S / 2)
        self._path = path
        self._late_s = -DAY_S / 2
        self.step(0)

    @property
    def environment(self) -> dict[str, str]:
        """For the collector."""
        found = glob.glob(LIBRARIES)
        assert found, "libfaketime is not installed: apt-get install faketime"
        return {
            "LD_PRELOAD": found[0],
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, ahead_s: float) -> None:
        """Let the collector's clock be that far ahead from now on."""
        self._ahead_s = ahead_s
        # the library may read it at any moment: replaced as a whole
        fresh = self._path.with_suffix(".fresh")
        fresh.write_text(f"{self._late_s + ahead_s:+.0f}s\n")
        fresh.replace(self._path)

    def advance(self, seconds: float) -> None:
        """Time passes, for both."""
        self._late_s += seconds
        self.step(self._ahead_s)
        self.right.advance(seconds)

    @property
    def now(self) -> str:
        """Where the checkpoints are once all is collected."""
        return str(self.right() // MINUTE_MS * MINUTE_MS)


@pytest.fixture
def times(tmp_path: Path) -> Times:
    return Times(tmp_path / "faketime")


@pytest.fixture
def rig(tmp_path: Path, times: Times) -> Iterator[Rig]:
    table = SqliteTable(tmp_path / "table.sqlite")
    network = SimulatedNetwork.synthetic(8)
    with Rig(network, table, clock=times.right, directory=tmp_path, IDLE_BACKOFF=0) as made:
        made.settings.update(times.environment, TZ="America/Chicago")
        yield made


def collected(rig: Rig, times: Times, collector: Collector) -> None:
    """Wait until each series is collected up to Netbeam's present time, and no further."""
    collector.wait_for(lambda: rig.checkpoints() == {times.now}, what="all checkpoints at the present time")
    rig.check_exactly()


def test_an_hour_forward_and_an_hour_back_lose_nothing_and_repeat_nothing(rig: Rig, times: Times) -> None:
    collector = rig.start()
    collected(rig, times, collector)
    for ahead_s in (HOUR_S, 0, -HOUR_S, HOUR_S, 0):
        times.step(ahead_s)
        times.advance(300)
        collector.wait_for_cycles(2)
        rig.check_exactly()  # among others: no checkpoint is ahead of Netbeam's time
        if ahead_s >= 0:
            collected(rig, times, collector)
    assert collector.log_lines("our clock and Netbeam's differ.*ahead_seconds=36")
    times.advance(300)
    collected(rig, times, collector)
    assert collector.terminate() == 0
    counts = rig.check_exactly()
    print(f"FIGURES clock, 5 steps of an hour or two: {counts}")


def test_a_step_forward_while_the_listing_fails_moves_no_checkpoint_past_netbeams_time(rig: Rig, times: Times) -> None:
    collector = rig.start()
    collected(rig, times, collector)
    for kind in (Kind.STATUS, Kind.HTML):
        rig.behaviour.listing = (Fault(kind=kind),)
        collector.wait_for_cycles(1)
        times.step(HOUR_S)
        times.advance(120)
        asked = rig.simulation.counts["points"]
        collector.wait_for(lambda before=asked: rig.simulation.counts["points"] > before, what="a window")  # type: ignore[misc]
        collector.wait_for_cycles(1)
        rig.check_exactly()
        times.step(0)
        rig.behaviour.listing = ()
        collected(rig, times, collector)
    assert collector.terminate() == 0
    print(f"FIGURES clock, ahead while the listing fails: times=2 {rig.check_exactly()}")


@pytest.mark.parametrize("kind", [Kind.STATUS, Kind.HANG_UP])
def test_a_start_with_a_clock_that_is_ahead_while_the_listing_fails_loses_nothing(
    rig: Rig, times: Times, kind: Kind
) -> None:
    rig.once()
    times.advance(300)
    times.step(HOUR_S)
    rig.behaviour.listing = (Fault(kind=kind),)
    collector = rig.start()
    asked = rig.simulation.counts["points"]
    collector.wait_for(lambda: rig.simulation.counts["points"] >= asked + 24, what="each series' window")
    collector.wait_for_cycles(1)
    rig.check_exactly()
    times.advance(300)
    rig.behaviour.listing = ()
    collected(rig, times, collector)
    times.step(0)
    times.advance(300)
    collected(rig, times, collector)
    assert collector.terminate() == 0
    print(f"FIGURES clock, ahead at the start and no listing, {kind}: {rig.check_exactly()}")


def test_interfaces_that_come_and_go_while_the_clock_steps_are_collected(rig: Rig, times: Times) -> None:
    talking = [each for each in rig.network.resources if not rig.network.silent(each)][:2]
    rig.network.absent = frozenset(talking[:1])
    collector = rig.start()
    collected(rig, times, collector)
    for absent, ahead_s in ((talking[1:], HOUR_S), ((), -HOUR_S), (talking, 0), ((), HOUR_S), ((), 0)):
        rig.network.absent = frozenset(absent)
        times.step(ahead_s)
        times.advance(180)
        collector.wait_for_cycles(2)
        assert {row.name for row in rig.table.rows() if row.active} == set(rig.network.resources) - set(absent)
        rig.check()
    collected(rig, times, collector)
    assert collector.terminate() == 0
    assert sum(row.active for row in rig.table.rows()) == 8
