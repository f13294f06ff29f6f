"""`status`: where the table stands, what is late, and what `--max-lag` makes of it. The clock is an argument."""

import json
import logging
from collections.abc import Iterable

import pytest

from collector.commands import status, wiring
from collector.commands.lag import Standing, State, stand
from collector.config.configuration import Config
from collector.core.errors import CollectorError, ConfigurationError, NoTableError, UnavailableError
from collector.core.model import RecordType, Row, Table, UntrustedRow
from collector.cycle.plan import PlanRules
from collector.watch.format import duration, utc
from tests.fakes import HOUR_MS, NOW_MS, FakeStore, resource

TRAFFIC, ERRORS, DISCARDS = RecordType
SETTLE_MS = 900_000
DUE_MS = NOW_MS - SETTLE_MS
LATE_AFTER_S = 5400.0
RULES = PlanRules(tuple(RecordType), SETTLE_MS, 1_800_000, 6 * HOUR_MS, 720 * HOUR_MS)
ONLY_TRAFFIC = PlanRules((TRAFFIC,), SETTLE_MS, 1_800_000, 6 * HOUR_MS, 720 * HOUR_MS)
CONFIG = Config.from_mapping({}, without={"rmq", "mysql"})


def row(row_id: int, *behind_s: float, until_ms: int | None = None, name: str = "") -> Row:
    """A row a day old, its record types so far behind what is due; those that are not given have no checkpoint."""
    checkpoints = {each: DUE_MS - round(seconds * 1000) for each, seconds in zip(RecordType, behind_s, strict=False)}
    return Row(row_id, name or resource(row_id), NOW_MS - 24 * HOUR_MS, until_ms, checkpoints)


def standing(rows: Iterable[Row], rules: PlanRules = RULES, untrusted: tuple[UntrustedRow, ...] = ()) -> Standing:
    return stand(Table(tuple(rows), untrusted), NOW_MS, rules, LATE_AFTER_S)


def test_lag_is_measured_by_record_type_from_now_less_the_settle_delay() -> None:
    lag = standing([row(1, 60, 0, 10), row(2, 600, 0, 20), row(3, 120, 30, 30)]).lag()
    assert {key: (each.worst_s, each.median_s, each.series) for key, each in lag.items()} == {
        TRAFFIC: (600, 120, 3),
        ERRORS: (30, 0, 3),
        DISCARDS: (30, 20, 3),
    }


def test_checkpoint_ahead_of_what_is_due_is_not_behind() -> None:
    assert standing([row(1, -300, -300, -300)]).lag()[TRAFFIC].worst_s == 0


def test_series_without_a_checkpoint_counts_from_where_it_begins() -> None:
    young = Row(1, resource(1), DUE_MS)
    assert [each.behind_s for each in standing([young]).positions(State.ACTIVE)] == [1800] * 3


def test_series_without_a_checkpoint_does_not_go_back_behind_an_earlier_row_of_its_name() -> None:
    earlier = row(1, 600, 600, 600, until_ms=DUE_MS - 600_000)
    again = Row(2, earlier.name, DUE_MS - 300_000)
    assert [each.behind_s for each in standing([earlier, again]).positions(State.ACTIVE)] == [600] * 3


@pytest.mark.parametrize(
    ("reached_s", "late"),
    [(LATE_AFTER_S, False), (LATE_AFTER_S + 0.001, True), (0, False)],
)
def test_series_is_late_beyond_the_idle_backoff_and_two_intervals(reached_s: float, late: bool) -> None:
    assert bool(standing([row(1, reached_s, 0, 0)]).late) == late


@pytest.mark.parametrize(
    ("until_h", "behind_h", "state", "behind_s", "late"),
    [
        (0.5, 0.5, State.RETIRED, 0, False),
        (0.5, 0.4, State.RETIRED, 0, False),
        (0.5, 1.0, State.DRAINING, 1800, False),
        (3.0, 3.5, State.DRAINING, 1800, True),
    ],
    ids=["at its end", "beyond its end", "half an hour short of its end", "short of an end that is long past"],
)
def test_retired_row_is_measured_by_its_end(until_h: float, behind_h: float, state: State, behind_s: float, late: bool) -> None:
    retired = row(1, behind_h * 3600, until_ms=DUE_MS - round(until_h * HOUR_MS))
    found = standing([retired], ONLY_TRAFFIC)
    assert [each.state for each in found.rows] == [state]
    assert [(each.behind_s, each.late) for each in found.rows[0].positions] == [(behind_s, late)]


