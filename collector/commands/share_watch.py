"""Looks whether every share has somebody who works on it: one that nobody works on would be invisible otherwise."""

import logging
import math
import time
from collections.abc import Callable

from collector.core.contracts import Store
from collector.core.errors import CollectorError
from collector.core.share import Share
from collector.watch.state import CollectorState

log = logging.getLogger(__name__)

LOOK_S = 60.0
"""Between two looks at the locks."""
WARNING_S = 3600.0
"""A warning is repeated so often."""


class ShareWatch:
    """Counts the free shares for metrics and page, and warns of them; does nothing where there is one share only."""

    def __init__(
        self, share: Share, store: Store, state: CollectorState, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._share = share
        self._store = store
        self._state = state
        self._monotonic = monotonic
        self._look_at = self._warn_at = -math.inf
        self._free_before = False

    def look(self) -> None:
        """Look, if a minute has passed; call it as often as you like, in the thread that uses the store."""
        if self._share.whole:
            return
        now = self._monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_S
        try:
            free = self._store.free_shares()
        except CollectorError:  # an outage, which the store has said
            self._state.count_free_shares(None)
            return
        self._state.count_free_shares(free)
        # one that is free at a single look is being taken over
        if free and self._free_before and now >= self._warn_at:
            self._warn_at = now + WARNING_S
            log.warning("shares have no collector free=%d of=%d", free, self._share.of)
        self._free_before = bool(free)
