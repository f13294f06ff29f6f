"""`run --once` that waits in vain."""

import itertools
import logging

import pytest

from collector.commands import run as daemon_module
from collector.commands import systems as systems_module
from collector.commands.run import Daemon
from collector.commands.systems import Systems
from collector.config.configuration import Config
from collector.core.counters import Counters
from collector.core.errors import AnswerError, ConfigurationError, UnavailableError
from collector.core.shutdown import Stop
from collector.watch.state import Identity
from tests.fakes import FakePublisher, FakeSource, FakeStore, no_points


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (systems_module, daemon_module):
        monkeypatch.setattr(module, "CONNECT_DELAYS_S", (0.001, 0.001))
    monkeypatch.setattr(daemon_module, "GLANCE_S", 0.001)


class Vain:
    """A run of `--once` whose clock goes on by 10 s whenever it is read."""

    def __init__(self, store: FakeStore, caplog: pytest.LogCaptureFixture) -> None:
        self.store, self.publisher, self.stop = store, FakePublisher(), Stop()
        self.publisher.outage.ended()
        self._caplog = caplog
        self.reason = ""
        self.error: AnswerError | None = None

    def run(self, once: bool = True) -> tuple[int, list[str]]:
        """The exit code, and the lines that say something is wrong for good."""
        clock = itertools.count(0.0, 10.0)
        source = FakeSource([], no_points)
        source.error = self.error
        config = Config.from_mapping({"METRICS_PORT": "0"}, without={"rmq", "mysql"})
        systems = Systems(source, self.store, self.publisher, self.stop, Counters())
        daemon = Daemon(config, systems, Identity(), once=once, monotonic=lambda: next(clock))
        code = daemon.serve()
        self.reason = daemon.reason
        return code, [record.getMessage() for record in self._caplog.records if record.levelno >= logging.ERROR]


class AnotherWorks(FakeStore):
    """The lock is somebody else's."""

    def open(self, create: bool = True) -> None:
        self.outage.ended()

    def take_lock(self, timeout_s: float) -> bool:
        return False


def test_once_says_what_it_waited_for_in_vain(caplog: pytest.LogCaptureFixture) -> None:
    store = FakeStore()
    store.errors["open"] = UnavailableError("connection refused")
    store.outage.failed("connection refused")
    run = Vain(store, caplog)
    assert run.run() == (1, ["gave up waiting for='MySQL' patience_seconds=30"])
    assert run.reason == "MySQL: connection refused"


def test_once_says_that_another_collector_is_at_work(caplog: pytest.LogCaptureFixture) -> None:
    run = Vain(AnotherWorks(), caplog)
    assert run.run() == (1, ["gave up, another collector is at work patience_seconds=30"])
    assert run.reason == "another collector is at work"


def test_once_that_is_stopped_while_it_waits_has_nothing_to_complain_about(caplog: pytest.LogCaptureFixture) -> None:
    run = Vain(AnotherWorks(), caplog)
    run.stop.set()
    assert run.run() == (0, [])
    assert run.reason == "nobody reads stdout"


def test_outages_are_told_by_the_clock_that_is_collected_by() -> None:
    systems = Systems(FakeSource([], no_points), FakeStore(), FakePublisher(), Stop(), Counters())
    config = Config.from_mapping({"METRICS_PORT": "0"}, without={"rmq", "mysql"})
    Daemon(config, systems, Identity(), now=lambda: 1_764_000_000.5)
    outages = (systems.source.outage, systems.store.outage, systems.publisher.outage)
    assert {each.since_ms for each in outages} == {1_764_000_000_500}
    systems.store.outage.ended()
    assert systems.store.outage.since_ms == 1_764_000_000_500


class RefusesLater(AnotherWorks):
    """After a look at the lock it refuses the user, and then the stop comes."""

    def __init__(self) -> None:
        super().__init__()
        self.stop: Stop | None = None
        self.asked = 0

    def take_lock(self, timeout_s: float) -> bool:
        self.asked += 1
        if self.asked == 1:
            return False
        if self.asked == 3 and self.stop:
            self.stop.set()
        raise ConfigurationError("access denied: see MYSQL_PASSWORD")


def test_refusal_is_an_outage_to_a_standby_that_was_up(caplog: pytest.LogCaptureFixture) -> None:
    store = RefusesLater()
    run = Vain(store, caplog)
    store.stop = run.stop
    assert run.run(once=False) == (0, [])
    assert store.asked == 3


def test_refusal_at_the_start_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    store = RefusesLater()
    store.asked = 1
    with pytest.raises(ConfigurationError, match="access denied"):
        Vain(store, caplog).run(once=False)


def test_reason_of_one_cycle_says_what_it_left(caplog: pytest.LogCaptureFixture) -> None:
    run = Vain(FakeStore(), caplog)
    run.error = AnswerError("status 404")
    assert run.run()[0] == 1
    assert "status 404" in run.reason
