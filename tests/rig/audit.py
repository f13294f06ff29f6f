"""Who wrote what and when, as the database itself saw it: triggers on the table, whose log is rolled back with what it logs."""

from itertools import groupby

from tests.rig.tables import RECORD_TYPES, MysqlTable
from tests.servers.databases import Account

TABLE = "audit"


class Audit:
    """Logs every change of a table that is there already, by whose login it was made."""

    def __init__(self, table: MysqlTable) -> None:
        self._table = table
        database = table.account.database
        fell = " OR ".join(
            f"(OLD.{each}_until IS NOT NULL AND (NEW.{each}_until IS NULL OR NEW.{each}_until < OLD.{each}_until))"
            for each in RECORD_TYPES
        )
        self._admin(f"CREATE TABLE {TABLE} (number int AUTO_INCREMENT PRIMARY KEY, at double, writer text, fell int)")
        for change, falls in (("INSERT", "0"), ("UPDATE", f"({fell})")):
            self._admin(
                f"CREATE TRIGGER {database}.audit_{change} AFTER {change} ON {database}.esnet_interfaces FOR EACH ROW "
                f"INSERT INTO {TABLE} (at, writer, fell) VALUES (UNIX_TIMESTAMP(SYSDATE(6)), USER(), {falls})"
            )

    def _admin(self, statement: str) -> None:
        self._table.server.sql(statement, database=self._table.account.database)

    def writes(self, account: Account) -> int:
        """How many rows this login has written so far."""
        return int(self._table.sql(f"SELECT COUNT(*) FROM {TABLE} WHERE writer LIKE %s", (f"{account.user}@%",))[0][0])

    def first_write(self, account: Account) -> float:
        """The wall time of its first write, in seconds."""
        return float(self._table.sql(f"SELECT MIN(at) FROM {TABLE} WHERE writer LIKE %s", (f"{account.user}@%",))[0][0])

    def turns(self) -> list[str]:
        """The logins that wrote, in turn: one entry for each time that another one began to write."""
        rows = self._table.sql(f"SELECT writer FROM {TABLE} ORDER BY number")
        writers = [row[0].decode() if isinstance(row[0], bytes | bytearray) else row[0] for row in rows]
        return [writer.partition("@")[0] for writer, _ in groupby(writers)]

    def falls(self) -> int:
        """How many changes set a checkpoint back."""
        return int(self._table.sql(f"SELECT COUNT(*) FROM {TABLE} WHERE fell")[0][0])
