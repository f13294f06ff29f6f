"""What end-to-end and fault tests stand on: a collector as a process of its own between a simulated Netbeam, a real database and
a real broker, and the invariant that every such test ends with. Nothing here needs pytest, and nothing takes the collector's
word for anything: identities, start rules and the contract of messages are written down a second time, from the specification.
"""

from tests.rig.bus import Bus
from tests.rig.clock import Clock
from tests.rig.heard import Heard, InterfaceMessage
from tests.rig.invariant import Counts, InvariantError, Starts, check_invariant, compare, starts_of
from tests.rig.rig import Rig
from tests.rig.running import Collector, wait_for
from tests.rig.tables import MysqlTable, SqliteTable, Table, TableRow

__all__ = [
    "Bus",
    "Clock",
    "Collector",
    "Counts",
    "Heard",
    "InterfaceMessage",
    "InvariantError",
    "MysqlTable",
    "Rig",
    "SqliteTable",
    "Starts",
    "Table",
    "TableRow",
    "check_invariant",
    "compare",
    "starts_of",
    "wait_for",
]
