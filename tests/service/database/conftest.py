"""A store on each MySQL server in turn, on a database of its own."""

from collections.abc import Iterator
from typing import Any

import pytest

from collector.core.counters import Counters
from collector.core.model import Changes, NewRow
from collector.core.shutdown import Stop
from collector.store.mysql import MysqlStore
from tests.servers.databases import Account, DatabaseServer, execute
from tests.service.database.steps import NAMES, T0, NewStore, Sql, settings


@pytest.fixture
def account(database_server: DatabaseServer) -> Account:
    return database_server.fresh_database()


@pytest.fixture
def sql(database_server: DatabaseServer, account: Account) -> Sql:
    """Runs a statement in the test's database, with all rights."""
    return lambda statement: database_server.sql(statement, database=account.database)


@pytest.fixture
def new_store(database_server: DatabaseServer, account: Account) -> Iterator[NewStore]:
    """Makes a store, not yet open; all of them are closed at the end."""
    made: list[MysqlStore] = []

    def make(stop: Stop | None = None, counters: Counters | None = None, **changed: Any) -> MysqlStore:
        made.append(MysqlStore(settings(database_server, account, **changed), stop or Stop(), counters))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def store(new_store: NewStore) -> MysqlStore:
    """A store that is open and holds the lock, with four rows."""
    made = new_store()
    made.open()
    assert made.take_lock(0)
    made.apply(Changes(new=tuple(NewRow(name, T0) for name in NAMES)))
    return made


@pytest.fixture
def operator(database_server: DatabaseServer, account: Account) -> Iterator[Any]:
    """A connection of somebody else's, in a transaction."""
    with database_server.admin(account.database) as connection:
        execute(connection, "START TRANSACTION")
        yield connection
