"""The same table in an SQLite file, for one machine without a MySQL server, and for the demonstration.

The file is in SQLite's rollback-journal mode, not WAL: a reader then needs no right to write, and there is nothing beside
the file but for the moment of a write. Readers and the writer wait for each other, for milliseconds.
"""

import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from collector.core.errors import ConfigurationError, LockLostError, NoTableError, UnavailableError
from collector.core.shutdown import Stop
from collector.store import sql
from collector.store.sql import ROWS_AT_ONCE, Dialect, Execute, Result
from collector.store.table import TableStore

BUSY_S = 2.0
"""How long to wait for somebody else's statement."""
LOCK_POLL_S = 0.25
"""Between two tries to take the lock."""

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


class SqliteStore(TableStore):
    """contracts.Store on a file; the lock is an flock of that file, so it ends with the process that holds it."""

    def __init__(self, path: str, stop: Stop) -> None:
        super().__init__("SQLite", DIALECT, stop)
        self._path = Path(path)
        self._connection: sqlite3.Connection | None = None
        # To close any descriptor of a file drops the POSIX locks that SQLite has on it: so this one, which carries the
        # flock, is opened before SQLite's connection and closed after it.
        self._descriptor: int | None = None

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
        """A file has one share, and this collector works on it."""
        return 0

    def lock_holder(self) -> str:
        """A file does not tell who has locked it."""
        return ""

    def close(self) -> None:
        """Close the file, and with it give the lock back; safe to call again."""
        with self._mutex:
            self._shut()

    def _open_for_lock(self) -> int:
        directory = self._path.absolute().parent
        if directory.is_dir() and not os.access(directory, os.W_OK):
            raise ConfigurationError(self._located("its directory is not writable, and the journal goes there"))
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ConfigurationError(self._located(str(error.strerror))) from error

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            raise NoTableError(self._located("there is no such file"))
        uri = self._path.absolute().as_uri() + "?mode=rw"  # never creates; reads a file that may not be written
        with self._explaining():
            return sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)

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
                raise self._unusable("not open for writing")
            if not self._locked:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                except OSError as error:
                    raise ConfigurationError(self._located(f"cannot be locked: {error.strerror}")) from error
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

    def _transaction(self, work: Callable[[Execute], _T]) -> _T:
        if self._replaced():
            self._shut()
            raise LockLostError(self._located("it was moved, replaced or removed"))
        with self._explaining(), self._open_connection() as connection:  # which commits it, or rolls it back
            connection.execute("BEGIN IMMEDIATE")
            return work(self._execute)

    def _rows(self, statement: str) -> Iterator[Sequence[Sequence[object]]]:
        with self._explaining():
            cursor = self._open_connection().execute(statement)
            while some := cursor.fetchmany(ROWS_AT_ONCE):
                yield some

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> Result:
        with self._explaining():
            cursor = self._open_connection().execute(statement, tuple(parameters))
            return Result(cursor.fetchall(), cursor.rowcount)

    def _open_connection(self) -> sqlite3.Connection:
        if self._connection is None:
            raise self._unusable("not open")
        return self._connection

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        """SQLite's errors as the collector's own."""
        try:
            yield
        except sqlite3.Error as error:
            # the low byte is the error, the others are its variety
            passing = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in PASSING
            raise self._unusable(str(error)) if passing else ConfigurationError(self._located(str(error))) from error

    def _unusable(self, reason: str) -> UnavailableError:
        return UnavailableError(self._located(reason))

    def _located(self, text: str) -> str:
        return f"SQLite file {self._path}: {text}"

    def _shut(self) -> None:
        """SQLite's connection first, the descriptor last."""
        self._locked = self._unwritable = False
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
