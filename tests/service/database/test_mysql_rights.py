"""What the user may do is found out by the server's own word, and nothing changes by it."""

from contextlib import closing, suppress

import pytest

from collector.core.errors import NoTableError, UnavailableError
from collector.core.shutdown import Stop
from collector.store.mysql import MysqlStore
from tests.servers.databases import Account, DatabaseServer
from tests.service.database.steps import BY_HAND, T0, settings


def missing(server: DatabaseServer, account: Account) -> tuple[str, ...]:
    with closing(MysqlStore(settings(server, account), Stop())) as store:
        with suppress(NoTableError):
            store.open(create=False)
        return store.missing_rights()


@pytest.mark.parametrize(
    ("grants", "lacking"),
    [
        ("ALL", ()),
        ("SELECT, INSERT, UPDATE", ()),
        ("SELECT", ("INSERT", "UPDATE")),
        ("SELECT, INSERT", ("UPDATE",)),
        ("SELECT, UPDATE", ("INSERT",)),
    ],
)
def test_the_rights_that_are_lacking_are_named_where_the_table_is_there(
    database_server: DatabaseServer, grants: str, lacking: tuple[str, ...]
) -> None:
    account = database_server.fresh_database(grants=grants)
    database_server.sql(BY_HAND, database=account.database)
    database_server.sql(
        f"INSERT INTO esnet_interfaces (name, status, active_from) VALUES ('devices/a', '1', '{T0}')", database=account.database
    )
    before = database_server.sql("SELECT * FROM esnet_interfaces", database=account.database)
    counter = next_id(database_server, account)
    assert missing(database_server, account) == lacking
    assert database_server.sql("SELECT * FROM esnet_interfaces", database=account.database) == before
    assert next_id(database_server, account) == counter


@pytest.mark.parametrize(
    ("grants", "lacking"), [("ALL", ()), ("SELECT, INSERT, UPDATE", ("CREATE",)), ("SELECT, CREATE", ("INSERT", "UPDATE"))]
)
def test_the_right_to_create_is_needed_where_the_table_is_missing(
    database_server: DatabaseServer, grants: str, lacking: tuple[str, ...]
) -> None:
    account = database_server.fresh_database(grants=grants)
    assert missing(database_server, account) == lacking
    assert database_server.sql("SHOW TABLES", database=account.database) == []


def test_grants_of_every_form_count(database_server: DatabaseServer) -> None:
    account = database_server.fresh_database(grants="SELECT")
    who, database = f"'{account.user}'@'%'", account.database
    database_server.sql(BY_HAND, database=database)
    database_server.sql(f"GRANT INSERT ON {database}.esnet_interfaces TO {who}")
    assert missing(database_server, account) == ("UPDATE",)
    database_server.sql(f"GRANT UPDATE (traffic_until) ON {database}.esnet_interfaces TO {who}")
    assert missing(database_server, account) == ("UPDATE",)  # there are more columns to write
    written = "status, active_until, errors_until, discards_until, traffic_until"
    database_server.sql(f"GRANT UPDATE ({written}) ON {database}.esnet_interfaces TO {who}")
    assert missing(database_server, account) == ()
    pattern = database.replace("_", "\\_")[:-1] + "%"
    database_server.sql(f"REVOKE ALL, GRANT OPTION FROM {who}")
    database_server.sql(f"GRANT SELECT, INSERT, UPDATE ON `{pattern}`.* TO {who}")
    assert missing(database_server, account) == ()


def test_a_server_that_takes_no_writes_is_no_question_of_rights(database_server: DatabaseServer, account: Account) -> None:
    database_server.sql(BY_HAND, database=account.database)
    database_server.sql("SET GLOBAL read_only = 1")
    try:
        with pytest.raises(UnavailableError, match="read-only"):
            missing(database_server, account)
    finally:
        database_server.sql("SET GLOBAL read_only = 0")


def next_id(server: DatabaseServer, account: Account) -> object:
    return server.sql(
        "SELECT auto_increment FROM information_schema.tables WHERE table_schema = %s AND table_name = 'esnet_interfaces'",
        (account.database,),
    )
