"""`check` against real servers, as an operator runs it: each thing wrong in turn is one line that says what to look at."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.source.simulated.network import SimulatedNetwork
from tests.servers.databases import Account, DatabaseServer
from tests.servers.ports import free_port
from tests.servers.rabbitmq import RabbitServer, Vhost
from tests.simulation import FaultySimulation
from tests.simulation.faults import Fault, Kind

TOP = Path(__file__).resolve().parents[2]
TABLE = (TOP / "sql" / "esnet_interfaces.sql").read_text("utf-8")
NETBEAM_FINE = r"Netbeam: ok: http://127\.0\.0\.1:\d+/\S+: 30 interfaces in "
NO_TABLE = r"MySQL: ok: \w+@127\.0\.0\.1:\d+/\w+: no table esnet_interfaces in database"
RABBIT_FINE = r"RabbitMQ: ok: \w+@127\.0\.0\.1:\d+: exchange 'osg\.psdata\.raw' in vhost"


@dataclass
class Checked:
    """How a check ended: its exit code, and each system's line; `warnings` are the lines below them."""

    code: int
    lines: dict[str, str]
    all_lines: list[str]
    warnings: list[str]


@dataclass
class Bench:
    """Three systems that are in order, and the variables that lead to them."""

    server: DatabaseServer
    account: Account
    vhost: Vhost
    simulation: FaultySimulation

    @property
    def variables(self) -> dict[str, str]:
        return {
            "NETBEAM_URL": self.simulation.url,
            "MYSQL_HOST": "127.0.0.1",
            "MYSQL_PORT": str(self.server.port),
            "MYSQL_DATABASE": self.account.database,
            "MYSQL_USER": self.account.user,
            "MYSQL_PASSWORD": self.account.password,
            "RMQ_HOST": self.vhost.host,
            "RMQ_PORT": str(self.vhost.port),
            "RMQ_VHOST": self.vhost.name,
            "RMQ_USER": self.vhost.user,
            "RMQ_PASS": self.vhost.password,
        }

    def check(self, *arguments: str, **changes: str) -> Checked:
        """Run the program with these variables changed; nothing but the findings may be printed."""
        variables = self.variables | changes
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RMQ_", "MYSQL_", "NETBEAM_"))}
        command = [sys.executable, str(TOP / "esnet_collector.py"), "check", "--env-file", os.devnull, *arguments]
        done = subprocess.run(command, env=kept | variables, capture_output=True, text=True, timeout=60, check=False)
        assert done.stderr == ""
        assert not [secret for secret in ("wrong-secret", self.account.password, self.vhost.password) if secret in done.stdout]
        lines = [line for line in done.stdout.splitlines() if not line.startswith("  warning: ")]
        warnings = [line.removeprefix("  warning: ") for line in done.stdout.splitlines() if line.startswith("  warning: ")]
        return Checked(done.returncode, {line.partition(":")[0]: line for line in lines}, lines, warnings)

    def tables(self) -> list[object]:
        """The tables of the database."""
        return self.server.sql("SHOW TABLES", database=self.account.database)


@pytest.fixture(scope="module")
def simulation() -> Iterator[FaultySimulation]:
    with FaultySimulation(SimulatedNetwork.synthetic(30)) as running:
        yield running


@pytest.fixture
def bench(mariadb: DatabaseServer, rabbit: RabbitServer, simulation: FaultySimulation) -> Bench:
    return Bench(mariadb, mariadb.fresh_database(), rabbit.fresh_vhost(), simulation)


def test_all_in_order_is_a_line_each_and_exit_code_0(bench: Bench, rabbit: RabbitServer) -> None:
    checked = bench.check()
    assert checked.code == 0
    assert list(checked.lines) == ["configuration", "Netbeam", "MySQL", "RabbitMQ"]
    assert all(line.startswith(f"{system}: ok: ") for system, line in checked.lines.items())
    assert re.match(NETBEAM_FINE, checked.lines["Netbeam"])
    assert "0 entries skipped" in checked.lines["Netbeam"]
    assert re.search(r"; 30 traffic points in 15 minutes of devices/\S+, in ", checked.lines["Netbeam"])
    assert checked.lines["MySQL"].endswith("run creates it; the user's rights suffice")
    assert checked.lines["RabbitMQ"].endswith("shows only when publishing")
    assert checked.warnings == []
    assert bench.tables() == []


