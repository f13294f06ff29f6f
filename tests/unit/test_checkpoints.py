"""No checkpoint is ahead of what the broker has confirmed, and what a checkpoint covers is on the bus."""

import json
import threading
from collections.abc import Iterator, Sequence

import pytest

from collector.core.contracts import Batch, Outcome
from collector.core.errors import ConfigurationError, LockLostError, UnavailableError
from collector.core.model import Move, RecordType
from collector.core.report import CycleOutcome, CycleReport, WindowOutcome
from collector.cycle.cycle import ADVANCE_S
from tests.fakes import series, three_points
from tests.world import SETTLED_MS, TRAFFIC, World, behind, happened, hurry

CONFIRMED, RETURNED, REFUSED, LOST = Outcome.CONFIRMED, Outcome.RETURNED, Outcome.REFUSED, Outcome.LOST
BEHIND = -900_000
"""Where checkpoints stand at first, from SETTLED_MS."""
OUTAGE = UnavailableError("MySQL went away")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


def points_of(batch: Batch) -> list[int]:
    return [json.loads(message.body)["timestamp"] for message in batch.messages]


def traffic(world: World) -> list[Batch]:
    return [batch for batch in world.publisher.batches if batch.routing_key == TRAFFIC]


def test_checkpoint_moves_to_the_window_s_end_when_every_point_is_confirmed() -> None:
    world = World(behind(3))
    report = world.run()
    assert world.checkpoints() == [0, 0, 0]
    assert (report.outcome, report.texts, report.checkpoints_moved, report.points) == (CycleOutcome.COMPLETE, (), 3, 9)
    assert report.windows[WindowOutcome.DONE] == 3


@pytest.mark.parametrize(("before_end_ms", "stands"), [(30_000, 0), (30_001, -30_000)])
def test_checkpoint_moves_to_the_end_when_the_newest_point_is_within_30_seconds_of_it(before_end_ms: int, stands: int) -> None:
    world = World(behind(1), lambda window: [[window.end_ms - before_end_ms, 1, 2]])
    world.run()
    assert world.checkpoints() == [stands]


@pytest.mark.parametrize("nacked", [0, 1, 2])
def test_checkpoint_stays_when_one_of_three_points_is_nacked(nacked: int) -> None:
    world = World(behind(2))
    at = [SETTLED_MS + BEHIND, SETTLED_MS + BEHIND + 1, SETTLED_MS - 1][nacked]

    def nack_one(batch: Batch) -> Outcome:
        second_row = batch.routing_key == TRAFFIC and json.loads(batch.messages[0].body)["name"] == world.store.rows[2].name
        return REFUSED if second_row and at in points_of(batch) else CONFIRMED

    world.publisher.answer = nack_one
    report = world.run()
    assert world.checkpoints() == [0, BEHIND]
    assert report.outcome is CycleOutcome.COMPLETE
    assert report.texts == ("1 window refused by RabbitMQ",)


@pytest.mark.parametrize("outcome", [RETURNED, REFUSED, LOST])
def test_checkpoint_stays_whatever_keeps_a_window_off_the_bus_and_the_window_comes_again(outcome: Outcome) -> None:
    world = World(behind(3))
    world.outcomes(CONFIRMED, CONFIRMED, outcome)
    report = world.run()
    assert world.checkpoints() == [0, 0, BEHIND]
    assert report.windows[WindowOutcome(outcome.value)] == 1
    assert report.left_over
    again = world.next()
    assert world.checkpoints() == [900_000] * 3
    assert not again.left_over
    first, second = (batch for batch in traffic(world) if world.store.rows[3].name.encode() in batch.messages[0].body)
    twice = set(points_of(first)) & set(points_of(second))
    assert len(twice) == 2
    for at in twice:
        (one,) = (each for each in first.messages if json.loads(each.body)["timestamp"] == at)
        assert one in second.messages


