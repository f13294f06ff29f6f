"""The same table in an SQLite file, for one machine without a MySQL server, and for the demonstration.

The file is in SQLite's rollback-journal mode, not WAL: a reader then needs no right to write, and there is nothing beside
the file but for the moment of a write. Readers and the writer wait for each other, for milliseconds.
"""

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from collector.core.errors import CollectorError, ConfigurationError, LockLostError, NoTableError, UnavailableError
from collector.core.model import Changes, Move, RecordType, Row, Table, UntrustedRow
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.store import sql
from collector.store.sql import Dialect, Execute, Result

BUSY_S = 2.0
"""How long to wait for somebody else's statement."""
LOCK_POLL_S = 0.25
"""Between two tries to take the lock."""
ROWS_AT_ONCE = 1000
"""How many rows are in memory as they came."""

CREATE = f"""CREATE TABLE IF NOT EXISTS {sql.NAME} (
  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
  {", ".join(f"{name} {kind}" for name, kind in sql.TYPES.items())}
)"""
DIALECT = Dialect(
    mark="?",
    identity="(id || ' ' || name)",
    holding="(id || ' ' || name || ' ' || COALESCE({}, 'NULL'))",
    length="LENGTH",
    integer="INTEGER",
)

PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_PROTOCOL,
    }
)
"""Errors that may pass; the others (no database, damaged, not writable, another schema) are the operator's to mend."""

_T = TypeVar("_T")


