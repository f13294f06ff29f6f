"""Where collection starts and what may hold it back: each rule in a test of its own, end to end."""

import re
import shlex
from collections.abc import Callable

import pytest

from collector.core.model import RecordType
from tests.rig import Clock, Rig, TableRow
from tests.rig.tables import RECORD_TYPES
from tests.simulation.content import first, instead
from tests.simulation.faults import Fault, Kind

NewRig = Callable[..., Rig]
SECOND_MS, MINUTE_MS, HOUR_MS = 1000, 60_000, 3_600_000
DAY_S = 86_400.0
LOOKBACK_MS = 1_800_000


@pytest.fixture
def clock() -> Clock:
    """Netbeam's time: yesterday, 20 seconds past a full hour, standing still."""
    clock = Clock(behind_s=DAY_S / 2, rate=0)
    clock.advance(20 - clock() / 1000 % 3600)
    return clock


@pytest.fixture
def rig(new_rig: NewRig, clock: Clock) -> Rig:
    """Sixteen interfaces, nine of which have points; an empty table."""
    rig = new_rig(16, clock=clock, record=True)
    rig.table.create()
    return rig


def now_of(rig: Rig) -> int:
    """The listing's time."""
    return rig.clock() // SECOND_MS * SECOND_MS


def minute_of(rig: Rig) -> int:
    """Up to where the points are taken to be complete."""
    return rig.clock() // MINUTE_MS * MINUTE_MS


def talkers(rig: Rig) -> list[str]:
    return [each for each in rig.network.resources if not rig.network.silent(each)]


def rows_of(rig: Rig, name: str) -> list[TableRow]:
    return [row for row in rig.table.rows() if row.name == name]


def at_checkpoint(rig: Rig, time_ms: int, names: list[str] | None = None) -> None:
    """Rows that were made by hand, all collected up to this time."""
    for name in rig.network.resources if names is None else names:
        rig.table.insert(name, time_ms - HOUR_MS, **dict.fromkeys(RECORD_TYPES, time_ms))
    rig.remember_starts()


