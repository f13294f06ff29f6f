"""What a listing changes in the table."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.core.model import Changes, Held, Listing, NewRow, RecordType, Retirement, Row, Table, UntrustedRow
from collector.core.share import Share
from collector.cycle.reconcile import reconcile
from collector.cycle.rules import Rules
from tests import world
from tests.fakes import HOUR_MS, NOW_MS, FakeStore, interface

POLL_MS = 900_000
DAY_MS = 24 * HOUR_MS
LOOKBACK_MS = 1_800_000
TYPES = (RecordType.TRAFFIC, RecordType.ERRORS)
RULES = dataclasses.replace(world.RULES, record_types=TYPES)
ACCEPT_ALL = dataclasses.replace(RULES, max_retired_share=1.0)
BEFORE = NOW_MS - HOUR_MS


def listing(*names: str, at: int = NOW_MS) -> Listing:
    return Listing(at, {name: interface(name) for name in names})


def reconciled(listing: Listing, table: Table, held: Held, rules: Rules) -> Changes:
    """With the newest checkpoint and the history that the store would know."""
    newest_ms = max((each for row in table.rows for each in row.checkpoints.values()), default=table.newest_ms)
    history: dict[str, tuple[Row, ...]] = {}
    for row in table.rows:
        history[row.name] = (*history.get(row.name, ()), row)
    return reconcile(listing, dataclasses.replace(table, newest_ms=newest_ms), history, held, rules)


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
    changes = reconciled(listing(*listed), Table(tuple(rows)), Held(), RULES)
    assert changes.new == tuple(NewRow(name, NOW_MS) for name in new)
    names = {row.id: row.name for row in rows}
    assert changes.retired == tuple(Retirement(row_id, names[row_id], NOW_MS) for row_id in retired)
    assert not changes.held


def test_row_that_cannot_be_trusted_is_neither_retired_nor_given_a_rival() -> None:
    table = Table((active(1, "a"),), (UntrustedRow(2, "b", "why"), UntrustedRow(3, "c", "why")))
    assert reconciled(listing("a", "b"), table, Held(), RULES) == Changes()


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
    changes = reconciled(without(table, range(1, missing + 1), "new"), table, Held(), rules)
    assert (len(changes.held), len(changes.retired)) == (held, missing - held)
    assert [row.name for row in changes.new] == ["new"]
    assert set(changes.held.missing.values()) <= {NOW_MS}


def test_second_listing_an_interval_later_retires_what_both_lack_at_the_first_one_s_time() -> None:
    table = table_of(50)
    held = reconciled(without(table, range(1, 41)), table, Held(), RULES).held
    later = NOW_MS + POLL_MS
    changes = reconciled(without(table, range(21, 51), at=later), table, held, RULES)
    assert changes.retired == tuple(Retirement(number, f"a/{number}", NOW_MS) for number in range(21, 41)) + tuple(
        Retirement(number, f"a/{number}", later) for number in range(41, 51)
    )
    assert not changes.held


def test_what_only_the_second_listing_lacks_is_held_back_anew_when_it_is_too_much() -> None:
    table = table_of(50)
    held = reconciled(without(table, range(1, 21)), table, Held(), RULES).held
    later = NOW_MS + POLL_MS
    changes = reconciled(without(table, range(20, 51), at=later), table, held, RULES)
    assert changes.retired == (Retirement(20, "a/20", NOW_MS),)
    assert changes.held.missing == {f"a/{number}": later for number in range(21, 51)}


def test_listings_less_than_an_interval_apart_are_not_two_and_the_first_one_s_time_stays() -> None:
    table = table_of(50)
    held = reconciled(without(table, range(1, 41)), table, Held(), RULES).held
    soon = reconciled(without(table, range(1, 41), at=NOW_MS + POLL_MS // 2), table, held, RULES)
    assert (soon.retired, soon.held) == ((), held)
    then = reconciled(without(table, range(1, 41), at=NOW_MS + POLL_MS), table, soon.held, RULES)
    assert {retirement.active_until_ms for retirement in then.retired} == {NOW_MS}
    assert len(then.retired) == 40


@pytest.mark.parametrize(("poll_ms", "early_ms"), [(900_000, 1000), (5000, 500)])
def test_clock_s_jitter_does_not_cost_another_interval(poll_ms: int, early_ms: int) -> None:
    rules = dataclasses.replace(RULES, poll_ms=poll_ms)
    table = table_of(50)
    held = reconciled(without(table, range(1, 41)), table, Held(), rules).held
    second = NOW_MS + poll_ms - early_ms
    assert len(reconciled(without(table, range(1, 41), at=second), table, held, rules).retired) == 40
    assert not reconciled(without(table, range(1, 41), at=second - 1), table, held, rules).retired


def test_what_comes_back_in_between_starts_from_the_beginning() -> None:
    table = table_of(50)
    held = reconciled(without(table, range(1, 41)), table, Held(), RULES).held
    back = reconciled(without(table, range(0), at=NOW_MS + POLL_MS), table, held, RULES)
    assert back == Changes()
    again = reconciled(without(table, range(1, 41), at=NOW_MS + 2 * POLL_MS), table, back.held, RULES)
    assert not again.retired
    assert set(again.held.missing.values()) == {NOW_MS + 2 * POLL_MS}


def test_clock_that_was_set_back_never_ends_a_row_before_it_began() -> None:
    row = Row(1, "a", NOW_MS + HOUR_MS)
    assert reconciled(listing("b"), Table((row,)), Held(), RULES).retired == (Retirement(1, "a", NOW_MS + HOUR_MS),)


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
    (new,) = reconciled(listing("a", "b", "c"), Table((*rows, active(9, "c"), active(8, "b"))), Held(), RULES).new
    assert new == NewRow("a", NOW_MS, {} if start is None else dict.fromkeys(TYPES, start))


def test_after_an_absence_a_name_that_comes_back_does_not_go_behind_its_earlier_rows() -> None:
    earlier = (
        Row(1, "a", NEWEST - HOUR_MS, NEWEST - 7, {RecordType.TRAFFIC: NEWEST - 9}),
        Row(2, "a", NEWEST - 6, NEWEST + 5, {RecordType.TRAFFIC: NEWEST, RecordType.ERRORS: NEWEST}),
    )
    (new,) = reconciled(listing("a"), Table(earlier), Held(), RULES).new
    assert new.checkpoints == {RecordType.TRAFFIC: NEWEST + 5, RecordType.ERRORS: NEWEST + 5}


names = st.frozensets(st.sampled_from("abcdef"), min_size=1)


@given(listings=st.lists(names, min_size=1, max_size=8), twice=st.sampled_from("abcdef"))
def test_after_each_listing_exactly_the_listed_names_have_one_active_row(listings: list[frozenset[str]], twice: str) -> None:
    store = FakeStore(gone(1, twice), active(2, twice))
    at = NOW_MS
    for each in listings:
        at += POLL_MS
        history = {row.id: row for row in store.read(at).rows if not row.active}
        store.apply(reconciled(listing(*each, at=at), store.read(at), Held(), ACCEPT_ALL))
        rows = store.read(at).rows
        assert sorted(row.name for row in rows if row.active) == sorted(each)
        assert all(store.rows[row_id] == row for row_id, row in history.items())
        assert reconciled(listing(*each, at=at + 1), store.read(at), Held(), ACCEPT_ALL) == Changes()


@given(listings=st.lists(names, min_size=2, max_size=8), share=st.sampled_from([0.0, 0.2]))
def test_with_the_brake_on_no_name_is_lost_and_nobody_is_retired_by_one_listing(
    listings: list[frozenset[str]], share: float
) -> None:
    rules = dataclasses.replace(RULES, max_retired_share=share)
    store, at = FakeStore(*(active(number, f"x/{number}") for number in range(1, 31))), NOW_MS
    held = Held()
    lacked: set[str] = set()
    for each in listings:
        at += POLL_MS
        table = store.read(at)
        changes = reconciled(listing(*each, at=at), table, held, rules)
        big = len({row.name for row in table.rows if row.active and row.name not in each} - lacked) > 10
        assert not big or not [each for each in changes.retired if each.name not in lacked]
        store.apply(changes)
        held, lacked = changes.held, set(changes.held.missing)
        live = [row.name for row in store.read(at).rows if row.active]
        assert len(live) == len(set(live))
        assert set(live) == {*each, *held.missing}


def many(first: int, last: int, at: int = NOW_MS) -> Listing:
    return listing(*(f"n/{number}" for number in range(first, last)), at=at)


class TestGrowth:
    def test_the_first_listing_of_an_empty_table_is_taken_whole(self) -> None:
        assert len(reconciled(many(0, 5000), Table(), Held(), RULES).new) == 5000

    def test_the_first_listing_of_a_share_is_taken_whole_when_other_shares_have_begun(self) -> None:
        share = Share(1, 2)
        theirs = next(name for name in many(0, 100).interfaces if not share.holds(name))
        begun = Table((active(1, theirs),), newest_ms=NOW_MS)
        assert len(reconciled(many(0, 5000), begun.of(share), Held(), RULES).new) == 5000
        drained = {"n/1": (Row(1, "n/1", BEFORE, BEFORE),)}
        assert not reconcile(many(0, 5000), Table(newest_ms=NOW_MS), drained, Held(), RULES).new

    @pytest.mark.parametrize(
        ("active_rows", "added", "taken"), [(1, 1000, True), (1, 1001, False), (1200, 1200, True), (1200, 1201, False)]
    )
    def test_more_new_names_than_are_active_and_more_than_a_thousand_wait(
        self, active_rows: int, added: int, taken: bool
    ) -> None:
        table = table_of(active_rows)
        names = {row.name: interface(row.name) for row in table.rows} | dict(many(0, added).interfaces)
        changes = reconciled(Listing(NOW_MS, names), table, Held(), RULES)
        assert (len(changes.new), len(changes.held.added)) == ((added, 0) if taken else (0, added))
        assert len(reconciled(Listing(NOW_MS, names), table, Held(), ACCEPT_ALL).new) == added

    def test_a_second_listing_an_interval_later_adds_what_both_have_from_the_first_one_on(self) -> None:
        table = Table((active(1, "n/0"),))
        held = reconciled(many(0, 2001), table, Held(), RULES).held
        soon = reconciled(many(0, 2001, NOW_MS + POLL_MS // 2), table, held, RULES)
        assert (len(soon.new), len(soon.held.added)) == (0, 2000)
        then = reconciled(many(0, 2501, NOW_MS + POLL_MS), table, soon.held, RULES)
        assert len(then.new) == 2500
        assert {new.active_from_ms for new in then.new[:2000]} == {NOW_MS}

    def test_a_flood_of_other_names_each_time_is_never_taken(self) -> None:
        table, held = Table((active(1, "n/0"),)), Held()
        for turn in range(4):
            at = NOW_MS + turn * POLL_MS
            names = {"n/0": interface("n/0")} | dict(many(10_000 * (turn + 1), 10_000 * (turn + 1) + 1500, at).interfaces)
            changes = reconciled(Listing(at, names), table, held, RULES)
            held = changes.held
            assert not changes.new
            assert len(held.added) == 1500


class TestRivals:
    TRAFFIC = RecordType.TRAFFIC

    @pytest.mark.parametrize(
        ("lower", "higher", "retired"),
        [(None, None, True), (9, None, True), (9, 9, True), (9, 8, True), (8, 9, False), (None, 9, False)],
    )
    def test_of_two_active_rows_the_later_one_is_retired_once_it_is_not_ahead(
        self, lower: int | None, higher: int | None, retired: bool
    ) -> None:
        rows = [
            Row(number, "a", BEFORE, None, {} if ahead is None else {self.TRAFFIC: BEFORE + ahead})
            for number, ahead in ((1, lower), (2, higher))
        ]
        changes = reconciled(listing("a"), Table(tuple(rows)), Held(), RULES)
        ends = BEFORE if higher is None else BEFORE + higher
        assert changes.retired == ((Retirement(2, "a", ends),) if retired else ())


class TestAway:
    def test_a_name_that_was_gone_no_longer_than_late_data_begins_where_it_ended(self) -> None:
        newest = NOW_MS - 3 * HOUR_MS
        rows = (Row(1, "a", 0, newest - HOUR_MS), Row(2, "b", BEFORE, None, {RecordType.TRAFFIC: newest}))
        (new,) = reconciled(listing("a", "b"), Table(rows), Held(), RULES).new
        assert set(new.checkpoints.values()) == {newest - HOUR_MS}

    def test_any_other_begins_at_the_newest_checkpoint(self) -> None:
        newest = NOW_MS - 3 * HOUR_MS
        rows = (Row(1, "a", 0, NOW_MS - 2 * DAY_MS), Row(2, "b", BEFORE, None, {RecordType.TRAFFIC: newest}))
        (new,) = reconciled(listing("a", "b"), Table(rows), Held(), RULES).new
        assert set(new.checkpoints.values()) == {newest}
