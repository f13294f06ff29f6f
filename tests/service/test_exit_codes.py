"""Exit codes, each row of the table in docs: what an operator's scripts and a supervisor go by."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from collector.core.model import RecordType
from collector.source.simulated.network import SimulatedNetwork
from tests.rig import Bus, Clock, Collector, MysqlTable, Rig, SqliteTable, wait_for
from tests.rig.heard import INTERFACE_KEY, TRAFFIC_KEY
from tests.rig.running import PROGRAM
from tests.servers.databases import MariaDB
from tests.servers.ports import free_port
from tests.servers.rabbitmq import RabbitServer
from tests.simulation.faults import Fault, Kind

NewRig = Callable[..., Rig]
WRONG_SECRET = "wrong-secret-9f3a"
DAY_S = 86_400.0
PATIENCE_S = 30
"""What `--once` waits for a system or the lock, in all."""
START_S = 20
"""A dozen of them start at once, on a machine that is busy with other tests."""
LONGER_THAN_A_CYCLE_S = 1.3
"""Cycles start every second, and a log waits for its reader so long: together they are nearly two."""
UNUSED = "unused"
"""Stands for a port that nobody listens on."""

REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "MySQL's password": ({"MYSQL_PASSWORD": WRONG_SECRET}, "MYSQL_PASSWORD"),
    "MySQL's user": ({"MYSQL_USER": "nobody"}, "MYSQL_USER"),
    "database": ({"MYSQL_DATABASE": "nothing"}, "MYSQL_DATABASE"),
    "RabbitMQ's password": ({"RMQ_PASS": WRONG_SECRET}, "RMQ_PASS"),
    "vhost": ({"RMQ_VHOST": "nothing"}, "RMQ_VHOST"),
    "exchange": ({"RMQ_EXCHANGE": "nothing"}, "RMQ_EXCHANGE"),
}
"""What only an operator can mend: exit code 2, and the variable is named."""
MAY_HEAL: dict[str, tuple[dict[str, str], str]] = {
    "MySQL's port": ({"MYSQL_PORT": UNUSED}, "MySQL"),
    "MySQL's host": ({"MYSQL_HOST": "no.such.host.invalid"}, "MySQL"),
    "RabbitMQ's port": ({"RMQ_PORT": UNUSED}, "RabbitMQ"),
    "RabbitMQ's host": ({"RMQ_HOST": "no.such.host.invalid"}, "RabbitMQ"),
}
"""What may heal by itself: exit code 1 after half a minute, and the system is named."""
NETBEAM_WRONG: dict[str, tuple[dict[str, str], str]] = {
    "Netbeam's port": ({"NETBEAM_URL": f"http://me:{WRONG_SECRET}@127.0.0.1:{UNUSED}/api"}, "listing"),
    "Netbeam's path": ({"NETBEAM_URL": "simulation/nothing"}, "listing"),
}
WRONG = REFUSED | MAY_HEAL | NETBEAM_WRONG


@pytest.fixture(scope="module", autouse=True)
def misled(mariadb: MariaDB, rabbit: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Collector]]:
    """A `run --once` for each of the wrong settings, and one beside a collector at work.

    All at once and from the first test on, since some wait long; who asks for them stands at the end of this file.
    """
    network = SimulatedNetwork.synthetic(4)
    with (
        Rig(network, MysqlTable(mariadb), Bus(rabbit), directory=tmp_path_factory.mktemp("misled")) as rig,
        Rig(network, MysqlTable(mariadb), Bus(rabbit), directory=tmp_path_factory.mktemp("locked")) as locked,
        Rig(network, MysqlTable(mariadb), Bus(rabbit), directory=tmp_path_factory.mktemp("denied")) as denied,
    ):
        assert denied.bus
        rabbit.set_permissions(denied.bus.vhost, write="nothing")
        worker = locked.start(POLL_INTERVAL=900)
        worker.wait_for_cycles(1)
        started = {"lock": locked.start("run", "--once"), "write": denied.start("run", "--once")}
        port = str(free_port())
        for name, (settings, _) in WRONG.items():
            made = {key: value.replace(UNUSED, port).replace("simulation", rig.simulation.url) for key, value in settings.items()}
            started[name] = rig.start("run", "--once", **made)

        def watch() -> None:
            """Note when each of them ends."""
            wait_for(lambda: not any([each.running for each in started.values()]), 2 * PATIENCE_S, "the end of all of them")

        watching = threading.Thread(target=watch)
        watching.start()
        yield started
        watching.join()
        assert worker.terminate() == 0
        for collector in started.values():
            collector.check_output((WRONG_SECRET, *rig.secrets, *locked.secrets))


class TestDone:
    """0: done, or stopped by a signal."""

    def test_once(self, new_rig: NewRig) -> None:
        new_rig(4).once(expect=0)

    def test_once_that_is_stopped(self, new_rig: NewRig) -> None:
        rig = new_rig(30)
        rig.behaviour.latency_s = 0.5
        collector = rig.start("run", "--once", NETBEAM_CONCURRENCY=2)
        collector.wait_for(lambda: rig.simulation.counts["points"] > 2)
        assert collector.terminate(8) == 0

    def test_run_without_a_command(self, new_rig: NewRig) -> None:
        collector = new_rig(4).start("--once")
        assert collector.wait() == 0
        assert len(collector.cycles()) == 1

    def test_stdout_that_is_closed_ends_it_like_a_signal(self, tmp_path: Path) -> None:
        clock = Clock(behind_s=DAY_S / 2, rate=60)
        with Rig(SimulatedNetwork.synthetic(8), SqliteTable(tmp_path / "table.sqlite"), clock=clock, directory=tmp_path) as rig:
            command = [sys.executable, str(PROGRAM), "run", "--env-file", "/dev/null", "--stdout", *rig.table.words]
            with subprocess.Popen(
                command, env=rig.environment(), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as child:
                assert child.stdout
                assert child.stderr
                assert child.stdout.readline().startswith("{")
                child.stdout.close()
                assert child.wait(30) == 0
                log = child.stderr.read()
                assert "Traceback" not in log
                assert log.splitlines()[-1].endswith("INFO collector ended exit_code=0 reason='nobody reads stdout'")

    @pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
    def test_demo(self, tmp_path: Path, number: int | None) -> None:
        collector = Collector(("demo", *(["--cycles", "2", "--json"] if number is None else [])), {}, tmp_path)
        try:
            collector.wait_for(lambda: collector.stdout.count("\n") > 5)
            (page,) = re.findall(r"http://127\.0\.0\.1:\d+/", collector.log)
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(page, timeout=10) as answer:
                assert answer.status == 200
            if number is not None:
                collector.signal(number)
            assert collector.wait() == 0
            collector.check_output(())
            assert re.search(r"points and 12 interface messages in \d cycles?", collector.log.splitlines()[-1])
            if number is None:
                assert {cycle["outcome"] for cycle in collector.cycles()} == {"complete"}
                assert all(int(cycle["points"]) for cycle in collector.cycles())
                assert all(json.loads(line)["message_id"] for line in collector.stdout.splitlines())
        finally:
            collector.kill()

    def test_words_about_itself(self, tmp_path: Path) -> None:
        for word in ("--version", "--help"):
            assert Collector((word,), {}, tmp_path).wait() == 0


class TestLeftOver:
    """1: something was left for the next cycle, or is wrong."""

    def test_once_with_a_window_that_failed(self, new_rig: NewRig) -> None:
        rig = new_rig(8)
        some = [each for each in rig.network.resources if not rig.network.silent(each)][:1]
        rig.behaviour.points = (Fault(kind=Kind.NO_POINTS, resources=some, record_types=[RecordType.ERRORS]),)
        collector = rig.once(expect=1)
        assert collector.log_lines("left for the next cycle: 1 window failed: answer without points")

    @pytest.mark.parametrize("key", [INTERFACE_KEY, TRAFFIC_KEY])
    def test_once_with_messages_that_no_queue_takes(self, new_rig: NewRig, key: str) -> None:
        rig = new_rig(8)
        assert rig.bus
        rig.bus.unbind(key)
        collector = rig.once(expect=1)
        assert len(collector.log_lines(f"no queue takes the messages.* exchange=osg.psdata.raw routing_key={key}$")) == 1
        assert set(rig.heard().messages) == {INTERFACE_KEY, TRAFFIC_KEY} - {key}
        rig.bus.bind(key)
        rig.once(expect=0)
        rig.check_exactly()

    def test_once_without_a_listing(self, new_rig: NewRig) -> None:
        rig = new_rig(8)
        rig.behaviour.listing = (Fault(kind=Kind.STATUS, status=404),)
        rig.once(expect=1)

    def test_check_with_something_wrong(self, new_rig: NewRig) -> None:
        rig = new_rig(8)
        assert rig.start("check", RMQ_EXCHANGE="nothing").wait() == 1
        assert rig.start("check").wait() == 0

    def test_status_over_its_limit_or_without_a_database(self, new_rig: NewRig) -> None:
        rig = new_rig(8)
        rig.once()
        assert rig.start("status", "--max-lag", "300").wait() == 0
        rig.table.sql("UPDATE esnet_interfaces SET traffic_until = traffic_until - 40000000")
        assert rig.start("status", "--max-lag", "300").wait() == 1
        assert rig.start("status").wait() == 0
        rig.table.sql("RENAME TABLE esnet_interfaces TO away")
        assert rig.start("status", "--max-lag", "300").wait() in (1, 2)
        assert rig.start("status", MYSQL_PORT=free_port()).wait(PATIENCE_S + 10) == 1

    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("words", ["status", "check", "backfill --begin -2h --end -1h"])
    @pytest.mark.parametrize("where", [">/dev/full", ">&-"])
    def test_stdout_that_cannot_be_written(self, tmp_path: Path, words: str, where: str, unbuffered: str) -> None:
        table = SqliteTable(tmp_path / "table.sqlite")
        table.create()
        program = f'exec "{sys.executable}" "{PROGRAM}" {words} --env-file /dev/null {shlex.join(table.words)} {where}'
        settings = {"RMQ_HOST": "127.0.0.1", "RMQ_PORT": "9", "RMQ_USER": "u", "RMQ_PASS": "p", "NETBEAM_URL": "http://127.0.0.1:9/"}
        ended = subprocess.run(
            ["/bin/sh", "-c", program], env=settings | {"PYTHONUNBUFFERED": unbuffered},
            stderr=subprocess.PIPE, text=True, timeout=40, check=False,
        )  # fmt: skip
        assert ended.returncode == 1
        (line,) = ended.stderr.splitlines()
        assert "ERROR stdout " in line

    def test_backfill_that_is_incomplete(self, new_rig: NewRig) -> None:
        rig = new_rig(8)
        rig.once()
        begin_ms = rig.clock() - 3 * 3_600_000
        words = ("backfill", "--begin", str(begin_ms), "--end", str(begin_ms + 3_600_000))
        assert rig.start(*words).wait() == 0
        some = [each for each in rig.network.resources if not rig.network.silent(each)][:1]
        rig.behaviour.points = (Fault(kind=Kind.STATUS, status=400, resources=some),)
        assert rig.start(*words).wait() == 1
        rig.behaviour.points = (Fault(kind=Kind.SLOW, seconds=1),)
        stopped = rig.start(*words)
        stopped.wait_for(lambda: rig.simulation.at_once)
        assert stopped.terminate(8) == 1

    @pytest.mark.parametrize("words", [("run", "--once"), ("run",)])
    def test_an_unexpected_error(self, new_rig: NewRig, tmp_path: Path, words: tuple[str, ...]) -> None:
        (tmp_path / "sitecustomize.py").write_text(
            "import collector.cycle.cycle\n"
            "def broken(*_):\n"
            "    raise ZeroDivisionError('for this test')\n"
            "collector.cycle.cycle.reconcile = broken\n"
        )
        rig = new_rig(4)
        collector = rig.start(*words, PYTHONPATH=f"{tmp_path}:{PROGRAM.parent}")
        collector.tracebacks_expected = True
        assert collector.wait() == 1
        assert collector.log_lines("ZeroDivisionError: for this test")


MISTAKES = {
    "NETBEAM_URL": f"ftp://me:{WRONG_SECRET}@example.org/",
    "NETBEAM_CONCURRENCY": "0",
    "NETBEAM_TIMEOUT": "-1",
    "RECORD_TYPES": "traffic,trafic",
    "POLL_INTERVAL": "soon",
    "RMQ_PORT": "65536",
    "RMQ_TLS": "maybe",
    "MYSQL_PASSWORD": None,
    "LOG_FORMAT": "xml",
}


class TestUsage:
    """2: usage or configuration; and, before the first cycle only, what an operator has to mend."""

    @pytest.mark.parametrize(
        "words",
        [
            ("collect",),
            ("run", "--twice"),
            ("status", "--once"),
            ("backfill",),
            ("backfill", "--begin", "yesterday", "--end", "2026-01-01"),
            ("demo", "--cycles", "0"),
        ],
        ids=" ".join,
    )
    def test_usage(self, tmp_path: Path, words: tuple[str, ...]) -> None:
        collector = Collector(words, {}, tmp_path)
        assert collector.wait() == 2
        collector.check_output(())

    @pytest.mark.parametrize("command", ["run", "check", "backfill"])
    def test_nine_mistakes_are_nine_lines_and_nothing_is_contacted(self, new_rig: NewRig, command: str) -> None:
        rig = new_rig(4)
        words = (command, "--begin", "2026-01-01", "--end", "2026-01-02") if command == "backfill" else (command,)
        collector = rig.start(*words, **MISTAKES)
        assert collector.wait() == 2
        lines = (collector.log + collector.stdout).splitlines()
        assert len(lines) == len(MISTAKES)
        assert all(any(name in line for line in lines) for name in MISTAKES)
        collector.check_output((WRONG_SECRET,))
        assert not rig.simulation.counts
        assert not rig.table.rows()

    def test_a_settings_file_that_cannot_be_used(self, new_rig: NewRig, tmp_path: Path) -> None:
        rig = new_rig(4)
        collector = rig.start("run", env_file="RMQ_HOST = x\nwhat is this\n")
        assert collector.wait() == 2
        assert collector.log_lines("line 2")
        missing = rig.start("run", "--env-file", str(tmp_path / "nowhere.env"), env_file=None)
        assert missing.wait() == 2
        assert missing.log_lines("nowhere.env")

    def test_no_settings_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "none.env").write_text("")
        collector = Collector(("run", "--env-file", str(tmp_path / "none.env")), {}, tmp_path)
        assert collector.wait() == 2
        assert all(collector.log_lines(name) for name in ("RMQ_HOST", "RMQ_USER", "RMQ_PASS", "MYSQL_PASSWORD"))

    def test_a_missing_column(self, new_rig: NewRig) -> None:
        rig = new_rig(4)
        rig.table.create()
        rig.table.sql("ALTER TABLE esnet_interfaces DROP COLUMN errors_until")
        for words in (("run", "--once"), ("run",)):
            collector = rig.start(*words)
            assert collector.wait() == 2
            assert len(collector.log_lines("errors_until")) == 1
            assert " ERROR collector ended exit_code=2 reason=" in collector.log.splitlines()[-1]

    def test_a_user_who_may_only_read_is_said_once(self, new_rig: NewRig) -> None:
        rig = new_rig(4)
        rig.table.create()
        assert isinstance(rig.table, MysqlTable)
        reader = rig.table.server.reader(rig.table.account.database)
        collector = rig.start("run", MYSQL_USER=reader.user, MYSQL_PASSWORD=reader.password)
        assert collector.wait() == 2
        assert [line.split()[1] for line in collector.log_lines("denied")] == ["ERROR"]

    def test_a_metrics_port_that_is_taken(self, new_rig: NewRig) -> None:
        rig = new_rig(4)
        with closing(socket.create_server(("127.0.0.1", 0))) as taken:
            collector = rig.start(METRICS_PORT=taken.getsockname()[1])
            assert collector.wait() == 2
        assert collector.log_lines("METRICS_PORT")

    def test_run_ends_for_a_refusal_too_as_long_as_no_cycle_has_run(self, new_rig: NewRig) -> None:
        rig = new_rig(4)
        collectors = [rig.start(**settings) for settings, _ in REFUSED.values()]
        assert [each.wait() for each in collectors] == [2] * len(REFUSED)
        for collector, (name, (settings, variable)) in zip(collectors, REFUSED.items(), strict=True):
            (line,) = [each for each in collector.log_lines(variable) if "collector started" not in each]
            assert "MYSQL" in next(iter(settings)) or " ERROR RabbitMQ at 127.0.0.1:" in line, name

    def test_after_the_first_cycle_the_same_refusals_are_outages_that_heal(self, new_rig: NewRig) -> None:
        rig = new_rig(8, clock=Clock(behind_s=DAY_S / 2, rate=60))
        assert rig.bus
        assert isinstance(rig.table, MysqlTable)
        vhost, account, server, rabbit = rig.bus.vhost, rig.table.account, rig.table.server, rig.bus.rabbit

        def denied() -> tuple[int, int]:
            """How many logins RabbitMQ and MariaDB have refused."""
            by_rabbit = rabbit.eval("lists:sum([Failed || {_, _, _, Failed} <- ets:tab2list(auth_attempt_metrics)])")
            return int(by_rabbit), int(server.sql("SHOW GLOBAL STATUS LIKE 'Access_denied_errors'")[0][1])

        before = denied()
        collector = rig.start()
        collector.wait_for_cycles(1)
        rabbit.set_password(vhost, WRONG_SECRET)
        server.sql(f"SET PASSWORD FOR '{account.user}'@'%' = PASSWORD('{WRONG_SECRET}')")
        rabbit.close_connections(vhost)
        server.kill_connections(account.user)
        collector.wait_for(lambda: all(now > then for now, then in zip(denied(), before, strict=True)), what="two refusals")
        rabbit.set_password(vhost, vhost.password)
        server.sql(f"SET PASSWORD FOR '{account.user}'@'%' = PASSWORD('{account.password}')")
        so_far = len(collector.log_lines("outcome=complete"))
        collector.wait_for(lambda: len(collector.log_lines("outcome=complete")) > so_far, 60)
        assert collector.terminate() == 0
        rig.check()


@pytest.mark.parametrize("what", REFUSED)
def test_once_ends_with_2_for_what_only_an_operator_can_mend(misled: dict[str, Collector], what: str) -> None:
    assert misled[what].wait() == 2
    assert misled[what].seconds < PATIENCE_S / 2
    assert misled[what].log_lines(f"ERROR .*{REFUSED[what][1]}")


@pytest.mark.parametrize("what", NETBEAM_WRONG)
def test_once_ends_with_1_when_netbeam_has_no_listing(misled: dict[str, Collector], what: str) -> None:
    assert misled[what].wait(2 * PATIENCE_S) == 1
    assert misled[what].seconds < PATIENCE_S / 2
    assert misled[what].log_lines("cycle failed: listing|Netbeam is not available")


@pytest.mark.parametrize("what", MAY_HEAL)
def test_once_ends_with_1_after_half_a_minute_for_what_may_heal(misled: dict[str, Collector], what: str) -> None:
    assert misled[what].wait(2 * PATIENCE_S) == 1
    assert PATIENCE_S - 1 < misled[what].seconds < PATIENCE_S + START_S
    assert misled[what].log_lines(MAY_HEAL[what][1])


def test_once_ends_with_1_after_half_a_minute_where_it_may_not_publish(misled: dict[str, Collector]) -> None:
    denied = misled["write"]
    assert denied.wait(2 * PATIENCE_S) == 1
    assert PATIENCE_S - 5 < denied.seconds < PATIENCE_S + START_S
    assert denied.log_lines("user '.*exchange|exchange .*user '")


def test_once_ends_with_1_after_half_a_minute_beside_a_collector_at_work(misled: dict[str, Collector]) -> None:
    assert misled["lock"].wait(2 * PATIENCE_S) == 1
    assert PATIENCE_S - 1 < misled["lock"].seconds < PATIENCE_S + START_S
    assert misled["lock"].log_lines("standing by")
    assert not misled["lock"].cycles()


@pytest.mark.parametrize("where", ["a pipe that is full from the start", "a pipe that fills", "a full disk"])
def test_a_log_that_nobody_takes_does_not_delay_the_end(new_rig: NewRig, where: str) -> None:
    rig = new_rig(40)
    reading, writing = os.pipe()
    if where.endswith("from the start"):
        fill(writing)
    stderr = writing if where.startswith("a pipe") else os.open("/dev/full", os.O_WRONLY)
    command = [sys.executable, str(PROGRAM), "run", "--env-file", "/dev/null"]
    environment = rig.environment(LOG_LEVEL="DEBUG")
    with subprocess.Popen(command, env=environment, cwd=rig.directory, stdout=subprocess.DEVNULL, stderr=stderr) as child:
        try:
            if where.endswith("from the start"):
                wait_for(lambda: _catches(child.pid, signal.SIGTERM), what="the handler")
            else:
                wait_for(lambda: rig.simulation.counts["listing"] > 1, what="a second cycle")
            if where.endswith("fills"):
                fill(writing)  # as much as a long run would
                asked: dict[int, float] = {}
                wait_for(lambda: _quiet_s(rig, asked) > LONGER_THAN_A_CYCLE_S, what="a collector that waits for the pipe")
            child.terminate()
            assert child.wait(8) == 0
        finally:
            child.kill()
    for each in {reading, writing, stderr}:
        os.close(each)


def fill(pipe: int) -> None:
    """Write until not a byte more fits."""
    os.set_blocking(pipe, False)
    for size in (4096, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(pipe, b"x" * size)
    os.set_blocking(pipe, True)


def _quiet_s(rig: Rig, asked: dict[int, float]) -> float:
    """How long nothing has been asked; `asked` remembers when each number of requests was seen first."""
    return time.monotonic() - asked.setdefault(sum(rig.simulation.counts.values()), time.monotonic())


def _catches(pid: int, number: int) -> bool:
    """Whether the process has a handler for this signal."""
    (caught,) = re.findall(r"SigCgt:\s+(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(int(caught, 16) >> (number - 1) & 1)
