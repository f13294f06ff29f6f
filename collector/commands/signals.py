"""Signals: the first asks everything to end, a later one ends it at once, and a guard ends it when asking is not enough."""

import logging
import os
import queue
import signal
import threading
import time
from types import FrameType

from collector.core.shutdown import Stop

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
TOGETHER_S = 1.0
"""Signals within this time of the first count as one: `timeout`, cron and a terminal that closes signal a child and its group."""
LAST_RESORT_S = 7.3
"""A stop ends within 8 s whatever hangs: the kernel, say, in a connect or a name look-up."""
LAST_WORDS_S = 0.3

_taken: list[int] = []


def taken() -> str | None:
    """The name of the signal that asked for the end, if one did."""
    return signal.Signals(_taken[0]).name if _taken else None


def install(stop: Stop, code: int = 0) -> None:
    """Let signals set `stop`; to be called in the main thread. `code` is the exit code of the command when it is stopped."""
    # The main thread may be interrupted while it holds the very lock that setting the event takes, and would wait for itself
    # for ever: so another thread sets it. To put into a SimpleQueue is safe in a handler.
    signalled: queue.SimpleQueue[int] = queue.SimpleQueue()
    first_at: float | None = None

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        if first_at is None:
            first_at = time.monotonic()
            _taken.append(number)
            signalled.put(number)
        elif time.monotonic() - first_at > TOGETHER_S:
            signalled.put(number)
            time.sleep(LAST_WORDS_S)  # the other thread ends it; this one may be in the middle of a line of the log
            os._exit(128 + number)

    def relay() -> None:
        signalled.get()
        stop.set()
        number = signalled.get()
        log.warning("collector ended exit_code=%d reason=%r", 128 + number, f"a second signal, {signal.Signals(number).name}")
        os._exit(128 + number)

    threading.Thread(target=relay, name="signals", daemon=True).start()
    threading.Thread(target=_guard, args=(stop, code), name="guard", daemon=True).start()
    for each in SIGNALS:
        if each is not signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN:  # ignored: started by nohup
            signal.signal(each, handle)


def _guard(stop: Stop, code: int) -> None:
    while not stop.wait(3600):
        pass
    threading.Event().wait(LAST_RESORT_S)
    # in a thread of its own: the log itself may be what hangs, because nobody reads it
    code = 1 if stop.failure else code
    reason = f"{taken() or 'a stop'}, and something hangs after {LAST_RESORT_S:.1f} s"
    line = ("collector ended exit_code=%d reason=%r", code, reason)
    words = threading.Thread(target=log.warning, args=line, name="last words", daemon=True)
    words.start()
    words.join(LAST_WORDS_S)
    os._exit(code)
