"""`run`: waits for the systems and the lock, then starts cycle after cycle until a signal ends it."""

import logging
import math
import time
from collections.abc import Callable, Iterator
from functools import partial

from collector import __version__
from collector.commands import ending, signals, wiring
from collector.commands.resume import backfill_command
from collector.commands.schedule import passed, until_next
from collector.commands.share_watch import ShareWatch
from collector.commands.systems import CONNECT_DELAYS_S, Systems
from collector.config.configuration import Config
from collector.core.backoff import growing
from collector.core.counters import Count
from collector.core.errors import ConfigurationError, UnavailableError
from collector.core.report import CycleOutcome, CycleReport, ReasonKind
from collector.core.shutdown import Stop
from collector.cycle.cycle import Cycle
from collector.watch.server import WebServer
from collector.watch.state import CollectorState, Identity, Role, System

log = logging.getLogger(__name__)

LOCK_WAIT_S = 2.0
"""How long one request for the lock waits in the server; a standby asks again at once."""
ONCE_PATIENCE_S = 30.0
"""`--once` waits so long in all for a dependency or for the lock."""
GLANCE_S = 1.0
"""Between cycles the loop looks about so often: at the lock, and to say that it turns."""
SHOWN_REASONS = 3
"""Of a cycle, in the log's last line; each has a line of its own before."""


def run(
    config: Config, *, once: bool = False, sqlite: str | None = None, to_stdout: bool = False, env_file: str | None = None
) -> int:
    """Collect, for ever or one cycle; the exit code. A kill -9 leaves no last line in the log."""
    stop = Stop()
    signals.install(stop)  # before the first line of the log, which may hang
    identity = wiring.identity(config, sqlite)
    page = None if once else config.page
    log.info(
        "collector started version=%s source=%r database=%r exchange=%r poll_interval=%g page=%s share=%s",
        __version__, identity.source, identity.database, identity.exchange, config.poll_interval_s, page or "none", config.share,
    )  # fmt: skip
    for warning in config.warnings:
        log.warning("%s", warning)
    if not wiring.rules(config).alarm_possible:
        log.info("no alarm when the source falls silent: LATE_DATA is not longer than 2 x POLL_INTERVAL + 600 s")
    try:
        daemon = Daemon(
            config,
            wiring.systems(config, sqlite=sqlite, stop=stop, once=once),
            identity,
            once=once,
            backfill=partial(backfill_command, sqlite=sqlite, to_stdout=to_stdout, env_file=env_file),
        )
        code = daemon.serve()
        reason = signals.taken() or daemon.reason
    except Exception as error:  # the main thread's top: the log's last line comes after what is said of the error
        code, reason = ending.failure(error), ending.reason(error)
    log.log(logging.ERROR if code else logging.INFO, "collector ended exit_code=%d reason=%r", code, reason)
    return code