def test_draining_rows_do_not_count_in_the_lag_of_active_series() -> None:
    rows = [row(1, 60, 60, 60), row(2, 7200, 7200, 7200, until_ms=DUE_MS - HOUR_MS)]
    assert [lag.worst_s for lag in standing(rows).lag().values()] == [60] * 3


def test_second_active_row_of_a_name_is_neither_behind_nor_late() -> None:
    found = standing([row(1, 60, 60, 60), row(2, 9000, 9000, 9000, name=resource(1))])
    assert [each.state for each in found.rows] == [State.ACTIVE, State.DOUBLE]
    assert (found.late, found.lag()[TRAFFIC].series) == ([], 1)


def test_furthest_behind_come_first_and_the_punctual_are_left_out() -> None:
    found = standing([row(1, 5, 0, 0), row(2, 50, 7, 0), row(3, 0, 0, 0)])
    assert [each.behind_s for each in found.furthest(10)] == [50, 7, 5]
    assert [each.behind_s for each in found.furthest(2)] == [50, 7]


def test_max_lag_fails_where_no_row_can_be_trusted() -> None:
    nothing = Standing(NOW_MS, DUE_MS, 60.0, (), (UntrustedRow(1, resource(1), "status is '2'"),))
    assert status.judge(nothing, 60) == ["none of the 1 rows can be trusted"]


def test_max_lag_judges_the_median_of_each_record_type() -> None:
    rows = [row(1, 100, 10, 0), row(2, 300, 10, 0), row(3, 5000, 10, 4000)]
    assert status.judge(standing(rows), 300) == []
    faults = status.judge(standing(rows), 299)
    assert [fault.partition(":")[0] for fault in faults] == ["traffic"]
    assert "300 s" in faults[0]


def test_max_lag_fails_for_one_late_series_however_good_the_median() -> None:
    faults = status.judge(standing([row(1, 0, 0, 0), row(2, 0, 0, 0), row(3, 0, 6000, 0)]), 10_000)
    assert len(faults) == 1
    assert "1 series is late" in faults[0]
    assert f"{resource(3)} errors" in faults[0]


def test_max_lag_holds_for_an_empty_table() -> None:
    assert status.judge(standing([]), 0) == []


def test_overview_shows_every_state_the_lag_and_the_furthest() -> None:
    rows = [row(1, 60, 30, 0), row(2, 0, 0, 0, until_ms=DUE_MS - HOUR_MS), row(3, 9000, 9000, 9000, until_ms=DUE_MS - HOUR_MS)]
    text = "\n".join(status.overview_lines(standing(rows, untrusted=(UntrustedRow(9, "x", "status is '7'"),))))
    counts = [line.split() for line in text.splitlines()]
    assert ["interfaces", "active", "draining", "retired", "untrusted"] in counts
    assert ["1", "1", "1", "1"] in counts
    assert ["traffic", *duration(60).split(), *duration(60).split(), "1"] in counts
    assert f"late series: 3 (more than {duration(LATE_AFTER_S)} behind)" in text
    assert f"{resource(3)}" in text


def test_overview_of_an_empty_table_is_printed_all_the_same() -> None:
    assert f"late series: 0 (more than {duration(LATE_AFTER_S)} behind)" in status.overview_lines(standing([]))