def test_what_replaces_a_system_is_looked_at_instead(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "table.sqlite"
    checked = bench.check("--sqlite", str(file), "--stdout")
    assert checked.code == 0
    assert list(checked.lines) == ["configuration", "Netbeam", "SQLite"]
    assert checked.lines["SQLite"].endswith("there is no such file; run creates it")
    assert not file.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"MYSQL_PASSWORD": "wrong-secret"}, "see MYSQL_USER and MYSQL_PASSWORD"),
        ({"MYSQL_USER": "nobody"}, "see MYSQL_USER and MYSQL_PASSWORD"),
        ({"MYSQL_DATABASE": "nothing"}, "see MYSQL_DATABASE"),
        ({"MYSQL_PORT": "unused"}, "127.0.0.1:"),
        ({"MYSQL_PORT": "rabbit"}, "127.0.0.1:"),
        ({"MYSQL_HOST": "no.such.host.invalid"}, "no.such.host.invalid:"),
    ],
)
def test_what_is_wrong_with_mysql_is_said_and_the_others_are_looked_at(
    database_server: DatabaseServer, rabbit: RabbitServer, simulation: FaultySimulation, changes: dict[str, str], said: str
) -> None:
    bench = Bench(database_server, database_server.fresh_database(), rabbit.fresh_vhost(), simulation)
    ports = {"unused": str(free_port()), "rabbit": str(rabbit.port)}
    checked = bench.check(**{name: ports.get(value, value) for name, value in changes.items()})
    assert checked.code == 1
    assert checked.lines["MySQL"].startswith("MySQL: WRONG: ")
    assert said in checked.lines["MySQL"]
    assert re.match(NETBEAM_FINE, checked.lines["Netbeam"])
    assert re.match(RABBIT_FINE, checked.lines["RabbitMQ"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"RMQ_PASS": "wrong-secret"}, "see RMQ_USER and RMQ_PASS"),
        ({"RMQ_USER": "nobody"}, "see RMQ_USER and RMQ_PASS"),
        ({"RMQ_VHOST": "nothing"}, "see RMQ_VHOST"),
        ({"RMQ_EXCHANGE": "nothing"}, "see RMQ_EXCHANGE"),
        ({"RMQ_PORT": "unused"}, "127.0.0.1:"),
        ({"RMQ_PORT": "mysql"}, "127.0.0.1:"),
        ({"RMQ_TLS": "true"}, "RMQ_TLS"),
        ({"RMQ_HOST": "no.such.host.invalid"}, "no.such.host.invalid:"),
    ],
)
def test_what_is_wrong_with_rabbitmq_is_said_and_the_others_are_looked_at(
    bench: Bench, changes: dict[str, str], said: str
) -> None:
    ports = {"unused": str(free_port()), "mysql": str(bench.server.port)}
    checked = bench.check(**{name: ports.get(value, value) for name, value in changes.items()})
    assert checked.code == 1
    assert checked.lines["RabbitMQ"].startswith("RabbitMQ: WRONG: ")
    assert said in checked.lines["RabbitMQ"]
    assert re.match(NETBEAM_FINE, checked.lines["Netbeam"])
    assert re.match(NO_TABLE, checked.lines["MySQL"])


@pytest.mark.parametrize("path", ["unused", "/nothing", "@"])
def test_what_is_wrong_with_netbeam_is_said_and_the_others_are_looked_at(bench: Bench, path: str) -> None:
    host = bench.simulation.url.partition("//")[2].partition("/")[0]
    urls = {"unused": f"http://127.0.0.1:{free_port()}/api", "@": f"http://me:wrong-secret@{host}/none"}
    checked = bench.check(NETBEAM_URL=urls.get(path, bench.simulation.url + path))
    assert checked.code == 1
    assert checked.lines["Netbeam"].startswith("Netbeam: WRONG: http://")
    assert re.match(NO_TABLE, checked.lines["MySQL"])
    assert re.match(RABBIT_FINE, checked.lines["RabbitMQ"])


def test_what_does_not_answer_is_given_up(bench: Bench, rabbit: RabbitServer) -> None:
    began = time.monotonic()
    bench.simulation.behaviour.listing = (Fault(kind=Kind.HANG),)
    bench.server.freeze()
    rabbit.freeze()
    try:
        checked = bench.check()
    finally:
        bench.simulation.behaviour.listing = ()
        bench.server.thaw()
        rabbit.thaw()
    assert checked.code == 1
    assert time.monotonic() - began < 20
    assert checked.lines["MySQL"].startswith("MySQL: WRONG: ")
    assert f"127.0.0.1:{bench.server.port}" in checked.lines["MySQL"]
    assert checked.lines["RabbitMQ"].startswith("RabbitMQ: WRONG: ")
    assert checked.lines["Netbeam"] == f"Netbeam: WRONG: {bench.simulation.url}: no answer within 15 s"


def test_missing_exchange_is_fine_where_it_is_to_be_declared_and_is_not_declared(bench: Bench, rabbit: RabbitServer) -> None:
    rabbit.delete_exchange(bench.vhost)
    checked = bench.check(RMQ_DECLARE="true")
    assert checked.code == 0
    assert checked.lines["RabbitMQ"].endswith("run declares it (RMQ_DECLARE); whether the user may shows only then")
    assert not rabbit.exchange_exists(bench.vhost)


