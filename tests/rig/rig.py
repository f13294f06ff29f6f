"""A collector's whole surroundings in one object: start it, disturb it, and ask whether the promise holds."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.server import wall_ms
from tests.rig.bus import Bus
from tests.rig.heard import Heard
from tests.rig.invariant import Counts, Starts, check_invariant, starts_of
from tests.rig.running import Collector
from tests.rig.tables import RECORD_TYPES, Table
from tests.servers.ports import free_port
from tests.simulation import FaultySimulation
from tests.simulation.faults import Behaviour

SETTINGS = {
    "POLL_INTERVAL": "1",
    "SETTLE_DELAY": "0",
    "METRICS_PORT": "0",
    "NETBEAM_CONCURRENCY": "8",
}
"""Of every collector, unless a test says otherwise; what is not here has the collector's own default."""


class Rig:
    """A simulated Netbeam in this process, a table, a bus (None: `--stdout`), and the collectors that a test starts.

    At the end every collector is killed, and its output must hold neither a traceback nor a secret.
    """

    def __init__(
        self,
        network: SimulatedNetwork,
        table: Table,
        bus: Bus | None = None,
        *,
        clock: Callable[[], int] = wall_ms,
        behaviour: Behaviour | None = None,
        record: bool = False,
        directory: Path | None = None,
        settings: Mapping[str, str] | None = None,
        **more_settings: object,
    ) -> None:
        self.network, self.table, self.bus = network, table, bus
        self.simulation = FaultySimulation(network, clock=clock, behaviour=behaviour, port=free_port(), record=record)
        self.clock = clock
        self.settings = {**SETTINGS, **(settings or {}), **{name: str(value) for name, value in more_settings.items()}}
        self.collectors: list[Collector] = []
        self.starts: dict[tuple[int, str], int] = {}
        """See invariant.Starts."""
        self._heard = Heard()
        self._scratch = None if directory else tempfile.TemporaryDirectory(prefix="esnet-rig-")
        self.directory = directory or Path(self._scratch.name if self._scratch else "")
        self.directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Rig":
        self.simulation.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for each in self.collectors:
            each.thaw()
            each.kill()
        self.simulation.stop()
        if self.bus and kind is None:
            self.bus.close()
        if kind is None:
            for each in self.collectors:
                each.check_output(self.secrets)
        if self._scratch:
            self._scratch.cleanup()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may never be printed."""
        return (*self.table.secrets, *(self.bus.secrets if self.bus else ()))

    @property
    def behaviour(self) -> Behaviour:
        """How Netbeam behaves; change it at any time."""
        return self.simulation.behaviour

    def environment(self, **settings: object) -> dict[str, str]:
        """A collector's environment, with these settings on top; None takes one away."""
        made = {
            "NETBEAM_URL": self.simulation.url,
            **self.table.environment,
            **(self.bus.environment if self.bus else {}),
            **self.settings,
            **{name: "" if value is None else str(value) for name, value in settings.items()},
        }
        return {name: value for name, value in made.items() if settings.get(name, "") is not None}

    def start(self, *words: str, env_file: str | None = "", **settings: object) -> Collector:
        """Start a collector (`run` and the table's and the bus's options when no words are given) and do not wait.

        `env_file`: its content, by default empty, so that a `.env` of whoever runs the tests does not count; None: no file.
        """
        if not words:
            words = ("run",)
        words = (*words, *self.table.words, *(() if self.bus else ("--stdout",)))
        if env_file is not None:
            path = self.directory / f"settings-{len(self.collectors)}.env"
            path.write_text(env_file)
            words = (*words, "--env-file", str(path))
        collector = Collector(words, self.environment(**settings), self.directory)
        self.collectors.append(collector)
        return collector

    def once(
        self, *, expect: int | None = 0, timeout_s: float = 60.0, env_file: str | None = "", **settings: object
    ) -> Collector:
        """`run --once` from start to end. Raises AssertionError unless it ends with this exit code (None: any)."""
        collector = self.start("run", "--once", env_file=env_file, **settings)
        code = collector.wait(timeout_s)
        assert expect is None or code == expect, f"exit code {code}, not {expect}\n{collector.tail()}"
        return collector

    def heard(self) -> Heard:
        """Everything that is on the bus by now."""
        if self.bus:
            return self.bus.drain()
        self._heard = Heard()
        for each in self.collectors:
            for line in each.stdout.splitlines(keepends=True):
                if line.endswith("\n"):  # a killed collector may leave a line unfinished
                    self._heard.take_line(line)
        return self._heard

    def remember_starts(self) -> None:
        """Take the checkpoints that rows have now as the start of their collection: for rows that a test made by hand."""
        for row, record_type, _ in starts_of(self.table.rows(), self.lookback_s):
            until = row.until[record_type]
            if until is not None:
                self.starts[row.id, record_type] = int(until)

    @property
    def lookback_s(self) -> float:
        """INITIAL_LOOKBACK of this rig's collectors."""
        return float(self.settings.get("INITIAL_LOOKBACK", 1800))

    def check(self, *, starts: Starts | None = None) -> Counts:
        """The invariant, with or without a collector at work: the table first, then the bus. Raises InvariantError."""
        rows = self.table.rows()
        now_ms = self.clock()
        given = {**self.starts, **(starts or {})}
        return check_invariant(
            self.network, rows, self.heard(), lookback_s=self.lookback_s, starts=given, now_ms=now_ms
        )

    def check_exactly(self, *, starts: Starts | None = None) -> Counts:
        """The invariant, and beyond it: no point came twice, none that no checkpoint covers, every series in its order."""
        counts = self.check(starts=starts)
        heard = self.heard()
        # the end of an old row and the beginning of the next one of its name may come in one cycle, in any order
        rows = Counter(row.name for row in self.table.rows())
        out_of_order = {name: count for name, count in heard.out_of_order.items() if rows[name] == 1}
        found = (counts.duplicates, counts.beyond, out_of_order)
        assert found == (0, 0, {}), f"duplicates, beyond, out of order: {found}; {counts}"
        return counts

    def checkpoints(self, *record_types: str) -> set[str | None]:
        """The checkpoints of all active rows that have points: one value when everything is collected up to one time."""
        rows = [row for row in self.table.rows() if row.active and not self.network.silent(row.name)]
        return {row.until[each] for row in rows for each in record_types or RECORD_TYPES}
