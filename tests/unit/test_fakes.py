"""The fakes keep the contracts that the adapters keep: what they do is compared with what an adapter without a server does."""

import io
import random
from pathlib import Path

import pytest

from collector.bus.stdout import StdoutPublisher
from collector.core.contracts import Batch, Outcome, Publisher, Source, Store
from collector.core.errors import LockLostError
from collector.core.model import Changes, Message, Move, NewRow, RecordType, Retirement, Series, Table, Window
from collector.core.shutdown import Stop
from collector.store.sqlite import SqliteStore
from tests.fakes import HOUR_MS, NOW_MS, FakeIntake, FakePublisher, FakeSource, FakeStore

TIMES = [NOW_MS - HOUR_MS * hours for hours in (4, 3, 2)]


def some_changes(table: Table, chance: random.Random) -> Changes:
    active = [row for row in table.rows if row.active]
    retired = chance.sample(active, min(len(active), chance.randrange(2)))
    checkpoints = {RecordType.ERRORS: TIMES[0]} if chance.random() < 0.3 else {}
    new = NewRow(f"a/{chance.randrange(4)}", chance.choice(TIMES), checkpoints)
    return Changes((new,), tuple(Retirement(row.id, row.name, chance.choice(TIMES)) for row in retired))


def some_moves(table: Table, chance: random.Random) -> list[Move]:
    """Moves of some series, a few of them of rows or names that are not there, and a few from another checkpoint."""
    moves = [Move(Series(999, "a/0", RecordType.TRAFFIC), TIMES[0], NOW_MS)]
    for row in table.rows:
        record_type = chance.choice(list(RecordType))
        held = row.checkpoints.get(record_type)
        name = row.name if chance.random() < 0.9 else "another"
        from_ms = held if chance.random() < 0.7 else chance.choice([*TIMES, None])
        to_ms = chance.choice(TIMES)
        if from_ms is None or from_ms < to_ms:
            moves.append(Move(Series(row.id, name, record_type), from_ms, to_ms))
    return moves


def test_fake_store_does_what_a_real_one_does(tmp_path: Path) -> None:
    chance = random.Random(7)
    fake, real = FakeStore(), SqliteStore(str(tmp_path / "table"), Stop())
    stores: tuple[Store, ...] = (fake, real)
    for store in stores:
        store.open()
        assert store.take_lock(0)
        assert store.holds_lock()
    for _ in range(8):
        changes = some_changes(fake.read(NOW_MS), chance)
        for store in stores:
            store.apply(changes)
        moves = some_moves(fake.read(NOW_MS), chance)
        missed = [store.advance(moves) for store in stores]
        assert set(missed[0]) == set(missed[1])
        assert fake.read(NOW_MS) == real.read(NOW_MS)
    assert any(not row.active for row in fake.read(NOW_MS).rows)
    assert len(fake.advanced) > 9
    real.close()


def test_fake_store_writes_nothing_without_the_lock() -> None:
    store = FakeStore()
    store.writer = False
    with pytest.raises(LockLostError):
        store.apply(Changes(new=(NewRow("a/b", NOW_MS),)))
    with pytest.raises(LockLostError):
        store.advance([])
    assert store.rows == {}


@pytest.mark.parametrize("kind", ["fake", "stdout"])
def test_publishers_tell_each_batch_once(kind: str) -> None:
    publisher: Publisher = FakePublisher() if kind == "fake" else StdoutPublisher("ex", Stop(), io.TextIOWrapper(io.BytesIO()))
    told: list[Outcome] = []
    publisher.start()
    assert publisher.ready
    assert publisher.refusal is None
    publisher.publish(Batch("key", [Message("1", b"{}")], told.append))
    publisher.withdraw()
    assert told == [Outcome.CONFIRMED]
    with pytest.raises(ValueError, match="empty"):
        publisher.publish(Batch("key", [], told.append))
    publisher.close(0)
    assert not publisher.ready
    publisher.publish(Batch("key", [Message("2", b"{}")], told.append))
    assert told == [Outcome.CONFIRMED, Outcome.LOST]


def test_fake_publisher_loses_what_is_in_flight_when_it_is_withdrawn() -> None:
    publisher = FakePublisher(lambda _batch: None)
    told: list[Outcome] = []
    publisher.publish(Batch("key", [Message("1", b"{}")], told.append))
    assert told == []
    publisher.withdraw()
    publisher.withdraw()
    assert told == [Outcome.LOST]


def test_fake_source_asks_only_what_is_admitted_and_delivers_it_once() -> None:
    source: Source = FakeSource(["a/b"])
    windows = [Window(Series(number, "a/b", RecordType.TRAFFIC), NOW_MS - 1, NOW_MS) for number in range(5)]
    delivered: list[Window] = []
    def admit(window: Window) -> bool:
        return window.series.row_id < 3

    source.fetch(windows, FakeIntake(admit, lambda _: None, lambda fetched: delivered.append(fetched.window)), 0.0)
    assert delivered == windows[:3]
    assert source.latest_ms(NOW_MS) == source.list(NOW_MS).time_ms == NOW_MS