class SqliteStore:
    """contracts.Store on a file; the lock is an flock of that file, so it ends with whoever holds it."""

    def __init__(self, path: str, stop: Stop) -> None:
        self.outage = Outage("SQLite")
        self.database_s = 0.0
        self._path = Path(path)
        self._stop = stop
        self._mutex = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        # To close any descriptor of a file drops the POSIX locks that SQLite has on it: so this one, which carries the
        # flock, is opened before SQLite's connection and closed after it.
        self._descriptor: int | None = None
        self._locked = False
        self._unwritable = False
        """The last write failed. That the file can be read says nothing then: only a write that works ends the outage."""

    def open(self, create: bool = True) -> None:
        """Open the file; with `create`, for writing, and make file and table when they are missing; check the columns."""
        with self._using():
            if self._connection is not None and self._replaced():
                self._shut()
            if create and self._descriptor is None:
                self._shut()
                self._descriptor = self._open_for_lock()
            if self._connection is None:
                self._connection = self._connect()
            self._check_columns(create)

    def take_lock(self, timeout_s: float) -> bool:
        """Become the only writer, waiting up to `timeout_s`; False when another one is, or at a stop."""
        deadline = time.monotonic() + timeout_s
        while not self._try_lock():
            if time.monotonic() >= deadline or self._stop.wait(min(LOCK_POLL_S, max(0.0, deadline - time.monotonic()))):
                return False
        return True

    def holds_lock(self) -> bool:
        """Whether the lock is ours: an flock cannot be lost but by closing the file. Any thread."""
        return self._locked

    def free_shares(self) -> int:
        """A file has one share, and whoever asks works on it."""
        return 0

    def lock_holder(self) -> str:
        """A file does not tell who has locked it."""
        return ""

    def read(self, now_ms: int, undrained_in: tuple[RecordType, ...] | None = None) -> Table:
        """The table as it is now: in autocommit the statement is a transaction, which ends with it."""
        rows: list[Row] = []
        untrusted: list[UntrustedRow] = []
        with self._using():
            for raw in self._rows(sql.select(DIALECT, now_ms, undrained_in)):
                some = sql.parse(raw, now_ms)
                rows += some.rows
                untrusted += some.untrusted
            newest_ms = sql.newest_of(self._execute(sql.newest(DIALECT, now_ms)).rows)
        return Table(tuple(rows), tuple(untrusted), newest_ms)

    def history(self, names: Collection[str]) -> tuple[Row, ...]:
        """Every row of these names that can be trusted."""
        with self._using():
            return sql.history(names, int(time.time() * 1000), DIALECT, self._execute)

    def apply(self, changes: Changes) -> None:
        """Insert and retire rows, all or nothing."""
        self._write(lambda execute: sql.apply(changes, DIALECT, execute))

    def advance(self, moves: Sequence[Move]) -> list[Move]:
        """Move checkpoints where the row still holds what it should; the others come back."""
        return self._write(lambda execute: sql.advance(moves, DIALECT, execute)) if moves else []

    def close(self) -> None:
        """Close the file, and with it give the lock back; safe to call again."""
        with self._mutex:
            self._shut()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """The connection for one thread alone; what becomes of it goes to the outage."""
        with self._mutex:
            began = time.monotonic()
            try:
                yield
                if not self._unwritable:
                    self.outage.ended()
            except CollectorError as error:
                # to a reader a missing table is an answer
                if not isinstance(error, NoTableError):
                    self.outage.failed(error)
                raise
            finally:
                self.database_s += time.monotonic() - began

    def _open_for_lock(self) -> int:
        directory = self._path.absolute().parent
        if directory.is_dir() and not os.access(directory, os.W_OK):
            raise ConfigurationError(f"SQLite file {self._path}: its directory is not writable, and the journal goes there")
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigurationError(f"SQLite file {self._path}: {error.strerror}") from error

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise NoTableError(f"SQLite file {self._path}: there is no such file")
        uri = self._path.absolute().as_uri() + "?mode=rw"  # never creates; reads a file that may not be written
        try:
            return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _check_columns(self, create: bool) -> None:
        if create:
            self._execute(CREATE)
        present = [row[1] for row in self._execute(f"PRAGMA table_info({sql.NAME})").rows]
        if not present:
            raise NoTableError(f"no table {sql.NAME} in SQLite file {self._path}")
        if missing := sql.missing_columns(present):
            raise ConfigurationError(sql.lacking(missing, f"SQLite file {self._path}"))

    def _try_lock(self) -> bool:
        with self._mutex:
            if self._descriptor is None:
                raise UnavailableError(f"SQLite file {self._path}: not open for writing")
            if not self._locked:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                except OSError as error:
                    raise ConfigurationError(f"SQLite file {self._path}: cannot be locked: {error.strerror}") from error
                self._locked = True
            return True

    def _replaced(self) -> bool:
        """Whether the path leads to another file than the one that is open, or to none: what is written would be lost."""
        if self._descriptor is None:
            return not self._path.exists()
        try:
            return not os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return True

    def _write(self, work: Callable[[Execute], _T]) -> _T:
        with self._mutex:
            if not self._locked:
                raise LockLostError("the lock is not held")
            with self._using():
                if self._replaced():
                    self._shut()
                    raise LockLostError(f"SQLite file {self._path}: it was moved, replaced or removed")
                try:
                    self._execute("BEGIN IMMEDIATE")
                    outcome = work(self._execute)
                    self._execute("COMMIT")
                except CollectorError:
                    self._unwritable = True
                    self._roll_back()
                    raise
                self._unwritable = False
                return outcome

    def _roll_back(self) -> None:
        # after some errors, a full disk for one, SQLite has rolled back by itself
        if self._connection is not None and self._connection.in_transaction:
            self._execute("ROLLBACK")

    def _rows(self, statement: str) -> Iterator[Sequence[Sequence[object]]]:
        """A statement's rows, some at a time."""
        try:
            cursor = self._open_connection().execute(statement)
            while some := cursor.fetchmany(ROWS_AT_ONCE):
                yield some
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise UnavailableError(f"SQLite file {self._path}: not open")
        return self._connection

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> Result:
        try:
            cursor = self._open_connection().execute(statement, tuple(parameters))
            return Result(cursor.fetchall(), cursor.rowcount)
        except sqlite3.Error as error:
            raise self._translated(error) from error

    def _translated(self, error: sqlite3.Error) -> CollectorError:
        said = f"SQLite file {self._path}: {error}"
        # the low byte is the error, the others are its variety
        passing = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in PASSING
        return UnavailableError(said) if passing else ConfigurationError(said)

    def _shut(self) -> None:
        """SQLite's connection first, the descriptor last."""
        self._locked = self._unwritable = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
