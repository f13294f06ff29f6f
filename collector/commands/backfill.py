"""`backfill`: publishes a past range of time; the table stays as it is, and its lock is not touched.

Points go the way of the cycle (`pipeline`), so the same one has the same `message_id` whichever of the two published it.
"""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase

from collector.commands import progress_bar, signals, wiring
from collector.commands.nearest import nearest
from collector.commands.resume import backfill_command
from collector.commands.systems import Systems
from collector.config.configuration import Config
from collector.core.counters import Count
from collector.core.errors import AnswerError, ConfigurationError, NoTableError, UnavailableError
from collector.core.model import RecordType, Row, Series, UntrustedRow, iso, resource_fault
from collector.core.shutdown import Stop
from collector.core.text import counted, printable
from collector.cycle.backfill import PastRange, RangeReport
from collector.cycle.plan import settled_ms
from collector.watch.format import duration

log = logging.getLogger(__name__)

SHOWN_REASONS = 5
UNSAID_CUT_MS = 60_000
"""A range that loses less at its end than this, as one up to now may, is cut without a word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The command line: the range `[begin_ms, end_ms)`, what of it, and where it goes."""

    begin_ms: int
    end_ms: int
    interface: str | None = None
    """A pattern of names, as in a shell."""
    record_type: RecordType | None = None
    rate: float | None = None
    sqlite: str | None = None
    to_stdout: bool = False
    env_file: str | None = None

    def command(self, begin_ms: int) -> str:
        """The command line that does the same from `begin_ms` on, quoted for a shell."""
        return backfill_command(**asdict(replace(self, begin_ms=begin_ms)))


def backfill(config: Config, request: Request) -> int:
    """Publish the range; the exit code, 1 when part of it was not published.

    Raises ConfigurationError for a range or a glob that holds nothing, and for a system that refuses us at the start.
    """
    stop = Stop()
    signals.install(stop, code=1)
    systems = wiring.systems(config, sqlite=request.sqlite, stop=stop, rate=request.rate)
    return Backfill(config, request, systems).serve()


