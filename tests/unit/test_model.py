"""What the values refuse to be."""

import pytest

from collector.core.model import FIRST_MS, LAST_MS, Listing, RecordType, Series, Window, is_time, resource_fault
from tests.fakes import NOW_MS, interface

SERIES = Series(1, "devices/albq-cr5/interfaces/1%2F1%2F1", RecordType.TRAFFIC)


@pytest.mark.parametrize(
    "resource",
    [
        "devices/albq-cr5/interfaces/1%2F1%2F1",
        "devices/amst-cr5/interfaces/to_netherlight_nordunet_v4v6",
        "devices/a/interfaces/%2D-%2d",
        "Ae1",
        "a/{b}",
        "a/b:0",
        "a/...",
        "a/.hidden",
        "a/%2E%2E%2E",
        "x" * 128,
    ],
)
def test_resource_that_is_a_path_below_the_base_can_be_collected(resource: str) -> None:
    assert resource_fault(resource) is None


@pytest.mark.parametrize(
    "resource",
    [
        None, 7, ["a"], True, "", "x" * 129, "a b", "a\tb", "a\n", "zürich", "a\x7f", "\ud800", "a?b", "a#b",
        "http://host/a", "mailto:x", "a1+-.:x", "//host/a", "/a", "a/", "a//b", "a/%", "a/%2", "a/%GG", "%%41",
        ".", "..", "a/./b", "a/../b", "a/%2e", "a/%2E%2e/b", "a/.%2E",
    ],
)  # fmt: skip
def test_resource_that_would_leave_the_base_or_cut_the_path_is_refused(resource: object) -> None:
    fault = resource_fault(resource)
    assert fault
    assert fault.isprintable()


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        (FIRST_MS, True), (LAST_MS, True), (FIRST_MS - 1, False), (LAST_MS + 1, False), (-NOW_MS, False),
        (float(NOW_MS), False), (str(NOW_MS), False), (None, False), (True, False),
    ],
)  # fmt: skip
def test_time_is_an_integer_of_13_digits(value: object, fits: bool) -> None:
    assert is_time(value) is fits


@pytest.mark.parametrize(
    ("begin_ms", "end_ms"),
    [(NOW_MS, NOW_MS), (NOW_MS, NOW_MS - 1), (FIRST_MS - 1, NOW_MS), (NOW_MS, LAST_MS + 1)],
)
def test_window_never_ends_before_it_begins_and_holds_times_only(begin_ms: int, end_ms: int) -> None:
    with pytest.raises(ValueError, match="no window"):
        Window(SERIES, begin_ms, end_ms)


@pytest.mark.parametrize(("length_ms", "points"), [(1, 1), (29_999, 1), (30_000, 2), (900_000, 31), (21_600_000, 721)])
def test_window_reserves_a_place_for_each_point_of_the_grid(length_ms: int, points: int) -> None:
    assert Window(SERIES, NOW_MS, NOW_MS + length_ms).grid_points == points


def test_listing_needs_a_time() -> None:
    with pytest.raises(ValueError, match="time"):
        Listing(0, {"a": interface("a")})


def test_device_is_taken_from_the_path_or_is_the_name_itself() -> None:
    assert SERIES.device == "albq-cr5"
    assert Series(1, "lonely", RecordType.ERRORS).device == "lonely"
