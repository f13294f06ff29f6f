"""When the next message may come: room in the bounded buffer, a broker that is there, a queue that takes the key.

Room is taken before the fetch, not after it, or every worker would hold an answer beside the full buffer.
"""

import enum
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from collector.core.backoff import growing
from collector.core.contracts import Outcome, Publisher
from collector.core.shutdown import Stop

log = logging.getLogger(__name__)

ROOM = 60_000
"""Messages between the fetch and the confirm, at the most: a few hundred bytes each. A source that asks for hundreds of windows
in one query needs room for two of its answers."""
POLL_S = 0.2
"""How often a thread that waits looks for what does not wake it: the broker's return, the end of the cycle."""
REFUSED_DELAYS_S = (1.0, 15.0)
"""After a refusal (a full queue) one batch at a time, after delays that grow between these."""


class _Key(enum.Enum):
    OPEN = "open"
    PROBING = "probing"
    """One at a time, until one has been confirmed."""
    CLOSED = "closed"
    """No more in this cycle: no queue takes it."""


class _KeyState:
    def __init__(self) -> None:
        self.in_flight = 0
        """Admitted, and not settled yet."""
        self.reopen()

    def reopen(self) -> None:
        self.state = _Key.OPEN
        self.probed = False
        """A probe is in flight, and nothing else: the next outcome is its own."""
        self.named = False
        """The log says already that no queue takes it."""
        self.not_before = 0.0
        self.delays: Iterator[float] = growing(*REFUSED_DELAYS_S)


class FlowControl:
    """Admits what is to be published; any number of threads wait here.

    `patience_s` is how long in all it waits for a broker that is away; a broker that goes on refusing then ends the cycle too.
    None: as long as the cycle lasts. `may_work` says whether this collector certainly holds the lock: one that was frozen does
    not publish before it knows.
    """

    def __init__(
        self,
        publisher: Publisher,
        stop: Stop,
        *,
        exchange: str,
        may_work: Callable[[], bool] = lambda: True,
        patience_s: float | None = None,
        room: int = ROOM,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._stop = stop
        self._exchange = exchange
        self._may_work = may_work
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._size = self._room = room
        self._changed = threading.Condition()
        self._keys: dict[str, _KeyState] = {}
        self._until = 0.0
        self._shut = False
        self._away_since: float | None = None

    def begin(self, until: float) -> None:
        """A new cycle, which ends at this monotonic time: what no queue took is probed again."""
        with self._changed:
            self._until, self._shut = until, False
            for key in self._keys.values():
                if key.state is _Key.CLOSED:
                    key.state = _Key.PROBING

    def shut(self) -> None:
        """Admit nothing more in this cycle."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()

    def admit(self, routing_key: str, wanted: Sequence[int], patient: bool = True) -> list[int]:
        """Wait for room for these, each with the messages to expect of it, and take it for as many as fit, from the front.

        Returns the room that was taken for each of these; nothing when no more of this key goes out in this cycle. Waits until
        all of them fit, or as many as fill half of the room, so that a source that asks for many at once is not fed one by
        one. One that is not `patient` does not wait either for a queue that was full a moment ago.
        """
        sizes = [min(each, self._size) for each in wanted]
        enough = max(min(sum(sizes), self._size // 2), sizes[0])
        with self._changed:
            key = self._keys.setdefault(routing_key, _KeyState())
            while not (self._stop.is_set() or self._shut or key.state is _Key.CLOSED or self._monotonic() >= self._until):
                if not patient and self._is_slowed_down(key):
                    break
                if not self._publisher_ready():
                    if self._patience_is_over:
                        self._shut = True
                        break
                elif self._room >= (enough if key.state is _Key.OPEN else sizes[0]) and self._may_work() and self._is_free(key):
                    return self._take(key, sizes)
                self._changed.wait(POLL_S)
            return []

    def _take(self, key: _KeyState, sizes: Sequence[int]) -> list[int]:
        key.probed = key.state is _Key.PROBING
        taken: list[int] = []
        for size in sizes[:1] if key.probed else sizes:
            if size > self._room:
                break
            self._room -= size
            taken.append(size)
        key.in_flight += len(taken)
        return taken

    def resize(self, taken: int, needed: int) -> None:
        """Take what is really needed in place of what was taken, however much that is."""
        with self._changed:
            self._room += taken - needed
            self._changed.notify()

    def settle(self, routing_key: str, outcome: Outcome | None, taken: int) -> None:
        """Give room back, and learn from the outcome about the key; None when nothing was published after all."""
        with self._changed:
            self._room += taken
            key = self._keys[routing_key]
            key.in_flight -= 1
            probe, key.probed = key.probed, False
            if outcome is Outcome.RETURNED:
                self._close(routing_key, key)
            elif outcome is Outcome.REFUSED:
                self._slow_down(routing_key, key, probe)
            elif outcome is Outcome.CONFIRMED and probe:
                key.reopen()
                log.warning("messages are taken again exchange=%s routing_key=%s", self._exchange, routing_key)
            self._changed.notify_all()

    @property
    def unroutable(self) -> list[str]:
        """The routing keys that no queue takes, as far as is known."""
        with self._changed:
            return [name for name, key in self._keys.items() if key.state is _Key.CLOSED]

    @property
    def patience_ended(self) -> bool:
        """Whether the broker was away for longer than it is to be waited for.

        Asked again and again, it counts the time as well when everything is admitted and nobody waits here any more.
        """
        with self._changed:
            self._publisher_ready()
            return self._patience_is_over

    def _is_free(self, key: _KeyState) -> bool:
        return key.state is _Key.OPEN or (not key.in_flight and self._monotonic() >= key.not_before)

    def _is_slowed_down(self, key: _KeyState) -> bool:
        return key.state is _Key.PROBING and self._monotonic() < key.not_before

    def _publisher_ready(self) -> bool:
        """Whether it is; while it is not, the patience runs out."""
        at = None if self._publisher.ready else self._monotonic()
        if self._patience_s is not None and at is not None and self._away_since is not None:
            self._patience_s -= at - self._away_since
        self._away_since = at
        return at is None

    @property
    def _patience_is_over(self) -> bool:
        return self._patience_s is not None and self._patience_s <= 0

    def _close(self, routing_key: str, key: _KeyState) -> None:
        if not key.named:
            hint = "no queue takes the messages, they are held back until one is bound"
            log.warning("%s exchange=%s routing_key=%s", hint, self._exchange, routing_key)
        key.state, key.named = _Key.CLOSED, True
        self._changed.notify_all()

    def _slow_down(self, routing_key: str, key: _KeyState, probe: bool) -> None:
        if key.state is _Key.OPEN:
            hint = "the broker refuses messages, is a queue full? going on slowly"
            log.warning("%s exchange=%s routing_key=%s", hint, self._exchange, routing_key)
        # what was in flight beside the first one that was refused says nothing new
        if probe or key.state is _Key.OPEN:
            delay_s = next(key.delays)
            key.not_before = self._monotonic() + delay_s
            self._shut = self._shut or (self._patience_s is not None and delay_s >= REFUSED_DELAYS_S[1])
        if key.state is not _Key.CLOSED:
            key.state = _Key.PROBING
