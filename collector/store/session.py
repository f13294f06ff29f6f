"""One connection to MySQL or MariaDB, the only module that knows the driver: its options, its time limits, its errors."""

import logging
import queue
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from ssl import SSLCertVerificationError, SSLError, create_default_context
from typing import Any

import mysql.connector
from mysql.connector.errors import ConnectionTimeoutError, ReadTimeoutError, WriteTimeoutError

from collector.config.configuration import MysqlSettings
from collector.core.errors import CollectorError, ConfigurationError, NoTableError, UnavailableError
from collector.store.sql import Result

# at DEBUG the driver logs what it answers to the server's authentication, at times the password itself
logging.getLogger("mysql.connector").setLevel(logging.WARNING)

TIMEOUT_S = 5
"""For connecting, and for each answer: a frozen server must not hold up a stop, which has 8 s in all (SPEC section 6)."""

SETTINGS = (
    # SPEC section 7: who is frozen or cut off, in the middle of an answer too, loses the session and the lock within 20 s
    "SET SESSION wait_timeout = 20, net_read_timeout = 10, net_write_timeout = 10",
    # somebody's open transaction has to show as error 1205, before TIMEOUT_S takes it for a frozen server
    "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1",
    # strict, so that nothing is cut to fit; and without NO_BACKSLASH_ESCAPES, which the driver's quoting does not know
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
)
"""The isolation level is the server's: with MySQL 5.6's binary log, READ COMMITTED would fail every write (error 1665)."""

DRIVER_ERRORS = (mysql.connector.Error, OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, struct.error)
"""What the driver raises; the last six come from its parser, in pure Python, when an answer was cut off."""

NO_SUCH_TABLE = 1146
AGAIN = frozenset({1205, 1213})
"""A lock wait that took too long, which undoes one statement, and a deadlock, which undoes all of them."""
REFUSED = {
    **dict.fromkeys((1045, 1130, 1251, 1275, 1698, 1820, 1862, 3118, 4151), "check MYSQL_USER and MYSQL_PASSWORD"),
    **dict.fromkeys((1044, 1049), "check MYSQL_DATABASE, and the rights of MYSQL_USER"),
    **dict.fromkeys((1142, 1143, 1227, 1370), "check the rights of MYSQL_USER"),
    **dict.fromkeys((1054, NO_SUCH_TABLE, 1264, 1364, 1366, 1406), "compare the table with sql/esnet_interfaces.sql"),
}
"""Errors that only the operator can mend, and what to look at."""
CLOSING = frozenset({1053, 1080, 1152, 1153, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031})
"""Errors that the server sends on a connection that it is about to close."""


class SessionLostError(UnavailableError):
    """The connection is gone, or of no use any more."""


class AgainError(UnavailableError):
    """The same transaction, the whole of it, is worth another try at once."""


