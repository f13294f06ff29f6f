"""Which interfaces are published in a cycle: all of them at first and at intervals, in between the new and the changed."""

from collections.abc import Callable, Iterator

from collector.core.counters import Count, Counters
from collector.core.limited_log import LimitedLog
from collector.core.model import JsonObject, Listing, Message
from collector.core.text import printable
from collector.cycle.messages import interface_message

SHOWN_CHARACTERS = 80
"""Of a faulty value or key, in a warning."""
MOST_KEYS = 50
"""So many faulty keys of one interface are named and remembered; more of them are only counted."""


class Announcements:
    """Remembers what the bus has confirmed of each interface; used by the cycle's thread, but for `due` (its feed)."""

    def __init__(self, interval_s: float, counters: Counters, monotonic: Callable[[], float], limited: LimitedLog) -> None:
        self._interval_s = interval_s
        self._counters = counters
        self._monotonic = monotonic
        self._snapshot_at: float | None = None
        self._confirmed: dict[str, bytes] = {}
        self._sent: dict[str, bytes] = {}
        self._all_sent = True
        self._limited = limited
        self._warned: dict[str, frozenset[str]] = {}
        """Which faulty keys of an interface were warned about; forgotten with the interface, and with the fault."""

    def due(self, listing: Listing) -> Iterator[tuple[str, Message]]:
        """The messages of those interfaces that are due, each with its resource."""
        at = self._monotonic()
        if self._snapshot_at is None or at - self._snapshot_at >= self._interval_s:
            self._snapshot_at = at
            self._confirmed.clear()
        for gone in (self._confirmed.keys() | self._warned.keys()) - listing.interfaces.keys():
            self._confirmed.pop(gone, None)
            self._warned.pop(gone, None)
        self._sent = {}
        self._all_sent = False
        for resource, interface in listing.interfaces.items():
            made = interface_message(interface, listing.time_ms)
            if made.faulty_keys or resource in self._warned:
                self._warn(resource, interface, made.faulty_keys)
            if self._confirmed.get(resource) != made.digest:
                # it may arrive without being confirmed, so what was confirmed before does not count any more
                self._confirmed.pop(resource, None)
                self._sent[resource] = made.digest
                yield resource, made.message
        self._all_sent = True

    def settled(self, resource: str) -> None:
        """The bus has this interface's message, or has refused it for good."""
        self._confirmed[resource] = self._sent.pop(resource)

    @property
    def left(self) -> bool:
        """Whether one of those that were due last was not sent or not confirmed; the next cycle sends it."""
        return bool(self._sent) or not self._all_sent

    def _warn(self, resource: str, interface: JsonObject, keys: tuple[str, ...]) -> None:
        """Count faulty values, and name those that are new."""
        self._counters.add(Count.INTERFACE_VALUES_INVALID, len(keys))
        warned = self._warned.pop(resource, frozenset())
        keys = keys[:MOST_KEYS]
        for key in keys:
            if key not in warned:
                kind = "interface value sent as null, the index would refuse it"
                shown = _shown(interface.get(key))
                self._limited.warning(kind, "name=%s key=%s value=%s", resource, printable(key, SHOWN_CHARACTERS), shown)
        if keys:
            self._warned[resource] = frozenset(keys)


def _shown(value: object) -> str:
    """A few characters of a value, however large or deep it is."""
    return f"a {type(value).__name__}" if isinstance(value, (list, dict)) else printable(repr(value), SHOWN_CHARACTERS)
