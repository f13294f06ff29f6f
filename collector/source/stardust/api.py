"""Stardust as a source: how it is asked, what its answers mean for the windows, and when it counts as away."""

import logging
import threading
import time
from collections.abc import Sequence

from collector.config.systems import StardustSettings
from collector.core.backoff import growing
from collector.core.contracts import Fetched, Intake
from collector.core.counters import Count, Counters
from collector.core.errors import AnswerError, CollectorError, UnavailableError
from collector.core.limited_log import LimitedLog
from collector.core.model import JsonObject, Listing, Window
from collector.core.outage import Outage
from collector.core.shutdown import Stop
from collector.source.http.body import TooLargeError
from collector.source.http.client import TRIES, Answer
from collector.source.http.listing_rules import check_our_clock, compare_clocks, latest_ms
from collector.source.http.turns import NotAskedError
from collector.source.stardust import groups, queries
from collector.source.stardust.failures import Fault, hits_of, total_of
from collector.source.stardust.fetching import Answered, Fetching, windows_of
from collector.source.stardust.groups import Density, Group, Interface, by_interface
from collector.source.stardust.pages import Pages
from collector.source.stardust.points import Documents, points_of, sorted_out, start_ms
from collector.source.stardust.search import NAME, FaultError, Search

log = logging.getLogger(__name__)

FAILURES = 5
"""So many queries in a row fail, each after its tries, before Stardust counts as away."""
MOST_OF_ONE = 100_000
"""Documents of one interface at once, in halves of its time: more would fill the memory with their points."""
PROBE_FIRST_S, PROBE_MOST_S = 1.0, 30.0
"""Between two queries while it is away."""


