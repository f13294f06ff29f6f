"""What both stores do alike: read and write the table by the statements of `sql`, and tell the outage how that went."""

import logging
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from collector.core.errors import CollectorError, LockLostError, NoTableError
from collector.core.model import Changes, Move, RecordType, Row, Table, UntrustedRow
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.store import sql
from collector.store.sql import Dialect, Execute, Result

log = logging.getLogger(__name__)

MOST_ROWS = 400_000
"""Of one cycle: twice the interfaces that a listing may have, and what keeps the memory within 250 MB."""

_T = TypeVar("_T")


class TableStore(ABC):
    """contracts.Store but for the connection and the lock, which each database has its own way."""

    def __init__(self, dependency: str, dialect: Dialect, stop: Stop) -> None:
        self.outage = Outage(dependency)
        self.database_s = 0.0
        self._dialect = dialect
        self._stop = stop
        self._mutex = threading.RLock()  # of the connection; held for a statement or a transaction
        self._locked = False
        self._unwritable = False
        """The last write failed. That the table can be read says nothing then: only a write that works ends the outage."""

    def read(self, now_ms: int, undrained_in: tuple[RecordType, ...] | None = None) -> Table:
        """The table as it is now: in autocommit a statement is a transaction, which ends with it."""
        rows: list[Row] = []
        untrusted: list[UntrustedRow] = []
        with self._using():
            for raw in self._rows(sql.select(self._dialect, now_ms, undrained_in)):
                some = sql.parse(raw, now_ms)
                rows += some.rows
                untrusted += some.untrusted
                if self._late():
                    raise self._unusable("given up at the stop, in the middle of an answer")
                if undrained_in is not None and len(rows) + len(untrusted) > MOST_ROWS:
                    raise self._unusable(f"the table has more than {MOST_ROWS} rows to be read")
            newest_ms = sql.newest_ms(now_ms, self._dialect, self._execute)
        return Table(tuple(rows), tuple(untrusted), newest_ms)

    def history(self, names: Collection[str]) -> tuple[Row, ...]:
        """Every row of these names that can be trusted."""
        with self._using():
            return sql.history(names, int(time.time() * 1000), self._dialect, self._execute)

    def apply(self, changes: Changes) -> None:
        """Insert and retire rows, all or nothing."""
        self._write(lambda execute: sql.apply(changes, self._dialect, execute))

    def advance(self, moves: Sequence[Move]) -> list[Move]:
        """Move checkpoints where the row still holds what it should; the others come back."""
        return self._write(lambda execute: sql.advance(moves, self._dialect, execute)) if moves else []

    def _write(self, work: Callable[[Execute], _T]) -> _T:
        with self._mutex:
            if not self._locked:
                raise LockLostError("the lock is not held")
            with self._using():
                self._unwritable = True
                outcome = self._transaction(work)
                self._unwritable = False
                return outcome

    @contextmanager
    def _using(self, timed: bool = True) -> Iterator[None]:
        """The connection for one thread alone; what becomes of it goes to the outage."""
        with self._mutex:
            began = time.monotonic()
            try:
                yield
                if not self._unwritable:
                    self.outage.ended()
            except CollectorError as error:
                self._failed(error)
                raise
            except Exception as error:  # what the driver's parser, or ours, raises at an answer that no database gives
                log.debug("%s: answer that cannot be used", self.outage.dependency, exc_info=True)  # or the bug is ours
                unusable = self._unusable(f"its answer cannot be used: {type(error).__name__}")
                self._failed(unusable)
                raise unusable from error
            finally:
                if timed:
                    self.database_s += time.monotonic() - began

    def _failed(self, error: CollectorError) -> None:
        """Tell the outage; to a reader a missing table is an answer. Raises LockLostError where the lock went with it."""
        if not isinstance(error, NoTableError):
            self.outage.failed(error)

    def _late(self) -> bool:
        """Whether what is in flight is given up, since the end was asked for a while ago."""
        return self._stop.give_up_at is not None and time.monotonic() > self._stop.give_up_at

    @abstractmethod
    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> Result:
        """Run one statement."""

    @abstractmethod
    def _rows(self, statement: str) -> Iterator[Sequence[Sequence[object]]]:
        """A statement's rows, some at a time."""

    @abstractmethod
    def _transaction(self, work: Callable[[Execute], _T]) -> _T:
        """Do this in a transaction, under the lock. Raises LockLostError when the lock turns out to be lost."""

    @abstractmethod
    def _unusable(self, reason: str) -> CollectorError:
        """An error for a connection that is not to be used any more."""
