"""Netbeam, ESnet's API for its interfaces and their measurements: what is asked, and what its answers mean."""

import time
from collections.abc import Sequence

from collector.core.contracts import Fetched, Intake
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.model import JsonObject, Listing, Window, resource_fault
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.core.text import printable
from collector.source.http.body import Limits, json_kind
from collector.source.http.client import OK, TRIES, HttpClient, RefusedError, in_full, quoted
from collector.source.http.listing_rules import MOST_ENTRIES, compare_clocks, latest_ms
from collector.source.http.turns import NotAskedError
from collector.source.netbeam.workers import Asked, Workers

LISTING = Limits(64 * 2**20, any_bytes=True)
POINTS_BYTES = 8 * 2**20
POINTS_PER_STEP = 40
"""More of them for each step of the grid is no answer to what was asked for, and would fill the memory."""
MOST_POINTS, MOST_PER_STEP_OF_LONG = 15_000, 2
"""Nor are so many at once, unless the window has that many steps: all threads may have as many in hand, and a window that
failed is asked for in halves."""
VALUES_PER_POINT = 4
"""An array of time, in and out."""
OTHER_VALUES = 2_000
"""In an answer, besides its points."""
NO_POINTS = OK | {204, 404}
"""Statuses that mean "no points in this window", besides 200 with an empty body."""
SHOWN_CHARACTERS = 80
"""Of a faulty entry's resource, in a warning."""


class Netbeam:
    """Implements contracts.Source. `once`: an outage ends a fetch, instead of being waited for."""

    name = "Netbeam"

    def __init__(
        self,
        config_url: str,
        *,
        concurrency: int,
        rate: float,
        timeout_s: float,
        stop: Stop,
        counters: Counters,
        once: bool = False,
    ) -> None:
        self.outage = Outage(self.name)
        self._stop = stop
        self._counters = counters
        self._timeout_s = timeout_s
        self._client = HttpClient(
            config_url,
            name=self.name,
            variable="NETBEAM_URL",
            concurrency=concurrency,
            rate=rate,
            timeout_s=timeout_s,
            stop=stop,
            counters=counters,
        )
        self._workers = Workers(concurrency, self._ask, self.outage, stop, once=once)

    def list(self, now_ms: int) -> Listing:
        """The interfaces, as of `now_ms` or of Netbeam's clock when that is earlier.

        Raises UnavailableError, or AnswerError for a list without a usable entry.
        """
        began = time.monotonic()
        self._client.resume()
        try:
            # a pause of up to the time that one answer may take is waited for; the cycle goes on without the listing else
            answer = self._client.request("/interfaces", limits=LISTING, until=began + self._timeout_s)
        except UnavailableError as error:
            if not self._stop.is_set():
                self.outage.failed(f"listing: {in_full(error)}")
            raise UnavailableError(in_full(error)) from error
        except RefusedError as error:
            raise AnswerError(in_full(error)) from error
        if not self._workers.away:
            self.outage.ended()
        time_ms, clock_ahead_s = compare_clocks(answer.server_ms, now_ms, began)
        interfaces, skipped, doubles = _usable(answer.value, answer.beginning)
        self._counters.add(Count.LISTING_ENTRIES_SKIPPED, doubles)
        return Listing(time_ms, interfaces, tuple(skipped), clock_ahead_s)

    def latest_ms(self, now_ms: int) -> int:
        """`now_ms`, or Netbeam's clock as last seen and counted on since, when that is earlier."""
        return latest_ms(now_ms, self._client.last_seen)

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """See contracts.Source; the order is as given but for the breaker's exceptions."""
        self._workers.fetch(windows, intake, until)

    def close(self) -> None:
        """Close the connections; afterwards it cannot be used."""
        self._client.close()

    def _ask(self, window: Window, only_once: bool, until: float) -> Asked | None:
        """See workers.Ask."""
        series = window.series
        # one millisecond early, so that the window's first point is in the answer whichever end Netbeam includes;
        # what lies outside of the window is dropped when the points are checked
        query = f"?begin={window.begin_ms - 1}&end={window.end_ms}"
        path = f"/{series.name}/{series.record_type.value}"
        tries = 1 if only_once else TRIES
        most_points = _most_points(window.grid_points)
        limits = Limits(POINTS_BYTES, VALUES_PER_POINT * most_points + OTHER_VALUES)
        try:
            answer = self._client.request(path, query, limits=limits, accept=NO_POINTS, tries=tries, until=until)
            if answer.server_ms is not None and answer.server_ms < window.end_ms:
                # our clock is ahead, and no listing said so: points that nobody has yet must not be taken for missing
                raise AnswerError("our clock is ahead of Netbeam's, is NTP running?")
            return Fetched(window, _points(answer.value, most_points)), answer
        except NotAskedError:
            return None
        except CollectorError as error:
            return Fetched(window, failure=str(error)), None


def _most_points(steps: int) -> int:
    return min(POINTS_PER_STEP * steps, max(MOST_POINTS, MOST_PER_STEP_OF_LONG * steps))


def _points(value: object, most_points: int) -> Sequence[object]:
    """The points of an answer as they came. Raises AnswerError."""
    if value is None:
        return ()
    if not isinstance(value, dict):
        raise AnswerError(f"answer is {json_kind(value)}, not an object")
    if "points" not in value:
        raise AnswerError("answer without points")
    points = value["points"]
    if points is None:
        return ()
    if not isinstance(points, list):
        raise AnswerError(f"points is {json_kind(points)}, not an array")
    if len(points) > most_points:
        raise AnswerError(f"{len(points)} points, {most_points} at the most can be right")
    return points


def _usable(entries: object, beginning: bytes) -> tuple[dict[str, JsonObject], list[str], int]:
    """The entries that can be collected by resource, a line for each that cannot, and the number of doubles."""
    if not isinstance(entries, list):
        raise AnswerError(f"listing is {json_kind(entries)}, not an array: {quoted(beginning)}".removesuffix(": "))
    if len(entries) > MOST_ENTRIES:
        raise AnswerError(f"listing of {len(entries)} entries, at most {MOST_ENTRIES} are taken")
    interfaces: dict[str, JsonObject] = {}
    skipped: list[str] = []
    doubles = 0
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            skipped.append(f"entry {index}: {json_kind(entry)}, not an object")
            continue
        resource = entry.get("resource")
        if fault := resource_fault(resource):
            shown = f" '{printable(resource, SHOWN_CHARACTERS)}'" if isinstance(resource, str) else ""
            skipped.append(f"entry {index}{shown}: {fault}")
        elif interfaces.setdefault(str(resource), entry) is not entry:
            doubles += 1
    if not interfaces:
        raise AnswerError("listing is empty" if not entries else f"listing without a usable entry, first: {skipped[0]}")
    return interfaces, skipped, doubles
