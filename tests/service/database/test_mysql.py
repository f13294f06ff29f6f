"""MySQL and MariaDB as they are met in the field: tables made by hand, refusals, other people's locks."""

import logging
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.config.systems import Secret
from collector.core.errors import ConfigurationError, LockLostError, UnavailableError
from collector.core.model import Changes, Move, NewRow, Retirement, Series
from collector.core.shutdown import Stop
from collector.store.mysql import MysqlStore
from tests.servers.databases import Account, DatabaseServer, execute
from tests.service.database.steps import (
    BY_HAND,
    NAMES,
    NOW,
    ROOT,
    T0,
    T1,
    T2,
    TRAFFIC,
    NewStore,
    Sql,
    in_background,
    move,
    retire,
    settings,
    wait_until,
    wait_until_waiting,
)


class TestTable:
    """Whoever made it."""

    def test_the_collector_and_the_sql_file_create_the_same_table(self, sql: Sql, new_store: NewStore) -> None:
        sql((ROOT / "sql" / "esnet_interfaces.sql").read_text().rstrip().rstrip(";"))
        by_file = sql("SHOW CREATE TABLE esnet_interfaces")
        sql("DROP TABLE esnet_interfaces")
        new_store().open()
        assert sql("SHOW CREATE TABLE esnet_interfaces") == by_file

    @pytest.mark.parametrize(
        "made",
        [
            "CHARACTER SET latin1",
            "CHARACTER SET utf8 COLLATE utf8_general_ci",
            "CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            "CHARACTER SET binary",
            "CHARACTER SET utf16",
        ],
    )
    def test_a_table_made_by_hand_with_rows_in_it_works_whatever_its_collation(
        self, sql: Sql, new_store: NewStore, made: str
    ) -> None:
        sql(BY_HAND + made)
        sql(f"INSERT INTO esnet_interfaces (name, status, active_from) VALUES ('devices/x/Ae1', '1', '{T0}')")
        sql(f"INSERT INTO esnet_interfaces (name, status, active_from) VALUES ('devices/x/ae1', '1', '{T0}')")
        store = new_store()
        store.open()
        assert store.take_lock(0)
        upper, lower = store.read(NOW).rows
        assert (upper.name, lower.name) == ("devices/x/Ae1", "devices/x/ae1")
        assert store.advance([move(lower, T1)]) == []
        stranger = Move(Series(upper.id, lower.name, TRAFFIC), None, T1)
        assert store.advance([stranger]) == [stranger]
        store.apply(Changes(new=(NewRow("devices/x/AE1", T1),), retired=(Retirement(upper.id, upper.name, T2),)))
        first, second, third = store.read(NOW).rows
        assert (first.active_until_ms, first.checkpoints) == (T2, {})
        assert (second.active_until_ms, second.checkpoints) == (None, {TRAFFIC: T1})
        assert (third.name, third.active_from_ms) == ("devices/x/AE1", T1)
        sql(f"UPDATE esnet_interfaces SET traffic_until = '{T2}' WHERE id = {first.id}")
        table = store.read(NOW, (TRAFFIC,))
        assert (table.rows, table.newest_ms) == ((second, third), T2)
        assert [row.id for row in store.history([first.name])] == [first.id]

    def test_rows_that_share_an_id_move_one_by_one(self, sql: Sql, store: MysqlStore) -> None:
        shared = [f"(77, 'devices/x/{name}', '1', '{T0}')" for name in ("Ae1", "Be1", "Ce1")]
        sql(f"INSERT INTO esnet_interfaces (id, name, status, active_from) VALUES {', '.join(shared)}")
        first, second, third = (row for row in store.read(NOW).rows if row.id == 77)
        assert store.advance([move(first, T1), move(third, T1)]) == []
        store.apply(retire((second, T2)))
        found = [(row.checkpoints, row.active_until_ms) for row in store.read(NOW).rows if row.id == 77]
        assert found == [({TRAFFIC: T1}, None), ({}, T2), ({TRAFFIC: T1}, None)]

    def test_a_column_that_is_too_narrow_is_refused_before_a_long_name_comes(self, sql: Sql, new_store: NewStore) -> None:
        sql(BY_HAND.replace("varchar(128)", "varchar(64)").replace("traffic_until varchar(13)", "traffic_until varchar(10)"))
        with pytest.raises(ConfigurationError) as caught:
            new_store().open()
        assert ["column name is varchar(64)" in caught.value.problems[0], len(caught.value.problems)] == [True, 2]

    def test_the_statement_that_is_said_for_missing_columns_adds_them(self, sql: Sql, new_store: NewStore) -> None:
        sql("CREATE TABLE esnet_interfaces (id int NOT NULL AUTO_INCREMENT, name varchar(128) NOT NULL, PRIMARY KEY (id, name))")
        with pytest.raises(ConfigurationError, match=r"lacks the columns status, .*ALTER TABLE") as caught:
            new_store().open()
        assert len(str(caught.value)) < 500
        sql(str(caught.value).partition("missing: ")[2].rstrip(";"))
        new_store().open()

    def test_a_table_that_is_dropped_meanwhile_is_the_operators_to_mend(self, sql: Sql, store: MysqlStore) -> None:
        sql("DROP TABLE esnet_interfaces")
        with pytest.raises(ConfigurationError, match="esnet_interfaces"):
            store.read(NOW)
        assert store.holds_lock()
        assert store.outage.down
        store.open()
        assert store.read(NOW).rows == ()


