"""Waiting for the systems at the start: the one loop that connects, for `run` and for `backfill`."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from collector.config.systems import RabbitSettings
from collector.core.backoff import growing
from collector.core.contracts import Publisher
from collector.core.errors import ConfigurationError, UnavailableError

CONNECT_DELAYS_S = (1.0, 15.0)
"""Between attempts to connect."""
GLANCE_S = 0.1
"""Between two looks at a publisher that connects by itself."""

_T = TypeVar("_T")


def wait_for_systems(
    publisher: Publisher,
    ask: Callable[[], _T | None],
    over: Callable[[], bool],
    pause: Callable[[float], object],
    rmq: RabbitSettings | None,
) -> _T | None:
    """Wait until `ask` has an answer and the publisher is ready; the answer, or None when `over` says so first.

    `ask` may raise UnavailableError, and is asked again after a delay. Raises ConfigurationError, the publisher's too.
    """
    delays, answer = growing(*CONNECT_DELAYS_S), None
    while not over():
        if publisher.refusal:
            where = f"{publisher.outage.dependency} at {rmq.address}: " if rmq is not None else ""
            raise ConfigurationError([f"{where}{each}" for each in publisher.refusal.problems])
        if answer is None:
            with suppress(UnavailableError):
                answer = ask()
        if answer is not None and publisher.ready:
            return answer
        pause(next(delays) if answer is None else GLANCE_S)
    return None
