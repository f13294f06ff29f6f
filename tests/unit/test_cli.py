"""The command line: what each command is called with, and what its end means as an exit code."""

import ast
import errno
import json
import logging
import os
import runpy
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector import commands
from collector.commands import arguments, cli, wiring
from collector.commands.backfill import Request
from collector.config import env_file
from collector.config.configuration import Config
from collector.config.options import BY_NAME
from collector.core.errors import ConfigurationError, UnavailableError
from collector.core.model import RecordType

TOP = Path(__file__).resolve().parents[2]
SETTINGS = {"RMQ_HOST": "broker", "RMQ_USER": "user", "RMQ_PASS": "pass", "MYSQL_PASSWORD": "sql"}
COMMANDS = ("run.run", "check.check", "status.status", "backfill.backfill", "demo.demo")
RANGE = ["--begin", "2026-11-25T01:00:00Z", "--end", "2026-11-26"]


class Called:
    """Stands in for every command: keeps what it was called with, and ends as it is told."""

    def __init__(self) -> None:
        self.config: Config | None = None
        self.arguments: dict[str, Any] = {}
        self.end: int | BaseException = 0

    def __call__(self, config: Config | None = None, request: Request | None = None, **more: Any) -> int:
        self.config, self.arguments = config, more if request is None else asdict(request)
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[Called]:
    """The commands replaced, the environment cleared of our variables, logging as it was afterwards."""
    fake = Called()
    for name in COMMANDS:
        module, _, function = name.partition(".")
        command = SimpleNamespace(**{function: fake, "say_problems": print, "Request": Request})
        monkeypatch.setattr(commands, module, command, raising=False)
    monkeypatch.setattr(env_file, "DEFAULT_FILE", TOP / "tests" / "no.env")
    for name in os.environ:
        if env_file.canonical(name) in BY_NAME:
            monkeypatch.delenv(name)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    root = logging.getLogger()
    handlers, level, complains = list(root.handlers), root.level, logging.raiseExceptions
    yield fake
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = complains
    logging.captureWarnings(False)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {"once": False, "sqlite": None, "to_stdout": False, "env_file": None}),
        (["run"], {"once": False, "sqlite": None, "to_stdout": False, "env_file": None}),
        (["--once"], {"once": True, "sqlite": None, "to_stdout": False, "env_file": None}),
        (["run", "--once"], {"once": True, "sqlite": None, "to_stdout": False, "env_file": None}),
        (["--once", "run"], {"once": True, "sqlite": None, "to_stdout": False, "env_file": None}),
        (["--sqlite", "t.sqlite", "--stdout"], {"once": False, "sqlite": "t.sqlite", "to_stdout": True, "env_file": None}),
        (["--stdout", "run", "--sqlite", "t.sqlite"], {"once": False, "sqlite": "t.sqlite", "to_stdout": True, "env_file": None}),
        (["check"], {"sqlite": None}),
        (["check", "--sqlite", "t.sqlite"], {"sqlite": "t.sqlite"}),
        (["status"], {"sqlite": None, "as_json": False, "max_lag_s": None, "name": None}),
        (
            ["--sqlite", "t", "status", "--json", "--max-lag", "1.5", "a/b"],
            {"sqlite": "t", "as_json": True, "max_lag_s": 1.5, "name": "a/b"},
        ),
        (
            ["backfill", *RANGE, "--stdout", "--interface", "devices/*", "--record-type", "errors", "--rate", "2"],
            {"sqlite": None, "to_stdout": True, "begin_ms": 1795568400000, "end_ms": 1795651200000}
            | {"interface": "devices/*", "record_type": RecordType.ERRORS, "rate": 2.0, "env_file": None},
        ),
        (["demo"], {"interfaces": 12, "cycles": None, "as_json": False, "source": "netbeam"}),
        (
            ["demo", "--env-file", "/no/such/file"],
            {"interfaces": 12, "cycles": None, "as_json": False, "source": "netbeam"},
        ),
        (
            ["demo", "--interfaces", "3", "--cycles", "1", "--json", "--source", "stardust"],
            {"interfaces": 3, "cycles": 1, "as_json": True, "source": "stardust"},
        ),
    ],
)
def test_command_is_called_with_its_arguments(called: Called, argv: list[str], expected: dict[str, Any]) -> None:
    assert cli.main(argv) == 0
    assert called.arguments == expected
    assert (called.config is None) == (argv[:1] == ["demo"])


