"""Shares of one table: each has a lock of its own, and none works beside a collector that has no share."""

import threading
from collections.abc import Callable, Iterator

import pytest

from collector.core.share import Share
from collector.core.shutdown import Stop
from collector.store.mysql import MysqlStore, lock_name
from tests.servers.databases import Account, DatabaseServer
from tests.service.database.steps import NewStore, settings, wait_until

NewShare = Callable[..., MysqlStore]


@pytest.fixture
def new_share(database_server: DatabaseServer, account: Account) -> Iterator[NewShare]:
    """Makes open stores of a share."""
    made: list[MysqlStore] = []

    def make(number: int, of: int, stop: Stop | None = None) -> MysqlStore:
        made.append(MysqlStore(settings(database_server, account), stop or Stop(), share=Share(number, of)))
        made[-1].open()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_each_share_has_a_lock_and_a_standby_of_its_own(new_share: NewShare) -> None:
    first, second, standby = new_share(1, 2), new_share(2, 2), new_share(1, 2)
    assert first.take_lock(0)
    assert not standby.take_lock(0)
    assert second.take_lock(0)
    first.close()
    assert standby.take_lock(5)
    assert second.holds_lock()


def test_how_many_shares_nobody_works_on_is_known_to_each(new_share: NewShare) -> None:
    first, third = new_share(1, 3), new_share(3, 3)
    assert first.free_shares() == 3
    assert first.take_lock(0)
    assert (first.free_shares(), third.free_shares()) == (2, 2)
    assert third.take_lock(0)
    assert first.free_shares() == 1
    third.close()
    wait_until(lambda: first.free_shares() == 2)


def test_a_thousand_shares_can_be_asked_for_at_once(new_share: NewShare) -> None:
    last = new_share(1000, 1000)
    assert last.take_lock(0)
    assert last.free_shares() == 999


def test_a_share_stands_by_while_a_collector_without_shares_works(new_share: NewShare, new_store: NewStore) -> None:
    whole, share = new_store(), new_share(1, 2)
    whole.open()
    assert whole.take_lock(0)
    assert whole.free_shares() == 0
    assert not share.take_lock(1)
    assert not share.holds_lock()
    taken: list[bool] = []
    waiting = threading.Thread(target=lambda: taken.append(share.take_lock(20)))
    waiting.start()
    whole.close()
    waiting.join(20)
    assert taken == [True]


def test_a_share_gives_its_lock_back_where_a_collector_without_shares_was_quicker(
    new_share: NewShare, new_store: NewStore, database_server: DatabaseServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, share = new_store(), new_share(1, 2)
    whole.open()
    seen = iter([False])  # it was free when the share looked, and is taken before the share has its own
    look = share._whole_is_held
    monkeypatch.setattr(share, "_whole_is_held", lambda: next(seen, None) is None and look())
    assert whole.take_lock(0)
    assert not share.take_lock(0)
    assert not share.holds_lock()
    held = lock_name(account.database, Share(1, 2))
    assert database_server.sql("SELECT IS_USED_LOCK(%s)", (held,)) == [(None,)]


def test_waiting_for_a_collector_without_shares_ends_at_a_stop(new_share: NewShare, new_store: NewStore) -> None:
    stop = Stop()
    whole, share = new_store(), new_share(2, 2, stop)
    whole.open()
    assert whole.take_lock(0)
    threading.Timer(0.2, stop.set).start()
    assert not share.take_lock(60)


@pytest.mark.parametrize(("share", "ending"), [(Share(), ""), (Share(2, 3), ":2/3"), (Share(1000, 1000), ":1000/1000")])
def test_the_locks_name_is_of_the_database_and_the_share(share: Share, ending: str) -> None:
    name = lock_name("esnet", share)
    assert name == "esnet_collector:ce7e90fd796c0728" + ending
    assert len(name) <= 64