class TestAccess:
    """Refusals, and rights that suffice."""

    @pytest.mark.parametrize(
        ("changed", "variable"),
        [
            ({"password": Secret("wrong-one")}, "MYSQL_PASSWORD"),
            ({"user": "nobody_at_all"}, "MYSQL_USER"),
            ({"database": "no_such_database"}, "MYSQL_DATABASE"),
            ({"database": "mysql"}, "MYSQL_DATABASE"),
        ],
    )
    def test_a_refusal_names_the_variable_and_no_secret(
        self, new_store: NewStore, account: Account, changed: dict[str, Any], variable: str
    ) -> None:
        refused = new_store(**changed)
        with pytest.raises(ConfigurationError, match=variable) as caught:
            refused.open()
        assert not {account.password, "wrong-one"} & set(str(caught.value).split("'"))
        assert refused.outage.down

    def test_a_server_that_is_not_there_may_come_later(self, new_store: NewStore) -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            for changed in ({"port": nobody.getsockname()[1]}, {"host": "no-such-host.invalid"}):
                with pytest.raises(UnavailableError):
                    new_store(**changed).open()

    def test_reading_needs_the_right_to_select_and_no_other(
        self, database_server: DatabaseServer, account: Account, store: MysqlStore, new_store: NewStore
    ) -> None:
        reader = database_server.reader(account.database)
        reading = new_store(user=reader.user, password=Secret(reader.password))
        reading.open(create=False)
        assert reading.read(NOW) == store.read(NOW)

    def test_a_user_who_may_not_create_works_on_a_table_that_is_there(self, database_server: DatabaseServer) -> None:
        account = database_server.fresh_database(grants="SELECT, INSERT, UPDATE")
        with closing(MysqlStore(settings(database_server, account), Stop())) as store:
            with pytest.raises(ConfigurationError, match=r"cannot be created.*sql/esnet_interfaces.sql"):
                store.open()
            database_server.sql(BY_HAND, database=account.database)
            store.open()
            assert store.take_lock(0)
            store.apply(Changes(new=(NewRow(NAMES[0], T0),)))
            assert [row.name for row in store.read(NOW).rows] == [NAMES[0]]

    @pytest.mark.parametrize("grants", ["SELECT", "SELECT, UPDATE", "SELECT, INSERT"])
    def test_who_may_not_write_does_not_become_the_writer(self, database_server: DatabaseServer, grants: str) -> None:
        account = database_server.fresh_database(grants=grants)
        database_server.sql(BY_HAND, database=account.database)
        with closing(MysqlStore(settings(database_server, account), Stop())) as store:
            store.open()
            with pytest.raises(ConfigurationError, match="rights of MYSQL_USER"):
                store.take_lock(0)
            assert not store.holds_lock()
            with closing(MysqlStore(settings(database_server, account), Stop())) as other:
                other.open()
                with pytest.raises(ConfigurationError):  # the lock was not kept
                    other.take_lock(0)

    def test_a_password_file_is_read_again_at_each_connect(
        self, database_server: DatabaseServer, account: Account, new_store: NewStore, tmp_path: Path
    ) -> None:
        file = tmp_path / "password"
        file.write_text(account.password + "\n")
        store = new_store(password=Secret(file=str(file)))
        store.open()
        database_server.sql(f"SET PASSWORD FOR '{account.user}'@'%' = PASSWORD('another''s \"one\" #$')")
        file.write_text('another\'s "one" #$\n')
        database_server.kill_connections(account.user)
        store.open()
        assert store.read(NOW).rows == ()

    def test_the_drivers_debug_log_which_shows_passwords_stays_off(self) -> None:
        assert not logging.getLogger("mysql.connector").isEnabledFor(logging.INFO)


