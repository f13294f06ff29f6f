"""`python -m collector.commands.healthcheck`, for containers: exit code 0 when /healthz says so, or when nobody answers there.

A container whose command has no server (demo, backfill, --once) is no worse for it. Nor does this hide a `run` without one:
`run` opens its server first, and ends when it cannot, or when it loses it.
"""

import http.client
import os
import sys
from collections.abc import Mapping

from collector.config.draft import Draft
from collector.config.env_file import gather
from collector.config.systems import asked_at
from collector.core.errors import CollectorError, ConfigurationError

TIMEOUT_S = 5.0
"""Less than the image's HEALTHCHECK allows."""
MOST_SHOWN_BYTES = 4096


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Ask the collector beside this; the exit code. Finds it by METRICS_PORT and METRICS_HOST, in the environment or `.env`."""
    try:
        host, port = address(environ)
        if port == 0:
            print("METRICS_PORT is 0: nothing to ask")
            return 0
        status, answer = ask(host, port)
    except ConnectionRefusedError:
        print("the collector has no server at this moment: nothing to ask")
        return 0
    except (CollectorError, OSError, http.client.HTTPException) as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    print(answer.strip())
    return 0 if status == 200 else 1


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """Where the collector answers; port 0 when it does not. Raises ConfigurationError."""
    draft = Draft(gather(environ))
    host, port = draft.get("METRICS_HOST"), draft.get("METRICS_PORT")
    if draft.problems:
        raise ConfigurationError(draft.problems)
    return asked_at(host), port


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