def test_checkpoint_stays_when_the_batch_is_withdrawn_at_the_cycle_s_end() -> None:
    world = World(behind(2))
    world.outcomes(CONFIRMED, None)

    def leave() -> None:
        world.publisher.ready = False
        world.publisher.outage.failed("connection reset")
        world.clock.advance(900)

    world.on_answer(2, leave)
    report = world.run(900)
    assert world.checkpoints() == [0, BEHIND]
    assert report.windows[WindowOutcome.LOST] == 1
    assert report.outcome is CycleOutcome.FAILED
    assert "RabbitMQ is not available: connection reset" in report.texts


def test_window_that_failed_stays_and_holds_up_nobody_else() -> None:
    world = World(behind(3), lambda window: "status 500" if window.series.row_id == 2 else three_points(window))
    report = world.run()
    assert world.checkpoints() == [0, BEHIND, 0]
    assert report.outcome is CycleOutcome.COMPLETE
    assert report.texts == ("1 window failed: status 500",)
    assert report.failing == ((world.store.rows[2].name, 1),)


def test_record_types_have_their_own_checkpoints() -> None:
    types = (RecordType.TRAFFIC, RecordType.ERRORS)
    world = World(
        behind(1),
        lambda window: "status 500" if window.series.record_type is RecordType.ERRORS else three_points(window),
        record_types=types,
    )
    world.run()
    assert [world.checkpoints(each) for each in types] == [[0], [None]]


def run_with_outage_in_mid_round(world: World, error: Exception) -> None:
    """The store fails while the third of five windows is being answered, when it is time to write."""
    failed = threading.Event()
    advance = world.store.advance

    def advance_and_tell(moves: Sequence[Move]) -> list[Move]:
        try:
            return advance(moves)
        finally:
            failed.set()

    def meanwhile() -> None:
        world.store.errors["advance"] = error  # type: ignore[assignment]
        world.clock.advance(ADVANCE_S)
        assert failed.wait(5)

    world.store.advance = advance_and_tell  # type: ignore[method-assign]
    world.on_answer(3, meanwhile)
    with pytest.raises(type(error)):
        world.run()
    world.assert_room_is_free()
    world.store.errors.clear()


@pytest.mark.parametrize("error", [OUTAGE, LockLostError("lost"), ConfigurationError("access denied")])
def test_store_outage_in_mid_round_keeps_what_is_confirmed_and_the_next_pass_writes_it_before_anything_else(
    error: Exception,
) -> None:
    world = World(behind(5))
    run_with_outage_in_mid_round(world, error)
    assert world.checkpoints() == [BEHIND] * 5
    assert world.asked == [1, 2, 3]  # nothing more is started
    world.journal.clear()
    report = world.run()
    assert world.journal[:3] == ["advance", "list", "read"]
    assert world.checkpoints() == [0] * 5
    assert world.asked == [1, 2, 3, 4, 5]  # what was confirmed is not fetched again
    assert report.outcome is CycleOutcome.COMPLETE
    assert report.checkpoints_moved == 5


def test_outage_that_lasts_keeps_what_is_confirmed_for_the_pass_after() -> None:
    world = World(behind(5))
    run_with_outage_in_mid_round(world, OUTAGE)
    world.store.errors["advance"] = OUTAGE
    for _ in range(3):
        with pytest.raises(UnavailableError):
            world.run()
    world.store.errors.clear()
    world.run()
    assert world.checkpoints() == [0] * 5
    assert world.asked == [1, 2, 3, 4, 5]


def test_write_whose_answer_was_lost_counts_once() -> None:
    world = World(behind(5))
    advance = world.store.advance

    def commit_and_fail(moves: Sequence[Move]) -> list[Move]:
        world.store.advance = advance  # type: ignore[method-assign]
        advance(moves)
        raise OUTAGE

    world.store.advance = commit_and_fail  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        world.run()
    assert world.checkpoints() == [0] * 5
    report = world.run()
    assert report.windows[WindowOutcome.MOVED] == 0
    assert not report.left_over
    assert len(world.asked) == 5


def test_nothing_is_written_without_the_lock() -> None:
    world = World(behind(3))
    world.on_answer(2, lambda: setattr(world.store, "writer", False))
    world.step_s = 1
    with pytest.raises(LockLostError):
        world.run()
    assert world.checkpoints() == [BEHIND] * 3
    assert world.asked == [1, 2]
    world.store.writer = True
    world.run()
    assert world.checkpoints() == [0] * 3


