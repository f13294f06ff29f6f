"""Room, turns and the broker's mood in front of the publisher."""

import logging
import threading
from collections.abc import Callable

import pytest

from collector.core.contracts import Outcome
from collector.core.shutdown import Stop
from collector.cycle.flow_control import ROOM, FlowControl
from tests.fakes import Clock, FakePublisher

CONFIRMED, RETURNED, REFUSED, LOST = Outcome.CONFIRMED, Outcome.RETURNED, Outcome.REFUSED, Outcome.LOST


class Waiting(threading.Condition):
    """Waiting on it takes no time: the door's clock goes on instead, and what is to happen happens."""

    def __init__(self, door: "Door") -> None:
        super().__init__()
        self._door = door

    def wait(self, timeout: float | None = None) -> bool:
        self._door.clock.advance(timeout or 0)
        for event in [each for each in self._door.events if each[0] <= self._door.clock.seconds]:
            self._door.events.remove(event)
            event[1]()
        return False


class Door:
    """A gate with fakes around it; `at` makes something happen while somebody waits."""

    def __init__(self, room: int = 100, patience_s: float | None = None) -> None:
        self.clock, self.stop, self.publisher = Clock(), Stop(), FakePublisher()
        self.works = True
        self.events: list[tuple[float, Callable[[], None]]] = []
        self.gate = FlowControl(
            self.publisher, self.stop, exchange="ex", may_work=lambda: self.works, patience_s=patience_s, room=room,
            monotonic=self.clock.monotonic,
        )  # fmt: skip
        self.gate._changed = Waiting(self)
        self.begin()

    def begin(self, seconds: float = 100) -> None:
        self.gate.begin(self.clock.seconds + seconds)

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        self.events.append((self.clock.seconds + seconds, action))

    def waited(self, key: str = "k", messages: int = 1, patient: bool = True) -> float | None:
        """For how long it waited to admit; None when it did not."""
        began = self.clock.seconds
        admitted = self.gate.admit(key, (messages,), patient)
        return self.clock.seconds - began if admitted else None

    def opens(self, key: str = "k", messages: int = 1) -> bool:
        return (waited := self.waited(key, messages)) is not None and waited < 1

    def settled(self, outcome: Outcome | None, key: str = "k", messages: int = 1) -> None:
        assert self.opens(key, messages)
        self.gate.settle(key, outcome, messages)

    def has_room(self, size: int = 100) -> bool:
        """Whether all room is free, and no more than that."""
        full = self.opens("room", size)
        self.begin(1)
        more = self.opens("room", 1)
        self.gate.settle("room", None, size if full else 0)
        self.begin()
        return full and not more


@pytest.fixture
def door() -> Door:
    return Door()


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_room_is_taken_before_the_fetch_and_who_finds_none_waits_for_it(door: Door) -> None:
    assert door.opens("k", 60)
    assert door.opens("other", 40)
    door.at(5, lambda: door.gate.settle("other", CONFIRMED, 40))
    assert door.waited("k", 40) == pytest.approx(5, abs=0.5)


def test_what_was_reserved_is_exchanged_for_what_is_needed(door: Door) -> None:
    assert door.opens("k", 90)
    door.gate.resize(90, 15)
    assert door.opens("k", 85)
    door.gate.settle("k", CONFIRMED, 15)
    door.gate.settle("k", LOST, 85)
    assert door.has_room()


def test_more_than_was_reserved_is_taken_all_the_same_and_given_back(door: Door) -> None:
    assert door.opens("k", 10)
    door.gate.resize(10, 250)
    door.begin(1)
    assert door.waited("other") is None
    door.gate.settle("k", CONFIRMED, 250)
    door.begin()
    assert door.has_room()


def test_window_larger_than_the_room_waits_for_all_of_it_and_no_longer(door: Door) -> None:
    assert door.gate.admit("k", (5000,)) == [100]
    door.gate.settle("k", None, 100)
    assert door.has_room()


def test_default_room_takes_a_window_of_a_week() -> None:
    assert ROOM >= 7 * 24 * 120 - 200


@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_room_comes_back_whatever_the_outcome(door: Door, outcome: Outcome | None) -> None:
    door.settled(outcome, messages=70)
    assert door.has_room()


def test_nothing_is_admitted_once_the_cycle_is_over(door: Door) -> None:
    door.begin(0)
    assert door.waited() is None
    door.begin(1)
    door.gate.shut()
    assert door.waited() is None
    door.begin(1)
    assert door.opens()


def test_nothing_is_admitted_after_a_stop(door: Door) -> None:
    door.stop.set()
    assert door.waited() is None


def test_stop_ends_the_wait_for_room(door: Door) -> None:
    assert door.opens("k", 100)
    door.at(3, door.stop.set)
    began = door.clock.seconds
    assert door.waited() is None
    assert door.clock.seconds - began < 4


def test_broker_that_is_away_is_waited_for(door: Door) -> None:
    door.publisher.ready = False
    door.at(7, lambda: setattr(door.publisher, "ready", True))
    assert door.waited() == pytest.approx(7, abs=0.5)


def test_who_is_not_certainly_the_one_that_works_waits(door: Door) -> None:
    door.works = False
    door.at(7, lambda: setattr(door, "works", True))
    assert door.waited() == pytest.approx(7, abs=0.5)


def test_patience_for_a_broker_that_is_away_is_used_up_over_all_waits() -> None:
    door = Door(patience_s=10.0)
    door.publisher.ready = False
    door.at(6, lambda: setattr(door.publisher, "ready", True))
    assert door.waited() is not None
    assert not door.gate.patience_ended
    door.clock.advance(60)  # a broker that is there costs none
    door.publisher.ready = False
    began = door.clock.seconds
    assert door.waited() is None
    assert door.clock.seconds - began == pytest.approx(4, abs=1)
    assert door.gate.patience_ended


