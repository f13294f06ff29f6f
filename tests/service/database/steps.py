"""What the tests of the store on MySQL have in common."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from collector.config.systems import MysqlSettings, Secret
from collector.core.model import Changes, Move, RecordType, Retirement, Row, Series
from collector.store.mysql import MysqlStore
from tests.servers.databases import Account, DatabaseServer

ROOT = Path(__file__).parents[3]
NOW = 1_790_000_000_000
T0, T1, T2 = (NOW - 3_600_000 + minute * 60_000 for minute in (0, 10, 20))
NAMES = tuple(f"devices/a/interfaces/{letter}" for letter in "abcd")
"""The rows of the fixture `store`."""
TRAFFIC = RecordType.TRAFFIC
BY_HAND = """CREATE TABLE esnet_interfaces (
    id int NOT NULL AUTO_INCREMENT, name varchar(128) NOT NULL, status varchar(2) NOT NULL, active_from varchar(13) NOT NULL,
    active_until varchar(13), errors_until varchar(13), discards_until varchar(13), traffic_until varchar(13),
    PRIMARY KEY (id, name)) """
"""As an operator makes the table; a character set may follow."""

NewStore = Callable[..., MysqlStore]
"""Makes a store, not yet open: of a Stop, a Counters, and settings that differ."""
Sql = Callable[[str], list[Any]]
"""Runs a statement in the test's database, with all rights."""


def settings(server: DatabaseServer, account: Account, **changed: Any) -> MysqlSettings:
    values: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "database": account.database, "user": account.user}
    return MysqlSettings(**(values | {"password": Secret(account.password)} | changed))


def move(row: Row, to_ms: int, from_ms: int | None = None) -> Move:
    return Move(Series(row.id, row.name, TRAFFIC), from_ms, to_ms)


def retire(*rows: tuple[Row, int]) -> Changes:
    return Changes(retired=tuple(Retirement(row.id, row.name, until_ms) for row, until_ms in rows))


def wait_until(condition: Callable[[], object], every_s: float = 0.02) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(every_s)


@contextmanager
def in_background(call: Callable[[], object]) -> Iterator[list[object]]:
    """Runs a call beside the test; the list gets what it returned or raised."""
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield outcome
    thread.join(20)
    assert outcome, "the call has not ended"


def wait_until_waiting(sql: Sql) -> None:
    """Somebody waits for somebody else's row lock. The server refreshes that table only for who reads it every 0.1 s."""
    wait_until(lambda: sql("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"), every_s=0.15)
