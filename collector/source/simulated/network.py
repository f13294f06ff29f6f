"""A network that exists only here: its interfaces, and the points that each of them has at any time.

Everything is a function of the seed, the interface and the time, so that what was received can be compared with what there was.
"""

import csv
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from collector.core.model import GRID_MS, JsonObject, RecordType
from collector.core.text import unescaped

Value = int | float | None
Point = tuple[int, Value, Value]

SITES = (
    "albq", "amst", "anl", "aofa", "bnl", "bois", "cern-773", "chic", "denv", "elpa", "eqxdc4", "fnal", "hous", "kans", "lbl-mr",
    "llnl", "lond", "nash", "newy", "ornl", "pnwg", "pppl", "sacr", "salt", "seat", "slac", "snll", "srs", "star", "sunn", "wash",
)  # fmt: skip
KINDS = ("cr5", "mpr1", "asw1", "rt1", "ssw2")
INTERFACES_PER_DEVICE = 69
"""What ESnet has on average: 10,679 interfaces on 155 devices."""
SMALL_NETWORK_DEVICES = 5
"""A small network is spread over this many devices, so that one device can fail and others not."""
PORT_NAMES = (
    "{a}%2F1%2F{b}", "ge-0%2F{a}%2F{b}", "ge-0%2F{a}%2F{b}.0", "lag-{n}", "irb.{n}", "to_nordunet_{n}_v4v6",
    "xe-{a}%2F0%2F{b}.32767", "lo0.{n}", "lc%2D{a}%2F0%2F{b}", "ae{n}", "Ae{n}",
)  # fmt: skip
"""Shapes of names that ESnet has, and two that differ in case only."""
SPEEDS_MBPS = (1000, 10_000, 100_000, 100, 800, 20_000)
ODD_EVERY = 61
"""Of so many points of a series in a row, one has a null and another one, if it is traffic, a number with a fraction."""
AWAY_EVERY = 20
"""With a rotation, one interface in so many is away at any time."""
DEFAULT_SPEED_MBPS = 1000
encode = json.JSONEncoder(separators=(",", ":")).encode
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Nothing(StrEnum):
    """The ways in which Netbeam says that there are no points."""

    NOT_FOUND = "404"
    NO_CONTENT = "204"
    EMPTY_BODY = ""
    NULL = "null"
    EMPTY_ARRAY = '{"points":[]}'
    NULL_POINTS = '{"points":null}'


_NOTHINGS = tuple(Nothing)


class _Curve(NamedTuple):
    """The constants of one series' points: two saw teeth of 16 bits, scaled."""

    step: int
    salt_in: int
    salt_out: int
    base: int
    span: int