class TestOthersLocks:
    """Deadlocks, lock waits, and a server that takes no writes."""

    def test_a_deadlock_is_no_failure_and_nothing_is_written_twice(self, sql: Sql, store: MysqlStore, operator: Any) -> None:
        rows = store.read(NOW).rows
        # the operator has changed more rows, so the server undoes the collector's transaction
        sql("CREATE TABLE other (x int)")
        execute(operator, f"INSERT INTO other VALUES {', '.join(['(1)'] * 50)}")
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        changes = Changes(new=(NewRow("devices/b", T1),), retired=retire((rows[0], T1), (rows[1], T2)).retired)
        before = deadlocks(sql)
        with in_background(lambda: store.apply(changes)) as outcome:
            wait_until_waiting(sql)
            execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[0].id}")
            execute(operator, "COMMIT")
        assert outcome == [None]
        assert deadlocks(sql) == before + 1
        after = store.read(NOW).rows
        assert [(row.name, row.active_until_ms) for row in after] == [
            *zip(NAMES, (T1, T2, None, None), strict=True),
            ("devices/b", None),
        ]
        assert store.holds_lock()

    def test_a_lock_that_is_given_back_in_time_costs_one_more_try(self, sql: Sql, store: MysqlStore, operator: Any) -> None:
        rows = store.read(NOW).rows
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        before = rollbacks(sql)
        with in_background(lambda: store.advance([move(rows[0], T1), move(rows[1], T1)])) as outcome:
            wait_until(lambda: rollbacks(sql) > before)
            execute(operator, "COMMIT")
        assert outcome == [[]]
        assert [row.checkpoints.get(TRAFFIC) for row in store.read(NOW).rows] == [T1, T1, None, None]

    def test_a_lock_that_stays_is_an_outage_and_leaves_nothing_half_done(self, store: MysqlStore, operator: Any) -> None:
        rows = store.read(NOW).rows
        execute(operator, f"UPDATE esnet_interfaces SET errors_until = '{T0}' WHERE id = {rows[1].id}")
        with pytest.raises(UnavailableError, match="Lock wait timeout") as caught:
            store.apply(Changes(new=(NewRow("devices/b", T1),), retired=retire((rows[1], T1)).retired))
        assert not isinstance(caught.value, LockLostError)
        assert store.read(NOW).rows == rows
        assert store.holds_lock()

    def test_a_session_in_which_nothing_can_be_written_is_dropped_and_stays_an_outage_until_a_write_works(
        self, database_server: DatabaseServer, account: Account, store: MysqlStore
    ) -> None:
        database_server.sql("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(LockLostError, match=r"read-only.*is it still the primary"):
                store.apply(Changes(new=(NewRow("devices/b", T1),)))
            assert not store.holds_lock()
            assert database_server.connections(account.user) == []
            store.open()  # it answers, and that proves nothing
            assert store.outage.down
            with pytest.raises(UnavailableError, match="read-only"):
                store.take_lock(0)
            assert store.outage.down
        finally:
            database_server.sql("SET GLOBAL read_only = 0")
        store.open()
        assert store.take_lock(0)
        assert not store.outage.down
        store.apply(Changes(new=(NewRow("devices/b", T1),)))

    def test_a_standby_is_not_down_because_it_could_not_write(self, new_store: NewStore, database_server: DatabaseServer) -> None:
        first, second = new_store(), new_store()
        first.open()
        database_server.sql("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(UnavailableError):
                first.take_lock(0)
        finally:
            database_server.sql("SET GLOBAL read_only = 0")
        second.open()
        assert second.take_lock(0)
        first.open()
        assert first.outage.down
        assert not first.take_lock(0)
        assert not first.outage.down


def rollbacks(sql: Sql) -> int:
    return int(sql("SHOW GLOBAL STATUS LIKE 'Com_rollback'")[0][1])


def deadlocks(sql: Sql) -> int:
    found = sql("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
    return int(found[0][0])
