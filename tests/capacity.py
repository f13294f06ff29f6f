"""Capacity on paper: what ESnet today, ten times ESnet and a hundred times would ask of collector, broker and database.

    python tests/capacity.py [--source stardust] [--benchmark result.json] [--interfaces 10679] [--latency 0.05] …

Arithmetic only, from what `tests/benchmark.py` measured (its JSON), or from the defaults below, which it measured on two
cores that collector, broker, database and the simulated Netbeam shared. Times are in seconds; every rate can be overridden.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from collector.source.stardust.groups import DOCUMENTS, DOUBLES
from collector.source.stardust.queries import PAGE

TIMES = (1, 10, 100)
LISTING_BYTES = 64 * 2**20
"""A longer listing is not read (Netbeam answers with about 5 MB today)."""
LISTING_ENTRIES = 200_000
"""Nor is one with more entries, whatever the source."""
MOST_SHARES = 1000
MIB_AT_REST = 40.0
"""A collector without a table, about."""


@dataclass(frozen=True, slots=True)
class Network:
    """What is collected, how the source answers, and among how many collectors the interfaces are shared."""

    source: str = "netbeam"
    interfaces: int = 10_679
    record_types: int = 3
    resolution: float = 30.0
    """Seconds between two points of a series."""
    interval: float = 900.0
    latency: float = 0.05
    """Seconds that the source takes for one answer."""
    concurrency: int = 32
    """Of each collector."""
    talking: float = 1.0
    """The share of the series that have points; of ESnet's it is 0.56."""
    shares: int = 1

    @property
    def requests(self) -> float:
        """A cycle, of all collectors together. Stardust answers for many interfaces at once; its listing comes in pages."""
        if self.source == "netbeam":
            return self.interfaces * self.record_types
        documents = self.interfaces * (self.talking * self.interval / self.resolution * DOUBLES + 1)
        return -(-documents // DOCUMENTS) + self.pages * self.shares

    @property
    def pages(self) -> int:
        """Of the listing, each with a request of its own; Netbeam's listing is one answer."""
        return 0 if self.source == "netbeam" else -(-self.interfaces // PAGE)

    @property
    def messages(self) -> float:
        """Points a cycle; interface messages are sent once a day."""
        return self.interfaces * self.record_types * self.talking * self.interval / self.resolution


STARDUST = Network(source="stardust", latency=0.5, concurrency=4)


@dataclass(frozen=True, slots=True)
class Rates:
    """What the benchmark measured."""

    request_cpu: float = 0.00037
    """The collector's CPU seconds for a window, its messages left out."""
    document_cpu: float = 0.0000088
    """Of Stardust, where requests are few: the collector's CPU seconds to read and merge what makes one message."""
    message_cpu: float = 0.0000094
    """The collector's CPU seconds for a message."""
    broker_rate: float = 50_000.0
    """Messages a second that one broker confirms, with one queue and one publisher, while it is fetched beside it."""
    listing: float = 0.000035
    """Seconds for an interface of the listing: transfer, parsing, reading the table, reconciling."""
    database: float = 0.00007
    """Seconds in the database for a row and cycle."""
    listing_bytes: float = 500.0
    """Of an interface in the listing, as it stands; ESnet's has 5 MB."""
    row_mib: float = 0.0045
    """The collector's memory for an interface, in MiB."""

    @classmethod
    def from_benchmark(cls, figures: Mapping[str, float], interfaces: int) -> "Rates":
        """From the figures of the benchmark's JSON; what a section that was left out would have given keeps its default.

        The collector's CPU is split between windows and messages as the floor's is between GETs and publishes.
        """
        rates = cls()
        if "cycle_cpu_s" in figures:
            gets, publishes = figures["floor_get_cpu_s"], figures["floor_publish_cpu_s"]
            cpu, points = figures["cycle_cpu_s"], figures["cycle_messages"]
            rates = replace(
                rates,
                request_cpu=cpu * gets / (gets + publishes) / figures["cycle_requests"],
                message_cpu=cpu * publishes / (gets + publishes) / points,
                database=figures["cycle_database_s"] / interfaces,
                row_mib=max(0.0, figures["cycle_peak_mib"] - MIB_AT_REST) / interfaces,
            )
        if "publisher_per_s" in figures:
            rates = replace(rates, broker_rate=figures["publisher_per_s"])
        if "list_s" in figures:
            rates = replace(rates, listing=(figures["list_s"] + figures["read_s"] + figures["reconcile_s"]) / interfaces)
        return rates


@dataclass(frozen=True, slots=True)
class Estimate:
    """A cycle's time by part, in seconds, and what it comes to; of one share what a share does, of the rest the whole."""

    network: Network
    requests_s: float
    """Waiting for Netbeam, with so many requests at once."""
    collector_s: float
    """CPU of the one Python interpreter."""
    broker_s: float
    listing_s: float
    database_s: float
    listing_mib: float
    memory_mib: float

    @property
    def cycle_s(self) -> float:
        """Requests, messages and their CPU overlap, so the slowest counts; the listing and the table come on top."""
        return self.own_s(max(self.requests_s, self.collector_s, self.broker_s))

    def own_s(self, overlapping_s: float) -> float:
        """A cycle in which what overlaps takes so long."""
        return self.listing_s + self.database_s / self.network.shares + overlapping_s

    @property
    def enough_shares(self) -> bool:
        """Whether a share ends its cycle in time where broker and database keep up."""
        return self.own_s(max(self.requests_s, self.collector_s)) <= self.network.interval

    @property
    def uses(self) -> dict[str, float]:
        """How much each part takes of its limit, which is the interval but for the listing's size: beyond 1 it gives out."""
        interval = self.network.interval
        return {
            "the source's latency": self.requests_s / interval,
            "the collector's CPU": (self.collector_s + self.listing_s) / interval,
            "the broker": self.broker_s / interval,
            "the database": self.database_s / interval,
            "the listing's size": max(
                self.network.interfaces / LISTING_ENTRIES,
                self.listing_mib * 2**20 / LISTING_BYTES if self.network.source == "netbeam" else 0.0,
            ),
        }

    @property
    def fits(self) -> bool:
        """Whether a cycle ends before the next one is due."""
        return self.cycle_s <= self.network.interval

    @property
    def limits(self) -> list[str]:
        """The parts that cannot keep up by themselves, worst first."""
        return [name for name, use in sorted(self.uses.items(), key=lambda item: -item[1]) if use > 1]


ANSWERS = {
    "the source's latency": "{shares} shares, or {needed:,} requests at once where the source agrees",
    "the collector's CPU": "{shares} shares of the interfaces, a collector each",
    "the broker": "a clustered RabbitMQ with several queues, on {brokers} cores or nodes of the measured speed",
    "the database": "a faster database: all shares use the one that there is",
    "the listing's size": "several sources, each with a part of the interfaces: every share reads the whole listing",
}
"""What then."""


def shares_needed(network: Network, rates: Rates) -> int | None:
    """The fewest shares that keep up by themselves; None when no number does."""
    for shares in range(1, MOST_SHARES + 1):
        if estimate(replace(network, shares=shares), rates).enough_shares:
            return shares
    return None


def estimate(network: Network, rates: Rates) -> Estimate:
    """One cycle of one share, and what all shares together ask of one broker and one database."""
    reading = rates.request_cpu * network.requests if network.source == "netbeam" else rates.document_cpu * network.messages
    return Estimate(
        network,
        requests_s=(network.requests - network.pages * network.shares) * network.latency / network.concurrency / network.shares,
        collector_s=(reading + network.messages * rates.message_cpu) / network.shares,
        broker_s=network.messages / rates.broker_rate,
        listing_s=network.interfaces * rates.listing + network.pages * network.latency / network.concurrency,
        database_s=network.interfaces * rates.database,
        listing_mib=network.interfaces * rates.listing_bytes / 2**20,
        memory_mib=MIB_AT_REST + network.interfaces * rates.row_mib / network.shares,
    )


def answer(limit: str, made: Estimate, rates: Rates) -> str:
    """What helps when that part gives out."""
    network = made.network
    return ANSWERS[limit].format(
        needed=-int(-network.requests * network.latency // network.interval),
        shares=shares_needed(network, rates),
        brokers=-int(-made.uses["the broker"] // 1),
    )


def first_to_give_out(network: Network, rates: Rates) -> tuple[str, float]:
    """The part that reaches its limit first as the network grows, and at how many times its size."""
    uses = estimate(network, rates).uses
    name = max(uses, key=lambda each: uses[each])
    return name, 1 / uses[name]


def report(network: Network, rates: Rates) -> str:
    """The table and the sentences."""
    lines = ["| | " + " | ".join(f"{times} x" for times in TIMES) + " |", "| --- |" + " --- |" * len(TIMES)]
    made = [estimate(replace(network, interfaces=network.interfaces * times), rates) for times in TIMES]
    fewest = [shares_needed(each.network, rates) for each in made]
    made_of_shares = [
        estimate(replace(each.network, shares=shares or MOST_SHARES), rates) for each, shares in zip(made, fewest, strict=True)
    ]
    rows = {
        "interfaces": [f"{each.network.interfaces:,}" for each in made],
        "requests a cycle": [f"{each.network.requests:,.0f}" for each in made],
        "messages a cycle": [f"{each.network.messages:,.0f}" for each in made],
        "messages a second, averaged": [f"{each.network.messages / network.interval:,.0f}" for each in made],
        "cycle time": [f"{each.cycle_s:,.0f} s{'' if each.fits else ' (too long)'}" for each in made],
        **{f"{name}, of its limit": [f"{each.uses[name]:.1%}" for each in made] for name in made[0].uses},
        "the collector's memory": [f"{each.memory_mib:,.0f} MiB" for each in made],
        "**shares that keep up**": ["none" if each is None else f"{each}" for each in fewest],
        "memory of each": [f"{each.memory_mib:,.0f} MiB" for each in made_of_shares],
    }
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    name, times = first_to_give_out(network, rates)
    twice = estimate(replace(network, interfaces=int(network.interfaces * times * 2)), rates)
    lines += ["", f"First to give out: {name}, at {times:.1f} times this size. At twice that: {answer(name, twice, rates)}."]
    for times_, each in zip(TIMES, made, strict=True):
        lines += [f"At {times_} x, beyond its limit: {limit}. Then: {answer(limit, each, rates)}." for limit in each.limits]
    return "\n".join(lines)


def main() -> int:
    """Compute and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", type=Path, metavar="FILE", help="the benchmark's JSON; without it, stated defaults")
    parser.add_argument("--source", choices=("netbeam", "stardust"), default="netbeam")
    for each in (*fields(Network)[1:], *fields(Rates)):
        kind = int if each.name in ("interfaces", "record_types", "concurrency", "shares") else float
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind, help=f"instead of {each.default}")
    wanted = vars(parser.parse_args())
    rates = Rates()
    if wanted["benchmark"]:
        result = json.loads(wanted["benchmark"].read_text())
        rates = Rates.from_benchmark(result["figures"], result["interfaces"])
    given = {name: value for name, value in wanted.items() if value is not None and name != "benchmark"}
    base = STARDUST if wanted["source"] == "stardust" else Network()
    network = replace(base, **{each.name: given[each.name] for each in fields(Network) if each.name in given})
    rates = replace(rates, **{each.name: given[each.name] for each in fields(Rates) if each.name in given})
    print(report(network, rates))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
