"""`status`: up to where there are points, who talks and who is silent, and what `--max-lag` makes of it."""

import json
import logging
from collections.abc import Iterable

import pytest

from collector.commands import status, wiring
from collector.commands.lag import RowState, TableLag, Voice, table_lag
from collector.config.configuration import Config
from collector.core import outage
from collector.core.errors import CollectorError, ConfigurationError, NoTableError, UnavailableError
from collector.core.model import RecordType, Row, Table, UntrustedRow
from collector.cycle.rules import Rules
from collector.watch.format import duration, utc
from tests.fakes import HOUR_MS, NOW_MS, FakeStore, resource

TRAFFIC, ERRORS, DISCARDS = RecordType
SETTLE_MS = 900_000
SETTLED_MS = NOW_MS - SETTLE_MS
DAY_S = 86_400.0
CONFIG = Config.from_mapping({}, without={"rmq", "mysql"})
RULES = wiring.rules(CONFIG)


def row(row_id: int, *behind_s: float, until_ms: int | None = None, name: str = "") -> Row:
    """A row of two days, its record types so far behind what is settled; those that are not given have no checkpoint."""
    checkpoints = {each: SETTLED_MS - round(seconds * 1000) for each, seconds in zip(RecordType, behind_s, strict=False)}
    return Row(row_id, name or resource(row_id), NOW_MS - 48 * HOUR_MS, until_ms, checkpoints)


def standing(rows: Iterable[Row], untrusted: tuple[UntrustedRow, ...] = (), rules: Rules = RULES) -> TableLag:
    return table_lag(Table(tuple(rows), untrusted), NOW_MS, rules)


def test_lag_is_that_of_the_series_that_talk_and_the_others_are_counted() -> None:
    rows = [row(1, 60, 0, DAY_S), row(2, 600, 0, DAY_S + 1), row(3, 120, 30), row(4, DAY_S - 0.001, 90_000)]
    lag = standing(rows).by_record_type()
    assert {key: (each.talking, each.median_s, each.worst_s, each.silent, each.no_points_yet) for key, each in lag.items()} == {
        TRAFFIC: (4, 360, DAY_S - 0.001, 0, 0),
        ERRORS: (3, 0, 30, 1, 0),
        DISCARDS: (0, None, None, 2, 2),
    }


def test_checkpoint_ahead_of_what_is_settled_is_not_behind() -> None:
    assert standing([row(1, -300, -300, -300)]).by_record_type()[TRAFFIC].worst_s == 0


@pytest.mark.parametrize(("late_s", "voice"), [(2400, Voice.TALKING), (2401, Voice.SILENT)])
def test_every_series_with_a_checkpoint_talks_where_late_data_is_hardly_longer_than_two_intervals(
    late_s: float, voice: Voice
) -> None:
    rules = wiring.rules(Config.from_mapping({"LATE_DATA": str(late_s)}, without={"rmq", "mysql"}))
    found = standing([row(1, 90_000)], rules=rules).active()
    assert [each.voice for _, each in found] == [voice, Voice.UNHEARD, Voice.UNHEARD]


def test_retired_rows_do_not_count_in_the_lag_of_active_ones() -> None:
    until_ms = SETTLED_MS - HOUR_MS
    found = standing([row(1, 60, 60, 60), row(2, 7200, 7200, 7200, until_ms=until_ms)])
    assert [lag.worst_s for lag in found.by_record_type().values()] == [60] * 3
    assert [each.state for each in found.rows] == [RowState.ACTIVE, RowState.DRAINING]
    assert [each.behind_s for each in found.rows[1].positions] == [3600] * 3
    assert standing([row(1, 3600, 3600, 3600, until_ms=until_ms)]).rows[0].state is RowState.RETIRED


def test_row_that_is_not_collected_is_neither_behind_nor_silent() -> None:
    rows = (row(1, 60, 60, 60), row(2, 9000, 9000, 9000, name=resource(1)))
    found = standing(rows)
    assert [each.state for each in found.rows] == [RowState.ACTIVE, RowState.DOUBLE]
    assert found.by_record_type()[TRAFFIC].talking == 1


def test_furthest_behind_come_first_and_neither_the_punctual_nor_the_silent_are_among_them() -> None:
    found = standing([row(1, 5, 0, 0), row(2, 50, 7, 0), row(3, 0, 0, 90_000)])
    assert [each.behind_s for _, each in found.furthest(10)] == [50, 7, 5]
    assert [each.behind_s for _, each in found.furthest(2)] == [50, 7]


def test_max_lag_judges_the_median_of_the_talking_series_of_each_record_type() -> None:
    rows = [row(1, 100, 10, 0), row(2, 300, 10, 90_000), row(3, 5000, 10, 90_000)]
    assert status.judge(standing(rows), 300) == []
    faults = status.judge(standing(rows), 299)
    assert [fault.partition(":")[0] for fault in faults] == ["traffic"]
    assert "300 s" in faults[0]


def test_max_lag_fails_where_series_have_checkpoints_and_none_talks() -> None:
    assert status.judge(standing([row(1, 90_000), row(2)]), 1e9) == ["none of the 1 series that have had points talks"]
    assert status.judge(standing([row(1), row(2)]), 0) == []
    assert status.judge(standing([row(1, 90_000, 0)]), 60) == []


def test_max_lag_fails_where_no_row_can_be_trusted() -> None:
    nothing = standing([], untrusted=(UntrustedRow(1, resource(1), "status is '2'"),))
    assert status.judge(nothing, 60) == ["none of the 1 rows can be trusted"]


def test_max_lag_holds_for_an_empty_table() -> None:
    assert status.judge(standing([]), 0) == []