def test_lock_that_is_lost_while_interfaces_are_published_ends_the_pass_at_once() -> None:
    world = World(behind(3), once=True)

    def lose(_batch: Batch) -> Outcome:
        world.store.writer = False
        return CONFIRMED

    world.publisher.answer = lose
    with pytest.raises(LockLostError):
        world.run()
    world.assert_room_is_free()
    assert world.asked == []


def test_confirmed_windows_are_written_while_the_round_goes_on() -> None:
    world = World(behind(3))
    written = threading.Event()
    advance = world.store.advance

    def advance_and_tell(moves: Sequence[Move]) -> list[Move]:
        missed = advance(moves)
        written.set()
        return missed

    def meanwhile() -> None:
        world.clock.advance(ADVANCE_S)
        assert written.wait(5)
        assert 0 in world.checkpoints()

    world.store.advance = advance_and_tell  # type: ignore[method-assign]
    world.on_answer(3, meanwhile)
    assert world.run().checkpoints_moved == 3


def test_operator_s_rewind_during_a_cycle_is_kept_and_collected_from_there() -> None:
    world = World(behind(3))
    rewound = SETTLED_MS - 3 * 900_000
    row = world.store.rows[2]
    world.on_answer(2, lambda: world.store.move(series(row), rewound))
    report = world.run()
    assert world.checkpoints() == [0, rewound - SETTLED_MS, 0]
    assert happened(report) == {"done": 2, "moved": 1}
    assert report.checkpoints_moved == 2
    assert report.left_over
    world.next()
    assert [window.begin_ms for window in world.source.asked if window.series.row_id == 2][1:] == [rewound]
    assert world.checkpoints() == [900_000] * 3


def test_rows_that_an_operator_deletes_during_a_cycle_begin_anew() -> None:
    world = World(behind(3))
    world.on_answer(1, lambda: world.store.rows.clear())
    report = world.run()
    assert happened(report) == {"moved": 3}
    assert world.next().new == 3


def runs_unroutable(world: World, key: str, cycles: int) -> Iterator[CycleReport]:
    world.publisher.answer = lambda batch: RETURNED if batch.routing_key == key else CONFIRMED
    return (world.next() for _ in range(cycles))


def test_unroutable_points_are_probed_with_one_window_a_cycle_and_hold_back_no_interface() -> None:
    world = World(behind(4))
    reports = list(runs_unroutable(world, TRAFFIC, 3))
    assert world.asked == [1, 2, 3]  # one a cycle, and each time one that had no turn yet
    assert world.checkpoints() == [BEHIND] * 4
    assert [report.interface_messages for report in reports] == [4, 0, 0]
    assert {report.outcome for report in reports} == {CycleOutcome.FAILED}
    assert all(f"no queue takes messages with routing key {TRAFFIC}" in report.texts for report in reports)
    world.publisher.answer = lambda _batch: CONFIRMED
    assert world.next().outcome is CycleOutcome.COMPLETE
    assert len(set(world.checkpoints())) == 1


def test_unroutable_interfaces_are_probed_with_one_message_a_cycle_and_hold_back_no_point() -> None:
    world = World(behind(4))
    for number, report in enumerate(runs_unroutable(world, "interfaces", 3)):
        assert report.points == 12
        assert report.interface_messages == 0
        assert len(world.publisher.batches) - len(traffic(world)) == number + 1
        assert report.outcome is CycleOutcome.FAILED
    world.publisher.answer = lambda _batch: CONFIRMED
    assert world.next().interface_messages == 4


def test_nothing_is_fetched_that_could_not_be_delivered_but_listing_goes_on() -> None:
    world = World(behind(2), listed=["devices/new/interfaces/1"], once=True, patience_s=10)
    world.publisher.ready = False
    world.publisher.outage.failed("refused")
    world.source.interfaces |= {row.name: {"resource": row.name} for row in world.store.rows.values()}
    world.step_s = 1
    report = world.run()
    assert world.asked == []
    assert report.new == 1
    assert report.outcome is CycleOutcome.FAILED
    assert 10 <= report.seconds < 100