class Printed:
    """Calls the command over a fake store, as the command line does."""

    def __init__(self, store: FakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self.out = ""
        self._capsys = capsys
        monkeypatch.setattr(wiring, "store", lambda *_: store)
        monkeypatch.setattr("time.time", lambda: NOW_MS / 1000)

    def run(self, *, as_json: bool = False, max_lag_s: float | None = None, name: str | None = None) -> int:
        code = status.status(CONFIG, sqlite="file", as_json=as_json, max_lag_s=max_lag_s, name=name)
        self.out = self._capsys.readouterr().out
        return code


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    rows = [row(1, 60, 30, 0), row(2, 120, 0, 0), row(3, 600, 0, 0, until_ms=DUE_MS)]
    return Printed(FakeStore(*rows), monkeypatch, capsys)


def test_status_reads_and_neither_creates_nor_locks_nor_writes(printed: Printed) -> None:
    assert printed.run() == 0
    assert printed.store.journal == ["open", "read"]


def test_json_has_the_figures_of_the_text(printed: Printed) -> None:
    assert printed.run(as_json=True, max_lag_s=1000) == 0
    figures = json.loads(printed.out)
    assert figures["interfaces"] == {"active": 2, "draining": 1, "retired": 0, "double": 0, "untrusted": 0}
    assert figures["lag"]["traffic"] == {"worst_s": 120.0, "median_s": 90.0, "series": 2, "late": 0}
    assert [each["behind_s"] for each in figures["furthest_behind"]] == [600.0, 120.0, 60.0, 30.0]
    assert (figures["late"], figures["max_lag_s"], figures["faults"]) == (0, 1000, [])


def test_json_says_why_max_lag_failed(printed: Printed, caplog: pytest.LogCaptureFixture) -> None:
    assert printed.run(as_json=True, max_lag_s=89) == 1
    assert json.loads(printed.out)["faults"] == caplog.messages
    assert "traffic" in caplog.messages[0]


def test_name_is_explained_with_its_checkpoints_and_what_is_due_next(printed: Printed) -> None:
    assert printed.run(name=resource(2)) == 0
    checkpoint_ms = DUE_MS - 120_000
    line = next(line for line in printed.out.splitlines() if line.strip().startswith("traffic"))
    assert f"({checkpoint_ms})" in line.partition("due next")[0]
    assert f"({checkpoint_ms})" in line.partition("due next")[2]
    assert f"({DUE_MS})" in line
    assert f"{duration(120)} behind  not late" in line
    assert resource(1) not in printed.out


def test_name_is_explained_as_json(printed: Printed) -> None:
    assert printed.run(name=resource(3), as_json=True) == 0
    explained = json.loads(printed.out)
    assert [(each["id"], each["state"]) for each in explained["rows"]] == [(3, "draining")]
    series = {each["record_type"]: each for each in explained["rows"][0]["series"]}
    assert series["traffic"]["due"] == {"begin_ms": DUE_MS - 600_000, "end_ms": DUE_MS}
    assert series["errors"]["due"] is None


def test_due_window_is_no_longer_than_a_window_may_be(printed: Printed) -> None:
    printed.store.rows[4] = row(4, 100 * 3600, 0, 0)
    printed.run(name=resource(4), as_json=True)
    due = json.loads(printed.out)["rows"][0]["series"][0]["due"]
    assert due["end_ms"] - due["begin_ms"] == 48 * HOUR_MS


def test_untrusted_row_of_the_name_is_explained_with_its_reason(printed: Printed) -> None:
    printed.store.untrusted = (UntrustedRow(9, "devices/x/interfaces/1", "status is '7', neither '0' nor '1'"),)
    assert printed.run(name="devices/x/interfaces/1") == 0
    assert "row 9: cannot be trusted and is left alone, status is '7'" in printed.out


def test_unknown_name_fails_with_the_nearest_ones(printed: Printed, caplog: pytest.LogCaptureFixture) -> None:
    assert printed.run(name="TEST-CR2/interfaces/2/1") == 1
    assert printed.out == ""
    assert caplog.messages[0].endswith(f"the nearest: {resource(2)}, {resource(3)}, {resource(1)}")


def test_names_are_told_apart_by_case(printed: Printed) -> None:
    assert printed.run(name=resource(2).upper()) == 1


@pytest.mark.parametrize("method", ["open", "read"])
@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("db:3306: Connection refused"),
        ConfigurationError("db:3306: Access denied"),
        NoTableError("no table esnet_interfaces"),
    ],
)
def test_database_that_cannot_be_read_is_one_line_and_a_failure(
    printed: Printed, caplog: pytest.LogCaptureFixture, method: str, error: CollectorError
) -> None:
    printed.store.errors[method] = error
    assert printed.run(as_json=True) == 1
    assert printed.out == ""
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.ERROR, f"the database cannot be read: {error}")
    ]


def test_series_that_is_up_to_date_says_where_it_goes_on() -> None:
    line = status.explanation_lines(resource(1), standing([row(1, 0, 0, 0)]), {})[-1]
    assert f"nothing is due yet, next: {utc(DUE_MS)}" in line