class Stardust:
    """Implements contracts.Source. `once`: an outage ends a fetch, instead of being waited for."""

    name = NAME

    def __init__(
        self, settings: StardustSettings, *, stop: Stop, counters: Counters, rate: float = 0.0, once: bool = False
    ) -> None:
        self.outage = Outage(self.name)
        self._settings = settings
        self._stop = stop
        self._counters = counters
        self._once = once
        self._search = Search(settings, rate=rate, stop=stop, counters=counters)
        self._pages = Pages(self._search, settings.concurrency, settings.timeout_s)
        self._density = Density()
        self._dropped = LimitedLog(log)
        self._lock = threading.Lock()
        self._failures = 0
        """Queries that failed in a row."""

    def list(self, now_ms: int) -> Listing:
        """The interfaces with a document in the last hour, as of `now_ms` or of Stardust's clock when that is earlier.

        Raises UnavailableError, or AnswerError for an answer that is not whole and a list without a usable entry.
        """
        self._search.client.resume()
        self._dropped.conclude()
        began = time.monotonic()
        try:
            interfaces, skipped, server_ms = self._listed(now_ms)
        except UnavailableError as error:
            if not self._stop.is_set():
                self.outage.failed(f"listing: {error}")
            raise
        if not self._is_away():
            self.outage.ended()
        self._density.forget_all_but(interfaces)
        time_ms, clock_ahead_s = compare_clocks(server_ms, now_ms, began)
        return Listing(time_ms, interfaces, skipped, clock_ahead_s)

    def _listed(self, now_ms: int) -> tuple[dict[str, JsonObject], tuple[str, ...], int | None]:
        """The interfaces by resource, a line for each that cannot be collected, and the server's clock if it told."""
        check_our_clock(now_ms)  # the query has it
        entries, server_ms = self._pages.read(now_ms)
        interfaces: dict[str, JsonObject] = {}
        skipped: list[str] = []
        for listed in entries:
            if isinstance(listed, str):
                skipped.append(listed)
            else:
                interfaces.setdefault(listed["resource"], listed)
        if not interfaces:
            raise AnswerError(f"listing without a usable entry, first: {skipped[0]}" if skipped else "listing is empty")
        return interfaces, tuple(skipped), server_ms

    def newest_ms(self, now_ms: int) -> int | None:
        """The `start` of the newest document; None where there is none. Raises UnavailableError and AnswerError."""
        try:
            answer = self._search.ask(queries.newest(now_ms), time.monotonic() + self._settings.timeout_s)
        except FaultError as error:
            raise error.as_failure() from error
        hits = answer.value["hits"].get("hits")
        source = hits[0].get("_source") if isinstance(hits, list) and hits and isinstance(hits[0], dict) else None
        return start_ms(source.get("start")) if isinstance(source, dict) else None

    def latest_ms(self, now_ms: int) -> int:
        """`now_ms`, or Stardust's clock as last seen and counted on since, when that is earlier; mostly it does not tell."""
        return latest_ms(now_ms, self._search.client.last_seen)

    def fetch(self, windows: Sequence[Window], intake: Intake, until: float) -> None:
        """See contracts.Source; the record types of an interface are asked for together."""
        if self._stop.is_set() or not windows:
            return
        interfaces, foreign = by_interface(windows)
        _answer_nothing(foreign, intake)
        delays_s = growing(PROBE_FIRST_S, PROBE_MOST_S)
        wait = False
        made = groups.groups(interfaces, self._density)
        threads = self._settings.concurrency
        fetching = Fetching(made, lambda group: self._ask_for(group, until), self._is_away, intake, self._stop, until, threads)
        while not fetching.done and not self._stop.is_set() and time.monotonic() < until:
            if not self._is_away():
                fetching.run()
            elif wait and (self._once or self._stop.wait(min(next(delays_s), until - time.monotonic()))):
                break
            else:
                fetching.probe()
            wait = True
        fetching.close()

    def close(self) -> None:
        """Close the connections; afterwards it cannot be used."""
        self._dropped.conclude()
        self._search.client.close()

    def _is_away(self) -> bool:
        return self._failures >= FAILURES

    def _ask_for(self, group: Group, until: float) -> Answered:
        """Have the group queried; a failure is an answer too. See fetching.Fetching."""
        try:
            return self._query(group, until)
        except NotAskedError:
            return Answered(not_asked=True)
        except FaultError as error:
            return self._note_failure(group, error.fault)
        except CollectorError as error:
            smaller = isinstance(error.__cause__, (TimeoutError, TooLargeError))
            return self._note_failure(group, Fault(str(error), smaller=smaller))

    def _query(self, group: Group, until: float) -> Answered:
        """One query, and what comes of it. Raises FaultError, NotAskedError, UnavailableError and AnswerError."""
        answer = self._search.ask(queries.points(groups.clauses(group)), until, 1 if self._is_away() else TRIES)
        if answer.server_ms is not None and answer.server_ms < max(each.end_ms for each in group):
            # our clock is ahead, and no listing said so: points that nobody has yet must not be taken for missing
            raise FaultError(Fault("our clock is ahead of Stardust's, is NTP running?"))
        total = total_of(answer.value)
        if total < queries.MOST_HITS:
            return self._take_documents(group, answer)
        self._note_success()
        if len(group) > 1:
            return Answered(again=tuple(groups.parts(group, total)))
        del answer
        return Answered(self._in_halves(group[0], total, until))

    def _in_halves(self, interface: Interface, total: int, until: float) -> Sequence[Fetched]:
        """The answers of an interface that has too many documents for one, by halves of its time.

        Of each half the points alone are kept: the memory of its documents is free again before the next one is asked for.
        """
        if total > MOST_OF_ONE:
            raise FaultError(Fault(f"{total} documents of one interface", shorter=True))
        begin_ms, end_ms = interface.begin_ms, interface.end_ms
        middle_ms = (begin_ms + end_ms) // 2
        if middle_ms == begin_ms:
            raise FaultError(Fault(f"{total} documents of one interface and one millisecond"))
        points: list[list[object]] = [[] for _ in interface.windows]
        for times in ((begin_ms, middle_ms), (middle_ms, end_ms)):
            # one window begins in the first half, and one ends in the second: neither is empty
            cut = [(groups.between(window, *times), own) for window, own in zip(interface.windows, points, strict=True)]
            halves = [(window, own) for window, own in cut if window]
            half = Interface(interface.id, [window for window, _ in halves])
            for (_, own), fetched in zip(halves, self._query([half], until).fetched, strict=True):
                own += fetched.points
        for window, own in zip(interface.windows, points, strict=True):
            self._density.learn(window, len(own))
        return [Fetched(window, own) for window, own in zip(interface.windows, points, strict=True)]

    def _take_documents(self, group: Group, answer: Answer) -> Answered:
        """What an answer that holds every document comes to. Raises FaultError."""
        hits = hits_of(answer.value)
        if isinstance(hits, Fault):
            raise FaultError(hits)
        self._note_success()
        documents = sorted_out(hits, {interface.id for interface in group})
        if documents.of_no_interface and len(group) > 1:
            return Answered(again=tuple(groups.halves(group)))
        for line in documents.dropped:
            self._counters.add(Count.DOCUMENTS_DROPPED)
            self._dropped.warning("document of Stardust dropped", "reason=%s", line)
        return Answered(self._select_points(group, documents))

    def _select_points(self, group: Group, documents: Documents) -> Sequence[Fetched]:
        """The windows' answers: the points alone, a tenth of what their documents take."""
        fetched: list[Fetched] = []
        for interface in group:
            own = documents.by_id[interface.id]
            for window in interface.windows:
                points = points_of(own, window)
                self._density.learn(window, len(points))
                fetched.append(Fetched(window, points))
        return fetched

    def _note_failure(self, group: Group, fault: Fault) -> Answered:
        with self._lock:
            self._failures += 1
            away = self._is_away()
        if away and not self._stop.is_set():
            self.outage.failed(fault.text)
        if fault.smaller and len(group) > 1:
            return Answered(again=tuple(groups.halves(group)))
        return Answered([Fetched(window, failure=fault.text, shorten=fault.shorter) for window in windows_of(group)])

    def _note_success(self) -> None:
        with self._lock:
            self._failures = 0
        self.outage.ended()


def _answer_nothing(windows: list[Window], intake: Intake) -> None:
    """Of rows that Stardust cannot have, such as one that was made by hand, it has no points."""
    while windows:
        count = intake.admit(windows)
        if not count:
            return
        for window in windows[:count]:
            intake.deliver(Fetched(window))
        windows = windows[count:]
