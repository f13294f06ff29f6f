"""Tables that operators made: by hand from the specification's page, with the server's own character set, with rows in them."""

from collections.abc import Callable

import pytest

from tests.rig import Clock, MysqlTable, Rig, TableRow
from tests.rig.tables import RECORD_TYPES
from tests.servers.databases import DatabaseServer

NewRig = Callable[..., Rig]
MINUTE_MS, HOUR_MS = 60_000, 3_600_000
DAY_S = 86_400.0


def by_hand(server: DatabaseServer, new_rig: NewRig, count: int = 16, charset: str = "latin1") -> tuple[Rig, int]:
    """A rig whose table was made by hand and is empty; and Netbeam's time, of yesterday, which stands still."""
    clock = Clock(behind_s=DAY_S / 2, rate=0)
    rig = new_rig(count, table=MysqlTable(server, charset), clock=clock)
    rig.table.create()
    return rig, clock() // MINUTE_MS * MINUTE_MS


def row_of(rig: Rig, row_id: int) -> TableRow:
    (row,) = (each for each in rig.table.rows() if each.id == row_id)
    return row


@pytest.mark.parametrize("charset", ["latin1", "utf8mb4", "utf8"])
def test_an_empty_table_of_any_character_set_is_collected_into(
    database_server: DatabaseServer, new_rig: NewRig, charset: str
) -> None:
    rig, now_ms = by_hand(database_server, new_rig, charset=charset)
    rig.once()
    rig.check_exactly()
    assert rig.checkpoints() == {str(now_ms)}
    assert sorted(row.name for row in rig.table.rows()) == sorted(rig.network.resources)


