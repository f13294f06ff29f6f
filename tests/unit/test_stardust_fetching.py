"""A fetch's threads: what they hold of the room while they wait, and how many of them go on."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from collector.core.contracts import Fetched
from collector.core.model import RecordType, Series, Window
from collector.core.shutdown import Stop
from collector.source.stardust import fetching
from collector.source.stardust.fetching import Answered, Fetching, windows_of
from collector.source.stardust.groups import Group, Interface, halves

AT = 1_764_000_000_000
SOON_S = 5.0
"""Nothing here takes so long unless it hangs."""


def group_of(count: int, first: int = 0) -> Group:
    numbers = range(first, first + count)
    return [
        Interface(f"a::{number}", [Window(Series(number, f"devices/a/interfaces/{number}", RecordType.TRAFFIC), AT, AT + 1)])
        for number in numbers
    ]


def answers(group: Group) -> list[Fetched]:
    return [Fetched(each) for each in windows_of(group)]


class Intake:
    """Implements contracts.Intake: admits a group when there is room for all of it; `ended` admits nothing more."""

    def __init__(self, room: int) -> None:
        self.room, self.ended, self.waiting = room, False, 0
        self.admitted: Counter[Window] = Counter()
        self.delivered: Counter[Window] = Counter()
        self.changed = threading.Condition()

    def admit(self, windows: Sequence[Window]) -> int:
        with self.changed:
            self.waiting += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.ended or self.room >= len(windows), SOON_S)
            self.waiting -= 1
            if self.ended or self.room < len(windows):
                return 0
            self.room -= len(windows)
            self.admitted.update(windows)
            return len(windows)

    def release(self, windows: Sequence[Window]) -> None:
        with self.changed:
            self.room += len(windows)
            self.admitted.subtract(windows)
            self.changed.notify_all()

    def deliver(self, fetched: Fetched) -> None:
        self.release([fetched.window])
        self.delivered[fetched.window] += 1

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, SOON_S)


class Fetch:
    """A Fetching whose `ask` a test gives, and whether its source is away."""

    def __init__(self, groups: Sequence[Group], ask: Callable[[Group], Answered], room: int = 10**6, queries: int = 2) -> None:
        self.intake, self.away = Intake(room), False
        self.fetching = Fetching(iter(groups), ask, lambda: self.away, self.intake, Stop(), float("inf"), queries)

    def run(self) -> None:
        """Fails where it would go on for ever."""
        runner = threading.Thread(target=self.fetching.run, daemon=True)
        runner.start()
        runner.join(SOON_S / 2)
        self.intake.ended = runner.is_alive()
        assert not self.intake.ended


def test_no_thread_waits_for_room_that_a_group_in_parts_holds_while_the_source_is_away() -> None:
    def ask(group: Group) -> Answered:
        fetch.intake.until(lambda: fetch.intake.waiting == 1)
        fetch.away = True
        return Answered(again=tuple(halves(group)))

    fetch = Fetch([group_of(4), group_of(4, 4)], ask, room=4)
    fetch.run()
    assert not fetch.fetching.done
    assert fetch.intake.room == 4


def test_what_was_admitted_while_the_source_went_away_is_asked_for_when_it_is_back() -> None:
    asked: list[int] = []

    def ask(group: Group) -> Answered:
        asked.append(len(group))
        if not fetch.away:
            fetch.intake.until(lambda: fetch.intake.waiting == 1)
            fetch.away = True
        return Answered(answers(group))

    fetch = Fetch([group_of(4), group_of(4, 4)], ask, room=4)
    fetch.run()
    assert (asked, fetch.intake.room) == ([4], 4)
    fetch.fetching.probe()
    fetch.fetching.probe()
    assert asked == [4, 1, 1]
    assert len(fetch.intake.delivered) == 6


def test_only_what_is_asked_for_is_admitted_of_a_group_that_comes_back_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "HANDING_OVER", 0)
    most: list[int] = []

    def ask(group: Group) -> Answered:
        most.append(fetch.intake.admitted.total())
        return Answered(again=tuple(halves(group))) if len(group) > 2 else Answered(answers(group))

    fetch = Fetch([group_of(8)], ask, queries=1)
    fetch.run()
    assert most == [8, 4, 2, 2, 4, 2, 2]
    assert fetch.intake.delivered == Counter(windows_of(group_of(8)))


def test_answer_that_is_handed_over_lets_the_next_query_go() -> None:
    asked: list[Group] = []
    both_asked = threading.Event()

    def slow(group: Group) -> Iterator[Fetched]:
        assert both_asked.wait(SOON_S / 5)
        yield from answers(group)

    def ask(group: Group) -> Answered:
        asked.append(group)
        if len(asked) == 2:
            both_asked.set()
        return Answered(slow(group))

    fetch = Fetch([group_of(1), group_of(1, 1)], ask, queries=1)
    fetch.run()
    assert fetch.intake.delivered.total() == 2


def test_after_a_doubt_that_passed_as_many_threads_go_on() -> None:
    threads = 3
    together, doubted = threading.Barrier(threads, timeout=SOON_S / 5), threading.Event()
    others: list[threading.Thread] = []

    def ask(group: Group) -> Answered:
        if len(group) == 2:
            together.wait()
            fetch.away = True
            doubted.set()
            for each in others:
                each.join(SOON_S)
            fetch.away = False
            return Answered(answers(group))
        if len(others) < threads - 1:
            others.append(threading.current_thread())
        together.wait()
        doubted.wait(SOON_S)
        return Answered(answers(group))

    fetch = Fetch([group_of(2), *(group_of(1, number) for number in range(2, 2 + threads - 1 + threads))], ask, queries=threads)
    fetch.run()
    assert fetch.intake.delivered.total() == 2 + threads - 1 + threads
