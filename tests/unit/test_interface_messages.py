"""Which interfaces are published in a cycle."""

import json
import logging

import pytest

from collector.core.counters import Count, Counters
from collector.core.limited_log import MOST_LINES, LimitedLog
from collector.core.model import Listing
from collector.cycle.interface_messages import Announcements
from tests.fakes import NOW_MS, Clock, interface

DAY_S = 86_400.0


class Desk:
    """Announcements with a clock and a listing that tests change."""

    def __init__(self, *names: str) -> None:
        self.clock, self.counters = Clock(), Counters()
        self.limited = LimitedLog(logging.getLogger("desk"))
        self.announcements = Announcements(DAY_S, self.counters, self.clock.monotonic, self.limited)
        self.interfaces = {name: interface(name) for name in names}

    def due(self) -> list[str]:
        listing = Listing(self.clock.now_ms, dict(self.interfaces))
        made = list(self.announcements.due(listing))
        assert all(json.loads(message.body)["timestamp"] == listing.time_ms for _, message in made)
        return [resource for resource, _ in made]

    def cycle(self, lost: str = "") -> list[str]:
        """What is due in a cycle 900 s later; all of it is confirmed but for what is lost."""
        self.clock.advance(900)
        due = self.due()
        for resource in due:
            if resource not in lost:
                self.announcements.settled(resource)
        return due


def test_all_in_the_first_cycle_then_the_new_and_the_changed_and_all_again_after_the_interval() -> None:
    desk = Desk("a", "b")
    assert desk.cycle() == ["a", "b"]
    assert desk.cycle() == []
    desk.interfaces["c"] = interface("c")
    assert desk.cycle() == ["c"]
    desk.interfaces["a"] = interface("a", speed=7)
    assert desk.cycle() == ["a"]
    assert desk.cycle() == []
    desk.clock.advance(DAY_S)
    assert desk.cycle() == ["a", "b", "c"]
    assert desk.cycle() == []


def test_one_that_was_not_confirmed_is_sent_in_the_next_cycle() -> None:
    desk = Desk("a", "b", "c")
    assert desk.cycle(lost="b") == ["a", "b", "c"]
    assert desk.announcements.left
    assert desk.cycle(lost="b") == ["b"]
    assert desk.announcements.left
    assert desk.cycle() == ["b"]
    assert not desk.announcements.left
    assert desk.cycle() == []


def test_change_that_may_have_arrived_unconfirmed_is_taken_back_on_the_bus_too() -> None:
    desk = Desk("a")
    desk.cycle()
    desk.interfaces["a"] = interface("a", speed=7)
    assert desk.cycle(lost="a") == ["a"]
    desk.interfaces["a"] = interface("a")
    assert desk.cycle() == ["a"]


def test_what_was_never_asked_for_is_left_for_the_next_cycle() -> None:
    desk = Desk("a", "b")
    feed = desk.announcements.due(Listing(NOW_MS, desk.interfaces))
    desk.announcements.settled(next(feed)[0])
    assert desk.announcements.left
    assert desk.cycle() == ["b"]
    assert not desk.announcements.left


def test_one_that_comes_back_is_new() -> None:
    desk = Desk("a", "b")
    desk.cycle()
    gone = desk.interfaces.pop("b")
    assert desk.cycle() == []
    desk.interfaces["b"] = gone
    assert desk.cycle() == ["b"]


def test_faulty_value_is_warned_about_once_per_interface_and_key(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk("a", "b")
    desk.interfaces["a"]["speed"] = "fast"
    desk.cycle()
    desk.cycle()
    desk.interfaces["a"]["vlan"] = 1.5
    desk.cycle()
    named = [record.getMessage() for record in caplog.records]
    assert [("name=a" in line, "key=speed" in line, "key=vlan" in line) for line in named] == [
        (True, True, False),
        (True, False, True),
    ]
    assert desk.counters.get(Count.INTERFACE_VALUES_INVALID) >= 2


def test_thousands_of_faulty_values_are_a_few_lines_that_show_the_value(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(*(f"a/{number}" for number in range(MOST_LINES + 30)))
    for each in desk.interfaces.values():
        each["lhcone"] = "may\x1bbe"
    with caplog.at_level(logging.WARNING):
        desk.cycle()
        desk.limited.conclude()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == MOST_LINES + 1
    assert "value='may\\x1bbe'" in lines[0]
    assert "count=30" in lines[-1]
    assert desk.counters.get(Count.INTERFACE_VALUES_INVALID) == MOST_LINES + 30


def test_what_was_warned_about_goes_with_the_interface_and_with_the_fault(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk("a", "b")
    desk.interfaces["a"]["speed"] = "fast"
    desk.cycle()
    gone = desk.interfaces.pop("a")
    desk.cycle()
    assert not desk.announcements._warned
    desk.interfaces["a"] = gone
    desk.cycle()
    gone["speed"] = 1
    desk.cycle()
    assert not desk.announcements._warned
    assert len(caplog.records) == 2
