"""Shows how far a long piece of work has come: a bar on a terminal, otherwise a line in the log now and then."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm  # type: ignore[import-untyped]
from tqdm.contrib.logging import logging_redirect_tqdm  # type: ignore[import-untyped]

from collector.cycle.backfill import Meter

log = logging.getLogger(__name__)

LINE_S = 10.0
"""Without a terminal progress is a line so often."""
COLUMNS, ROWS = 80, 24
BAR = "{percentage:3.0f}% |{bar}| {elapsed}<{remaining}{postfix}"


@contextmanager
def shown(total_ms: int, *, lines: bool = False) -> Iterator[Meter]:
    """A bar on a terminal, with the log's lines above it; otherwise, or with `lines`, lines."""
    if lines or not sys.stderr.isatty():
        yield Lines(total_ms)
        return
    tqdm.set_lock(threading.RLock())  # its own would be one between processes
    tqdm.monitor_interval = 0
    size = {"ncols": COLUMNS, "nrows": ROWS} if _has_no_size() else {"dynamic_ncols": True}
    with logging_redirect_tqdm(), tqdm(total=total_ms, bar_format=BAR, file=sys.stderr, **size) as bar:
        yield Bar(bar)


def _has_no_size() -> bool:
    """Whether the terminal does not know its size, as one within a container may not; tqdm would show nothing."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns == 0
    except (OSError, ValueError):
        return True


class Bar:
    """Points, points a second and the time left, on a terminal."""

    def __init__(self, bar: "tqdm[None]") -> None:
        self._bar = bar
        self._points = 0

    def add(self, series_ms: int, points: int) -> None:
        """See Meter."""
        self._points += points
        self._bar.update(series_ms)

    def tick(self) -> None:
        """See Meter."""
        seconds = self._bar.format_dict["elapsed"]
        self._bar.set_postfix_str(f"{self._points:,} points, {self._points / max(seconds, 1):,.0f}/s")


class Lines:
    """The same as a line in the log, every 10 s."""

    def __init__(self, total_ms: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._total_ms = total_ms
        self._monotonic = monotonic
        self._began = self._said = monotonic()
        self._done_ms = self._points = self._said_points = 0

    def add(self, series_ms: int, points: int) -> None:
        """See Meter."""
        self._done_ms += series_ms
        self._points += points

    def tick(self) -> None:
        """See Meter."""
        at = self._monotonic()
        if at - self._said < LINE_S:
            return
        share = self._done_ms / self._total_ms
        line, values = "backfill goes on percent=%.1f points=%d points_per_second=%.0f", [100 * share, self._points]
        values.append((self._points - self._said_points) / (at - self._said))
        if share:
            line += " seconds_left=%.0f"
            values.append((at - self._began) * (1 - share) / share)
        log.info(line, *values)
        self._said, self._said_points = at, self._points
