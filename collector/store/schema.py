"""The table's shape on MySQL: it is made, its columns are checked, and the rights that it takes."""

import re

from collector.core.errors import ConfigurationError, NoTableError, UnavailableError
from collector.core.text import printable
from collector.store import sql
from collector.store.driver import SessionLostError
from collector.store.session import DeniedError
from collector.store.sql import Execute

ID_TYPE = "int NOT NULL AUTO_INCREMENT"
CREATE = f"""CREATE TABLE IF NOT EXISTS {sql.NAME} (
  id {ID_TYPE},
  {", ".join(f"{name} {kind}" for name, kind in sql.TYPES.items())},
  PRIMARY KEY (id, name)
) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"""
"""As in sql/esnet_interfaces.sql: a test compares the two."""
WIDTHS = {"name": 128, "status": 1} | dict.fromkeys(sql.COLUMNS[3:], 13)
"""How many characters a text column has to take."""
PROBES = {
    "SELECT": f"SELECT {', '.join(sql.COLUMNS)} FROM {sql.NAME} WHERE 1 = 0",  # noqa: S608
    "INSERT": f"INSERT INTO {sql.NAME} ({', '.join(sql.COLUMNS[1:])}) "  # noqa: S608
    "SELECT '', '', '', NULL, NULL, NULL, NULL FROM DUAL WHERE 1 = 0",
    "UPDATE": f"UPDATE {sql.NAME} SET {', '.join(f'{each} = NULL' for each in sql.COLUMNS[4:])}, status = '' WHERE 1 = 0",  # noqa: S608
}
"""By the right: a statement that needs it and changes nothing. MySQL refuses it where the right is missing, or the
server is read-only."""
CREATE_PROBE = f"CREATE TABLE {sql.NAME} (id int, id int)"
"""Can never come to be, with two columns of one name; the right to create is looked at first."""


_WIDTH = re.compile(r"(?:var)?(?:char|binary)\((\d+)\)", re.IGNORECASE)


def ensure(execute: Execute, database: str, create: bool) -> None:
    """See that the table is there and has every column, wide enough; with `create`, make it when it is missing.

    Raises ConfigurationError, and NoTableError without `create`.
    """
    columns = f"SHOW COLUMNS FROM {sql.NAME}"
    try:
        rows = execute(columns, ()).rows
    except NoTableError as error:
        if not create:
            raise NoTableError(f"no table {sql.NAME} in database {database} (MYSQL_DATABASE)") from error
        _create(execute, database)
        rows = execute(columns, ()).rows
    types = {str(sql.text(row[0])).lower(): str(sql.text(row[1])) for row in rows}
    if missing := sql.missing_columns(types):
        lacks, added = sql.lacking(missing, f"database {database}"), sql.adding(missing, f"{ID_TYPE} UNIQUE")
        raise ConfigurationError(f"{lacks}; this adds what is missing: {added}")
    narrow = [
        f"table {sql.NAME} in database {database}: column {name} is {printable(types[name], 64)}, "
        f"too narrow for {width} characters"
        for name, width in WIDTHS.items()
        if (match := _WIDTH.match(types.get(name, ""))) and int(match[1]) < width
    ]
    if narrow:
        raise ConfigurationError(narrow)


def _create(execute: Execute, database: str) -> None:
    try:
        execute(CREATE, ())
    except ConfigurationError as error:
        problem = f"no table {sql.NAME} in database {database}, and it cannot be created"
        raise ConfigurationError(f"{problem}: {error}; sql/{sql.NAME}.sql creates it") from error


def try_to_write(execute: Execute) -> None:
    """See that this server takes the user's writes, and change nothing. Raises CollectorError."""
    execute("START TRANSACTION", ())
    for statement in PROBES.values():
        execute(statement, ())
    execute("ROLLBACK", ())


def missing_rights(execute: Execute) -> tuple[str, ...]:
    """The rights that the user needs and lacks, by the server's own word; CREATE only where the table is missing.

    The server is asked by statements that change nothing, since grants can stand in many forms: for a role, a pattern of
    databases, a table or a column. Raises UnavailableError where the server takes no writes at all.
    """
    missing, table_is_there = [], True
    execute("START TRANSACTION", ())
    for right, statement in PROBES.items():
        try:
            execute(statement, ())
        except DeniedError:
            missing.append(right)
        except NoTableError:
            table_is_there = False
    execute("ROLLBACK", ())
    if not table_is_there:
        try:
            execute(CREATE_PROBE, ())
        except DeniedError:
            missing.append("CREATE")
        except SessionLostError:
            raise
        except UnavailableError:
            pass  # the statement is wrong, and the right is there
    return tuple(missing)