def test_unroutable_key_is_named_once_and_probed_with_one_batch_a_cycle(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    assert all(door.opens() for _ in range(5))
    for _ in range(5):
        door.gate.settle("k", RETURNED, 1)
    assert door.waited() is None
    assert door.gate.unroutable == ["k"]
    for _ in range(3):
        door.begin()
        assert door.gate.unroutable == []
        assert door.opens()
        door.at(50, lambda: door.gate.settle("k", RETURNED, 1))
        assert door.waited() is None  # waits for the probe, which comes back
        assert door.gate.unroutable == ["k"]
    assert [("exchange=ex" in line, "routing_key=k" in line) for line in lines(caplog)] == [(True, True)]
    door.begin()
    door.settled(CONFIRMED)
    assert door.opens()
    assert door.opens()
    assert len(lines(caplog)) == 2
    door.gate.settle("k", RETURNED, 1)
    assert len(lines(caplog)) == 3


def test_keys_are_judged_apart(door: Door) -> None:
    door.settled(RETURNED, "interfaces")
    door.settled(REFUSED, "full")
    assert all(door.opens("traffic") for _ in range(3))
    assert door.gate.unroutable == ["interfaces"]


@pytest.mark.parametrize("probe", [None, LOST])
def test_probe_that_says_nothing_is_followed_by_another(door: Door, probe: Outcome | None) -> None:
    door.settled(RETURNED)
    for _ in range(3):
        door.begin()
        assert door.opens()
        door.at(50, lambda: door.gate.settle("k", probe, 1))
        assert door.waited() == pytest.approx(50, abs=0.5)
        door.gate.settle("k", None, 1)
    door.settled(CONFIRMED)
    assert door.opens()
    assert door.opens()


def test_refused_key_goes_on_one_at_a_time_after_growing_delays(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.settled(REFUSED)
    for delay_s in (1, 2, 4, 8, 15, 15):
        assert door.waited() == pytest.approx(delay_s, abs=0.5)
        door.gate.settle("k", REFUSED, 1)
    assert door.waited() == pytest.approx(15, abs=0.5)
    assert len(lines(caplog)) == 1
    door.gate.settle("k", CONFIRMED, 1)
    assert all(door.opens() for _ in range(3))
    for outcome in (REFUSED, CONFIRMED, CONFIRMED):
        door.gate.settle("k", outcome, 1)
    assert door.waited() == pytest.approx(1, abs=0.5)


def test_batches_that_were_in_flight_beside_the_first_refusal_say_nothing_new(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    assert all(door.opens() for _ in range(40))
    for number in range(39):
        door.gate.settle("k", CONFIRMED if number % 3 == 2 else REFUSED, 1)
    assert len(lines(caplog)) == 1
    door.at(20, lambda: door.gate.settle("k", CONFIRMED, 1))
    assert door.waited() == pytest.approx(20, abs=0.5)  # the last of them has to land before the probe
    door.at(20, lambda: door.gate.settle("k", REFUSED, 1))
    assert door.waited() == pytest.approx(22, abs=0.5)


def test_queue_that_is_gone_after_it_was_full_is_named_too(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.settled(REFUSED)
    assert door.waited() is not None
    door.gate.settle("k", RETURNED, 1)
    assert door.gate.unroutable == ["k"]
    assert "no queue takes" in lines(caplog)[-1]


def test_who_is_impatient_does_not_wait_for_a_full_queue(door: Door) -> None:
    door.settled(REFUSED)
    began = door.clock.seconds
    assert door.waited(patient=False) is None
    assert door.clock.seconds - began < 1
    door.clock.advance(1)
    assert door.waited(patient=False) is not None


def test_queue_that_stays_full_ends_the_only_cycle() -> None:
    door = Door(patience_s=30.0)
    door.begin(1e9)
    tries, began = 0, door.clock.seconds
    while door.waited() is not None:
        tries += 1
        door.gate.settle("k", REFUSED, 1)
    assert tries == 5
    assert door.clock.seconds - began < 30


class TestGroups:
    """A source that asks for hundreds of windows in one query is not fed one by one."""

    def test_as_many_as_fit_are_admitted_from_the_front(self, door: Door) -> None:
        assert len(door.gate.admit("k", [30, 30, 30, 30])) == 3
        assert door.opens("k", 10)
        door.begin(1)
        assert not door.opens("k", 1)

    def test_a_group_waits_until_half_of_the_room_is_free(self, door: Door) -> None:
        assert door.opens("other", 60)
        door.at(5, lambda: door.gate.settle("other", CONFIRMED, 60))
        began = door.clock.seconds
        assert len(door.gate.admit("k", [10] * 20)) == 10
        assert door.clock.seconds - began == pytest.approx(5, abs=0.5)

    def test_a_small_group_waits_for_no_more_than_itself(self, door: Door) -> None:
        assert door.opens("other", 60)
        began = door.clock.seconds
        assert len(door.gate.admit("k", [10] * 4)) == 4
        assert door.clock.seconds - began < 1

    def test_one_window_alone_is_the_probe_and_it_needs_only_its_own_room(self, door: Door) -> None:
        door.settled(RETURNED)
        door.begin()
        assert door.opens("other", 60)
        began = door.clock.seconds
        assert len(door.gate.admit("k", [10] * 20)) == 1
        assert door.clock.seconds - began < 1