@pytest.mark.parametrize(
    "argv",
    [
        ["--nonsense"],
        ["nonsense"],
        ["check", "--once"],
        ["--once", "check"],
        ["demo", "--sqlite", "x"],
        ["--stdout", "demo"],
        ["--sqlite", ""],
        ["--env-fil", "x"],
        ["status", "--max-lag", "-1"],
        ["status", "--max-lag", "nan"],
        ["status", "a", "b"],
        ["backfill", "--begin", "2026-11-25"],
        ["backfill", "--begin", "2026-11-25", "--end", "2026-11-25"],
        ["backfill", "--begin", "1795568400", "--end", "2026-11-25"],
        ["backfill", "--begin", "20261124", "--end", "2026-11-25"],
        ["backfill", "--begin", "yesterday", "--end", "2026-11-25"],
        ["backfill", "--begin", "-2y", "--end", "now"],
        ["backfill", "--begin", "now", "--end", "-2h"],
        ["backfill", "--begin", "-99999w", "--end", "now"],
        ["backfill", *RANGE, "--rate", "inf"],
        ["backfill", *RANGE, "--record-type", "bytes"],
        ["demo", "--cycles", "0"],
        ["demo", "--source", "elsewhere"],
        ["demo", "--interfaces", "1.5"],
    ],
)
def test_usage_errors_end_with_2(called: Called, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert called.config is None
    assert "esnet_collector.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "time_ms"),
    [
        ("2026-11-25T01:00:00Z", 1795568400000),
        ("2026-11-25T01:00:00", 1795568400000),
        ("2026-11-25 01:00", 1795568400000),
        ("2026-11-25T02:30:00+01:30", 1795568400000),
        ("2026-11-25T01:00:00.123Z", 1795568400123),
        ("2026-11-25", 1795564800000),
        ("1795568400123", 1795568400123),
    ],
)
def test_times_are_iso_8601_in_utc_or_milliseconds(text: str, time_ms: int) -> None:
    assert arguments.parse(["backfill", "--begin", text, "--end", "2027-01-01"]).begin_ms == time_ms


def test_times_may_be_so_long_ago_or_now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1795568400.5)
    for text, ago_s in {"now": 0, "-90s": 90, "-90m": 5400, "-2h": 7200, "-3d": 259_200, "-1w": 604_800}.items():
        for words in (["--begin", text], [f"--begin={text}"]):
            parsed = arguments.parse(["backfill", *words, "--end", "2027-01-01"])
            assert parsed.begin_ms == 1795568400500 - ago_s * 1000
    assert arguments.parse(["backfill", "--begin", "-2h", "--end", "-1h"]).end_ms == 1795564800500


