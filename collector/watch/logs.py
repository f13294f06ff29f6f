"""Logging to stderr: one line an event, as text or as JSON. Times are UTC."""

import json
import logging
import sys
import time
from typing import TextIO

QUIET = {"pika": logging.CRITICAL, "mysql": logging.CRITICAL, "urllib3": logging.ERROR}
"""Libraries that log what the adapters say better, and at DEBUG, in pika's case, the password."""

_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), 127)} | {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t"}


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
    """Writes to what sys.stderr is at that moment, and flushes each record."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class _UtcFormatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """`2026-11-25T01:00:00Z`."""
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))


class TextFormatter(_UtcFormatter):
    """`2026-11-25T01:00:00Z INFO message key=value`; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """One line whatever the message holds: what comes from outside cannot pose as a record of its own."""
        return super().formatMessage(record).translate(_ESCAPES)


class JsonFormatter(_UtcFormatter):
    """One JSON object a line: time, level, logger, message, and the traceback as `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of ASCII."""
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)
