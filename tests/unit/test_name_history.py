"""The drained rows of names, asked for once."""

from collector.core.model import Row
from collector.cycle.name_history import NameHistory
from tests.fakes import NOW_MS, FakeStore

OLD = Row(1, "a", NOW_MS - 9, NOW_MS - 5)
NEW = Row(2, "a", NOW_MS - 3)


def test_a_name_is_asked_for_once_as_long_as_its_rows_stay() -> None:
    store = FakeStore(OLD, NEW)
    history = NameHistory(store)
    for _ in range(3):
        assert history.of(["a"], [NEW]) == {"a": (OLD, NEW)}
        history.of([], [NEW])
    assert store.journal == ["history"]
    history.keep_only(())
    history.of(["a"], [NEW])
    assert store.journal == ["history"] * 2


def test_a_row_that_somebody_deleted_is_not_remembered() -> None:
    store = FakeStore(OLD, NEW)
    history = NameHistory(store)
    assert history.of(["a"], [OLD, NEW]) == {"a": (OLD, NEW)}
    del store.rows[1]
    assert history.of(["a"], [NEW]) == {"a": (NEW,)}


def test_a_row_that_was_drained_meanwhile_still_counts() -> None:
    store = FakeStore(OLD, NEW)
    history = NameHistory(store)
    history.of(["a"], [OLD, NEW])
    assert history.of(["a"], [NEW]) == {"a": (OLD, NEW)}


def test_what_the_table_holds_now_counts() -> None:
    store = FakeStore(OLD, NEW)
    history = NameHistory(store)
    history.of(["a"], [NEW])
    retired = Row(2, "a", NOW_MS - 3, NOW_MS)
    assert history.of(["a", "b"], [retired]) == {"a": (OLD, retired), "b": ()}
