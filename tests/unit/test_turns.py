"""The rate of requests, by a clock that only the waiting moves: no busy machine can be late."""

import pytest

from collector.core.shutdown import Stop
from collector.source.http import turns


class Waiting(Stop):
    """A stop that never comes, and whose waits take no time but the clock's."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def wait(self, seconds: float) -> bool:
        self.now += seconds
        return False


def test_requests_are_never_closer_than_the_rate_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Waiting()
    monkeypatch.setattr("collector.source.http.turns.time.monotonic", lambda: stop.now)
    limited, granted = turns.Turns("Netbeam", 50.0, stop), []
    for late_s in (0.0, 0.0, 0.015, 0.5, 0.0, 0.0):
        stop.now += late_s
        limited.take()
        granted.append(stop.now - 1000)
    assert granted == pytest.approx([0, 0.02, 0.04, 0.54, 0.56, 0.58])
