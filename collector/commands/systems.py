"""What a command works on: the three systems, waited for at the start and left at the end."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from collector.config.systems import RabbitSettings
from collector.core.backoff import growing
from collector.core.contracts import Publisher, Source, Store
from collector.core.counters import Counters
from collector.core.errors import ConfigurationError, UnavailableError
from collector.core.shutdown import Stop

CONNECT_DELAYS_S = (1.0, 15.0)
"""Between attempts to connect."""
GLANCE_S = 0.1
"""Between two looks at a publisher that connects by itself."""
CLOSE_S = 1.0
"""How long a publisher may take to say goodbye."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Systems:
    """The three systems, what ends the work with them, and what counts it."""

    source: Source
    store: Store
    publisher: Publisher
    stop: Stop
    counters: Counters

    def wait(
        self,
        ask: Callable[[], _T | None],
        over: Callable[[], bool],
        pause: Callable[[float], object],
        rmq: RabbitSettings | None,
    ) -> _T | None:
        """Start the publisher, and wait until it is ready and `ask` has an answer; the answer, or None when `over` says so first.

        `ask` may raise UnavailableError, and is asked again after a delay. Raises ConfigurationError, the publisher's too.
        """
        self.publisher.start()
        delays, answer = growing(*CONNECT_DELAYS_S), None
        while not over():
            if self.publisher.refusal:
                where = f"{self.publisher.outage.dependency} at {rmq.address}: " if rmq is not None else ""
                raise ConfigurationError([f"{where}{each}" for each in self.publisher.refusal.problems])
            if answer is None:
                with suppress(UnavailableError):
                    answer = ask()
            if answer is not None and self.publisher.ready:
                return answer
            pause(next(delays) if answer is None else GLANCE_S)
        return None

    def close(self) -> None:
        """Ask everything to end, and leave each of them."""
        self.stop.set()
        self.store.close()
        self.publisher.close(CLOSE_S)
        self.source.close()