@pytest.mark.parametrize("text", ["-1h30m", "-0.5d", "-.5d", "-2y", "-3"])
def test_time_so_long_ago_in_another_form_is_told_the_form(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parse(["backfill", "--begin", text, "--end", "now"])
    error = capsys.readouterr().err.splitlines()[-1]
    form = "must be a whole number and one unit, s, m, h, d or w, for so long ago: -90m, -2h"
    assert error.endswith(f"argument --begin: {form}")


def test_times_in_the_wrong_order_print_the_usage_of_backfill(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments.parse(["backfill", "--begin", "now", "--end", "-2h"])
    assert capsys.readouterr().err.startswith("usage: esnet_collector.py backfill ")


def test_env_file_counts_before_and_after_the_command(called: Called, tmp_path: Path) -> None:
    file = tmp_path / "settings"
    file.write_text("POLL_INTERVAL=60")
    for argv in (["--env-file", str(file), "status"], ["status", "--env-file", str(file)], ["--env-file", str(file)]):
        assert cli.main(argv) == 0
        assert called.config is not None
        assert called.config.poll_interval_s == 60


@pytest.mark.parametrize(
    ("argv", "without"),
    [
        ([], set()),
        (["--stdout"], {"rmq"}),
        (["--sqlite", "t"], {"mysql"}),
        (["status"], {"rmq"}),
        (["status", "--sqlite", "t"], {"rmq", "mysql"}),
        (["backfill", *RANGE, "--stdout", "--sqlite", "t"], {"rmq", "mysql"}),
        (["check"], set()),
        (["check", "--stdout"], {"rmq"}),
    ],
)
def test_what_is_replaced_is_not_required(called: Called, argv: list[str], without: set[str]) -> None:
    assert cli.main(argv) == 0
    assert called.config is not None
    assert {system for system in ("rmq", "mysql") if getattr(called.config, system) is None} == without


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        (0, 0, []),
        (1, 1, []),
        (ConfigurationError(["one", "two"]), 2, ["ERROR one", "ERROR two"]),
        (UnavailableError("MySQL did not answer"), 1, ["ERROR MySQL did not answer"]),
        (ModuleNotFoundError("No module named 'pika'", name="pika.adapters"), 2, ["pip install -r requirements.txt"]),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ["stdout was closed"]),
        (OSError(errno.ENOSPC, "No space left on device"), 1, ["stdout cannot be written: No space left on device"]),
        (KeyboardInterrupt(), 130, []),
    ],
)
def test_end_of_a_command_gives_the_exit_code_and_no_traceback(
    called: Called, end: int | BaseException, code: int, said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    called.end = end
    assert cli.main(["status"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(said)
    assert all(expected in line for expected, line in zip(said, lines, strict=True))


@pytest.mark.parametrize("end", [ValueError("unforeseen"), ModuleNotFoundError("our own", name="collector.x")])
def test_unexpected_error_is_logged_with_its_traceback(
    called: Called, end: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    called.end = end
    assert cli.main([]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_run_and_demo_in_good_order(called: Called) -> None:
    called.end = KeyboardInterrupt()
    assert [cli.main(argv) for argv in ([], ["--once"], ["demo"])] == [0, 0, 0]


def test_configuration_problems_are_a_line_each_and_nothing_is_started(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"RMQ_HOST": "a b", "POLL_INTERVAL": "0", "RMQ_USER": "", "RMQ_PASS": "", "MYSQL_PASSWORD": ""}.items():
        monkeypatch.setenv(name, value)
    assert cli.main([]) == 2
    assert called.config is None
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[2] for line in lines] == ["POLL_INTERVAL", "RMQ_HOST", "RMQ_USER", "RMQ_PASS", "MYSQL_PASSWORD"]
    assert cli.main(["check"]) == 2
    assert "RMQ_USER" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["run"], ["status"], ["check"]])
def test_a_file_as_the_table_is_not_shared(called: Called, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    monkeypatch.setenv("SHARD", "1/2")
    assert (cli.main([*argv, "--sqlite", "t"]), called.config) == (2, None)
    assert cli.main(argv) == 0


def test_misspelt_variable_is_warned_about(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RMQ_VHOTS", "x")
    assert cli.main(["status"]) == 0
    assert "WARNING RMQ_VHOTS is not an option" in capsys.readouterr().err


def test_log_level_and_format_are_those_of_the_configuration(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "ERROR")
    monkeypatch.setenv("LOG_FORMAT", "json")
    called.end = UnavailableError("away")
    assert cli.main([]) == 1
    assert '"message": "away"' in capsys.readouterr().err
    assert logging.getLogger().level == logging.ERROR


@pytest.mark.parametrize("where", ["environment", "file"])
def test_problems_of_a_configuration_are_json_where_the_log_is(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, where: str
) -> None:
    (tmp_path / "settings").write_text("LOG_FORMAT=json\n" if where == "file" else "")
    monkeypatch.setenv("POLL_INTERVAL", "0")
    if where == "environment":
        monkeypatch.setenv("LOG_FORMAT", "JSON")
    assert cli.main(["--env-file", str(tmp_path / "settings")]) == 2
    assert [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == ["ERROR"]


@pytest.mark.parametrize("where", ["environment", "file"])
def test_line_that_cannot_be_read_is_json_where_the_log_is(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, where: str
) -> None:
    (tmp_path / "settings").write_text(("LOG_FORMAT=json\n" if where == "file" else "\n") + "what is this\n")
    if where == "environment":
        monkeypatch.setenv("LOG_FORMAT", "json")
    assert cli.main(["--env-file", str(tmp_path / "settings")]) == 2
    assert [" line 2 " in json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()] == [True]


def test_usage_error_is_json_where_the_log_is(
    called: Called, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_FORMAT", "json")
    assert cli.main(["status", "--nonsense"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "esnet_collector.py: unrecognized arguments: --nonsense"


@pytest.mark.parametrize(("vhost", "exchange"), [("/", "5672/"), ("prod", "5672/prod"), ("/prod", "5672/prod")])
def test_places_have_one_slash_before_the_vhost_and_a_page_that_can_be_opened(vhost: str, exchange: str) -> None:
    config = Config.from_mapping(SETTINGS | {"RMQ_VHOST": vhost, "METRICS_HOST": "0.0.0.0"})
    assert wiring.identity(config).exchange == f"osg.psdata.raw at broker:{exchange}"
    assert config.page == "http://127.0.0.1:8000/"


def test_an_older_python_is_told_which_one_is_needed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    program = TOP / "esnet_collector.py"
    ast.parse(program.read_text("utf-8"), feature_version=(3, 4))  # it must get as far as the message
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(program))
    assert caught.value.code == 2
    assert "needs Python 3.11 or later; this is 3.10" in capsys.readouterr().err
