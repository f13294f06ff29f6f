"""What a listing changes in the table."""

import dataclasses
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import Changes, Listing, NewRow, RecordType, Retirement, Row, Table, UntrustedRow
from collector.cycle.reconcile import ReconcileRules, reconcile
from tests.fakes import HOUR_MS, NOW_MS, FakeStore, interface

POLL_MS = 900_000
LOOKBACK_MS = 1_800_000
TYPES = (RecordType.TRAFFIC, RecordType.ERRORS)
RULES = ReconcileRules(TYPES, LOOKBACK_MS, POLL_MS, 0.2)
ACCEPT_ALL = dataclasses.replace(RULES, max_retired_share=1.0)
BEFORE = NOW_MS - HOUR_MS


def listing(*names: str, at: int = NOW_MS) -> Listing:
    return Listing(at, {name: interface(name) for name in names})


def active(row_id: int, name: str) -> Row:
    return Row(row_id, name, BEFORE)


def gone(row_id: int, name: str) -> Row:
    return Row(row_id, name, BEFORE - HOUR_MS, BEFORE)


@pytest.mark.parametrize(
    ("listed", "rows", "new", "retired"),
    [
        ("a", [], ["a"], []),
        ("ab", [active(1, "a")], ["b"], []),
        ("a", [active(1, "a"), active(2, "b")], [], [2]),
        ("a", [gone(1, "a")], ["a"], []),
        ("a", [gone(1, "a"), active(2, "a"), gone(3, "b")], [], []),
        ("aA", [active(1, "a")], ["A"], []),
        ("b", [active(1, "a"), active(4, "a")], ["b"], [1, 4]),
    ],
)
def test_new_names_become_rows_and_unlisted_rows_retire(listed: str, rows: list[Row], new: list[str], retired: list[int]) -> None:
    changes = reconcile(listing(*listed), Table(tuple(rows)), {}, RULES)
    assert changes.new == tuple(NewRow(name, NOW_MS) for name in new)
    names = {row.id: row.name for row in rows}
    assert changes.retired == tuple(Retirement(row_id, names[row_id], NOW_MS) for row_id in retired)
    assert changes.held == {}


def test_row_that_cannot_be_trusted_is_neither_retired_nor_given_a_rival() -> None:
    table = Table((active(1, "a"),), (UntrustedRow(2, "b", "why"), UntrustedRow(3, "c", "why")))
    assert reconcile(listing("a", "b"), table, {}, RULES) == Changes()


def table_of(count: int) -> Table:
    return Table(tuple(active(number, f"a/{number}") for number in range(1, count + 1)))


def without(table: Table, missing: range, *more: str, at: int = NOW_MS) -> Listing:
    return listing(*(row.name for row in table.rows if row.id not in missing), *more, at=at)


@pytest.mark.parametrize(
    ("rows", "missing", "share", "held"),
    [
        (12, 10, 0.2, 0),  # few, whatever the share
        (12, 11, 0.2, 11),
        (100, 20, 0.2, 0),  # no more than the share
        (100, 21, 0.2, 21),
        (100, 11, 0.0, 11),
        (100, 99, 1.0, 0),
    ],
)
def test_too_many_at_once_are_held_back(rows: int, missing: int, share: float, held: int) -> None:
    table = table_of(rows)
    rules = dataclasses.replace(RULES, max_retired_share=share)
    changes = reconcile(without(table, range(1, missing + 1), "new"), table, {}, rules)
    assert (len(changes.held), len(changes.retired)) == (held, missing - held)
    assert [row.name for row in changes.new] == ["new"]
    assert set(changes.held.values()) <= {NOW_MS}


def test_second_listing_an_interval_later_retires_what_both_lack_at_the_first_one_s_time() -> None:
    table = table_of(50)
    held = reconcile(without(table, range(1, 41)), table, {}, RULES).held
    later = NOW_MS + POLL_MS
    changes = reconcile(without(table, range(21, 51), at=later), table, held, RULES)
    assert changes.retired == tuple(Retirement(number, f"a/{number}", NOW_MS) for number in range(21, 41)) + tuple(
        Retirement(number, f"a/{number}", later) for number in range(41, 51)
    )
    assert changes.held == {}


def test_what_only_the_second_listing_lacks_is_held_back_anew_when_it_is_too_much() -> None:
    table = table_of(50)
    held = reconcile(without(table, range(1, 21)), table, {}, RULES).held
    later = NOW_MS + POLL_MS
    changes = reconcile(without(table, range(20, 51), at=later), table, held, RULES)
    assert changes.retired == (Retirement(20, "a/20", NOW_MS),)
    assert changes.held == {f"a/{number}": later for number in range(21, 51)}


