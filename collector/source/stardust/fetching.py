"""One fetch: a few threads that each take a group of interfaces, have it admitted, ask for it and hand over the answers.

    windows -> interfaces -> group -> admitted -> query -> documents -> points -> intake

What was not admitted of a group is a group of its own, and so are the parts of one that was too much for one answer.
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
    ) -> None:
        self._groups = groups
        self._ask = ask
        self._is_away = is_away
        self._intake = intake
        self._stop = stop
        self._until = until
        self._changed = threading.Condition()
        self._again: deque[tuple[Group, bool]] = deque()
        """Before all others; whether they are admitted already."""
        self._serving = 0
        self.done = False
        """Nothing is left, or nothing more may be asked for."""
        self._left = False

    def run(self, threads: int) -> None:
        """Go on until all is done or the source is away."""
        for number in range(threads):
            threading.Thread(target=self._work, name=f"query-{number + 1}", daemon=True).start()
        with self._changed:
            while not (self._no_more() and not self._serving):
                give_up_at = self._stop.give_up_at
                if give_up_at is not None and time.monotonic() > give_up_at + LATE_S:
                    return
                self._changed.wait(_LOOK_S)

    def probe(self) -> None:
        """Ask for one interface, in the calling thread."""
        with self._changed:
            taken = self._take()
            if taken is None:
                return
            group, admitted = taken
            if group[1:]:
                self._again.appendleft((group[1:], admitted))
            self._serving += 1
        self._serve(group[:1], admitted)

    def close(self) -> None:
        """Release what was admitted and is not asked for; what comes from now on is too late."""
        with self._changed:
            self._left = self.done = True
            windows = [each for group, admitted in self._again if admitted for each in windows_of(group)]
            self._again.clear()
        if windows:
            self._intake.release(windows)

    def _is_over(self) -> bool:
        return self.done or self._stop.is_set() or time.monotonic() >= self._until

    def _no_more(self) -> bool:
        """Whether no thread may take anything now."""
        return self._is_over() or self._is_away()

    def _take(self) -> tuple[Group, bool] | None:
        """The next group; None: there is none at the moment."""
        if self._again:
            return self._again.popleft()
        group = next(self._groups, None)
        if group is not None:
            return group, False
        # one that is in the hands of a thread may come back in parts
        self.done = self.done or not self._serving
        return None

    def _work(self) -> None:
        try:
            while (taken := self._next()) is not None:
                self._serve(*taken)
        except Exception as error:
            self._stop.fail(error, threading.current_thread().name)

    def _next(self) -> tuple[Group, bool] | None:
        with self._changed:
            while not self._no_more():
                taken = self._take()
                if taken is not None:
                    self._serving += 1
                    return taken
                if self.done:
                    break
                self._changed.wait(_LOOK_S)
            self._changed.notify_all()
            return None

    def _serve(self, group: Group, admitted: bool) -> None:
        again: list[tuple[Group, bool]] = []
        closed = False
        try:
            if not admitted:
                count = self._intake.admit(windows_of(group))
                group, rest = split(group, count)
                closed = not count
                if rest and count:
                    again.append((rest, False))
            if group:
                answered = self._ask(group)
                closed = answered.not_asked
                again[:0] = [(each, True) for each in answered.again]
                if answered.not_asked:
                    self._intake.release(windows_of(group))
                self._deliver(answered.fetched)
        finally:
            with self._changed:
                self._again.extendleft(reversed(again))
                self.done = self.done or closed
                self._serving -= 1
                self._changed.notify_all()

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
