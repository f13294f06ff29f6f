"""One session with MySQL or MariaDB: its options, its time limits, and what the driver's errors mean."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from ssl import SSLCertVerificationError, SSLError, create_default_context
from typing import Any

import mysql.connector

from collector.config.systems import MysqlSettings
from collector.core.errors import CollectorError, ConfigurationError, NoTableError, UnavailableError
from collector.core.text import printable
from collector.store.address_order import AddressOrder
from collector.store.driver import FIRST_PLUGIN, Connection, SessionLostError, addresses
from collector.store.sql import ROWS_AT_ONCE, Result

# what is worth a line is said by the outage; at DEBUG the driver logs what it answers to a login, at times the password
logging.getLogger("mysql.connector").setLevel(logging.CRITICAL + 1)

TIMEOUT_S = 5
"""For connecting, and for each answer: a frozen server must not hold up a stop, which has 8 s in all."""

SETTINGS = (
    # a collector that is frozen or cut off, in the middle of an answer too, loses session and lock within 20 s
    "SET SESSION wait_timeout = 20, net_read_timeout = 10, net_write_timeout = 10",
    # somebody's open transaction has to show as error 1205, before TIMEOUT_S takes it for a frozen server
    "SET SESSION innodb_lock_wait_timeout = 1, lock_wait_timeout = 1",
    # strict, so that nothing is cut to fit; and without NO_BACKSLASH_ESCAPES, which the driver's quoting does not know
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
)
"""The isolation level is the server's: with MySQL 5.6's binary log, READ COMMITTED would fail every write (error 1665)."""


class UnwritableError(SessionLostError):
    """The session lives, and is of no use, since nothing can be written in it."""


class AgainError(UnavailableError):
    """The same transaction, the whole of it, is worth another try at once."""


class DeniedError(ConfigurationError):
    """The user lacks a right."""


TABLE_HINT = "compare the table with sql/esnet_interfaces.sql"
MEANINGS: dict[int, tuple[type[CollectorError], str | None]] = {
    number: (kind, hint)
    for kind, hint, numbers in (
        # a lock wait that took too long, which undoes one statement, and a deadlock, which undoes all of them
        (AgainError, None, (1205, 1213)),
        (DeniedError, "see MYSQL_DATABASE, and the rights of MYSQL_USER", (1044, 1142, 1143, 1227, 1370)),
        (
            ConfigurationError,
            "see MYSQL_USER and MYSQL_PASSWORD",
            (1045, 1130, 1251, 1275, 1524, 1698, 1820, 1862, 3118, 4151),
        ),
        (ConfigurationError, "see MYSQL_DATABASE", (1049,)),
        (ConfigurationError, "it demands TLS: see MYSQL_CA_FILE", (3159,)),
        (NoTableError, TABLE_HINT, (1146,)),
        (ConfigurationError, TABLE_HINT, (1054, 1264, 1364, 1366, 1406)),
        # the server answers and takes no writes: it became read-only, a replica, or lost its cluster; another one may be
        # the primary now, and only a new connection finds it
        (UnwritableError, "is it still the primary?", (1036, 1047, 1290, 1792, 1836, 1874, 1881, 3100)),
        # sent on a connection that the server is about to close
        (SessionLostError, None, (1053, 1080, 1152, 1153, 1156, 1157, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031)),
        # the driver's own: TLS is demanded, and the server does not offer it
        (SessionLostError, "see MYSQL_CA_FILE, which demands TLS", (2026,)),
    )
    for number in numbers
}
"""Errors by their number: the kind, and what to look at."""


class Session:
    """A connection in autocommit that never reconnects: what it is used for may depend on a lock that it holds."""

    def __init__(self, settings: MysqlSettings, timeout_s: int = TIMEOUT_S, order: AddressOrder | None = None) -> None:
        """Connect. Raises what `execute` raises."""
        self._settings = settings
        self._order = order or AddressOrder()
        self._timeout_s = timeout_s
        self._address, self._connection = self._connect()
        try:
            # one for all statements: the driver asks the server for a sign of life before it makes a cursor
            with self._answering():
                self._cursor = self._connection.cursor()
            for statement in SETTINGS:
                self.execute(statement)
        except BaseException:
            self.drop()
            raise
        self._order.worked(self._address)

    def execute(self, statement: str, parameters: Sequence[object] = ()) -> Result:
        """Run one statement and take its whole answer.

        Raises SessionLostError or AgainError; UnavailableError when the session goes on all the same; ConfigurationError.
        An answer that no server gives makes the driver's parser raise whatever it likes; that goes up as it is.
        """
        with self._answering():
            self._cursor.execute(statement, tuple(parameters))
            rows = self._cursor.fetchall() if self._cursor.with_rows else ()
            return Result(rows, int(self._cursor.rowcount))

    def rows(self, statement: str) -> Iterator[Sequence[Sequence[object]]]:
        """Run a statement without parameters and give its rows as they come, some at a time. To be read to the end."""
        with self._answering():
            self._connection.cmd_query(statement)
        end = None
        while end is None:
            with self._answering():
                some, end = self._connection.get_rows(count=ROWS_AT_ONCE)
            yield some

    def limit(self, timeout_s: int) -> None:
        """Wait this long for each answer from now on."""
        self._timeout_s = timeout_s
        self._connection.write_timeout = timeout_s

    def avoid(self) -> None:
        """Try this session's address last when the next one is made."""
        self._order.failed(self._address)

    def quit(self) -> None:
        """End it in good order, without waiting for an answer."""
        with suppress(mysql.connector.Error, OSError):
            self._connection.close()

    def drop(self) -> None:
        """End it without a word to a server that may be frozen: that one ends the session when it notices."""
        _shut(self._connection)

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """A new time limit, and the driver's errors explained."""
        self._connection.allow(self._timeout_s)
        try:
            yield
        except SessionLostError as error:
            raise SessionLostError(located(str(error), self._settings)) from error
        except (mysql.connector.Error, OSError) as error:
            raise explained(error, self._settings) from error

    def _connect(self) -> tuple[object, Any]:
        """The address and the connection, within the time limit in all, and so in a thread: looking up a name knows none."""
        options = connect_options(self._settings, self._timeout_s)
        try:
            return _Attempt(self._settings, options, self._timeout_s, self._order).result()
        except ConfigurationError as error:
            raise type(error)([located(each, self._settings) for each in error.problems]) from error
        except CollectorError as error:
            raise SessionLostError(located(str(error), self._settings)) from error


