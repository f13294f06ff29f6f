"""Logging to stderr: one line an event, as text or as JSON. Times are UTC.

A log call pairs names with values in its template, `log.info("bad entry name=%s", name)`, or hands over `Fields`. Text shows
the line as it stands; in JSON each pair is a field of its own, and what is left of the template is the message.
"""

import json
import logging
import os
import re
import select
import sys
import time
from collections.abc import Mapping
from typing import TextIO, cast

from collector.core.text import MOST_CHARACTERS, cut, printable

QUIET = {"pika": logging.CRITICAL + 1, "mysql": logging.CRITICAL + 1, "urllib3": logging.ERROR}
"""Libraries that log what the adapters say better, at DEBUG with the password in pika's case, and as often as a server likes."""
MOST_LINE = 8_000
"""Characters of one line of text. One value in it has 500 at the most."""
MOST_TRACEBACK_LINES = 200
PATIENCE_S = 1.0
"""A pipe that nobody reads is waited for so long, once; then lines are dropped until it takes them again."""
_AT_ONCE_BYTES = 512
"""A pipe that is ready takes so much without blocking (POSIX's least PIPE_BUF)."""

_PAIR = re.compile(r"(?: ?(?P<name>[a-zA-Z_]\w*)=)?%(?P<form>[-#0 +]*\d*(?:\.\d+)?)(?P<kind>[a-zA-Z%])")


def wanted_form(values: Mapping[str, str]) -> str:
    """LOG_FORMAT as it is set, however wrong the other settings may be; text when it is wrong itself."""
    return "json" if values.get("LOG_FORMAT", "").strip().casefold() == "json" else "text"


def setup(level: str = "INFO", form: str = "text") -> None:
    """Log from this level on, as "text" or as "json"; may be called again."""
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, _StderrHandler)]:
        root.removeHandler(old)
    handler = _StderrHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root.addHandler(handler)
    root.setLevel(level)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a closed stderr is no reason to stop collecting


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at that moment, and never waits long for a reader that has stopped reading."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        try:
            descriptor = self.stream.fileno()
        except (OSError, ValueError, AttributeError):  # not a file: a test's capture, say
            super().emit(record)
            return
        try:
            self._write(descriptor, record)
        except (OSError, ValueError, TypeError, LookupError):  # a closed pipe, a full disk, a template that does not fit
            self.handleError(record)

    def _write(self, descriptor: int, record: logging.LogRecord) -> None:
        if not select.select([], [descriptor], [], 0.0 if self._dropped else PATIENCE_S)[1]:
            self._dropped += 1
            return
        lines = self.format(record) + self.terminator
        if self._dropped:
            lost = logging.LogRecord(record.name, logging.WARNING, "", 0, "log lines were lost count=%d", (self._dropped,), None)
            lines = self.format(lost) + self.terminator + lines
            self._dropped = 0
        self.stream.flush()
        rest = memoryview(lines.encode(errors="backslashreplace"))
        while rest:
            if not select.select([], [descriptor], [], PATIENCE_S)[1]:
                self._dropped += 1
                return
            rest = rest[os.write(descriptor, rest[:_AT_ONCE_BYTES]) :]


class _UtcFormatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """`2026-11-25T01:00:00Z`."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))

    def traceback(self, record: logging.LogRecord) -> list[str]:
        """The lines of the traceback, if there is one: an error's text may come from outside and have megabytes."""
        if not (record.exc_info and record.exc_info[0]):
            return []
        return [printable(each) for each in self.formatException(record.exc_info).split("\n")[-MOST_TRACEBACK_LINES:]]


class TextFormatter(_UtcFormatter):
    """`2026-11-25T01:00:00Z INFO message key=value`; a traceback follows on lines of its own, indented."""

    def format(self, record: logging.LogRecord) -> str:
        """One line whatever the message holds: what comes from outside cannot pose as a record of its own."""
        line = printable(f"{self.formatTime(record)} {record.levelname} {_message(record)}", MOST_LINE)
        return "\n  ".join([line, *self.traceback(record)])


class JsonFormatter(_UtcFormatter):
    """One JSON object a line: time, level, logger, message, the line's keys, and the traceback as `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII."""
        message, fields = _split(record)
        line: dict[str, object] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": message,
        }
        line |= {f"{name}_" if name in line or name == "exception" else name: value for name, value in fields.items()}
        traceback = self.traceback(record)
        if traceback:
            line["exception"] = "\n".join(traceback)
        return json.dumps(line, default=str)


def _message(record: logging.LogRecord) -> str:
    """As `getMessage`, but no argument is longer than foreign text may be."""
    if not isinstance(record.args, tuple) or not record.args:
        return record.getMessage()
    return str(record.msg) % tuple(map(_short, record.args))


def _short(value: object) -> object:
    """A number as it is, any other value as text of bounded length."""
    if isinstance(value, int | float):
        return value
    text = str(value)
    return value if len(text) <= MOST_CHARACTERS else cut(text)


def _split(record: logging.LogRecord) -> tuple[str, dict[str, object]]:
    """The message without its pairs, and the pairs by name."""
    if isinstance(record.args, Mapping):
        message = str(record.msg).removesuffix("%s").rstrip()
        return message, {str(name): _json_value(value, "", "s") for name, value in record.args.items()}
    arguments = iter(record.args or ())
    fields: dict[str, object] = {}

    def taken(match: re.Match[str]) -> str:
        if match["kind"] == "%":
            return f"{match[0][:-1]}" if record.args else match[0]
        value = next(arguments)
        if match["name"] is None:
            return str(f"%{match['form']}{match['kind']}" % (_short(value),))
        fields[match["name"]] = _json_value(value, match["form"], match["kind"])
        return ""

    if not record.args:
        return record.getMessage(), fields
    return _PAIR.sub(taken, str(record.msg)), fields


def _json_value(value: object, form: str, kind: str) -> object:
    """A number as the template rounds it, text as it is (cut), a list of these as a list."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        text = f"%{form}{kind}" % value
        try:
            return cast(object, json.loads(text))
        except ValueError:  # inf and nan
            return text
    if isinstance(value, list | tuple):
        return [_json_value(each, "", "s") for each in value]
    return _short(str(value))
