"""Which windows are due."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import FIRST_MS, RecordType, Row, Series, Window
from collector.cycle.plan import Span, begin_of, collected, settled_ms, spans
from tests import world
from tests.fakes import HOUR_MS, MINUTE_MS, NOW_MS

TRAFFIC, ERRORS = RecordType.TRAFFIC, RecordType.ERRORS
DAY_MS = 24 * HOUR_MS
RULES = dataclasses.replace(world.RULES, max_backlog_ms=30 * DAY_MS)
SETTLED = NOW_MS - 900_000
LISTED = NOW_MS - HOUR_MS


def at(checkpoint_ms: int, row_id: int = 1, name: str = "a", until_ms: int | None = None) -> Row:
    return Row(row_id, name, LISTED, until_ms, {TRAFFIC: checkpoint_ms})


@pytest.mark.parametrize(
    ("now_ms", "settle_ms", "settled"),
    [
        (NOW_MS, 900_000, NOW_MS - 900_000),
        (NOW_MS + MINUTE_MS - 1, 900_000, NOW_MS - 900_000),
        (NOW_MS + 1, 0, NOW_MS),
        (NOW_MS + 500, 1000, NOW_MS - MINUTE_MS),
    ],
)
def test_windows_end_a_settle_delay_ago_on_the_minute(now_ms: int, settle_ms: int, settled: int) -> None:
    assert settled_ms(now_ms, settle_ms) == settled


@pytest.mark.parametrize(
    ("rows", "begin_ms", "end_ms"),
    [
        ([Row(1, "a", LISTED)], LISTED - 1_800_000, SETTLED),
        ([at(SETTLED - 12_345)], SETTLED - 12_345, SETTLED),
        ([at(SETTLED - 1)], SETTLED - 1, SETTLED),
        ([at(SETTLED)], None, None),
        ([at(SETTLED + 1)], None, None),
        ([Row(1, "a", NOW_MS)], NOW_MS - 1_800_000, SETTLED),
        ([Row(1, "a", LISTED, LISTED + 777)], LISTED - 1_800_000, LISTED + 777),
        ([at(SETTLED - 5000, until_ms=SETTLED - 777)], SETTLED - 5000, SETTLED - 777),
        ([at(SETTLED - 5000, until_ms=SETTLED + 777)], SETTLED - 5000, SETTLED),
        ([at(SETTLED - 777, until_ms=SETTLED - 777)], None, None),
        ([at(SETTLED - 776, until_ms=SETTLED - 777)], None, None),
    ],
)
def test_window_goes_from_the_checkpoint_or_the_lookback_to_the_settled_time_or_the_row_s_end(
    rows: list[Row], begin_ms: int | None, end_ms: int | None
) -> None:
    due = spans(rows, {}, NOW_MS, RULES)
    assert [(span.begin_ms, span.end_ms) for span in due] == ([] if begin_ms is None else [(begin_ms, end_ms)])


@pytest.mark.parametrize(
    ("earlier", "begin_ms"),
    [
        ([], LISTED - 1_800_000),
        ([Row(1, "a", 0, LISTED - DAY_MS - 1)], LISTED - 1_800_000),
        ([Row(1, "a", 0, LISTED - DAY_MS)], LISTED - DAY_MS),
        ([Row(1, "a", 0, LISTED - 60_001)], LISTED - 60_001),
        ([Row(1, "a", 0, LISTED - 2 * HOUR_MS, {TRAFFIC: LISTED - 9})], LISTED - 9),
        ([Row(1, "a", 0, LISTED - 2 * HOUR_MS, {ERRORS: LISTED - 9})], LISTED - 2 * HOUR_MS),
        ([Row(1, "a", 0, LISTED - 8), Row(2, "a", 0, LISTED - 7), Row(3, "a", 0, LISTED - 9)], LISTED - 7),
        ([Row(10, "a", 0, LISTED - 7)], LISTED - 1_800_000),
    ],
)
def test_row_without_checkpoint_begins_where_its_name_ended_unless_that_is_long_ago(earlier: list[Row], begin_ms: int) -> None:
    assert begin_of(Row(9, "a", LISTED), TRAFFIC, earlier, RULES) == begin_ms


def test_a_long_lookback_still_does_not_go_back_behind_an_earlier_row() -> None:
    rules = dataclasses.replace(RULES, lookback_ms=40 * DAY_MS, late_ms=0)
    assert begin_of(Row(9, "a", LISTED), TRAFFIC, [Row(1, "a", 0, LISTED - 2 * DAY_MS)], rules) == LISTED - 2 * DAY_MS


def test_drained_rows_of_a_name_count_though_the_table_leaves_them_out() -> None:
    row = Row(9, "a", LISTED)
    (span,) = spans([row], {"a": (Row(1, "a", 0, LISTED - 7), row)}, NOW_MS, RULES)
    assert span.begin_ms == LISTED - 7


@pytest.mark.parametrize(
    ("later", "collected_still"),
    [
        (Row(2, "a", LISTED), True),
        (Row(2, "a", LISTED, None, {TRAFFIC: LISTED - 60_000}), True),
        (Row(2, "a", LISTED, None, {TRAFFIC: LISTED - 59_999}), False),
        (Row(2, "a", LISTED, None, {ERRORS: LISTED + 60_000}), True),
    ],
)
def test_a_later_row_of_the_name_that_has_had_points_supersedes_a_retired_one(later: Row, collected_still: bool) -> None:
    row = Row(1, "a", LISTED - DAY_MS, LISTED - 60_000, {TRAFFIC: LISTED - HOUR_MS})
    assert [span.superseded for span in spans([row, later], {}, NOW_MS, RULES)] == [not collected_still, False]


def test_checkpoint_counts_even_behind_an_earlier_row() -> None:
    assert begin_of(at(LISTED - HOUR_MS, 9), TRAFFIC, [Row(1, "a", 0, LISTED)], RULES) == LISTED - HOUR_MS


def test_lookback_ends_where_times_of_13_digits_begin() -> None:
    unlimited = dataclasses.replace(RULES, lookback_ms=2 * NOW_MS, max_backlog_ms=0)
    (span,) = spans((Row(1, "a", LISTED),), {}, NOW_MS, unlimited)
    assert span.window(RULES.max_window_ms).begin_ms == FIRST_MS


def test_row_s_series_come_by_record_type_with_their_own_checkpoints() -> None:
    rules = dataclasses.replace(RULES, record_types=(ERRORS, TRAFFIC))
    rows = (Row(2, "b", LISTED, None, {TRAFFIC: SETTLED - 5, ERRORS: SETTLED - 6}), at(SETTLED - 7, 1))
    due = spans(rows, {}, NOW_MS, rules)
    assert [(span.series.name, span.series.record_type, SETTLED - span.begin_ms) for span in due] == [
        ("a", ERRORS, SETTLED - LISTED + 1_800_000), ("a", TRAFFIC, 7), ("b", ERRORS, 6), ("b", TRAFFIC, 5)
    ]  # fmt: skip


def test_of_two_active_rows_of_one_name_the_lower_id_is_collected() -> None:
    rows = [at(SETTLED - 5, 3), at(SETTLED - 9, 2), at(SETTLED - 7, 1, until_ms=SETTLED - 6), at(SETTLED - 4, 4, "A")]
    found = {row.id: [each.id for each in family] for row, family in collected(rows)}
    assert found == {1: [1, 2, 3], 2: [1, 2, 3], 4: [4]}


@pytest.mark.parametrize(
    ("behind_ms", "limit_ms", "skipped"),
    [(DAY_MS, DAY_MS, False), (DAY_MS + 1, DAY_MS, True), (DAY_MS * 5000, 0, False)],
)
def test_series_further_behind_than_the_backlog_s_limit_starts_there(behind_ms: int, limit_ms: int, skipped: bool) -> None:
    rules = dataclasses.replace(RULES, max_backlog_ms=limit_ms)
    begin_ms = SETTLED - behind_ms
    (span,) = spans((at(begin_ms),), {}, NOW_MS, rules)
    assert span.begin_ms == (SETTLED - limit_ms if skipped else begin_ms)
    assert span.skipped_from_ms == (begin_ms if skipped else None)


@given(
    begin_ms=st.integers(SETTLED - 40 * DAY_MS, SETTLED - 1),
    most_ms=st.lists(st.integers(DAY_MS // 4, 3 * DAY_MS), min_size=1, max_size=5),
)
def test_windows_tile_their_span_exactly(begin_ms: int, most_ms: list[int]) -> None:
    left: Span | None = Span(Series(1, "a", TRAFFIC), begin_ms, SETTLED)
    tiles: list[Window] = []
    while left:
        tiles.append(left.window(most_ms[len(tiles) % len(most_ms)]))
        left = left.after(tiles[-1])
    edges = [begin_ms, *(tile.end_ms for tile in tiles)]
    assert [tile.begin_ms for tile in tiles] == edges[:-1]
    assert edges[-1] == SETTLED
    assert all(tile.end_ms - tile.begin_ms <= max(most_ms) for tile in tiles)


instants = st.integers(NOW_MS - 50 * DAY_MS, NOW_MS + DAY_MS)
checkpoints = st.fixed_dictionaries({}, optional={TRAFFIC: instants, ERRORS: instants})
rows = st.builds(Row, st.integers(1, 9), st.sampled_from("ab"), instants, st.none() | instants, checkpoints)


@given(table=st.lists(rows, max_size=6, unique_by=lambda row: row.id), backlog_ms=st.sampled_from([0, DAY_MS, 30 * DAY_MS]))
def test_of_any_table_each_span_is_settled_within_its_row_and_unique(table: list[Row], backlog_ms: int) -> None:
    rules = dataclasses.replace(RULES, record_types=(TRAFFIC, ERRORS), max_backlog_ms=backlog_ms)
    due = spans(table, {}, NOW_MS, rules)
    assert len({span.series for span in due}) == len(due)
    by_id = {row.id: row for row in table}
    for span in due:
        row = by_id[span.series.row_id]
        assert span.window(rules.max_window_ms).begin_ms < span.end_ms <= min(SETTLED, row.active_until_ms or SETTLED)
        assert span.begin_ms >= row.checkpoints.get(span.series.record_type, 0)
        assert not backlog_ms or span.end_ms - span.begin_ms <= backlog_ms
