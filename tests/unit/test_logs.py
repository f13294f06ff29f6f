"""What log lines look like."""

import json
import logging
import warnings
from collections.abc import Iterator

import pytest

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
    line = logs.TextFormatter().format(record("bad entry name=%s", "x\r\n2026 ERROR y\x1b[31m\0"))
    assert line.endswith(r"name=x\r\n2026 ERROR y\x1b[31m\x00")


def test_json_line_is_one_object_with_the_traceback_as_a_field() -> None:
    try:
        raise ValueError("unforeseen\nerror")
    except ValueError as error:
        made = record("ended\n%s", "ä")
        made.exc_info = (type(error), error, error.__traceback__)
    line = logs.JsonFormatter().format(made)
    assert "\n" not in line
    content = json.loads(line)
    assert content.pop("exception").endswith("ValueError: unforeseen\nerror")
    assert content == {"time": "2026-11-25T01:00:00Z", "level": "INFO", "logger": "collector.cycle.cycle", "message": "ended\nä"}


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
