"""Shares that nobody works on: when they are counted, and when it is said."""

import pytest

from collector.commands.share_watch import LOOK_S, WARNING_S, ShareWatch
from collector.core.errors import UnavailableError
from collector.core.share import Share
from collector.watch.state import CollectorState
from tests.fakes import FakeStore


class Shares:
    """A watch over a fake store, on a clock that is moved by hand."""

    def __init__(self, share: Share, caplog: pytest.LogCaptureFixture) -> None:
        self.store, self.state = FakeStore(), CollectorState({}, 900)
        self.now = 0.0
        self.watch = ShareWatch(share, self.store, self.state, lambda: self.now)
        self._caplog = caplog

    def look(self, free: int, after_s: float = LOOK_S) -> tuple[int | None, int]:
        """What the state shows then, and how many warnings there were so far."""
        self.store.free = free
        self.now += after_s
        self.watch.look()
        return self.state.snapshot().shares_free, len(self._caplog.records)


@pytest.fixture
def shares(caplog: pytest.LogCaptureFixture) -> Shares:
    return Shares(Share(1, 3), caplog)


def test_share_that_stays_free_is_said_once_an_hour(shares: Shares, caplog: pytest.LogCaptureFixture) -> None:
    assert shares.look(2) == (2, 0)
    assert shares.look(2) == (2, 1)
    assert caplog.records[0].getMessage() == "shares have no collector free=2 of=3"
    assert shares.look(2, WARNING_S - 1) == (2, 1)
    assert shares.look(2) == (2, 2)


def test_share_that_is_just_being_taken_over_is_counted_and_not_warned_about(shares: Shares) -> None:
    assert [shares.look(each) for each in (1, 0, 1, 0)] == [(1, 0), (0, 0), (1, 0), (0, 0)]


def test_locks_are_looked_at_once_a_minute(shares: Shares) -> None:
    shares.look(1)
    assert shares.look(2, LOOK_S - 1) == (1, 0)


def test_number_is_unknown_while_the_database_is_away(shares: Shares) -> None:
    shares.look(1)
    shares.store.errors["free_shares"] = UnavailableError("gone")
    assert shares.look(1) == (None, 0)


def test_whole_share_has_nothing_to_look_at(caplog: pytest.LogCaptureFixture) -> None:
    assert Shares(Share(), caplog).look(1) == (None, 0)
