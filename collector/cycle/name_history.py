"""The rows of names that a cycle's table leaves out, because they are retired and drained; asked for once a name."""

from collections.abc import Iterable, Mapping

from collector.core.contracts import Store
from collector.core.model import Row


class NameHistory:
    """Remembers the drained rows of names. A row that the table has, or had until now, is never remembered: somebody may
    have deleted it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._drained: dict[str, tuple[Row, ...]] = {}
        self._ids: dict[str, set[int]] = {}
        """Of the rows that the table had when it was last looked at."""

    def of(self, names: Iterable[str], rows: Iterable[Row]) -> Mapping[str, tuple[Row, ...]]:
        """Every row of these names, in the order of the ids; `rows` is the table as it has just been read.

        Raises like Store.history.
        """
        now: dict[str, dict[int, Row]] = {name: {} for name in names}
        for row in rows:
            if row.name in now:
                now[row.name][row.id] = row
        # a row that has left the table is drained or deleted: the store knows which
        unknown = {name for name, known in now.items() if name not in self._drained or self._ids[name] - known.keys()}
        if unknown:
            found: dict[str, list[Row]] = {name: [] for name in unknown}
            for row in self._store.history(unknown):
                if row.id not in now[row.name]:
                    found[row.name].append(row)
            self._drained.update({name: tuple(some) for name, some in found.items()})
        self._ids.update({name: set(known) for name, known in now.items()})
        return {
            name: tuple(sorted((*self._drained[name], *known.values()), key=lambda row: row.id)) for name, known in now.items()
        }

    def keep_only(self, names: Iterable[str]) -> None:
        """Forget all names but these."""
        kept = set(names)
        self._drained = {name: rows for name, rows in self._drained.items() if name in kept}
        self._ids = {name: ids for name, ids in self._ids.items() if name in kept}

    def forget(self) -> None:
        """Somebody else may have written to the table."""
        self.keep_only(())
