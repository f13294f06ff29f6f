"""`status` over real databases: beside a collector at work, with rights to read only, and where nothing can be read."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Collector, MysqlTable, Rig, SqliteTable, Table
from tests.servers.databases import DatabaseServer
from tests.servers.ports import free_port

INTERFACES = 8
HOUR_MS = 3_600_000
CHECKPOINTS = ("traffic", "errors", "discards")
SETTINGS = {"SETTLE_DELAY": "900", "POLL_INTERVAL": "900"}


def rig_over(table: Table) -> Rig:
    """No broker: `status` needs none, and a collector beside it prints."""
    return Rig(SimulatedNetwork.synthetic(INTERFACES), table)


@pytest.fixture
def rig(database_server: DatabaseServer) -> Iterator[Rig]:
    with rig_over(MysqlTable(database_server)) as made:
        yield made


@pytest.fixture(params=["database", "file"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A table in MariaDB, and one in an SQLite file."""
    table = SqliteTable(tmp_path / "t.sqlite") if request.param == "file" else MysqlTable(request.getfixturevalue("mariadb"))
    with rig_over(table) as made:
        yield made


def status(rig: Rig, *words: str, **settings: str) -> Collector:
    """Run it to its end."""
    asked = rig.start("status", *words, **{**SETTINGS, **settings})
    asked.wait()
    return asked


def figures(rig: Rig, *words: str) -> dict[str, object]:
    asked = status(rig, "--json", *words)
    assert asked.exit_code == 0, asked.tail()
    found = json.loads(asked.stdout)
    assert isinstance(found, dict)
    return found


def insert(rig: Rig, behind_s: int = 0, count: int = INTERFACES) -> None:
    """Active rows so far behind what is due."""
    at = rig.clock() - 900_000 - behind_s * 1000
    for name in rig.network.resources[:count]:
        rig.table.insert(name, at - 24 * HOUR_MS, **dict.fromkeys(CHECKPOINTS, at))


def test_rows_of_every_state_are_counted(rig: Rig) -> None:
    rig.table.create()
    insert(rig, count=3)
    until_ms = rig.clock() - 2 * HOUR_MS
    rig.table.insert("devices/a/interfaces/drained", until_ms - HOUR_MS, until_ms, **dict.fromkeys(CHECKPOINTS, until_ms))
    rig.table.insert("devices/a/interfaces/draining", until_ms - HOUR_MS, until_ms, traffic=until_ms, errors=until_ms)
    rig.table.sql("UPDATE esnet_interfaces SET status = '7' WHERE id = 1")
    found = figures(rig)
    assert found["interfaces"] == {"active": 2, "draining": 1, "retired": 1, "double": 0, "untrusted": 1}


def test_rights_to_read_are_enough(rig: Rig) -> None:
    rig.table.create()
    insert(rig, behind_s=60)
    assert isinstance(rig.table, MysqlTable)
    reader = rig.table.server.reader(rig.table.account.database)
    assert status(rig, "--max-lag", "300", MYSQL_USER=reader.user, MYSQL_PASSWORD=reader.password).exit_code == 0


def test_beside_a_collector_at_work_it_reads_and_does_not_disturb(either: Rig) -> None:
    collector = either.start()
    collector.wait_for_cycles(1)
    asked = either.start("status", "--json", "--max-lag", "300", SETTLE_DELAY="0", POLL_INTERVAL="1")
    assert asked.wait() == 0
    found = json.loads(asked.stdout)
    assert found["interfaces"]["active"] == INTERFACES
    counted = {kind: lag["talking"] + lag["no_points_yet"] for kind, lag in found["lag"].items()}
    assert counted == dict.fromkeys(CHECKPOINTS, INTERFACES)
    collector.wait_for_cycles(1)
    assert collector.terminate() == 0
    assert {cycle["outcome"] for cycle in collector.cycles()} <= {"complete", "cut"}


def test_max_lag_fails_for_the_median_and_where_nobody_talks(either: Rig) -> None:
    either.table.create()
    insert(either, behind_s=600)
    assert status(either, "--max-lag", "900").exit_code == 0
    asked = status(either, "--max-lag", "500")
    assert asked.exit_code == 1
    assert asked.stdout.splitlines()[0].count("the median of 8 talking series is 60") == 3
    either.table.sql("UPDATE esnet_interfaces SET traffic_until = traffic_until - 90000000")
    asked = status(either, "--max-lag", "900")
    assert (asked.exit_code, asked.log) == (0, "")
    either.table.sql("UPDATE esnet_interfaces SET errors_until = traffic_until, discards_until = traffic_until")
    asked = status(either, "--max-lag", "900")
    assert asked.exit_code == 1
    assert asked.stdout.startswith("LATE: none of the 24 series that have had points talks\n")
    assert status(either).exit_code == 0


def test_name_is_explained_and_an_unknown_one_is_not(either: Rig) -> None:
    either.table.create()
    insert(either, behind_s=600)
    name = either.network.resources[1]
    asked = status(either, name)
    assert asked.exit_code == 0
    assert name in asked.stdout
    assert asked.stdout.count(" points up to ") == 3
    asked = status(either, name.replace("%2F", "/").upper())
    assert asked.exit_code == 1
    assert f"the nearest: {name}" in asked.log


def no_table(rig: Rig) -> dict[str, str]:
    return {}


def wrong_password(rig: Rig) -> dict[str, str]:
    rig.table.create()
    return {"MYSQL_PASSWORD": "wrong"}


def no_server(rig: Rig) -> dict[str, str]:
    return {"MYSQL_PORT": str(free_port())}


@pytest.mark.parametrize("trouble", [no_table, wrong_password, no_server], ids=["no table", "wrong password", "no server"])
def test_database_that_cannot_be_read_is_one_line_and_exit_code_1(rig: Rig, trouble: Callable[[Rig], dict[str, str]]) -> None:
    asked = status(rig, **trouble(rig))
    assert (asked.exit_code, asked.stdout) == (1, "")
    assert len(asked.log_lines()) == 1
    assert "the database cannot be read: " in asked.log


def test_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with rig_over(SqliteTable(tmp_path / "none.sqlite")) as rig:
        asked = status(rig)
        assert asked.exit_code == 1
        assert "there is no such file" in asked.log
        assert not (tmp_path / "none.sqlite").exists()