class Backfill:
    """Publishes one request's range over three systems."""

    def __init__(
        self, config: Config, request: Request, systems: Systems, *, wall: Callable[[], float] = time.time
    ) -> None:
        self._config, self._request, self._systems = config, request, systems
        self._source, self._store, self._stop = systems.source, systems.store, systems.stop
        self._rules = wiring.rules(config)
        self._wall = wall

    def serve(self) -> int:
        """Publish it; the exit code. Raises ConfigurationError, and AnswerError where the listing is of no use."""
        try:
            left_from_ms = self._work()
        finally:
            self._systems.close()
        return 0 if left_from_ms is None and self._stop.failure is None else 1

    def _work(self) -> int | None:
        """Publish it; where to go on for what was not published, which is also said, however this ends."""
        report = RangeReport(left_from_ms=self._request.begin_ms)
        try:
            self._say_range(self._settled_end_ms())
            names = self._systems.wait(self._names, self._stop.is_set, self._stop.wait, self._config.rmq)
            if names is not None:
                report = self._publish(names)
        except ConfigurationError:
            report.left_from_ms = None
            raise
        finally:
            if report.left_from_ms is not None:
                again = f"; {counted(report.again, 'point')} will come again, with the same message_id" if report.again else ""
                self._say(f"Part of the range was not published. This goes on from there{again}:", logging.WARNING)
                self._say(self._request.command(report.left_from_ms), logging.WARNING)
        return report.left_from_ms

    def _say_range(self, end_ms: int) -> None:
        """The range as it was understood; `--end` may be a day that somebody meant to be part of it."""
        begin_ms = self._request.begin_ms
        length = duration((end_ms - begin_ms) / 1000)
        self._say(f"From {iso(begin_ms)} up to, not including, {iso(end_ms)}, in UTC: {length}.")
        if end_ms < self._request.end_ms - UNSAID_CUT_MS:
            log.warning("the range is cut at %s: later points may be incomplete, by SETTLE_DELAY", iso(end_ms))

    def _names(self) -> list[str]:
        """The names of the table, or of the listing where there is no table. Raises UnavailableError."""
        everybody = self._names_of_table() or list(self._source.list(self._now_ms()).interfaces)
        names = [name for name in everybody if self._config.share.holds(name)]
        glob = self._request.interface
        if glob is None:
            return names
        matching = [name for name in names if fnmatchcase(name, glob)]
        if not matching:
            raise ConfigurationError(
                f"--interface {printable(glob)} matches none of {len(names)} interfaces{nearest(glob, names)}"
            )
        return matching

    def _names_of_table(self) -> list[str]:
        """Each name once, retired ones too, and those of rows that cannot be trusted: their times do not matter here."""
        try:
            self._store.open(create=False)
            table = self._store.read(self._now_ms())
        except NoTableError as error:
            log.warning("going by the listing: %s", error)
            return []
        self._store.close()
        rows: list[Row | UntrustedRow] = [*table.rows, *table.untrusted]
        names = [row.name for row in sorted(rows, key=lambda row: row.id) if not resource_fault(row.name)]
        if not names:
            log.warning("going by the listing: the table is empty")
        return list(dict.fromkeys(names))

    def _settled_end_ms(self) -> int:
        """The range's end, or where the source's points cease to be complete. Raises ConfigurationError when nothing is left."""
        begin_ms, end_ms = self._request.begin_ms, self._request.end_ms
        now_ms = self._source.latest_ms(self._now_ms())
        limit_ms = settled_ms(now_ms, self._rules.settle_ms)
        if begin_ms >= limit_ms:
            raise ConfigurationError(
                f"--begin must be earlier than {iso(limit_ms)}: later points may be incomplete, by SETTLE_DELAY"
            )
        return min(end_ms, limit_ms)

    def _publish(self, names: list[str]) -> RangeReport:
        """Publish the range of these names, and say what became of it."""
        request, end_ms = self._request, self._settled_end_ms()
        record_types = self._config.record_types if request.record_type is None else (request.record_type,)
        series = [Series(0, name, record_type) for name in names for record_type in record_types]
        log.info(
            "backfill begun interfaces=%d series=%d begin=%s end=%s",
            len(names), len(series), iso(request.begin_ms), iso(end_ms),
        )  # fmt: skip
        pipeline = wiring.pipeline(self._config, self._systems)
        began = time.monotonic()
        bar = progress_bar.shown(len(series) * (end_ms - request.begin_ms), lines=self._config.log_format == "json")
        with bar as shown:
            past = PastRange(series, pipeline, self._rules, shown, self._is_there)
            report = past.publish(request.begin_ms, end_ms)
        self._log_report(report, pipeline.flow.unroutable)
        silent = f"; {len(series) - len(report.with_points):,} of {len(series):,} series had none"
        if report.left_from_ms is not None:
            silent = ""  # a series that was not asked for the whole range may have had some
        took = duration(time.monotonic() - began)
        self._say(f"Published {counted(report.points, 'point')} of {counted(len(names), 'interface')} in {took}{silent}.")
        return report

    def _is_there(self) -> bool:
        """Whether the source answers at all."""
        try:
            self._source.list(self._now_ms())
        except (UnavailableError, AnswerError):
            return False
        return True

    def _log_report(self, report: RangeReport, unroutable: list[str]) -> None:
        """Say what went wrong."""
        for reason, count in report.failures.most_common(SHOWN_REASONS):
            log.warning("series given up in a slice count=%d reason=%r example=%r", count, reason, report.examples[reason])
        if len(report.failures) > SHOWN_REASONS:
            log.warning("series given up in a slice for other reasons reasons=%d", len(report.failures) - SHOWN_REASONS)
        for key in unroutable:
            log.error("no queue takes messages exchange=%r routing_key=%r, bind one and go on", self._config.exchange, key)
        if dropped := self._systems.counters.get(Count.POINTS_INVALID):
            log.warning("invalid points were dropped count=%d", dropped)
        if not report.points and report.left_from_ms is None:
            log.warning("%s has no points at all in this range", self._source.name)

    def _say(self, text: str, level: int = logging.INFO) -> None:
        """For the operator: on stdout, unless that is for the messages; in a log of JSON nothing else is on stderr."""
        if self._request.to_stdout and self._config.log_format == "json":
            log.log(level, "%s", text)
            return
        print(text, file=sys.stderr if self._request.to_stdout else sys.stdout, flush=True)

    def _now_ms(self) -> int:
        return int(self._wall() * 1000)
