"""Which points go on the bus, and which would stop the consumer."""

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import RecordType, Series, Window
from collector.cycle.point_filter import FAR_OUTSIDE_MS, select
from tests.fakes import NOW_MS

BEGIN, END = NOW_MS, NOW_MS + 900_000
WINDOW = Window(Series(1, "a/b", RecordType.TRAFFIC), BEGIN, END)
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("point", "published"),
    [
        ([BEGIN, 1, 2], (BEGIN, 1, 2)),
        ([BEGIN, 1.5, None], (BEGIN, 1.5, None)),
        ([BEGIN, -1, 0, "more", {}], (BEGIN, -1, 0)),
        ([BEGIN, 2**63 - 1, -(2**63)], (BEGIN, 2**63 - 1, -(2**63))),
        ([BEGIN, -(2.0**63), 1e-300], (BEGIN, -(2.0**63), 1e-300)),
        ([END - 1, 1, 2], (END - 1, 1, 2)),
    ],
)
def test_valid_point_goes_out_as_it_came(point: object, published: tuple[object, ...]) -> None:
    selection = select([point], WINDOW)
    assert selection.points == [published]
    assert list(map(type, selection.points[0])) == list(map(type, published))
    assert (selection.invalid, selection.double, selection.outside) == (0, 0, 0)


@pytest.mark.parametrize(
    "point",
    [
        [], [BEGIN], [BEGIN, 1], None, 7, "point", {"0": BEGIN}, True, [[BEGIN, 1, 2]],
        [float(BEGIN), 1, 2], [str(BEGIN), 1, 2], [None, 1, 2], [True, 1, 2], [BEGIN / 1000, 1, 2], [BEGIN // 1000, 1, 2],
        [BEGIN * 1000, 1, 2], [0, 1, 2], [-BEGIN, 1, 2],
        [BEGIN, NAN, 1], [BEGIN, 1, INF], [BEGIN, -INF, 1], [BEGIN, 2**63, 1], [BEGIN, 1, -(2**63) - 1], [BEGIN, 2.0**63, 1],
        [BEGIN, 1e300, 1], [BEGIN, 10**4000, 1], [BEGIN, "1", 1], [BEGIN, 1, True], [BEGIN, [1], 1], [BEGIN, 1, {}],
    ],
)  # fmt: skip
def test_what_the_index_would_refuse_is_dropped_counted_and_shown_while_the_good_goes_out(point: object) -> None:
    selection = select([point, [BEGIN + 30_000, 1, 2]], WINDOW)
    assert selection.points == [(BEGIN + 30_000, 1, 2)]
    assert (selection.invalid, selection.double, selection.outside) == (1, 0, 0)
    assert 0 < len(selection.invalid_example) < 200
    assert selection.invalid_example.isprintable()


@pytest.mark.parametrize(
    ("at", "outside", "far"),
    [
        (BEGIN, 0, 0),
        (END - 1, 0, 0),
        (END, 1, 0),
        (BEGIN - 1, 1, 0),
        (BEGIN - FAR_OUTSIDE_MS, 1, 0),
        (END + FAR_OUTSIDE_MS, 1, 0),
        (BEGIN - FAR_OUTSIDE_MS - 1, 1, 1),
        (END + FAR_OUTSIDE_MS + 1, 1, 1),
    ],
)
def test_window_is_half_open_and_only_what_is_far_outside_is_worth_a_warning(at: int, outside: int, far: int) -> None:
    selection = select([[at, 1, 2]], WINDOW)
    assert (len(selection.points), selection.outside, selection.far_outside, selection.invalid) == (1 - outside, outside, far, 0)


def test_validity_is_judged_before_the_window() -> None:
    selection = select([[END + 10**9, "x", 2], [END + 10**9, 1, 2]], WINDOW)
    assert (selection.invalid, selection.outside, selection.points) == (1, 1, [])


def test_of_two_points_of_one_time_the_first_valid_one_goes_out() -> None:
    raw: list[object] = [[BEGIN, NAN, 0], [BEGIN, 1, 1], [BEGIN, 2, 2], [BEGIN, "x", 0]]
    selection = select(raw, WINDOW)
    assert selection.points == [(BEGIN, 1, 1)]
    assert (selection.invalid, selection.double) == (2, 1)


def test_points_ascend_however_they_came() -> None:
    shuffled = [[BEGIN + 30_000 * step, step, None] for step in (3, 0, 7, 1, 1, 5)]
    assert [point[1] for point in select(shuffled, WINDOW).points] == [0, 1, 3, 5, 7]


def test_common_case_counts_nothing() -> None:
    selection = select([[at, 1, 2] for at in range(BEGIN, END, 30_000)], WINDOW)
    assert (len(selection.points), selection.invalid_example) == (30, "")


numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([2**63 - 1, 2**63, -(2**63) - 1, None, True]))
times = st.one_of(st.integers(BEGIN - 2, END + 2), st.sampled_from([BEGIN, END, END - 1, 10**12, 10**13, float(BEGIN)]))
jsons = st.recursive(
    st.one_of(numbers, times, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=2), inner, max_size=2)),
    max_leaves=4,
)
hostile = st.lists(st.one_of(jsons, st.tuples(times, numbers, numbers).map(list)), max_size=8)


@given(raw=hostile)
def test_of_any_json_only_publishable_points_come_out(raw: Sequence[object]) -> None:
    selection = select(raw, WINDOW)
    at = [point[0] for point in selection.points]
    assert at == sorted(set(at))
    assert all(type(each) is int and BEGIN <= each < END for each in at)
    for value in (value for point in selection.points for value in point[1:]):
        assert value is None or type(value) in (int, float)
        assert value is None or (math.isfinite(value) and -(2**63) <= value <= 2**63 - 1)
    assert len(raw) == len(at) + selection.invalid + selection.double + selection.outside
    assert all([*point] in raw for point in selection.points if point[1] == point[1])
    json.dumps(selection.points, allow_nan=False)
    assert selection.invalid_example.isprintable()


@pytest.mark.parametrize(
    ("raw", "newest_ms"),
    [
        ([], None),
        ([[BEGIN, 1, 2], [BEGIN + 5, 1, 2]], BEGIN + 5),
        ([[BEGIN + 5, "x", 2], [BEGIN, 1, 2]], BEGIN + 5),
        ([[BEGIN + 5]], BEGIN + 5),
        ([[BEGIN + 5, float("nan"), None]], BEGIN + 5),
        ([[BEGIN + 5, None, None], [BEGIN, 1, 2]], BEGIN),
        ([[BEGIN + 5, None, None]], None),
        ([[END, 1, 2], [BEGIN - 1, 1, 2]], None),
        ([[True, 1, 2], ["1764000000000", 1, 2], [float(BEGIN), 1, 2], None], None),
    ],
)
def test_newest_is_the_last_valid_time_in_the_window_unless_it_has_no_value(raw: list[object], newest_ms: int | None) -> None:
    assert select(raw, WINDOW).newest_ms == newest_ms


def test_points_without_a_value_are_counted_apart() -> None:
    selection = select([[BEGIN, None, None], [BEGIN, 1, None], [BEGIN + 1, None], [END, None, None]], WINDOW)
    assert selection.points == [(BEGIN, 1, None)]
    assert (selection.without_value, selection.invalid, selection.outside) == (1, 1, 1)
