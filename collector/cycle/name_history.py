"""The rows of names that a cycle's table leaves out, because they are retired and drained; asked for once a name."""

from collections.abc import Iterable, Mapping

from collector.core.contracts import Store
from collector.core.model import Row


class NameHistory:
    """Remembers what the store was asked for; what the table holds now comes before what is remembered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._rows: dict[str, tuple[Row, ...]] = {}

    def of(self, names: Iterable[str], rows: Iterable[Row]) -> Mapping[str, tuple[Row, ...]]:
        """Every row of these names, in the order of the ids; `rows` is the table as it has just been read.

        Raises like Store.history.
        """
        wanted = set(names)
        unknown = wanted - self._rows.keys()
        if unknown:
            self._rows.update(dict.fromkeys(unknown, ()))
            for row in self._store.history(unknown):
                self._rows[row.name] = (*self._rows[row.name], row)
        now: dict[str, dict[int, Row]] = {}
        for row in rows:
            if row.name in wanted:
                now.setdefault(row.name, {})[row.id] = row
        for name, newer in now.items():
            known = {row.id: row for row in self._rows[name]} | newer
            self._rows[name] = tuple(known[row_id] for row_id in sorted(known))
        return {name: self._rows[name] for name in wanted}

    def forget(self) -> None:
        """Somebody else may have written to the table."""
        self._rows.clear()