def test_overview_shows_every_state_the_lag_the_furthest_and_the_untrusted() -> None:
    rows = [row(1, 60, 30, 90_000), row(2, 3600, 3600, 3600, until_ms=SETTLED_MS - HOUR_MS)]
    text = "\n".join(status.overview_lines(standing(rows, untrusted=(UntrustedRow(9, "x\u202e", "status is '7'"),))))
    lines = [line.split() for line in text.splitlines()]
    assert ["interfaces", "active", "draining", "retired", "untrusted"] in lines
    assert ["1", "0", "1", "1"] in lines
    assert ["traffic", "1", *duration(60).split(), *duration(60).split(), "0", "0"] in lines
    assert ["discards", "0", "-", "-", "1", "0"] in lines
    assert f"{resource(1)}" in text
    assert "row 9: cannot be trusted and is left alone, status is '7': x\\u202e" in text


@pytest.mark.parametrize(
    ("behind_s", "told"),
    [
        ((), "no points yet"),
        ((60,), f"points up to {utc(SETTLED_MS - 60_000)} UTC ({SETTLED_MS - 60_000}), 1 min behind"),
        ((7200,), "2 h behind: silent, or not collected, since then"),
        ((DAY_S,), "silent for more than 1 d, checkpoint"),
    ],
)
def test_a_series_is_explained_by_up_to_where_it_has_points(behind_s: tuple[float, ...], told: str) -> None:
    line = status.explanation_lines(resource(1), standing([row(1, *behind_s)]), RULES)[4]
    assert line.startswith("  traffic")
    assert told in line


class Printed:
    """Calls the command over a fake store, as the command line does."""

    def __init__(self, store: FakeStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.store = store
        self.out = ""
        self._capsys = capsys
        monkeypatch.setattr(wiring, "store", lambda *_: store)
        monkeypatch.setattr(logging.getLogger(outage.__name__), "disabled", False)
        monkeypatch.setattr("time.time", lambda: NOW_MS / 1000)

    def run(
        self, *, as_json: bool = False, max_lag_s: float | None = None, name: str | None = None, config: Config = CONFIG
    ) -> int:
        code = status.status(config, sqlite="file", as_json=as_json, max_lag_s=max_lag_s, name=name)
        self.out = self._capsys.readouterr().out
        return code


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    rows = [row(1, 60, 30, 0), row(2, 120, 0, 0), row(3, 600, 0, 0, until_ms=SETTLED_MS)]
    return Printed(FakeStore(*rows), monkeypatch, capsys)


def test_status_reads_and_neither_creates_nor_locks_nor_writes(printed: Printed) -> None:
    assert printed.run() == 0
    assert printed.store.journal == ["open", "read"]


def test_json_has_the_figures_of_the_text(printed: Printed) -> None:
    assert printed.run(as_json=True, max_lag_s=1000) == 0
    figures = json.loads(printed.out)
    assert figures["database"] == "file"
    assert figures["interfaces"] == {"active": 2, "draining": 1, "retired": 0, "double": 0, "untrusted": 0}
    expected = {"talking": 2, "median_s": 90.0, "worst_s": 120.0, "silent": 0, "no_points_yet": 0}
    assert figures["lag"]["traffic"] == expected
    assert [each["behind_s"] for each in figures["furthest_behind"]] == [120.0, 60.0, 30.0]
    assert (figures["max_lag_s"], figures["faults"]) == (1000, [])


def test_max_lag_says_why_on_the_first_line_of_stdout_and_nowhere_else(
    printed: Printed, caplog: pytest.LogCaptureFixture
) -> None:
    assert printed.run(max_lag_s=89) == 1
    assert printed.out.splitlines()[0].startswith("LATE: traffic: the median of 2 talking series is 90 s behind")
    assert caplog.messages == []
    assert printed.run(max_lag_s=90) == 0
    assert printed.out.splitlines()[:2] == ["ok: within 90 s", "file"]
    assert printed.run(as_json=True, max_lag_s=89) == 1
    assert json.loads(printed.out)["faults"][0].startswith("traffic: ")
    printed.store.errors["open"] = UnavailableError("no route")
    assert printed.run(max_lag_s=89) == 1
    assert printed.out == "the database cannot be read: no route\n"


def test_name_is_explained_alone(printed: Printed) -> None:
    assert printed.run(name=resource(2)) == 0
    line = next(line for line in printed.out.splitlines() if line.strip().startswith("traffic"))
    assert f"({SETTLED_MS - 120_000})" in line
    assert resource(1) not in printed.out


def test_name_is_explained_as_json(printed: Printed) -> None:
    assert printed.run(name=resource(3), as_json=True) == 0
    explained = json.loads(printed.out)
    assert [(each["id"], each["state"]) for each in explained["rows"]] == [(3, "draining")]
    series = {each["record_type"]: each for each in explained["rows"][0]["series"]}
    assert series["traffic"] == {
        "record_type": "traffic", "checkpoint_ms": SETTLED_MS - 600_000, "behind_s": 600.0, "voice": "talking",
    }  # fmt: skip


def test_status_speaks_of_its_share_alone(printed: Printed, caplog: pytest.LogCaptureFixture) -> None:
    found = 0
    for number in (1, 2):
        config = Config.from_mapping({"SHARD": f"{number}/2"}, without={"rmq", "mysql"})
        printed.run(as_json=True, config=config)
        found += json.loads(printed.out)["interfaces"]["active"]
        other = next(resource(each) for each in (1, 2, 3) if not config.share.holds(resource(each)))
        assert printed.run(name=other, config=config) == 1
        assert f"share {number}/2, which it does not belong to" in caplog.messages[-1]
    assert found == 2


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
