"""Which interfaces are published in a cycle: all of them at first and at intervals, in between the new and the changed."""

import logging
from collections.abc import Callable, Iterator

from collector.core.counters import Count, Counters
from collector.core.model import Listing, Message
from collector.cycle.messages import interface_message

log = logging.getLogger(__name__)

MOST_WARNINGS = 20
"""Faulty values are warned about once per interface and key; in one cycle in so many lines, then in one that sums up."""


class Announcements:
    """Remembers what the bus has confirmed of each interface; used by the cycle's thread, but for `due` (its feed)."""

    def __init__(self, interval_s: float, counters: Counters, monotonic: Callable[[], float]) -> None:
        self._interval_s = interval_s
        self._counters = counters
        self._monotonic = monotonic
        self._snapshot_at: float | None = None
        self._confirmed: dict[str, bytes] = {}
        self._sent: dict[str, bytes] = {}
        self._all_sent = True
        self._warned: set[tuple[str, str]] = set()

    def due(self, listing: Listing) -> Iterator[tuple[str, Message]]:
        """The messages of those interfaces that are due, each with its resource."""
        at = self._monotonic()
        if self._snapshot_at is None or at - self._snapshot_at >= self._interval_s:
            self._snapshot_at = at
            self._confirmed.clear()
        for gone in self._confirmed.keys() - listing.interfaces.keys():
            del self._confirmed[gone]
        self._sent = {}
        self._all_sent = False
        unsaid = 0
        for resource, interface in listing.interfaces.items():
            made = interface_message(interface, listing.time_ms)
            if made.faulty_keys:
                unsaid += self._warn(resource, made.faulty_keys, MOST_WARNINGS - unsaid)
            if self._confirmed.get(resource) != made.digest:
                # it may arrive without being confirmed, so what was confirmed before does not count any more
                self._confirmed.pop(resource, None)
                self._sent[resource] = made.digest
                yield resource, made.message
        if unsaid > MOST_WARNINGS:
            log.warning("interface values sent as null, more of them count=%d", unsaid - MOST_WARNINGS)
        self._all_sent = True

    def confirmed(self, resource: str) -> None:
        """The bus has this interface's message."""
        self._confirmed[resource] = self._sent.pop(resource)

    @property
    def left(self) -> bool:
        """Whether one of those that were due last was not sent or not confirmed; the next cycle sends it."""
        return bool(self._sent) or not self._all_sent

    def _warn(self, resource: str, keys: tuple[str, ...], room: int) -> int:
        """Count faulty values and name the new ones; returns how many were new."""
        self._counters.add(Count.INTERFACE_VALUES_INVALID, len(keys))
        new = [key for key in keys if (resource, key) not in self._warned]
        for number, key in enumerate(new):
            self._warned.add((resource, key))
            if number < room:
                log.warning("interface value sent as null, the index would refuse it name=%s key=%s", resource, key)
        return len(new)
