"""The table `esnet_interfaces` as a test sees it, in MariaDB, in MySQL 5.6 or in an SQLite file; read without the collector."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mysql.connector

from tests.servers.databases import DatabaseServer, connect, execute

RECORD_TYPES = ("traffic", "errors", "discards")
COLUMNS = ("id", "name", "status", "active_from", "active_until", *(f"{each}_until" for each in RECORD_TYPES))
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM esnet_interfaces ORDER BY id, name"
CREATE_BY_HAND = """CREATE TABLE esnet_interfaces (
  id int NOT NULL AUTO_INCREMENT, name varchar(128) NOT NULL, status varchar(2) NOT NULL, active_from varchar(13) NOT NULL,
  active_until varchar(13) DEFAULT NULL, errors_until varchar(13) DEFAULT NULL, discards_until varchar(13) DEFAULT NULL,
  traffic_until varchar(13) DEFAULT NULL, PRIMARY KEY (id, name)
)"""
"""As operators make it by hand, with whatever character set the database has."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row as it stands there; times are text. `until` has the checkpoint of every record type, None for NULL."""

    id: int
    name: str
    status: str
    active_from: str
    active_until: str | None
    until: Mapping[str, str | None]

    @classmethod
    def of(cls, values: Sequence[Any]) -> "TableRow":
        """From the columns in COLUMNS' order."""
        text = [value.decode() if isinstance(value, bytes | bytearray) else value for value in values[1:]]
        return cls(values[0], text[0], text[1], text[2], text[3], dict(zip(RECORD_TYPES, text[4:], strict=True)))

    @property
    def active(self) -> bool:
        """Whether it is listed."""
        return self.status == "1"


class Table(Protocol):
    """Where a collector keeps its table, and how it is told."""

    secrets: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """For the command line."""

    @property
    def environment(self) -> dict[str, str]:
        """For the environment."""

    def rows(self) -> list[TableRow]:
        """All rows, in the order of the ids; none while there is no table."""

    def sql(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        """Run one statement, with `%s` for parameters, and commit it."""

    def create(self) -> None:
        """Make the table by hand."""

    def insert(self, name: str, active_from_ms: int, active_until_ms: int | None = None, **until_ms: int | None) -> int:
        """Insert a row with these checkpoints (`traffic=…`); its id."""


class _Writing:
    """What both kinds of table share."""

    def sql(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        raise NotImplementedError

    def insert(self, name: str, active_from_ms: int, active_until_ms: int | None = None, **until_ms: int | None) -> int:
        """Insert a row with these checkpoints (`traffic=…`), retired when it has an `active_until_ms`; its id."""
        status = "1" if active_until_ms is None else "0"
        times = [active_from_ms, active_until_ms, *(until_ms.get(each) for each in RECORD_TYPES)]
        values = [name, status, *(None if each is None else str(each) for each in times)]
        marks = ", ".join(["%s"] * len(values))
        self.sql(f"INSERT INTO esnet_interfaces ({', '.join(COLUMNS[1:])}) VALUES ({marks})", values)
        return int(self.sql("SELECT MAX(id) FROM esnet_interfaces")[0][0])


class MysqlTable(_Writing):
    """A fresh database of a server, in the given character set; the collector logs in as its own user."""

    def __init__(self, server: DatabaseServer, charset: str = "latin1", grants: str = "ALL") -> None:
        self.server = server
        self.account = server.fresh_database(charset, grants)
        self.secrets: tuple[str, ...] = (self.account.password,)

    @property
    def words(self) -> tuple[str, ...]:
        return ()

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.server.port),
            "MYSQL_DATABASE": self.account.database,
            "MYSQL_USER": self.account.user,
            "MYSQL_PASSWORD": self.account.password,
        }

    def rows(self) -> list[TableRow]:
        try:
            return [TableRow.of(values) for values in self.sql(_SELECT)]
        except mysql.connector.errors.ProgrammingError as error:
            if error.errno == 1146:  # no such table
                return []
            raise

    def sql(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        account = self.account
        with connect(self.server.port, account.user, account.password, account.database) as connection:
            return execute(connection, statement, parameters)

    def create(self) -> None:
        self.sql(CREATE_BY_HAND)


class SqliteTable(_Writing):
    """A file that replaces MySQL."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        return ("--sqlite", str(self.path))

    @property
    def environment(self) -> dict[str, str]:
        return {}

    def rows(self) -> list[TableRow]:
        if not self.path.exists():
            return []
        try:
            return [TableRow.of(values) for values in self.sql(_SELECT)]
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise

    def sql(self, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
        with closing(sqlite3.connect(self.path, isolation_level=None, timeout=10)) as connection:
            return connection.execute(statement.replace("%s", "?"), tuple(parameters)).fetchall()

    def create(self) -> None:
        self.sql(
            "CREATE TABLE esnet_interfaces (id integer PRIMARY KEY AUTOINCREMENT, name varchar(128) NOT NULL, "
            "status varchar(2) NOT NULL, active_from varchar(13) NOT NULL, active_until varchar(13), "
            "errors_until varchar(13), discards_until varchar(13), traffic_until varchar(13))"
        )