class Session:
    """A connection in autocommit that never reconnects: what it is used for may depend on a lock that it holds."""

    def __init__(self, settings: MysqlSettings, timeout_s: int = TIMEOUT_S) -> None:
        """Connect. Raises what `execute` raises."""
        self._where = f"{settings.host}:{settings.port}"
        self._settings = settings
        self._connection = self._connect(timeout_s)
        try:
            # one for all statements: the driver asks the server for a sign of life before it makes a cursor
            self._cursor = self._connection.cursor()
            for statement in SETTINGS:
                self.execute(statement)
        except DRIVER_ERRORS as error:
            self.drop()
            raise self._translated(error) from error
        except CollectorError:
            self.drop()
            raise

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Result:
        """Run one statement and take its whole answer.

        Raises SessionLostError or AgainError; UnavailableError when the session goes on all the same; ConfigurationError.
        """
        try:
            self._cursor.execute(statement, tuple(parameters))
            rows = self._cursor.fetchall() if self._cursor.with_rows else ()
            return Result(rows, int(self._cursor.rowcount))
        except DRIVER_ERRORS as error:
            raise self._translated(error) from error

    def limit(self, timeout_s: int) -> None:
        """Wait this long for each answer from now on."""
        self._connection.read_timeout = self._connection.write_timeout = timeout_s

    def quit(self) -> None:
        """End it in good order, without waiting for an answer."""
        with suppress(*DRIVER_ERRORS):
            self._connection.close()

    def drop(self) -> None:
        """End it without a word to a server that may be frozen: that one ends the session when it notices."""
        with suppress(*DRIVER_ERRORS):
            self._connection.shutdown()
            self._connection.close()  # shutdown leaves a socket open whose other end is gone already

    def _connect(self, timeout_s: int) -> Any:
        settings = self._settings
        options: dict[str, Any] = {}
        if settings.ca_file is not None:
            try:
                create_default_context(cafile=settings.ca_file)
            except OSError as error:
                raise ConfigurationError(f"MYSQL_CA_FILE {settings.ca_file}: {error.strerror or error}") from error
            options = {"ssl_ca": settings.ca_file, "ssl_verify_cert": True, "ssl_verify_identity": True}
        try:
            return self._attempt(timeout_s, **options)
        except DRIVER_ERRORS as error:
            # its subclasses stand for a connection that was cut, and that is no reason to do without TLS
            if settings.ca_file is not None or type(error.__cause__) is not SSLError:
                raise self._translated(error) from error
        try:
            # the server's TLS is too old for this Python, as 5.6's is; nobody asked for it, it is only used where it works
            return self._attempt(timeout_s, ssl_disabled=True)
        except DRIVER_ERRORS as error:
            raise self._translated(error) from error

    def _attempt(self, timeout_s: int, **options: object) -> Any:
        """Connect within `timeout_s` in all, and so in a thread: looking up a name knows no time limit."""
        settings = self._settings
        options |= {
            "host": settings.host,
            "port": settings.port,
            "user": settings.user,
            "password": settings.password.read(),
            "database": settings.database,
            "use_pure": True,  # the C extension does not load everywhere, and falls back without a word
            "collation": "utf8mb4_general_ci",  # the driver's own choice is unknown to MySQL 5.6 and MariaDB
            "autocommit": True,
            "connection_timeout": timeout_s,
            "read_timeout": timeout_s,
            "write_timeout": timeout_s,
        }
        answer: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def connect() -> None:
            try:
                answer.put(mysql.connector.connect(**options))
            except Exception as error:  # raised again below, by the one who waits
                answer.put(error)

        threading.Thread(target=connect, name="mysql-connect", daemon=True).start()
        try:
            got = answer.get(timeout=timeout_s)
        except queue.Empty:
            raise TimeoutError(f"no connection within {timeout_s} s") from None
        if isinstance(got, Exception):
            raise got
        return got

    def _translated(self, error: BaseException) -> CollectorError:
        """The one place that decides what an error means: connect again, try again, mend it, or wait."""
        number = getattr(error, "errno", None) or -1
        text = " ".join(str(getattr(error, "msg", "") or error or type(error).__name__).split())
        said = f"{self._where}: {text}"
        if isinstance(error, ConnectionTimeoutError | ReadTimeoutError | WriteTimeoutError):
            return SessionLostError(f"{self._where}: no answer in time")
        if isinstance(error.__cause__, SSLCertVerificationError):
            return ConfigurationError(f"{said} (check MYSQL_CA_FILE)")
        # numbers from 2000 to 2999 are the driver's own: it could not reach the server, or did not understand it
        from_server = isinstance(error, mysql.connector.Error) and (1000 <= number < 2000 or number >= 3000)
        if not from_server or number in CLOSING:
            return SessionLostError(said)
        if number in AGAIN:
            return AgainError(said)
        if number == NO_SUCH_TABLE:
            return NoTableError(f"{said} ({REFUSED[number]})")
        if number in REFUSED:
            return ConfigurationError(f"{said} ({REFUSED[number]})")
        return UnavailableError(said)