class SimulatedNetwork:
    """Interfaces, given as pairs of resource and speed in Mbit/s; those without a speed have no points.

    The public attributes may be replaced at any time and from any thread (replaced as a whole, not changed in place).
    """

    def __init__(self, interfaces: Iterable[tuple[str, int | None]], *, seed: int = 0) -> None:
        self.speeds: Mapping[str, int | None] = dict(interfaces)
        self.seed = seed
        self.absent: frozenset[str] = frozenset()
        """Interfaces that the listing lacks for now; their points remain."""
        self.rotation_ms: int | None = None
        """Interfaces come and go: each is away for this long, by turns."""
        self.wakes_ms: Mapping[str, int] = {}
        """Interfaces that have points from this time on only, with a speed or without."""
        self.sleeps_ms: Mapping[str, int] = {}
        """Interfaces that have no points from this time on."""
        self._curves: dict[tuple[str, str], _Curve] = {}
        self._listing: tuple[object, bytes] = (None, b"")

    @classmethod
    def from_csv(cls, path: str | Path, *, limit: int | None = None, seed: int = 0) -> "SimulatedNetwork":
        """From a file with the columns `resource` and `speed_mbps` (empty: none); the first `limit` of them."""
        with open(path, encoding="utf-8", newline="") as lines:
            rows = islice(csv.DictReader(lines), limit)
            return cls([(row["resource"], int(row["speed_mbps"]) if row["speed_mbps"] else None) for row in rows], seed=seed)

    @classmethod
    def synthetic(cls, count: int, *, seed: int = 0) -> "SimulatedNetwork":
        """So many interfaces with names of ESnet's shapes, seven in sixteen of them silent, as there."""
        devices = max(1, min(count, SMALL_NETWORK_DEVICES), -(-count // INTERFACES_PER_DEVICE))
        return cls([_synthetic(number % devices, number // devices) for number in range(count)], seed=seed)

    @property
    def resources(self) -> Sequence[str]:
        """Every interface's identity, present or not, in the listing's order."""
        return tuple(self.speeds)

    def silent(self, resource: str) -> bool:
        """Whether it never has points."""
        return self.speeds[resource] is None and resource not in self.wakes_ms

    def nothing(self, resource: str, record_type: RecordType) -> Nothing:
        """How this series says that it has no points."""
        return _NOTHINGS[self._hash(resource, record_type) % len(_NOTHINGS)]

    def present(self, resource: str, now_ms: int) -> bool:
        """Whether the listing has it at that time."""
        if resource in self.absent:
            return False
        return self.rotation_ms is None or (now_ms // self.rotation_ms + self._hash(resource)) % AWAY_EVERY != 0

    def expected_points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        """All points in `[begin_ms, end_ms)`, ascending: what a correct collector publishes of this window."""
        if self.silent(resource):
            return []
        begin_ms = max(begin_ms, self.wakes_ms.get(resource, begin_ms))
        end_ms = min(end_ms, self.sleeps_ms.get(resource, end_ms))
        return self._points(resource, record_type, begin_ms, end_ms)

    def _points(self, resource: str, record_type: RecordType, begin_ms: int, end_ms: int) -> list[Point]:
        step, salt_in, salt_out, base, span = self._curve(resource, record_type)
        first, last = -(-begin_ms // GRID_MS), -(-end_ms // GRID_MS)
        points: list[Point] = [
            (
                tick * GRID_MS,
                base + ((tick * step + salt_in & 0xFFFF) * span >> 16),
                base + ((tick * step + salt_out & 0xFFFF) * span >> 16),
            )
            for tick in range(first, last)
        ]
        for index in range(-(first + salt_in) % ODD_EVERY, last - first, ODD_EVERY):
            points[index] = (*points[index][:2], None)
        for index in range(-(first + salt_in + ODD_EVERY // 2) % ODD_EVERY, last - first, ODD_EVERY):
            timestamp_ms, _, outward = points[index]
            fraction = 0.5 if record_type is RecordType.TRAFFIC else 0  # errors and discards are counts
            points[index] = (timestamp_ms, base + fraction, outward)
        return points

    def _curve(self, resource: str, record_type: RecordType) -> _Curve:
        key = (resource, record_type.value)
        curve = self._curves.get(key)
        if curve is None:
            number = self._hash(resource, record_type)
            bits = (self.speeds[resource] or DEFAULT_SPEED_MBPS) * 1_000_000
            base, span = (bits // 100, bits // 2) if record_type is RecordType.TRAFFIC else (0, 4)
            curve = self._curves[key] = _Curve(number % 8192 * 2 + 1, number >> 8 & 0xFFFF, number >> 16, base, span)
        return curve

    def _hash(self, *parts: object) -> int:
        return zlib.crc32(f"{self.seed} {parts}".encode())

    def listing(self, now_ms: int) -> list[JsonObject]:
        """The objects of the interfaces that are present at that time."""
        return [self.interface(resource) for resource in self.speeds if self.present(resource, now_ms)]

    def encoded_listing(self, now_ms: int) -> bytes:
        """The same as JSON; kept until another one is present."""
        state = (self.absent, self.rotation_ms, now_ms // self.rotation_ms if self.rotation_ms else None)
        if self._listing[0] != state:
            self._listing = (state, _compact(self.listing(now_ms)).encode())
        return self._listing[1]

    def interface(self, resource: str) -> JsonObject:
        """Its object in the listing: its 23 keys, some of them null or empty."""
        number = self._hash(resource)
        name = unescaped(resource.rpartition("/")[2])
        device = resource.split("/")[1] if resource.count("/") > 1 else resource
        site = device.rpartition("-")[0].upper()
        physical = "/" in name and "." not in name
        far = SITES[number % len(SITES)]
        return {
            "namespace": "esnet/prod",
            "resource": resource,
            "name": name,
            "device": device,
            "ifIndex": str(number % 100_000 + 1),
            "description": f"{site}->{far.upper()}(Zürich {number % 97})",
            "speed": self.speeds[resource],
            "vlan": number % 4094 + 1 if "." in name else None,
            "port": name if physical else None,
            "nokiaType": ("network", "access", "hybrid")[number % 3] if "-cr" in device else None,
            "visibility": "public" if number % 8 else "private",
            "connection": f"{site}-{far}".lower() if number % 3 else "",
            "link": f"lnk-{number % 1000}" if number % 5 == 0 else None,
            "tags": ["backbone", "100G"][: number % 3],
            "sector": ("DOE", "R&E", "Peering", "")[number % 4],
            "site": site,
            "lhcone": number % 7 == 0,
            "oscars": number % 11 == 0,
            "intercloud": number % 13 == 0,
            "intracloud": number % 2 == 0,
            "remoteDevice": f"{far}-cr5" if number % 3 else None,
            "remotePort": f"{number % 10}/1/1" if number % 3 else None,
            "ipv4": f"198.51.100.{number % 254 + 1}" if number % 4 else None,
        }


def _synthetic(device: int, index: int) -> tuple[str, int | None]:
    site, kind = SITES[device % len(SITES)], KINDS[device // len(SITES) % len(KINDS)]
    again = device // (len(SITES) * len(KINDS))
    number = index // len(PORT_NAMES) + 1
    port = PORT_NAMES[index % len(PORT_NAMES)].format(a=number // 10, b=number % 10, n=number)
    silent = (index * 7 + device + 7) % 16 < 7
    speed_mbps = None if silent else SPEEDS_MBPS[(index + device) % len(SPEEDS_MBPS)]
    return f"devices/{site}-{kind}{again or ''}/interfaces/{port}", speed_mbps