def test_rows_that_were_there_are_collected_on_from_their_checkpoints(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig, now_ms = by_hand(database_server, new_rig)
    since = {"traffic": now_ms - 2 * HOUR_MS, "errors": now_ms - HOUR_MS + 1234, "discards": now_ms - 10 * MINUTE_MS}
    old = [rig.table.insert(name, now_ms - 50 * HOUR_MS, **since) for name in rig.network.resources[:10]]
    rig.remember_starts()
    rig.once()
    rig.check_exactly()
    assert rig.checkpoints() == {str(now_ms)}
    rows = {row.id: row for row in rig.table.rows()}
    assert len(rows) == 16
    for row_id, name in zip(old, rig.network.resources, strict=False):
        assert (rows[row_id].name, rows[row_id].status, rows[row_id].active_from) == (name, "1", str(now_ms - 50 * HOUR_MS))


def test_history_is_left_as_it_is(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig, now_ms = by_hand(database_server, new_rig)
    name, until_ms = rig.network.resources[0], now_ms - 20 * MINUTE_MS
    table = rig.table
    done = dict.fromkeys(RECORD_TYPES, until_ms)
    table.insert("devices/long-gone/interfaces/1", until_ms - HOUR_MS, until_ms, **done)
    table.insert(name, until_ms - HOUR_MS, until_ms, **{**done, "traffic": until_ms + 5})
    before = table.rows()
    rig.once()
    assert table.rows()[:2] == before
    assert [row.status for row in table.rows() if row.name == name] == ["0", "1"]


def test_a_retired_row_is_collected_to_its_end(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig, now_ms = by_hand(database_server, new_rig)
    gone = next(each for each in rig.network.resources if not rig.network.silent(each))
    rig.network.absent = frozenset({gone})
    end_ms = now_ms - 20 * MINUTE_MS + 12_345
    began_ms = now_ms - 3 * HOUR_MS
    row_id = rig.table.insert(gone, began_ms, end_ms, traffic=began_ms, discards=end_ms)
    rig.remember_starts()
    rig.once()
    rig.check_exactly()
    row = row_of(rig, row_id)
    assert (row.status, row.active_until, set(row.until.values())) == ("0", str(end_ms), {str(end_ms)})
    assert rig.heard().series(gone)[-1] < end_ms
    assert not rig.heard().series(gone, "discards")


def test_names_that_differ_in_case_are_different_interfaces_whatever_the_collation(
    database_server: DatabaseServer, new_rig: NewRig
) -> None:
    rig, now_ms = by_hand(database_server, new_rig, count=66)
    names = [each for each in rig.network.resources if each.lower() in {n.lower() for n in rig.network.resources if n != each}]
    assert len(names) >= 2, "the network has no such names"
    rig.table.insert(names[0], now_ms - HOUR_MS, **dict.fromkeys(RECORD_TYPES, now_ms - 10 * MINUTE_MS))
    rig.remember_starts()
    rig.once()
    rig.check_exactly()
    assert sorted(row.name for row in rig.table.rows()) == sorted(rig.network.resources)
    assert rig.checkpoints() == {str(now_ms)}


NAMED = 3
"""At least so many in one line; `check` names them all."""
BAD_ROWS: dict[str, dict[str, object]] = {
    "a time of ten digits": {"traffic_until": "1790000000"},
    "a time that is text": {"active_from": "yesterday"},
    "an empty time": {"errors_until": ""},
    "a time far ahead": {"discards_until": "9999999999999"},
    "another status": {"status": "2"},
    "an empty status": {"status": ""},
    "retired without a time": {"status": "0"},
    "active with an end": {"active_until": "1790000000000"},
}


def test_rows_that_cannot_be_trusted_are_named_and_left_alone(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig, now_ms = by_hand(database_server, new_rig)
    bad = []
    for name, columns in zip(rig.network.resources, BAD_ROWS.values(), strict=False):
        bad.append(rig.table.insert(name, now_ms - HOUR_MS, **dict.fromkeys(RECORD_TYPES, now_ms - HOUR_MS)))
        for column, value in columns.items():
            rig.table.sql(f"UPDATE esnet_interfaces SET {column} = %s WHERE id = %s", (value, bad[-1]))
    before = rig.table.rows()
    collector = rig.once(LATE_DATA=0)
    assert rig.table.rows()[: len(bad)] == before
    (warning,) = collector.log_lines("cannot be trusted")
    assert f"count={len(bad)}" in warning
    for number, (row_id, name) in enumerate(zip(bad, rig.network.resources, strict=False)):
        assert number >= NAMED or f"id {row_id} {name}: " in warning
        assert not rig.heard().series(name)
    others = rig.table.rows()[len(bad) :]
    assert [row.name for row in others] == list(rig.network.resources[len(bad) :])
    assert {until for row in others for until in row.until.values()} == {str(now_ms)}


def test_of_two_active_rows_of_one_name_the_lower_id_is_collected(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig, now_ms = by_hand(database_server, new_rig)
    name = next(each for each in rig.network.resources if not rig.network.silent(each))
    checkpoints = [dict.fromkeys(RECORD_TYPES, now_ms - minutes * MINUTE_MS) for minutes in (20, 40)]
    first, second = (rig.table.insert(name, now_ms - HOUR_MS, **each) for each in checkpoints)
    rig.remember_starts()
    untouched = row_of(rig, second)
    rig.once()
    rig.check_exactly()
    assert set(row_of(rig, first).until.values()) == {str(now_ms)}
    # nowhere ahead of the other one, it is retired where it stands
    assert (row_of(rig, second).status, row_of(rig, second).until) == ("0", untouched.until)


def test_more_columns_than_the_collector_knows_do_no_harm(database_server: DatabaseServer, new_rig: NewRig) -> None:
    rig, now_ms = by_hand(database_server, new_rig)
    rig.table.sql("ALTER TABLE esnet_interfaces ADD note varchar(20) NOT NULL DEFAULT 'none' FIRST, ADD owner int NULL")
    rig.once()
    rig.check_exactly()
    assert rig.checkpoints() == {str(now_ms)}