def test_listings_less_than_an_interval_apart_are_not_two_and_the_first_one_s_time_stays() -> None:
    table = table_of(50)
    held = reconcile(without(table, range(1, 41)), table, {}, RULES).held
    soon = reconcile(without(table, range(1, 41), at=NOW_MS + POLL_MS // 2), table, held, RULES)
    assert (soon.retired, soon.held) == ((), held)
    then = reconcile(without(table, range(1, 41), at=NOW_MS + POLL_MS), table, soon.held, RULES)
    assert {retirement.active_until_ms for retirement in then.retired} == {NOW_MS}
    assert len(then.retired) == 40


@pytest.mark.parametrize(("poll_ms", "early_ms"), [(900_000, 1000), (5000, 500)])
def test_clock_s_jitter_does_not_cost_another_interval(poll_ms: int, early_ms: int) -> None:
    rules = dataclasses.replace(RULES, poll_ms=poll_ms)
    table = table_of(50)
    held = reconcile(without(table, range(1, 41)), table, {}, rules).held
    second = NOW_MS + poll_ms - early_ms
    assert len(reconcile(without(table, range(1, 41), at=second), table, held, rules).retired) == 40
    assert not reconcile(without(table, range(1, 41), at=second - 1), table, held, rules).retired


def test_what_comes_back_in_between_starts_from_the_beginning() -> None:
    table = table_of(50)
    held = reconcile(without(table, range(1, 41)), table, {}, RULES).held
    back = reconcile(without(table, range(0), at=NOW_MS + POLL_MS), table, held, RULES)
    assert back == Changes()
    again = reconcile(without(table, range(1, 41), at=NOW_MS + 2 * POLL_MS), table, back.held, RULES)
    assert not again.retired
    assert set(again.held.values()) == {NOW_MS + 2 * POLL_MS}


def test_clock_that_was_set_back_never_ends_a_row_before_it_began() -> None:
    row = Row(1, "a", NOW_MS + HOUR_MS)
    assert reconcile(listing("b"), Table((row,)), {}, RULES).retired == (Retirement(1, "a", NOW_MS + HOUR_MS),)


NEWEST = NOW_MS - 5 * HOUR_MS


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        ([], None),
        ([active(1, "b")], None),
        ([Row(1, "b", BEFORE, None, {RecordType.TRAFFIC: NOW_MS - LOOKBACK_MS})], None),
        ([Row(1, "b", BEFORE, None, {RecordType.TRAFFIC: NOW_MS - LOOKBACK_MS - 1})], NOW_MS - LOOKBACK_MS - 1),
        ([Row(1, "b", BEFORE, None, {RecordType.TRAFFIC: NEWEST, RecordType.ERRORS: NEWEST - 1})], NEWEST),
        ([Row(1, "b", BEFORE, BEFORE, {RecordType.ERRORS: NEWEST})], NEWEST),
        ([Row(1, "b", BEFORE, None, {RecordType.TRAFFIC: NEWEST}), Row(2, "c", BEFORE, None, {RecordType.ERRORS: NOW_MS})], None),
    ],
)
def test_after_an_absence_longer_than_the_lookback_new_rows_start_at_the_newest_checkpoint(
    rows: list[Row], start: int | None
) -> None:
    (new,) = reconcile(listing("a", "b", "c"), Table((*rows, active(9, "c"), active(8, "b"))), {}, RULES).new
    assert new == NewRow("a", NOW_MS, {} if start is None else dict.fromkeys(TYPES, start))


def test_after_an_absence_a_name_that_comes_back_does_not_go_behind_its_earlier_rows() -> None:
    earlier = (
        Row(1, "a", NEWEST - HOUR_MS, NEWEST - 7, {RecordType.TRAFFIC: NEWEST - 9}),
        Row(2, "a", NEWEST - 6, NEWEST + 5, {RecordType.TRAFFIC: NEWEST, RecordType.ERRORS: NEWEST}),
    )
    (new,) = reconcile(listing("a"), Table(earlier), {}, RULES).new
    assert new.checkpoints == {RecordType.TRAFFIC: NEWEST + 5, RecordType.ERRORS: NEWEST + 5}


names = st.frozensets(st.sampled_from("abcdef"), min_size=1)


@given(listings=st.lists(names, min_size=1, max_size=8), twice=st.sampled_from("abcdef"))
def test_after_each_listing_exactly_the_listed_names_have_one_active_row(listings: list[frozenset[str]], twice: str) -> None:
    store = FakeStore(gone(1, twice), active(2, twice))
    at = NOW_MS
    for each in listings:
        at += POLL_MS
        history = {row.id: row for row in store.read(at).rows if not row.active}
        store.apply(reconcile(listing(*each, at=at), store.read(at), {}, ACCEPT_ALL))
        rows = store.read(at).rows
        assert sorted(row.name for row in rows if row.active) == sorted(each)
        assert all(store.rows[row_id] == row for row_id, row in history.items())
        assert reconcile(listing(*each, at=at + 1), store.read(at), {}, ACCEPT_ALL) == Changes()


@given(listings=st.lists(names, min_size=2, max_size=8), share=st.sampled_from([0.0, 0.2]))
def test_with_the_brake_on_no_name_is_lost_and_nobody_is_retired_by_one_listing(
    listings: list[frozenset[str]], share: float
) -> None:
    rules = dataclasses.replace(RULES, max_retired_share=share)
    store, at = FakeStore(*(active(number, f"x/{number}") for number in range(1, 31))), NOW_MS
    held: Mapping[str, int] = {}
    lacked: set[str] = set()
    for each in listings:
        at += POLL_MS
        table = store.read(at)
        changes = reconcile(listing(*each, at=at), table, held, rules)
        big = len({row.name for row in table.rows if row.active and row.name not in each} - lacked) > 10
        assert not big or not [each for each in changes.retired if each.name not in lacked]
        store.apply(changes)
        held, lacked = changes.held, set(changes.held)
        live = [row.name for row in store.read(at).rows if row.active]
        assert len(live) == len(set(live))
        assert set(live) == {*each, *held}
