"""The container's health check: asks where the collector answers, and is green where it has no server."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.commands import healthcheck
from collector.commands.healthcheck import address, main
from collector.config import env_file
from collector.core.counters import Counters
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.watch.server import WebServer
from collector.watch.state import CollectorState, System

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rabbit_outage() -> Outage:
    return Outage("RabbitMQ")


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the file of settings would be; there is none unless a test writes it."""
    monkeypatch.setattr(env_file, "DEFAULT_FILE", tmp_path / ".env")
    return tmp_path / ".env"


@pytest.fixture
def server(rabbit_outage: Outage) -> Iterator[WebServer]:
    server = WebServer("127.0.0.1", 0, CollectorState({System.BROKER: rabbit_outage}, 900), Counters(), Stop())
    yield server
    server.close()


def test_well_collector_is_green(server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"METRICS_PORT": str(server.port)}) == 0
    assert '"status": "ok"' in capsys.readouterr().out


def test_failing_collector_is_red_and_says_why(
    server: WebServer, rabbit_outage: Outage, capsys: pytest.CaptureFixture[str]
) -> None:
    rabbit_outage.failed("connection refused")
    assert main({"METRICS_PORT": str(server.port), "METRICS_HOST": "0.0.0.0"}) == 1
    assert "RabbitMQ is down" in capsys.readouterr().out


def test_port_zero_is_green_from_the_environment_and_from_the_file(file: Path) -> None:
    assert main({"METRICS_PORT": "0"}) == 0
    file.write_text("[metrics]\nmetrics-port = 0\n")
    assert main({}) == 0


def test_environment_counts_before_the_file(file: Path) -> None:
    file.write_text("METRICS_PORT=0\nMETRICS_HOST='127.0.0.1'\n")
    assert address({"METRICS_PORT": "81"}) == ("127.0.0.1", 81)


@pytest.mark.parametrize(
    ("host", "asked"),
    [("", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1"), ("10.1.2.3", "10.1.2.3")],
)
def test_who_listens_everywhere_is_asked_on_loopback(host: str, asked: str) -> None:
    assert address({"METRICS_HOST": host}) == (asked, 8000)


def test_nobody_there_is_green_for_a_command_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert main({"METRICS_PORT": str(port)}) == 0
    assert capsys.readouterr().out == "the collector has no server at this moment: nothing to ask\n"


def test_a_collector_that_hangs_is_red_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(healthcheck, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert main({"METRICS_PORT": str(silent.getsockname()[1])}) == 1
    assert capsys.readouterr().out == "TimeoutError: timed out\n"


def test_setting_that_cannot_be_read_is_red_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"METRICS_PORT": "'0'"}) == 1
    assert capsys.readouterr().out == "ConfigurationError: METRICS_PORT (environment) must be a whole number from 0 to 65535\n"


def test_runs_as_a_module_without_the_drivers(tmp_path: Path) -> None:
    code = (
        "import sys, runpy\n"
        "try:\n    runpy.run_module('collector.commands.healthcheck', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    heavy = {'requests', 'pika', 'mysql', 'prometheus_client', 'sqlite3'} & set(sys.modules)\n"
        "    sys.exit(str(heavy) if heavy else end.code)\n"
    )
    variables = {"METRICS_PORT": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "METRICS_PORT is 0: nothing to ask\n", "")
