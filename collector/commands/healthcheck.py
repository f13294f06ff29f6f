"""`python -m collector.commands.healthcheck`, for containers: exit code 0 when /healthz says so, or when there is none."""

import argparse
import contextlib
import http.client
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from collector.commands import arguments
from collector.config.env_file import gather
from collector.config.options import BY_NAME, UnfitError
from collector.core.errors import CollectorError, ConfigurationError

TIMEOUT_S = 5.0
"""Less than the image's HEALTHCHECK allows."""
MOST_SHOWN_BYTES = 4096
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- compared with, not listened on


FIRST_PROGRAM = Path("/proc/1/cmdline")
"""In a container: the collector, or an init with the collector's command line behind its own."""


def main(environ: Mapping[str, str] = os.environ, command_line: Path = FIRST_PROGRAM) -> int:
    """Ask the collector beside this; the exit code. Finds it by command line, METRICS_PORT and METRICS_HOST, as it does."""
    given = given_to(command_line)
    if given and (given.command != "run" or given.once):
        print(f"{'run --once' if given.once else given.command} has no server: nothing to ask")
        return 0
    try:
        host, port = address(environ, given.env_file if given else None)
        if port == 0:
            print("METRICS_PORT is 0: nothing to ask")
            return 0
        status, answer = ask(host, port)
    except (CollectorError, OSError, http.client.HTTPException) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    print(answer.strip())
    return 0 if status == 200 else 1


def given_to(command_line: Path) -> argparse.Namespace | None:
    """What the collector was started with; None when this is not its command line."""
    try:
        words: Sequence[str] = command_line.read_bytes().decode().rstrip("\0").split("\0")
    except (OSError, UnicodeDecodeError):
        return None
    at = next((at for at, word in enumerate(words) if word.endswith("esnet_collector.py")), None)
    if at is None:
        return None
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return arguments.parse(words[at + 1 :])
    except SystemExit:  # --help, say: a program that ends by itself
        return None


def address(environ: Mapping[str, str], env_file: str | None = None) -> tuple[str, int]:
    """Where the collector answers; port 0 when it does not. Raises ConfigurationError."""
    values = gather(environ, env_file).values
    found = []
    for name in ("METRICS_HOST", "METRICS_PORT"):
        option = BY_NAME[name]
        try:
            found.append(option.kind.parse(values.get(name, option.default)))
        except UnfitError as error:
            raise ConfigurationError(f"{name} must be {option.kind.expected}") from error
    host, port = found
    return LOOPBACK.get(host, host), port


def ask(host: str, port: int) -> tuple[int, str]:
    """The status and the text of /healthz; no proxy is used. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        response = connection.getresponse()
        return response.status, response.read(MOST_SHOWN_BYTES).decode("utf-8", "replace")
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