class _Attempt:
    """Connects in a thread of its own, to one address after the other; given up, it ends by itself."""

    def __init__(self, settings: MysqlSettings, options: dict[str, Any], timeout_s: int, order: AddressOrder) -> None:
        self._settings, self._options, self._timeout_s, self._order = settings, options, timeout_s, order
        self._deadline = time.monotonic() + timeout_s
        self._answer: Future[tuple[object, Connection]] = Future()
        self._given_up = threading.Event()
        self._trying: Connection | None = None
        threading.Thread(target=self._run, name="mysql-connect", daemon=True).start()

    def result(self) -> tuple[object, Connection]:
        """The address and the connection. Raises CollectorError."""
        try:
            # the last address has its time limit; this one is for a name that is looked up for ever
            return self._answer.result(self._timeout_s + 0.2)
        except TimeoutError:
            self._given_up.set()
            if self._trying is not None:
                _shut(self._trying)
            raise SessionLostError(f"no connection within {self._timeout_s} s (see MYSQL_HOST)") from None

    def _run(self) -> None:
        try:
            self._answer.set_result(self._first())
        except CollectorError as error:
            self._answer.set_exception(error)
        except Exception as error:  # whatever the driver's parser raises at a greeting that no server sends
            said = f"what answers there is no MySQL server: {type(error).__name__} (see MYSQL_HOST, MYSQL_PORT)"
            self._answer.set_exception(SessionLostError(said))

    def _first(self) -> tuple[object, Connection]:
        """The first address that works. One that refuses the login refuses for all."""
        try:
            found = self._order.sorted(addresses(self._settings.host, self._settings.port))
        except OSError as error:
            raise SessionLostError(f"{error.strerror or error} (see MYSQL_HOST)") from error
        reasons: dict[str, None] = {}
        for number, address in enumerate(found):
            left_s = (self._deadline - time.monotonic()) / (len(found) - number)
            if left_s <= 0 or self._given_up.is_set():
                break
            try:
                return address, self._made(address, left_s)
            except UnavailableError as error:
                reasons[f"{address[3][0]}: {error}" if len(found) > 1 else str(error)] = None
        raise SessionLostError("; ".join(reasons) or "no answer in time")

    def _made(self, address: tuple[Any, ...], timeout_s: float) -> Connection:
        settings = self._settings
        made = Connection(address, timeout_s, settings.ca_file is not None, settings.trust_server)
        self._trying = made
        try:
            made.connect(**self._options)
        except (mysql.connector.Error, OSError) as error:
            _shut(made)
            raise explained(error, settings, connecting=True) from error
        except BaseException:
            _shut(made)
            raise
        if self._given_up.is_set():
            _shut(made)
        return made


