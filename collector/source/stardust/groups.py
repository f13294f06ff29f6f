"""Which interfaces go into one query: as many as have few enough documents to come in one answer."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from collector.core.model import GRID_MS, RecordType, Window
from collector.source.stardust.identity import id_of
from collector.source.stardust.queries import Clause

DOCUMENTS = 3_900
"""Expected in one query. Far below what one answer holds (10,000), so that doubles fit and the parsed answer stays small; ESnet's
interfaces take some 95 queries for fifteen minutes."""
DOUBLES = 1.1
"""Up to a tenth more documents than one for each step of the grid."""
UNKNOWN = 30.0
"""Documents of an interface that was not asked for since the start, at the most: almost half of ESnet's have windows of a day
then, and nothing in them. Where all have more, after an hour's absence say, the first answer is too large and shows how many."""
INTERFACES = 1_000
"""Of one query, whatever is expected of them."""
CLAUSES = 40
"""Of one query, each with up to 11 conditions: engines take 1,024 in all."""
ALIKE_MS = 300_000
"""Windows of one end that begin within the same five minutes share a clause: a few documents more, which nobody takes."""


@dataclass(slots=True, eq=False)
class Interface:
    """What is asked of one interface: the record types of one row or, while an older one of its name is drained, of two."""

    id: str
    windows: list[Window] = field(default_factory=list)

    @property
    def begin_ms(self) -> int:
        """Of the earliest window."""
        return min(each.begin_ms for each in self.windows)

    @property
    def end_ms(self) -> int:
        """Of the latest one."""
        return max(each.end_ms for each in self.windows)


Group = list[Interface]


def by_interface(windows: Sequence[Window]) -> tuple[list[Interface], list[Window]]:
    """The windows by interface, in the order of the first one of each; and those that Stardust cannot have."""
    interfaces: dict[str, Interface] = {}
    foreign: list[Window] = []
    for window in windows:
        name = window.series.name
        interface = interfaces.get(name)
        if interface is None:
            identity = id_of(name)
            if identity is None:
                foreign.append(window)
                continue
            interface = interfaces[name] = Interface(identity)
        interface.windows.append(window)
    return list(interfaces.values()), foreign


class Density:
    """How many documents for each step of the grid a series had when it was last asked for; in memory alone."""

    def __init__(self) -> None:
        self._known: dict[str, dict[RecordType, float]] = {}

    def learn(self, window: Window, points: int) -> None:
        """A window was answered."""
        self._known.setdefault(window.series.name, {})[window.series.record_type] = points / _steps(window)

    def forget_all_but(self, names: Mapping[str, object]) -> None:
        """Of interfaces that are not listed any more nothing is kept."""
        self._known = {name: known for name, known in self._known.items() if name in names}

    def expected(self, interface: Interface) -> float:
        """How many documents there may be in the interface's windows; its record types share them."""
        by_type: dict[RecordType, float] = {}
        for window in interface.windows:
            record_type = window.series.record_type
            density = self._known.get(window.series.name, {}).get(record_type)
            steps = min(_steps(window), UNKNOWN) if density is None else _steps(window) * density
            by_type[record_type] = by_type.get(record_type, 0.0) + steps
        return max(by_type.values()) * DOUBLES + 1


def _steps(window: Window) -> float:
    return max(1.0, (window.end_ms - window.begin_ms) / GRID_MS)


def groups(interfaces: Iterable[Interface], density: Density) -> Iterator[Group]:
    """Interfaces, in their order, as one query each takes them."""
    group: Group = []
    documents, keys = 0.0, set[tuple[object, ...]]()
    for interface in interfaces:
        expected = density.expected(interface)
        own = _keys(interface)
        full = len(group) >= INTERFACES or documents + expected > DOCUMENTS or len(keys | own) > CLAUSES
        if group and full:
            yield group
            group, documents, keys = [], 0.0, set()
        group.append(interface)
        documents += expected
        keys |= own
    if group:
        yield group


def parts(group: Group, documents: int) -> list[Group]:
    """A group whose answer would be too large, in as many equal parts as it takes, at least two."""
    size = max(1, len(group) // max(2, -(-documents // DOCUMENTS)))
    return [group[start : start + size] for start in range(0, len(group), size)]


def halves(group: Group) -> list[Group]:
    """A group of two or more, in two."""
    middle = len(group) // 2
    return [group[:middle], group[middle:]]


def _alike(interface: Interface) -> dict[tuple[int, int], list[Window]]:
    """The interface's windows, those together that share a clause."""
    alike: dict[tuple[int, int], list[Window]] = {}
    for each in interface.windows:
        alike.setdefault((each.begin_ms // ALIKE_MS, each.end_ms), []).append(each)
    return alike


def _keys(interface: Interface) -> set[tuple[object, ...]]:
    return {(*key, _types(windows)) for key, windows in _alike(interface).items()}


def _types(windows: Iterable[Window]) -> tuple[RecordType, ...]:
    return tuple(sorted({each.series.record_type for each in windows}))


def between(window: Window, begin_ms: int, end_ms: int) -> Window | None:
    """What lies of the window within these times; None: nothing."""
    begin_ms, end_ms = max(begin_ms, window.begin_ms), min(end_ms, window.end_ms)
    return dataclasses.replace(window, begin_ms=begin_ms, end_ms=end_ms) if begin_ms < end_ms else None


def clauses(group: Group) -> list[Clause]:
    """What to ask for a group: of each interface one clause at least."""
    found: dict[tuple[object, ...], tuple[int, int, tuple[RecordType, ...], list[str]]] = {}
    for interface in group:
        for key, windows in _alike(interface).items():
            types = _types(windows)
            first_ms = min(each.begin_ms for each in windows)
            known = found.get((*key, types))
            ids = known[3] if known else []
            ids.append(interface.id)
            found[(*key, types)] = (min(first_ms, known[0]) if known else first_ms, key[1], types, ids)
    return [Clause(*each) for each in found.values()]
