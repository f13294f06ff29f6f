"""What log lines look like."""

import json
import logging
import os
import warnings
from collections.abc import Iterator

import pytest

from collector.core.fields import Fields
from collector.watch import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Logging as it was before: set-up is for the whole interpreter."""
    root = logging.getLogger()
    handlers, level, complains = list(root.handlers), root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = complains
    logging.captureWarnings(False)


def record(message: str, *arguments: object) -> logging.LogRecord:
    made = logging.LogRecord("collector.cycle.cycle", logging.INFO, __file__, 1, message, arguments, None)
    made.created = 1795568400.9
    return made


def test_text_line_has_time_in_utc_level_and_message() -> None:
    assert logs.TextFormatter().format(record("cycle ended points=%d", 5)) == "2026-11-25T01:00:00Z INFO cycle ended points=5"


def test_text_from_outside_cannot_pose_as_a_line_of_its_own() -> None:
    line = logs.TextFormatter().format(record("bad entry name=%s", "x\r\n2026 ERROR y\x1b[31m\0\x9b\u202e\u2028"))
    assert line.endswith(r"name=x\r\n2026 ERROR y\x1b[31m\x00\x9b\u202e\u2028")


def test_text_from_outside_is_cut_and_the_rest_of_the_line_stays() -> None:
    line = logs.TextFormatter().format(record("refused error=%s code=%d", ValueError("x" * 10_000_000), 5))
    assert line.endswith(f"error={'x' * 499}… code=5")
    assert len(json.loads(logs.JsonFormatter().format(record("refused error=%r", "x" * 10_000_000)))["error"]) == 500


def test_json_line_is_one_object_with_the_traceback_as_a_field() -> None:
    try:
        raise ValueError("unforeseen\nerror\x1b")
    except ValueError as error:
        made = record("ended\n%s", "ä")
        made.exc_info = (type(error), error, error.__traceback__)
    line = logs.JsonFormatter().format(made)
    assert "\n" not in line
    content = json.loads(line)
    assert content.pop("exception").endswith("ValueError: unforeseen\nerror\\x1b")
    assert content == {"time": "2026-11-25T01:00:00Z", "level": "INFO", "logger": "collector.cycle.cycle", "message": "ended\nä"}


def test_traceback_in_text_is_indented_so_that_none_of_its_lines_looks_like_a_record() -> None:
    made = record("ended")
    made.exc_info = (ValueError, ValueError("a\n2026-11-25T01:00:00Z INFO all is well"), None)
    first, *others = logs.TextFormatter().format(made).split("\n")
    assert first.endswith("INFO ended")
    assert others == ["  ValueError: a", "  2026-11-25T01:00:00Z INFO all is well"]


FIXED = {"time": "2026-11-25T01:00:00Z", "level": "INFO", "logger": "collector.cycle.cycle"}


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        ("started", (), {"message": "started"}),
        ("100% done", (), {"message": "100% done"}),
        ("100%% of %s done", ("it",), {"message": "100% of it done"}),
        ("stopped points=%d", (5,), {"message": "stopped", "points": 5}),
        ("late seconds=%.0f share=%.2f", (3.4, 0.123), {"message": "late", "seconds": 3, "share": 0.12}),
        ("%s is down error=%r", ("MySQL", "it said 'no' a=b\n"), {"message": "MySQL is down", "error": "it said 'no' a=b\n"}),
        ("no queue exchange=%s key=%s, bind one", ("x", "y"), {"message": "no queue, bind one", "exchange": "x", "key": "y"}),
        ("odd a=%s b=%s c=%r", (None, True, ["1", 2]), {"message": "odd", "a": None, "b": True, "c": ["1", 2]}),
        ("broken error=%s", (ValueError("why"),), {"message": "broken", "error": "why"}),
        ("clash level=%s exception=%s", (1, 2), {"message": "clash", "level_": 1, "exception_": 2}),
        ("far x=%.0f", (float("inf"),), {"message": "far", "x": "inf"}),
    ],
)
def test_pairs_of_a_line_are_fields_of_their_own_in_json(
    template: str, arguments: tuple[object, ...], expected: dict[str, object]
) -> None:
    assert json.loads(logs.JsonFormatter().format(record(template, *arguments))) == FIXED | expected


def test_fields_are_pairs_in_text_and_fields_in_json() -> None:
    made = record("cycle ended %s", Fields(outcome="cut", points=5, seconds=1.5, why="it's a = b"))
    assert logs.TextFormatter().format(made).endswith("""cycle ended outcome=cut points=5 seconds=1.5 why="it's a = b\"""")
    content = json.loads(logs.JsonFormatter().format(made))
    assert content == FIXED | {"message": "cycle ended", "outcome": "cut", "points": 5, "seconds": 1.5, "why": "it's a = b"}


def test_pipe_that_nobody_reads_delays_nobody_and_what_was_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PATIENCE_S", 0.01)
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with os.fdopen(writing, "w") as stderr:
        monkeypatch.setattr("sys.stderr", stderr)
        logs.setup()
        for _ in range(300):
            logging.getLogger("collector").warning("x" * 1000)
        filled = os.read(reading, 10_000_000)
        logging.getLogger("collector").warning("read again")
    rest = os.read(reading, 10_000).decode()
    os.close(reading)
    lost, said = rest.splitlines()[-2:]
    assert said.endswith("WARNING read again")
    assert int(lost.rpartition("log lines were lost count=")[2]) == 300 - filled.count(b"\n")


def test_events_go_to_stderr_once_however_often_it_is_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup()
    logs.setup("WARNING", "json")
    logging.getLogger("collector.cycle.cycle").warning("said")
    logging.getLogger("collector.cycle.cycle").info("not said")
    out, err = capsys.readouterr()
    assert out == ""
    assert [json.loads(line)["message"] for line in err.splitlines()] == ["said"]


def test_libraries_are_quiet_even_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup("DEBUG")
    logging.getLogger("pika.connection").error("stack trace with a password")
    logging.getLogger("urllib3.connectionpool").warning("retrying")
    assert capsys.readouterr().err == ""


def test_python_s_warnings_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup()
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        logging.captureWarnings(True)
        warnings.warn("old habit", UserWarning, stacklevel=1)
        logging.captureWarnings(False)
    (line,) = capsys.readouterr().err.splitlines()
    assert " WARNING " in line
    assert "old habit" in line