def connect_options(settings: MysqlSettings, timeout_s: int) -> dict[str, Any]:
    """What the driver is told. Raises ConfigurationError for files (password, certificates) that cannot be used."""
    options: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "user": settings.user,
        "password": settings.password.read(),
        "database": settings.database,
        "auth_plugin": FIRST_PLUGIN,
        "allow_local_infile": False,  # or a server could ask for any file that we can read
        "collation": "utf8mb4_general_ci",  # the driver's own choice is unknown to MySQL 5.6 and MariaDB
        "autocommit": True,
        "connection_timeout": timeout_s,
        "read_timeout": timeout_s,
        "write_timeout": timeout_s,
    }
    if settings.ca_file is not None:
        try:
            create_default_context(cafile=settings.ca_file)
        except OSError as error:
            raise ConfigurationError(f"MYSQL_CA_FILE {settings.ca_file}: {error.strerror or error}") from error
        options |= {"ssl_ca": settings.ca_file, "ssl_verify_cert": True, "ssl_verify_identity": True}
    return options


def located(text: str, settings: MysqlSettings) -> str:
    """What was said, with where."""
    return f"{settings.host}:{settings.port}, user {settings.user!r}, database {settings.database!r}: {text}"


def explained(error: mysql.connector.Error | OSError, settings: MysqlSettings, connecting: bool = False) -> CollectorError:
    """The one place that decides what an error means: connect again, try again, mend it, or wait.

    While connecting, the place is left out: it is said once, of all addresses.
    """
    number = getattr(error, "errno", None) or -1
    # the driver keeps the first argument of an OSError apart, and repeats address and number in its texts
    text = printable(" ".join(str(getattr(error, "msg", "") or error or type(error).__name__)[:2000].split()))
    cause = error if isinstance(error, OSError) else error.__cause__

    def said(hint: str | None = None, of: str = text) -> str:
        hinted = f"{of} ({hint})" if hint else of
        return hinted if connecting else located(hinted, settings)

    if isinstance(cause, SSLCertVerificationError):
        return ConfigurationError(said("see MYSQL_CA_FILE", f"certificate not accepted: {cause.verify_message}"))
    if isinstance(cause, SSLError):
        return SessionLostError(said("see MYSQL_CA_FILE and MYSQL_TRUST_SERVER", f"TLS failed: {cause.reason or cause}"))
    if isinstance(error, TimeoutError | mysql.connector.errors.ReadTimeoutError | mysql.connector.errors.WriteTimeoutError):
        return SessionLostError(said("see MYSQL_HOST and MYSQL_PORT" if connecting else None, "no answer in time"))
    if isinstance(error, OSError):
        return SessionLostError(said("see MYSQL_HOST and MYSQL_PORT" if connecting else None, error.strerror or text))
    # numbers from 2000 to 2999 are the driver's own: it could not reach the server, or did not understand it
    from_server = 1000 <= number < 2000 or number >= 3000
    kind, hint = MEANINGS.get(number, (UnavailableError if from_server else SessionLostError, None))
    return kind(said(hint))


def _shut(connection: Connection) -> None:
    with suppress(mysql.connector.Error, OSError):
        connection.shutdown()
        connection.close()  # shutdown leaves a socket open whose other end is gone already