def test_table_that_lacks_a_column_is_wrong(bench: Bench) -> None:
    bench.server.sql(TABLE, database=bench.account.database)
    bench.server.sql("ALTER TABLE esnet_interfaces DROP COLUMN discards_until", database=bench.account.database)
    checked = bench.check()
    assert checked.code == 1
    assert "lacks the column discards_until" in checked.lines["MySQL"]


def test_rows_are_counted_and_those_that_cannot_be_trusted_are_listed(bench: Bench) -> None:
    bench.server.sql(TABLE, database=bench.account.database)
    bench.server.sql(
        "INSERT INTO esnet_interfaces (name, status, active_from, active_until) VALUES "
        "('a/1', '1', '1795568400000', NULL), ('a/2', '0', '1795568400000', '1795568400001'), ('a/3', '1', 'yesterday', NULL)",
        database=bench.account.database,
    )
    checked = bench.check()
    assert checked.code == 0
    assert "its 8 columns and 3 rows, 1 of them active" in checked.lines["MySQL"]
    (warning,) = checked.warnings
    assert warning.startswith("row 3 'a/3' cannot be trusted: active_from")


def test_a_user_who_may_only_read_is_named_with_what_is_lacking(bench: Bench) -> None:
    bench.server.sql(TABLE, database=bench.account.database)
    reader = bench.server.reader(bench.account.database)
    checked = bench.check(MYSQL_USER=reader.user, MYSQL_PASSWORD=reader.password)
    assert checked.code == 1
    assert checked.lines["MySQL"].startswith(f"MySQL: WRONG: {reader.user}@127.0.0.1:")
    granting = f"GRANT INSERT, UPDATE ON `{bench.account.database}`.esnet_interfaces TO '{reader.user}'@'%'"
    assert checked.lines["MySQL"].endswith(f"the user lacks the rights INSERT, UPDATE; this grants them: {granting}")
    bench.server.sql(granting)
    assert bench.check(MYSQL_USER=reader.user, MYSQL_PASSWORD=reader.password).code == 0


def test_a_user_who_may_not_publish_is_wrong(bench: Bench, rabbit: RabbitServer) -> None:
    rabbit.set_permissions(bench.vhost, configure=".*", write="nothing", read=".*")
    checked = bench.check()
    assert checked.code == 1
    assert checked.lines["RabbitMQ"].startswith("RabbitMQ: WRONG: ")
    assert "osg.psdata.raw" in checked.lines["RabbitMQ"]


def test_every_host_of_the_cluster_is_tried(bench: Bench) -> None:
    checked = bench.check(RMQ_HOST="127.0.0.1,no.such.host.invalid")
    assert checked.code == 1
    assert [line for line in checked.all_lines if re.match(RABBIT_FINE, line)]
    (wrong,) = [line for line in checked.all_lines if line.startswith("RabbitMQ: WRONG: ")]
    assert "no.such.host.invalid:" in wrong


def test_a_window_that_cannot_be_fetched_is_wrong(bench: Bench) -> None:
    bench.simulation.behaviour.points = (Fault(kind=Kind.STATUS, status=403),)
    try:
        checked = bench.check()
    finally:
        bench.simulation.behaviour.points = ()
    assert checked.code == 1
    assert re.match(r"Netbeam: WRONG: http://\S+: devices/\S+ traffic: .*403", checked.lines["Netbeam"])


@pytest.mark.parametrize("variables", [{"HTTP_PROXY": "socks5://127.0.0.1:9"}, {"RMQ_TLS": "true", "RMQ_CA_FILE": "here"}])
def test_a_proxy_or_a_bundle_that_cannot_be_used_is_exit_code_2_as_in_run(
    bench: Bench, tmp_path: Path, variables: dict[str, str]
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("no certificate")
    checked = bench.check(**{name: value.replace("here", str(bundle)) for name, value in variables.items()}, NO_PROXY="")
    assert checked.code == 2
    (wrong,) = [line for line in checked.all_lines if "WRONG" in line]
    assert list(variables)[-1] in wrong


def test_misspelt_variable_is_a_warning_and_no_fault(bench: Bench) -> None:
    checked = bench.check(RMQ_VHOTS="x")
    assert checked.code == 0
    assert checked.warnings == ["RMQ_VHOTS is not an option and has no effect: did you mean RMQ_VHOST?"]


def test_configuration_problem_is_exit_code_2_and_nothing_is_contacted(bench: Bench) -> None:
    checked = bench.check(RMQ_PORT="x")
    assert checked.code == 2
    assert list(checked.lines) == ["configuration"]
    assert checked.lines["configuration"].startswith("configuration: WRONG: RMQ_PORT (environment) must be")