class TestStart:
    @pytest.mark.parametrize("lookback_s", [0, 90, 1800, 7200])
    def test_a_new_interface_starts_the_lookback_before_its_first_listing(
        self, new_rig: NewRig, clock: Clock, lookback_s: int
    ) -> None:
        rig = new_rig(8, clock=clock, INITIAL_LOOKBACK=lookback_s)
        rig.once()
        clock.advance(120)
        rig.once()
        begin_ms = now_of(rig) - 120 * SECOND_MS - lookback_s * SECOND_MS
        (times,) = {tuple(rig.heard().series(name, each)) for name in talkers(rig) for each in RECORD_TYPES}
        assert times[0] - begin_ms in range(30_000)
        assert minute_of(rig) - times[-1] == 30_000
        rig.check_exactly()

    def test_a_new_interface_that_failed_at_first_still_starts_there(self, rig: Rig, clock: Clock) -> None:
        rig.behaviour.points = (Fault(kind=Kind.STATUS, status=400, resources=talkers(rig)[:2]),)
        rig.once(expect=1)
        rig.behaviour.points = ()
        clock.advance(3600)
        rig.once()
        rig.check_exactly()
        assert rig.checkpoints() == {str(minute_of(rig))}

    def test_a_returning_interface_starts_at_the_end_of_its_earlier_row(self, rig: Rig) -> None:
        name = talkers(rig)[0]
        end_ms = now_of(rig) - 10 * MINUTE_MS + 777
        rig.table.insert(name, end_ms - HOUR_MS, end_ms, **dict.fromkeys(RECORD_TYPES, end_ms))
        rig.remember_starts()
        rig.once()
        rig.check_exactly()
        assert rig.heard().series(name)[0] - end_ms in range(30_000)

    def test_a_returning_interface_starts_at_the_checkpoint_of_its_earlier_row_when_that_is_later(self, rig: Rig) -> None:
        name = talkers(rig)[0]
        end_ms = (now_of(rig) - 20 * MINUTE_MS) // MINUTE_MS * MINUTE_MS
        later_ms = end_ms + 10 * MINUTE_MS
        rig.table.insert(name, end_ms - HOUR_MS, end_ms, traffic=later_ms, errors=end_ms, discards=end_ms - MINUTE_MS)
        rig.remember_starts()
        rig.once()
        rig.check_exactly()
        begins = [min(rig.heard().series(name, each)) // MINUTE_MS for each in RECORD_TYPES]  # rows are fetched side by side
        assert begins == [later_ms // MINUTE_MS, end_ms // MINUTE_MS, end_ms // MINUTE_MS - 1]
        assert [set(row.until.values()) for row in rows_of(rig, name)][1] == {str(minute_of(rig))}

    def test_a_name_that_ended_long_ago_starts_as_a_new_one(self, rig: Rig) -> None:
        name = talkers(rig)[0]
        end_ms = now_of(rig) - 50 * HOUR_MS
        at_checkpoint(rig, minute_of(rig) - 5 * MINUTE_MS, talkers(rig)[1:])
        rig.table.insert(name, end_ms - HOUR_MS, end_ms, **dict.fromkeys(RECORD_TYPES, end_ms))
        rig.remember_starts()
        rig.once()
        rig.check_exactly()
        assert rig.heard().series(name)[0] - (now_of(rig) - LOOKBACK_MS) in range(30_000)

    def test_after_an_absence_new_interfaces_start_at_the_newest_checkpoint(self, rig: Rig) -> None:
        old, new = talkers(rig)[:4], talkers(rig)[4:]
        newest_ms = minute_of(rig) - 5 * HOUR_MS + 42
        at_checkpoint(rig, newest_ms - MINUTE_MS, old[:3])
        at_checkpoint(rig, newest_ms, old[3:])
        rig.once()
        rows = {row.name: row for row in rig.table.rows()}
        starts = {(rows[name].id, each): newest_ms for name in new for each in RECORD_TYPES}
        rig.check_exactly(starts=starts)
        assert {rig.heard().series(name)[0] for name in new} == {-(-newest_ms // 30_000) * 30_000}
        assert rig.checkpoints() == {str(minute_of(rig))}

    def test_an_interface_that_returns_in_an_absence_starts_no_earlier_than_its_row_ended(self, rig: Rig) -> None:
        returning, *others = talkers(rig)
        newest_ms = minute_of(rig) - 5 * HOUR_MS
        end_ms = newest_ms + HOUR_MS
        at_checkpoint(rig, newest_ms, others)
        rig.table.insert(returning, newest_ms - HOUR_MS, end_ms, traffic=newest_ms, errors=newest_ms, discards=None)
        rig.remember_starts()
        rig.once()
        row = rows_of(rig, returning)[1]
        rig.check_exactly(starts={(row.id, each): end_ms for each in RECORD_TYPES})
        assert {until for row in rows_of(rig, returning)[:1] for until in row.until.values()} == {str(end_ms)}

    def test_collection_goes_on_at_the_checkpoint_to_the_millisecond(self, rig: Rig) -> None:
        grid_ms = minute_of(rig) - 5 * MINUTE_MS
        begins = {grid_ms: grid_ms, grid_ms + 1: grid_ms + 30_000, grid_ms - 1: grid_ms}
        for name, begin_ms in zip(talkers(rig), begins, strict=False):
            at_checkpoint(rig, begin_ms, [name])
        rig.once()
        rig.check_exactly()
        assert [rig.heard().series(name)[0] for name in talkers(rig)[:3]] == list(begins.values())

    def test_nothing_younger_than_the_settle_delay_is_asked_for(self, rig: Rig, clock: Clock) -> None:
        rig.once(SETTLE_DELAY=333)
        end_ms = (now_of(rig) - 333_000) // MINUTE_MS * MINUTE_MS
        assert rig.checkpoints() == {str(end_ms)}
        assert {end for name in talkers(rig) for _, end in rig.simulation.asked(name, RecordType.TRAFFIC)} == {end_ms}
        asked = [rig.simulation.asked(name, RecordType.TRAFFIC) for name in talkers(rig)]
        rig.once(SETTLE_DELAY=600)
        again = [rig.simulation.asked(name, RecordType.TRAFFIC) for name in talkers(rig)]
        assert again == asked, "a window that ends before it begins was asked for"
        assert rig.checkpoints() == {str(end_ms)}
        rig.check_exactly()


class TestBacklog:
    def test_who_is_too_far_behind_starts_at_the_limit_and_the_rest_can_be_fetched(self, rig: Rig) -> None:
        begin_ms, limit_ms = minute_of(rig) - 5 * HOUR_MS, minute_of(rig) - HOUR_MS
        at_checkpoint(rig, begin_ms, talkers(rig)[:5])
        at_checkpoint(rig, limit_ms + MINUTE_MS, talkers(rig)[5:])
        collector = rig.once(MAX_BACKLOG=3600)
        rows = {row.id: row for row in rig.table.rows()}
        skipped = [key for key, start_ms in rig.starts.items() if start_ms == begin_ms]
        rig.check_exactly(starts=dict.fromkeys(skipped, limit_ms))
        assert len(skipped) == 15
        (warning,) = collector.log_lines("further behind than MAX_BACKLOG")
        assert "series=15" in warning
        command = re.search(r"esnet_collector\.py (backfill [^'\"]*)", warning)
        assert command
        backfill = rig.start(*shlex.split(command[1]))
        assert backfill.wait() == 0
        counts = rig.check()  # now from where they were
        assert counts.missing == 0
        assert {rows[row_id].name for row_id, _ in skipped} == set(talkers(rig)[:5])

    def test_without_a_limit_everything_is_fetched(self, rig: Rig) -> None:
        at_checkpoint(rig, minute_of(rig) - 3 * HOUR_MS, talkers(rig)[:5])
        collector = rig.once(MAX_BACKLOG=0)
        assert not collector.log_lines("further behind than MAX_BACKLOG")
        rig.check()
        assert rig.checkpoints() == {str(minute_of(rig))}


class TestWindows:
    def test_every_series_gets_its_first_window_before_any_gets_its_second(self, rig: Rig) -> None:
        at_checkpoint(rig, minute_of(rig) - 35 * MINUTE_MS)
        rig.once(MAX_WINDOW=600)
        rig.check_exactly()
        windows = [(each.resource, each.record_type, each.end_ms) for each in rig.simulation.requests if each.record_type]
        assert len(windows) == 16 * 3 * 4
        ends = [end_ms for _, _, end_ms in windows]
        assert ends == sorted(ends)
        assert len(set(ends)) == 4

    def test_after_a_failure_half_as_much_is_asked_for_but_not_less_than_a_quarter_of_an_hour(
        self, rig: Rig, clock: Clock
    ) -> None:
        name = talkers(rig)[0]
        begin_ms = minute_of(rig) - 3 * HOUR_MS
        at_checkpoint(rig, begin_ms, [name])
        rig.behaviour.points = (Fault(kind=Kind.STATUS, status=400, resources=[name], longer_than_s=901),)
        collector = rig.start()
        collector.wait_for(lambda: rig.heard().series(name))
        asked = rig.simulation.asked(name, RecordType.TRAFFIC)
        assert [round((end - begin) / MINUTE_MS, 1) for begin, end in asked[:5]] == [180.0, 90.0, 45.0, 22.5, 15.0]
        rig.behaviour.points = ()
        clock.advance(120)  # those that are silent are asked again when the others have new points
        collector.wait_for(lambda: rig.checkpoints() == {str(minute_of(rig))})
        collector.terminate()
        # the only checkpoint was three hours old, so the others start there too
        rig.check_exactly(starts={(row.id, each): begin_ms for row in rig.table.rows() for each in RECORD_TYPES})

    def test_a_series_that_fails_holds_up_nobody_else(self, rig: Rig, clock: Clock) -> None:
        bad = talkers(rig)[0]
        rig.behaviour.points = (Fault(kind=Kind.STATUS, status=403, resources=[bad], record_types=[RecordType.ERRORS]),)
        rig.once(expect=1)
        rows = [row for row in rig.table.rows() if row.name in talkers(rig)]
        stands = {(row.name, each): row.until[each] for row in rows for each in RECORD_TYPES}
        assert stands.pop((bad, "errors")) is None
        assert set(stands.values()) == {str(minute_of(rig))}
        rig.behaviour.points = ()
        clock.advance(600)
        rig.once()
        rig.check_exactly()


class TestBrake:
    """A list that would retire more than a fifth, and more than ten, is held back until a second one says the same."""

    @pytest.fixture
    def rig(self, new_rig: NewRig) -> Rig:
        """Forty interfaces, all known; Netbeam's time runs."""
        rig = new_rig(40, clock=Clock(behind_s=DAY_S / 2), record=True)
        rig.once()
        return rig

    def test_once_retires_nothing_and_says_what_accepts_the_list(self, rig: Rig) -> None:
        rig.behaviour.edit_listing = first(25)
        collector = rig.once(expect=1)
        assert collector.log_lines("lacks 15 of 40 .*MAX_RETIRED_SHARE=1 accepts the list")
        assert all(row.active for row in rig.table.rows())
        assert rig.checkpoints() == {str(minute_of(rig))} or len(rig.checkpoints()) == 1
        rig.once(MAX_RETIRED_SHARE=1)
        assert [row.active for row in rig.table.rows()] == [True] * 25 + [False] * 15
        rig.check_exactly()

    def test_a_few_are_retired_at_once(self, rig: Rig) -> None:
        rig.behaviour.edit_listing = first(30)
        rig.once()
        assert [row.active for row in rig.table.rows()] == [True] * 30 + [False] * 10

    def test_what_two_lists_lack_is_retired_as_of_the_first(self, rig: Rig) -> None:
        added = rig.network.resources[0]
        newcomer = f"{added}-new"
        rig.behaviour.edit_listing = lambda entries: [*entries[:25], {**entries[0], "resource": newcomer}]
        collector = rig.start(POLL_INTERVAL=3)
        collector.wait_for_cycles(1)
        (held,) = collector.cycles()
        assert (held["held_back"], held["retired"], held["new"]) == ("15", "0", "1")
        first_ms = max(each.timestamp_ms for each in rig.heard().interfaces)
        assert [row.active for row in rig.table.rows()] == [True] * 41
        collector.wait_for(lambda: sum(row.active for row in rig.table.rows()) == 26)
        assert {row.active_until for row in rig.table.rows() if not row.active} == {str(first_ms)}
        collector.terminate()

    def test_a_list_that_is_whole_again_retires_nothing(self, rig: Rig) -> None:
        rig.behaviour.edit_listing = first(25)
        collector = rig.start(POLL_INTERVAL=2)
        collector.wait_for_log("lacks 15 of 40")
        rig.behaviour.edit_listing = None
        collector.wait_for_cycles(3)
        collector.terminate()
        held = [cycle["held_back"] for cycle in collector.cycles()]
        assert (held[0], held[-1]) == ("15", "0")
        assert all(row.active for row in rig.table.rows())
        assert len(rig.table.rows()) == 40

    @pytest.mark.parametrize("listing", [[], {}, "text", [None, 7], [{"name": "no resource"}]], ids=str)
    def test_a_list_that_is_none_changes_nothing_and_collection_goes_on(self, new_rig: NewRig, listing: object) -> None:
        rig = new_rig(16)
        rig.table.create()
        at_checkpoint(rig, minute_of(rig) - 10 * MINUTE_MS, list(rig.network.resources))
        rig.behaviour.edit_listing = instead(listing)
        collector = rig.once(expect=1)
        assert collector.log_lines("listing failed")
        assert collector.log_lines("cycle failed: listing")
        assert [row.active for row in rig.table.rows()] == [True] * 16
        assert rig.check_exactly().points >= len(talkers(rig)) * 3 * 20


class TestSilence:
    """Silence proves nothing: a checkpoint follows the newest point, and silence is believed after LATE_DATA."""

    def test_a_silence_of_all_moves_nothing_and_raises_the_alarm_after_a_while(self, new_rig: NewRig, clock: Clock) -> None:
        rig = new_rig(32, clock=clock)
        rig.once()
        before = rig.checkpoints()
        rig.behaviour.silence = True
        clock.advance(600)
        rig.once(expect=0)
        clock.advance(600)
        collector = rig.once(expect=1)
        silent = f"for {len(talkers(rig))} of {len(talkers(rig))} series since "
        assert len(collector.log_lines(f"cycle failed: Netbeam has had no (traffic|errors|discards) points {silent}")) == 3
        assert rig.checkpoints() == before
        rig.behaviour.silence = False
        rig.once()
        assert rig.checkpoints() == {str(minute_of(rig))}
        rig.check_exactly()

    def test_a_new_table_stays_without_checkpoints_while_there_is_nothing(self, rig: Rig, clock: Clock) -> None:
        rig.behaviour.silence = True
        rig.once()
        assert rig.checkpoints() == {None}
        rig.behaviour.silence = False
        clock.advance(600)
        rig.once()
        rig.check_exactly()

    def test_points_that_come_late_are_collected_in_a_later_cycle(self, rig: Rig, clock: Clock) -> None:
        rig.once()
        late = talkers(rig)[:4]
        rig.network.sleeps_ms = dict.fromkeys(late, now_of(rig))
        clock.advance(3600)
        rig.once()
        rig.check_exactly()
        rig.network.sleeps_ms = {}
        rig.once()
        assert rig.checkpoints() == {str(minute_of(rig))}
        rig.check_exactly()

    def test_silence_is_believed_after_late_data(self, rig: Rig, clock: Clock) -> None:
        rig.once()
        dead = talkers(rig)[:4]
        rig.network.sleeps_ms = dict.fromkeys(dead, now_of(rig))
        clock.advance(3600)
        rig.once(LATE_DATA=900)  # the others go on, and so show up to where there are points
        newest_ms = minute_of(rig)
        clock.advance(60)
        rig.once(LATE_DATA=900)
        stands = {row.until[each] for row in rig.table.rows() if row.name in dead for each in RECORD_TYPES}
        assert stands == {str(newest_ms - 900 * SECOND_MS)}
        rig.check_exactly()

    def test_a_silence_in_mid_run_moves_nothing_and_nothing_is_lost(self, new_rig: NewRig) -> None:
        rig = new_rig(32, clock=Clock(behind_s=DAY_S / 2, rate=120))
        collector = rig.start()
        collector.wait_for_cycles(2)
        rig.behaviour.silence = True
        collector.wait_for_log("cycle ended outcome=failed")
        before = rig.checkpoints()
        collector.wait_for_cycles(2)
        assert rig.checkpoints() == before
        rig.behaviour.silence = False
        collector.wait_for(lambda: collector.cycles()[-1]["outcome"] == "complete")
        collector.wait_for_cycles(1)
        assert collector.terminate() == 0
        rig.check_exactly()
