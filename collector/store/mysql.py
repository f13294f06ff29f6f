"""The table in MySQL or MariaDB, and the named lock that makes one collector its only writer.

One session does everything: it holds the lock, and it writes. When it is lost, so is the lock; nothing is written until
`open` has made a new session and `take_lock` has the lock in it. Tested on MySQL 5.6 and MariaDB 10.11.
"""

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from collector.config.systems import MysqlSettings
from collector.core.backoff import jittered
from collector.core.counters import Count, Counters
from collector.core.errors import CollectorError, LockLostError, NoTableError, UnavailableError
from collector.core.share import WHOLE, Share
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.store import schema, sql
from collector.store.address_order import AddressOrder
from collector.store.driver import SessionLostError
from collector.store.session import TIMEOUT_S, AgainError, Session, UnwritableError, located
from collector.store.sql import Dialect, Execute, Result
from collector.store.table import TableStore

SLICE_S = 2
"""One wait for the lock, below TIMEOUT_S; a standby's stop takes that long."""
PING_S = 5.0
"""The holder's session is pinged this often, well within the 20 s after which the server ends it."""
PROVEN_S = 12.0
"""So long after it was last proven the lock counts as ours: a ping may fail, and the server's 20 s are not over."""
ATTEMPTS = 3
"""Of a transaction that met a deadlock, or waited too long for somebody else's locks."""
RETRY_S = 0.2

DIALECT = Dialect(
    mark="%s",
    identity="CAST(CONVERT(CONCAT(id, ' ', name) USING utf8mb4) AS BINARY)",
    holding="CAST(CONCAT(id, ' ', CONVERT(name USING utf8mb4), ' ', COALESCE(CONVERT({} USING utf8mb4), 'NULL')) AS BINARY)",
    length="CHAR_LENGTH",
    integer="UNSIGNED",
)

_T = TypeVar("_T")


def lock_name(database: str, share: Share = WHOLE) -> str:
    """The name that is locked, at most 64 characters; a share has its own."""
    name = "esnet_collector:" + hashlib.sha1(database.encode(), usedforsecurity=False).hexdigest()[:16]
    return name if share.whole else f"{name}:{share}"