class Daemon:
    """Schedules cycles over three systems; `cycles` ends it after so many, `once` is the option.

    Cycles start by `wall`, and collect up to what `now` says; only the demonstration has two clocks.
    """

    def __init__(
        self,
        config: Config,
        systems: Systems,
        identity: Identity,
        *,
        once: bool = False,
        cycles: int | None = None,
        backfill: Callable[[int, int], str] = backfill_command,
        wall: Callable[[], float] = time.time,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._systems = config, systems
        self._store, self._publisher, self._stop = systems.store, systems.publisher, systems.stop
        self._once, self._cycles = once, 1 if once else cycles
        self._backfill = backfill
        self._wall, self._now, self._monotonic = wall, now, monotonic
        self.done = 0
        """Cycles that have ended."""
        self.reason = "its cycles are done"
        """Why `serve` has ended, unless by a signal or an exception."""
        self._give_up_at = monotonic() + ONCE_PATIENCE_S if once else math.inf
        self._outages = {
            System.SOURCE: systems.source.outage,
            System.DATABASE: systems.store.outage,
            System.BROKER: systems.publisher.outage,
        }
        for outage in self._outages.values():
            outage.follow(now)
        self._state = CollectorState(self._outages, config.poll_interval_s, config.settle_delay_s, identity, now=now)
        self._share_watch = ShareWatch(config.share, systems.store, self._state, monotonic)

    def serve(self) -> int:
        """Run until the end; the exit code. Raises ConfigurationError before the first cycle only."""
        web = None
        if self._config.metrics_port and not self._once:
            web = WebServer(
                self._config.metrics_host,
                self._config.metrics_port,
                self._state,
                self._systems.counters,
                self._stop,
                self._config.metrics_hosts or (),
            )
        try:
            code = self._work()
            if self._stop.is_set():
                self.reason = ending.reason(self._stop.failure) if self._stop.failure else "nobody reads stdout"
        finally:
            self._systems.close()
            if web:
                web.close()
        return 1 if self._stop.failure else code

    def _work(self) -> int:
        connected = self._systems.wait(self._opened, self._over, self._pause, self._config.rmq)
        if not (connected and self._take_lock(first=True)):
            return self._given_up()
        patience_s = max(0.0, self._give_up_at - self._monotonic()) if self._once else None
        cycle = wiring.cycle(
            self._config, self._systems, once=self._once, patience_s=patience_s, beat=self._state.beat, begun=self._state.begin,
            backfill=self._backfill,
        )  # fmt: skip
        return self._loop(cycle)

    def _opened(self) -> bool:
        self._store.open()
        return True

    def _take_lock(self, first: bool = False) -> bool:
        """Become the one collector that works, standing by for as long as another one does; False when that ended first."""
        delays: Iterator[float] = growing(*CONNECT_DELAYS_S)
        while not self._over():
            delay = 0.0
            try:
                self._store.open()
                if self._store.take_lock(LOCK_WAIT_S):
                    if self._state.role is Role.STANDBY:
                        log.info("took over, the other collector has ended or lost the lock")
                    self._state.enter(Role.WORKING)
                    return True
                holder = self._store.lock_holder()
                if self._state.role is not Role.STANDBY:
                    log.info("standing by, another collector is at work at=%s", holder or "unknown")
                self._state.enter(Role.STANDBY, holder)
                self._share_watch.look()
                delays = growing(*CONNECT_DELAYS_S)
            except (UnavailableError, ConfigurationError) as error:
                if first and isinstance(error, ConfigurationError) and self._state.role is not Role.STANDBY:
                    raise
                delay = next(delays)
            self._pause(max(delay, GLANCE_S / 10))
        return False

    def _given_up(self) -> int:
        """The exit code when waiting for the systems or the lock has ended; says for what `--once` waited in vain."""
        if self._stop.is_set():
            return 0
        if self._state.role is Role.STANDBY:
            self.reason = "another collector is at work"
            log.error("gave up, another collector is at work patience_seconds=%.0f", ONCE_PATIENCE_S)
        else:
            outages = [each for each in (self._store.outage, self._publisher.outage) if each.down or not each.up_once]
            names = " and ".join(each.dependency for each in outages)
            self.reason = "; ".join(f"{each.dependency}: {each.last_error or 'not ready'}" for each in outages)
            log.error("gave up waiting for=%r patience_seconds=%.0f", names, ONCE_PATIENCE_S)
        return 1

    def _loop(self, cycle: Cycle) -> int:
        code, delays = 0, growing(*CONNECT_DELAYS_S)
        while not self._stop.is_set():
            due = math.inf if self._once else self._monotonic() + until_next(self._config.poll_interval_s, self._wall())
            report = self._cycle(cycle, due)
            if report is None:
                self._pause(next(delays))
            else:
                delays = growing(*CONNECT_DELAYS_S)
                self.done += 1
                if self._once and report.left_over:
                    code, self.reason = 1, "; ".join(report.texts[:SHOWN_REASONS]) or f"the cycle is {report.outcome}"
                if self._cycles is not None and self.done >= self._cycles:
                    break
                self._wait_for(due, at_once=report.outcome is not CycleOutcome.COMPLETE and report.outstanding > 0)
            if report is None or not self._store.holds_lock():
                if not self._take_lock():
                    return self._given_up()
                cycle.forget_earlier_cycles()  # another collector may have worked in the meantime
        return 0 if self._stop.is_set() else code

    def _cycle(self, cycle: Cycle, due: float) -> CycleReport | None:
        """One cycle and its log line; None when the store failed it, and with it the right to work."""
        now_ms = int(self._now() * 1000)
        try:
            report = cycle.run(now_ms, due)
        except (UnavailableError, ConfigurationError) as error:
            report = self._state.running or CycleReport(start_ms=now_ms)
            report.add(ReasonKind.DEPENDENCY, f"{self._store.outage.dependency}: {error}")
            report.outcome = CycleOutcome.FAILED
            self._systems.counters.add(Count.CYCLES, 1, report.outcome.value)
            self._note(report)
            return None
        self._note(report)
        return report

    def _note(self, report: CycleReport) -> None:
        self._state.add(report)
        failed = report.outcome is CycleOutcome.FAILED
        log.log(logging.WARNING if failed else logging.INFO, "cycle ended %s", report.line())
        if self._stop.is_set():
            return  # what a stop leaves is no trouble
        down = any(each.down for each in self._outages.values())
        for reason in report.reasons:
            # an outage has its own lines: when it begins, once a minute, when it ends
            if not (down and reason.kind in (ReasonKind.DEPENDENCY, ReasonKind.NO_TRY)):
                failed = reason.kind in (ReasonKind.FAILURE, ReasonKind.DEPENDENCY)
                log.warning("cycle failed: %s" if failed else "left for the next cycle: %s", reason)

    def _wait_for(self, due: float, at_once: bool) -> None:
        """Wait for the next cycle's time; one that passed during the cycle is skipped, unless the cycle was cut for it."""
        self._share_watch.look()  # a cycle that is cut time and again leaves no time to wait
        skipped = passed(self._config.poll_interval_s, self._monotonic() - due)
        if skipped:
            self._systems.counters.add(Count.CYCLES_SKIPPED, skipped - at_once)
            if at_once:
                return
            due = self._monotonic() + until_next(self._config.poll_interval_s, self._wall())
        while not self._stop.is_set() and self._store.holds_lock() and self._monotonic() < due:
            self._state.beat()
            self._share_watch.look()
            self._stop.wait(min(GLANCE_S, due - self._monotonic()))

    def _pause(self, seconds: float) -> None:
        self._state.beat()
        self._stop.wait(min(seconds, max(0.0, self._give_up_at - self._monotonic())))

    def _over(self) -> bool:
        return self._stop.is_set() or self._monotonic() >= self._give_up_at
