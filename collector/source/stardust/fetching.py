"""One fetch: a few threads that each take a group of interfaces, have it admitted, ask for it and hand over the answers.

    windows -> interfaces -> group -> admitted -> query -> documents -> points -> intake

What was not admitted of a group is a group of its own, and so are the parts of one that was too much for one answer. Only what
a thread is asking for is admitted: a group that comes back in parts gives its room back, and each part is admitted when it is
asked for. So no group that waits to be asked for holds the room that another one waits for.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from collector.core.contracts import Fetched, Intake
from collector.core.model import Window
from collector.core.shutdown import Stop
from collector.source.stardust.groups import Group, Interface

LATE_S = 0.5
"""What is in flight gets this much longer than the grace of a stop; what is stuck even then is left behind."""
HANDING_OVER = 2
"""Threads beside those that ask: one that hands over an answer lets the next query go."""
_LOOK_S = 0.1


@dataclass(frozen=True, slots=True)
class Answered:
    """What a query for a group came to: the windows' answers, or the parts in which to ask again; or neither."""

    fetched: Iterable[Fetched] = ()
    again: tuple[Group, ...] = ()
    not_asked: bool = False
    """The source may not be asked any more in this fetch."""


class Fetching:
    """The groups of one call of `fetch`, and what has become of them. `ask` is called by several threads."""

    def __init__(
        self,
        groups: Iterator[Group],
        ask: Callable[[Group], Answered],
        is_away: Callable[[], bool],
        intake: Intake,
        stop: Stop,
        until: float,
        concurrency: int,
    ) -> None:
        self._groups = groups
        self._ask = ask
        self._is_away = is_away
        self._intake = intake
        self._stop = stop
        self._until = until
        self._threads_wanted = concurrency + HANDING_OVER
        self._queries = threading.Semaphore(concurrency)
        """Groups that may be asked for at once."""
        self._changed = threading.Condition()
        self._again: deque[Group] = deque()
        """Before all others; none of them is admitted."""
        self._serving = 0
        self._threads = 0
        self.done = False
        """Nothing is left, or nothing more may be asked for."""
        self._left = False

    def run(self) -> None:
        """Go on until all is done or the source is away; after a doubt that passed with as many threads as before."""
        with self._changed:
            while not (self._no_more() and not self._serving):
                give_up_at = self._stop.give_up_at
                if give_up_at is not None and time.monotonic() > give_up_at + LATE_S:
                    return
                while self._threads < self._threads_wanted and not self._no_more():
                    self._threads += 1
                    threading.Thread(target=self._work, name=f"query-{self._threads}", daemon=True).start()
                self._changed.wait(_LOOK_S)

    def probe(self) -> None:
        """Ask for one interface, in the calling thread."""
        with self._changed:
            group = self._take()
            if group is None:
                return
            if group[1:]:
                self._again.appendleft(group[1:])
            self._serving += 1
        self._serve(group[:1], probe=True)

    def close(self) -> None:
        """What comes from now on is too late."""
        with self._changed:
            self._left = self.done = True

    def _is_over(self) -> bool:
        return self.done or self._stop.is_set() or time.monotonic() >= self._until

    def _no_more(self) -> bool:
        """Whether no thread may take anything now."""
        return self._is_over() or self._is_away()

    def _take(self) -> Group | None:
        """The next group; None: there is none at the moment."""
        if self._again:
            return self._again.popleft()
        group = next(self._groups, None)
        # one that is in the hands of a thread may come back in parts
        self.done = self.done or (group is None and not self._serving)
        return group

    def _work(self) -> None:
        try:
            while (group := self._next()) is not None:
                self._serve(group)
        except Exception as error:
            self._stop.fail(error, threading.current_thread().name)
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _next(self) -> Group | None:
        with self._changed:
            while not self._no_more():
                group = self._take()
                if group is not None:
                    self._serving += 1
                    return group
                if self.done:
                    break
                self._changed.wait(_LOOK_S)
            return None

    def _serve(self, group: Group, probe: bool = False) -> None:
        again: tuple[Group, ...] = ()
        closed = False
        try:
            with self._queries:
                answered, again, closed = self._admit_and_ask(group, probe)
            self._deliver(answered.fetched)
        finally:
            with self._changed:
                self._again.extendleft(reversed(again))
                self.done = self.done or closed
                self._serving -= 1
                self._changed.notify_all()

    def _admit_and_ask(self, group: Group, probe: bool) -> tuple[Answered, tuple[Group, ...], bool]:
        """What came of as much of the group as was admitted, what is to be asked for again, and whether that was all."""
        asked, rest = split(group, self._intake.admit(windows_of(group)))
        if not asked:
            return Answered(), (), True
        if self._is_away() and not probe:
            # it went away while this one waited for room
            self._intake.release(windows_of(asked))
            return Answered(), (group,), False
        answered = self._ask(asked)
        if answered.again or answered.not_asked:
            self._intake.release(windows_of(asked))
        return answered, (*answered.again, *([rest] if rest else ())), answered.not_asked

    def _deliver(self, fetched: Iterable[Fetched]) -> None:
        for each in fetched:
            if self._left:
                return
            self._intake.deliver(each)


def windows_of(group: Group) -> list[Window]:
    """Of all its interfaces, in their order."""
    return [window for interface in group for window in interface.windows]


def split(group: Group, count: int) -> tuple[Group, Group]:
    """The group's first so many windows, and the others; an interface may be in both."""
    first: Group = []
    for index, interface in enumerate(group):
        if count < len(interface.windows):
            rest = [Interface(interface.id, interface.windows[count:]), *group[index + 1 :]]
            return ([*first, Interface(interface.id, interface.windows[:count])] if count else first), rest
        first.append(interface)
        count -= len(interface.windows)
    return first, []