class MysqlStore(TableStore):
    """contracts.Store on a MySQL server. One thread works with it; a thread of its own keeps the lock's session alive."""

    def __init__(
        self, settings: MysqlSettings, stop: Stop, counters: Counters | None = None, share: Share = WHOLE
    ) -> None:
        super().__init__("MySQL", DIALECT, stop)
        self._settings = settings
        self._counters = counters or Counters()
        self._order = AddressOrder()
        self._share = share
        self._lock_name = lock_name(settings.database, share)
        self._session: Session | None = None
        self._lock_was_asked = False
        """Once it was, this is a standby, or has worked: a refusal is an outage, and no longer ends the program."""
        self._proven_at = -math.inf
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    def open(self, create: bool = True) -> None:
        """Connect, or see that the connection still works; with `create`, make a missing table; check its columns."""
        with self._using():
            if self._session is not None:
                try:
                    self._execute("SELECT 1")
                except SessionLostError:
                    self._drop()
            if self._session is None:
                self._session = Session(self._settings, self._timeout_s(), self._order)
                if self.outage.up_once:
                    self._counters.add(Count.RECONNECTS, label="mysql")
            schema.ensure(self._execute, self._settings.database, create)

    def take_lock(self, timeout_s: float) -> bool:
        """Become the only writer, waiting up to `timeout_s` (whole seconds); False when another one is, or at a stop."""
        deadline = time.monotonic() + timeout_s
        while True:
            wait_s = min(SLICE_S, max(0, math.ceil(deadline - time.monotonic())))
            with self._using(timed=False):
                whole_is_held = not self._locked and self._whole_is_held()
                if self._locked:
                    self._prove()
                elif not whole_is_held:
                    self._take(wait_s)
                self._lock_was_asked = True
                if self._locked:
                    return True
                self._unwritable = False  # a standby writes nothing
            if time.monotonic() >= deadline or self._stop.is_set():
                return False
            if whole_is_held:
                self._stop.wait(min(SLICE_S, max(0.0, deadline - time.monotonic())))

    def holds_lock(self) -> bool:
        """Whether the lock was proven ours in the last PROVEN_S. Any thread."""
        return self._locked and time.monotonic() - self._proven_at <= PROVEN_S

    def lock_holder(self) -> str:
        """The host whose connection has the lock, as the server knows it; a user sees the connections of its own name."""
        statement = "SELECT HOST FROM information_schema.PROCESSLIST WHERE ID IN (IS_USED_LOCK(%s), IS_USED_LOCK(%s))"
        with self._using():
            rows = self._execute(statement, [self._lock_name, lock_name(self._settings.database)]).rows
        return printable(str(sql.text(rows[0][0])).rpartition(":")[0], 64) if rows else ""

    def free_shares(self) -> int:
        """How many of the shares' locks nobody holds; none is free while a collector without shares works on all of them."""
        names = [lock_name(self._settings.database, each) for each in (WHOLE, self._share, *self._share.others())]
        statement = f"SELECT {', '.join(['IS_USED_LOCK(%s)'] * len(names))}"
        with self._using():
            whole, *holders = self._execute(statement, names).rows[0]
        return 0 if whole is not None else holders.count(None)

    def missing_rights(self) -> tuple[str, ...]:
        """The rights that the user needs and lacks; for a store that is open.

        Raises UnavailableError where the server takes no writes at all.
        """
        with self._using():
            return schema.missing_rights(self._execute)

    def granting(self, rights: Sequence[str]) -> str:
        """The statement by which the user gets these rights; for a store that is open."""
        with self._using():
            user, _, host = str(sql.text(self._execute("SELECT CURRENT_USER()").rows[0][0])).rpartition("@")
        database = self._settings.database.replace("`", "``")
        account = "@".join("'" + each.replace("'", "''") + "'" for each in (user, host))
        return f"GRANT {', '.join(rights)} ON `{database}`.{sql.NAME} TO {account}"

    def close(self) -> None:
        """Give the lock back and disconnect; a server that does not answer is given a second."""
        with self._mutex:
            self._closed.set()
            self._keeper = None
            if self._session is None:
                return
            try:
                self._session.limit(1)
                if self._locked:
                    self._session.execute("SELECT RELEASE_LOCK(%s)", [self._lock_name])
                self._session.quit()
            except CollectorError:
                pass  # the server gives the lock back when it notices that the session has ended
            finally:
                self._drop()

    def _failed(self, error: CollectorError) -> None:
        """The outage is told; a lost session is dropped, and with it the lock is lost."""
        held = self._locked
        if isinstance(error, UnwritableError) and self._session is not None:
            self._session.avoid()
        if isinstance(error, SessionLostError):
            self._drop()
            self._unwritable = isinstance(error, UnwritableError)
        # to a reader a missing table is an answer, to the one who writes it is a table that somebody dropped
        if held or not isinstance(error, NoTableError):
            self.outage.failed(error, starting=not self._lock_was_asked)
        if held and isinstance(error, SessionLostError):
            raise LockLostError(f"the lock is lost: {error}") from error

    def _unusable(self, reason: str) -> SessionLostError:
        return SessionLostError(located(reason, self._settings))

    def _timeout_s(self) -> int:
        """For one answer; after a stop only what is left of the grace period."""
        give_up_at = self._stop.give_up_at
        return TIMEOUT_S if give_up_at is None else min(TIMEOUT_S, max(1, math.ceil(give_up_at - time.monotonic())))

    def _execute(self, statement: str, parameters: Sequence[object] = ()) -> Result:
        session = self._connected()
        sent_at = time.monotonic()
        result = session.execute(statement, parameters)
        # an answer proves the session, and so its lock, for the time at which the question was sent
        self._proven_at = sent_at
        return result

    def _rows(self, statement: str) -> Iterator[Sequence[Sequence[object]]]:
        return self._connected().rows(statement)

    def _connected(self) -> Session:
        if self._session is None:
            raise self._unusable("not connected")
        self._session.limit(self._timeout_s())
        return self._session

    def _drop(self) -> None:
        session, self._session, self._locked = self._session, None, False
        self._unwritable = False
        if session is not None:
            session.drop()

    def _take(self, wait_s: int) -> None:
        answer = self._execute("SELECT GET_LOCK(%s, %s)", [self._lock_name, wait_s]).rows[0][0]
        if answer is None:
            raise UnavailableError("GET_LOCK failed: the server is out of memory, or the wait was killed")
        if answer == 1:
            if self._whole_is_held():  # somebody was quicker, while we waited
                self._execute("SELECT RELEASE_LOCK(%s)", [self._lock_name])
                return
            self._try_to_write()
            self._locked, self._unwritable = True, False
        if self._locked and self._keeper is None:
            self._closed = threading.Event()
            self._keeper = threading.Thread(target=self._keep, args=(self._closed,), name="mysql-keeper", daemon=True)
            self._keeper.start()

    def _whole_is_held(self) -> bool:
        """Whether this is a share, and a collector without shares is at work."""
        if self._share.whole:
            return False
        return self._execute("SELECT IS_USED_LOCK(%s)", [lock_name(self._settings.database)]).rows[0][0] is not None

    def _try_to_write(self) -> None:
        """See that this server takes our writes; when not, neither lock nor session is kept."""
        try:
            schema.try_to_write(self._execute)
        except SessionLostError:
            raise  # and with the session the lock goes
        except CollectorError:
            self._drop()
            raise

    def _keep(self, closed: threading.Event) -> None:
        """Ping the session that has the lock; a thread of its own, until closed."""
        try:
            while not closed.wait(PING_S):
                with self._mutex:
                    if self._locked:
                        # a failure is said by the outage, and met again by the next write
                        with suppress(CollectorError), self._using(timed=False):
                            self._prove()
        except Exception as error:
            self._stop.fail(error, "mysql-keeper")

    def _prove(self) -> None:
        """See that it is this very session that holds the lock, and that nobody has begun to work without shares."""
        if self._execute("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()", [self._lock_name]).rows[0][0] != 1:
            raise SessionLostError("this session does not hold the lock any more")
        if self._whole_is_held():
            raise SessionLostError("a collector without SHARD has begun to work")

    def _transaction(self, work: Callable[[Execute], _T]) -> _T:
        """Do `work` in the session that holds the lock; again when it met somebody else's locks."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._tried(work)
            except AgainError:
                if self._late():
                    raise
            self._stop.wait(jittered(RETRY_S))
        return self._tried(work)

    def _tried(self, work: Callable[[Execute], _T]) -> _T:
        self._execute("START TRANSACTION")
        try:
            self._prove()
            outcome = work(self._execute)
            self._execute("COMMIT")
        except SessionLostError:
            raise  # and with the session the server rolls back
        except CollectorError:
            self._execute("ROLLBACK")
            raise
        return outcome
