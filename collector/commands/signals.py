"""Signals: the first asks everything to end, the second ends it at once, and a guard ends it when asking is not enough."""

import logging
import os
import queue
import signal
import threading
from types import FrameType

from collector.core.shutdown import Stop

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LAST_RESORT_S = 7.5
"""A stop ends within 8 s whatever hangs (SPEC section 6): the kernel, say, in a connect or a name look-up."""


def install(stop: Stop, code: int = 0) -> None:
    """Let signals set `stop`; to be called in the main thread. `code` is the exit code of the command when it is stopped."""
    # The main thread may be interrupted while it holds the very lock that setting the event takes, and would wait for itself
    # for ever: so another thread sets it. To put into a SimpleQueue is safe in a handler.
    signalled: queue.SimpleQueue[None] = queue.SimpleQueue()
    first = True

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal first
        if stop.is_set() or not first:
            os._exit(128 + number)
        first = False
        signalled.put(None)

    def relay() -> None:
        signalled.get()
        stop.set()

    threading.Thread(target=relay, name="signals", daemon=True).start()
    threading.Thread(target=_guard, args=(stop, code), name="guard", daemon=True).start()
    for each in SIGNALS:
        signal.signal(each, handle)


def _guard(stop: Stop, code: int) -> None:
    while not stop.wait(3600):
        pass
    threading.Event().wait(LAST_RESORT_S)
    log.warning("gave up waiting for what hangs, ending now seconds=%.1f", LAST_RESORT_S)
    os._exit(1 if stop.failure else code)
