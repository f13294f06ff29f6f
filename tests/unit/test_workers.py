"""How the workers go through a batch: the source is a function of the test, its waits are shortened to nothing."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collector.core.contracts import Fetched
from collector.core.model import RecordType, Series, Window
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.source.netbeam import workers as module
from collector.source.netbeam.workers import Asked, Workers
from tests.fakes import FakeIntake

T0 = 1_795_521_600_000
FOREVER = float("inf")


def windows(count: int, devices: int = 10, prefix: str = "d") -> list[Window]:
    """One window a series; neighbours are on one device, as they are in the listing."""
    share = max(1, count // devices)
    names = [f"devices/{prefix}{min(number // share, devices - 1)}/interfaces/{number}" for number in range(count)]
    return [Window(Series(number, name, RecordType.TRAFFIC), T0, T0 + 900_000) for number, name in enumerate(names)]


class Rig:
    """Workers over a source that answers as `fails` says, and all that could be observed."""

    def __init__(self, size: int = 4, once: bool = False) -> None:
        self.stop = Stop()
        self.outage = Outage("Netbeam")
        self.fails: Callable[[Window], bool] = lambda _: False
        self.admits: Callable[[Window], bool] = lambda _: True
        self.asked: list[Window] = []
        self.only_once: list[bool] = []
        self.delivered: list[Fetched] = []
        self.released: list[Window] = []
        self.at_once = self.most_at_once = 0
        self.modes: list[int] = []
        self._lock = threading.Lock()
        self.workers = Workers(size, self._ask, self.outage, self.stop, once=once)

    def _ask(self, window: Window, only_once: bool, _until: float) -> Asked | None:
        with self._lock:
            self.asked.append(window)
            self.only_once.append(only_once)
            self.at_once += 1
            self.modes.append(self.at_once)
        failure = "status 503" if self.fails(window) else None
        with self._lock:
            self.at_once -= 1
        return Fetched(window, failure=failure), None

    def fetch(self, batch: list[Window], until: float = FOREVER) -> None:
        self.workers.fetch(batch, FakeIntake(self.admits, self.released.append, self.delivered.append), until)

    def tried(self) -> Counter[Window]:
        return Counter(each.window for each in self.delivered)

    def failed(self) -> set[Window]:
        return {each.window for each in self.delivered if each.failure}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBE_FIRST_S", 0.0001)
    monkeypatch.setattr(module, "PROBE_MOST_S", 0.0004)
    monkeypatch.setattr(module, "_LOOK_S", 0.005)


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.stop.set()


def test_every_window_is_admitted_asked_and_delivered_once(rig: Rig) -> None:
    batch = windows(200)
    admitted: list[Window] = []
    rig.admits = lambda window: bool(admitted.append(window) or True)  # type: ignore[func-returns-value]
    for _ in range(3):
        rig.fetch(batch)
    assert Counter(admitted) == Counter(rig.asked) == Counter(each.window for each in rig.delivered) == Counter(batch * 3)


def test_windows_are_asked_in_the_order_given() -> None:
    rig = Rig(size=1)
    batch = windows(50)
    rig.fetch(batch)
    assert rig.asked == batch
    rig.stop.set()


def test_empty_batch_returns_at_once(rig: Rig) -> None:
    rig.fetch([])
    assert not rig.asked


@pytest.mark.parametrize("size", [1, 4])
def test_one_device_that_fails_holds_up_nobody_and_is_no_outage(size: int) -> None:
    rig = Rig(size)
    batch = windows(400)
    rig.fails = lambda window: window.series.device == "d0"
    rig.fetch(batch)
    assert Counter(rig.asked) == Counter(batch)
    assert rig.failed() == set(batch[:40])
    assert not rig.outage.down
    if size == 1:
        assert all(window.series.device == "d0" for window in rig.asked[-12:])
    rig.stop.set()


def test_after_twenty_failures_others_are_asked_one_at_a_time_and_five_of_them_decide() -> None:
    rig = Rig(size=4, once=True)
    rig.fails = lambda _: True
    rig.fetch(windows(1000, devices=40))
    asked = Counter(window.series.device for window in rig.asked)
    assert 25 <= len(rig.asked) <= 28  # three were under way when the twentieth failed
    fresh = [at for at, window in enumerate(rig.asked) if asked[window.series.device] == 1]
    assert len(fresh) >= 5
    assert [rig.modes[at] for at in fresh[-5:]] == [1] * 5
    assert rig.outage.down
    assert rig.tried() == Counter(rig.asked)
    assert not any(rig.only_once)
    rig.stop.set()


def test_success_of_another_device_brings_back_full_speed_with_the_failed_ones_last() -> None:
    rig = Rig(size=1)
    batch = windows(400, devices=100)  # four on each
    rig.fails = lambda window: window.series.device in ("d0", "d1", "d2", "d3", "d4", "d5")
    rig.fetch(batch)
    assert rig.asked == batch[:20] + batch[20:21] + batch[24:] + batch[21:24]
    assert not rig.outage.down
    rig.stop.set()


def test_away_is_probed_one_at_a_time_until_one_succeeds(rig: Rig) -> None:
    batch = windows(500, devices=50)
    rig.fails = lambda _: len(rig.asked) <= 60
    rig.fetch(batch)
    assert Counter(rig.asked) == Counter(batch)
    assert len(rig.failed()) == 60
    assert set(rig.modes[28:61]) == {1}
    assert any(rig.only_once)
    assert not any(rig.only_once[61:])
    assert not rig.outage.down


def test_small_batches_that_fail_altogether_are_an_outage_too(rig: Rig) -> None:
    rig.fails = lambda _: True
    for _ in range(2):
        rig.fetch(windows(20, devices=1), until=time.monotonic() + 0.02)
    assert rig.workers.away
    assert rig.outage.down


def test_fetch_ends_with_the_cycle_while_away_and_leaves_what_was_not_tried(rig: Rig) -> None:
    batch = windows(5000, devices=100)
    rig.fails = lambda _: True
    until = time.monotonic() + 0.03
    rig.fetch(batch, until)
    assert time.monotonic() < until + 0.5
    assert rig.tried() == Counter(rig.asked)
    assert len(rig.asked) < len(batch)


def test_absence_outlives_the_fetch_and_the_next_one_begins_with_a_probe(rig: Rig) -> None:
    rig.fails = lambda _: True
    rig.fetch(windows(100, devices=20), time.monotonic() + 0.01)
    assert rig.workers.away
    before = len(rig.asked)
    rig.fails = lambda _: len(rig.asked) <= before + 1
    rig.fetch(windows(100, devices=20))
    assert rig.only_once[before : before + 2] == [True, True]
    assert rig.modes[before : before + 2] == [1, 1]
    assert len(rig.asked) == before + 100
    assert not rig.outage.down


def test_refusal_to_admit_winds_up_the_batch(rig: Rig) -> None:
    batch = windows(100)
    rig.admits = lambda window: window.series.row_id < 30
    rig.fetch(batch)
    assert set(rig.asked) == set(batch[:30])
    assert {each.window for each in rig.delivered} == set(batch[:30])
    assert not rig.failed()


def test_refusal_to_admit_ends_the_probing_too(rig: Rig) -> None:
    rig.fails = lambda _: True
    rig.admits = lambda _: len(rig.asked) < 40
    rig.fetch(windows(500, devices=50))
    assert len(rig.asked) == 40
    assert rig.tried() == Counter(rig.asked)


def test_windows_that_wait_to_be_admitted_when_it_trips_are_asked_one_at_a_time_or_given_back() -> None:
    rig = Rig(size=3)
    tripped = threading.Event()
    held: set[Window] = set()
    twice: list[Window] = []

    def admit(window: Window) -> bool:
        twice.extend({window} & held)
        held.add(window)
        return window.series.row_id > 1 or tripped.wait(5)

    def release(window: Window) -> None:
        time.sleep(0.005)  # whoever could take the window already, would do so now
        held.discard(window)
        rig.released.append(window)

    def fails(window: Window) -> bool:
        if len(rig.asked) > 20 and not rig.released:  # the first that was waiting: let the other one come back too
            time.sleep(0.005)
        return len(rig.asked) <= 22

    rig.admits, rig.fails = admit, fails
    note = rig.workers._note

    def noted(*arguments: Any) -> None:
        note(*arguments)
        if rig.workers._breaker.in_doubt:
            tripped.set()

    rig.workers._note = noted  # type: ignore[method-assign, assignment]
    batch = windows(200, devices=200)
    rig.workers.fetch(batch, FakeIntake(rig.admits, release, rig.delivered.append), FOREVER)
    assert Counter(rig.asked) == Counter(each.window for each in rig.delivered) == Counter(batch)
    assert twice == []
    assert rig.modes[20:22] == [1, 1]
    assert rig.released[0] in batch[:2]
    rig.stop.set()


@pytest.mark.parametrize("size", [4, 64])
def test_doubt_leaves_room_for_the_one_that_is_asked_alone(size: int) -> None:
    """With many threads and long windows, what was admitted before the doubt once held all the room for ever."""
    rig, room = Rig(size=size, once=True), threading.Semaphore(8)
    rig.admits = lambda _: room.acquire(timeout=5)

    def settle(_: Window) -> None:
        room.release()

    rig.fails = lambda _: True
    delivered: list[Fetched] = []

    def deliver(fetched: Fetched) -> None:
        delivered.append(fetched)
        room.release()

    rig.workers.fetch(windows(500, devices=50), FakeIntake(rig.admits, settle, deliver), FOREVER)
    assert rig.workers.away
    assert len(delivered) == len(rig.asked) >= 25
    rig.stop.set()


def test_stop_ends_a_fetch_without_new_windows(rig: Rig) -> None:
    batch = windows(1000)

    def fails(_: Window) -> bool:
        if len(rig.asked) == 50:
            rig.stop.set()
        return False

    rig.fails = fails
    rig.fetch(batch)
    assert 50 <= len(rig.asked) <= 54
    assert {each.window for each in rig.delivered} >= set(rig.asked)
    rig.fetch(batch)
    assert len(rig.asked) <= 54


def test_stop_leaves_behind_who_is_stuck_and_delivers_nothing_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.core.shutdown.GRACE_S", 0.01)
    monkeypatch.setattr(module, "LATE_S", 0.01)
    rig, stuck = Rig(size=1), threading.Event()

    def fails(_: Window) -> bool:
        rig.stop.set()
        return not stuck.wait(5)

    rig.fails = fails
    rig.fetch(windows(10))
    assert not rig.delivered
    stuck.set()
    assert len(rig.asked) == 1


def test_error_that_nobody_foresaw_ends_the_collector(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("collector.core.shutdown.GRACE_S", 0.01)
    monkeypatch.setattr(module, "LATE_S", 0.01)
    rig = Rig(size=1)

    def fails(_: Window) -> bool:
        raise KeyError("surprise")

    rig.fails = fails
    rig.fetch(windows(10))
    assert isinstance(rig.stop.failure, KeyError)
    assert "surprise" in caplog.text


def test_pause_that_the_source_wants_ends_the_batch_and_is_no_failure_of_a_device() -> None:
    stop, outage = Stop(), Outage("Netbeam")
    delivered: list[Fetched] = []
    released: list[Window] = []
    workers = Workers(2, lambda _window, _once, _until: None, outage, stop, once=False)
    workers.fetch(windows(100, devices=20), FakeIntake(lambda _: True, released.append, delivered.append), FOREVER)
    assert 1 <= len(released) <= 2
    assert not delivered
    assert not workers.away
    assert not outage.down
    stop.set()


class TestOneDeviceFails:
    """A window that failed holds up nobody else, however long each of its tries takes."""

    @staticmethod
    def spread() -> list[Window]:
        """Ten devices of ten windows, by turns, so that there are never many failures in a row."""
        each = windows(100)
        return [each[number % 10 * 10 + number // 10] for number in range(100)]

    @staticmethod
    def of_d3(asked: list[Window]) -> list[int]:
        return [place for place, window in enumerate(asked) if window.series.device == "d3"]

    def test_its_windows_come_after_all_others_once_some_have_failed(self, rig: Rig) -> None:
        rig.fails = lambda window: window.series.device == "d3"
        rig.fetch(self.spread())
        places = self.of_d3(rig.asked)
        assert len(places) == 10
        assert min(places[-4:]) >= 90  # the first five, and what three other threads may have had in hand
        assert not rig.outage.down

    def test_they_come_last_from_the_start_in_the_next_batch(self, rig: Rig) -> None:
        rig.fails = lambda window: window.series.device == "d3"
        rig.fetch(self.spread())
        rig.asked.clear()
        rig.fetch(self.spread())
        assert self.of_d3(rig.asked)[0] >= 86

    def test_it_is_like_all_others_again_when_it_has_answered(self, rig: Rig) -> None:
        rig.fails = lambda window: window.series.device == "d3"
        rig.fetch(self.spread())
        rig.fails = lambda _: False
        rig.fetch(self.spread())
        rig.asked.clear()
        rig.fetch(self.spread())
        assert self.of_d3(rig.asked)[4] < 60
