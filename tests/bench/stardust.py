"""A full cycle from Stardust at 500 ms a query, beside our own from Netbeam, the publisher alone and the usual way; and one from
a real OpenSearch."""

import time
from contextlib import closing
from statistics import mean

from collector.source.simulated.stardust import SimulatedIndex
from tests.bench.full_cycle import LATENCY_S, PATIENCE_S, Run, run_cycle
from tests.bench.results import Results
from tests.bench.stage import CYCLE_S, SETTLE_S, Place, Stage, await_early_minute, cpu_s, fill, run_module, settled_ms
from tests.bench.stardust_server import StardustProcess, talking_network
from tests.bench.work import POINTS
from tests.servers.opensearch import NotHereError, OpenSearch
from tests.simulation.stardust import whole_documents

QUERY_S = 0.5
RIVAL_SHARE_S = CYCLE_S // 15
"""Of the rival's fifteen minutes one is measured, the rest is arithmetic."""
MOST_QUERIES = 150


def _cycle(stage: Stage, place: Place, url: str, names: tuple[str, ...]) -> Run:
    """One `run --once` over Stardust, every series 15 minutes behind. Raises RuntimeError unless all of it got through."""
    fill(place.table, names, settled_ms() - CYCLE_S * 1000)
    broker_cpu_s = stage.broker_cpu_s()
    with place.emptied() as taken:
        settings = {"SOURCE": "stardust", "STARDUST_URL": url, "SETTLE_DELAY": SETTLE_S}
        collector = stage.collector(place, "run", "--once", **settings)
        if collector.wait(PATIENCE_S):
            raise RuntimeError(f"the cycle left something over:\n{collector.tail()}")
    messages = taken[0] + place.purge()
    if messages < len(names) * (3 * POINTS + 1):
        raise RuntimeError(f"only {messages} messages arrived")
    cycle = collector.cycles()[-1]
    return Run(collector.seconds, collector.cpu_s, collector.peak_mib, messages, cycle, stage.broker_cpu_s() - broker_cpu_s)


def measure(stage: Stage, results: Results, rounds: int, rival_python: str | None) -> None:
    """Stardust, Netbeam and the publisher alone by turns; ratios are made of means over all rounds."""
    names = tuple(talking_network(len(stage.resources)).resources)
    runs, netbeam, alone, queries, server_cpu_s = [], [], [], [], []
    with StardustProcess(len(names)) as stardust:
        for _ in range(rounds):
            await_early_minute(30)
            before = stardust.tell(latency_s=QUERY_S, keep=[settled_ms() - (CYCLE_S + 60) * 1000, settled_ms() + 60_000])
            runs.append(_cycle(stage, stage.place(), stardust.url, names))
            after = stardust.tell()
            queries.append(sum(after[each] - before[each] for each in ("listing", "points")))
            server_cpu_s.append(after["cpu_s"] - before["cpu_s"])
            place = stage.place()
            with place.emptied():
                alone.append(run_module("tests.bench.publish", "collector", runs[-1].messages, settings=place.environment))
            stage.netbeam.tell(talk=True, latency_s=LATENCY_S)
            netbeam.append(run_cycle(stage, stage.place(), emptied=True))
        _report(results, runs, netbeam, alone, max(queries))
        spent = f"broker {mean(run.broker_cpu_s for run in runs):.1f} s, collector {mean(run.cpu_s for run in runs):.1f} s"
        results.add("CPU of that cycle, on two cores", "", f"{spent}, simulated Stardust {mean(server_cpu_s):.1f} s")
        if rival_python:
            _run_rival(stage, results, stardust, rival_python, runs[0].messages)


def _report(results: Results, runs: list[Run], netbeam: list[Run], alone: list[dict[str, float]], queries: int) -> None:
    seconds, messages = mean(run.cycle_s for run in runs), runs[0].messages
    alone_s = mean(run["seconds"] for run in alone) * messages / alone[0]["messages"]
    publish_cpu_s = mean(run["cpu_s"] for run in alone) * messages / alone[0]["messages"]
    rest_s, netbeam_rest_s = (mean(run.cpu_s for run in each) - publish_cpu_s for each in (runs, netbeam))
    what = f"{queries} queries, {messages} messages in {seconds:.1f} s"
    results.add("full cycle from Stardust at 500 ms a query", f"<= {MOST_QUERIES} queries", what, queries <= MOST_QUERIES)
    ratio = seconds / alone_s
    results.add("cycle over the publisher alone", "<= 1.1", f"{ratio:.2f} ({seconds:.1f} s over {alone_s:.1f} s)", ratio <= 1.1)
    ratio = rest_s / netbeam_rest_s
    shown = f"{ratio:.2f} ({rest_s:.1f} s over {netbeam_rest_s:.1f} s, each less {publish_cpu_s:.1f} s)"
    results.add("CPU less publishing, over a cycle from Netbeam", "<= 0.6", shown, ratio <= 0.6)
    peak_mib = max(run.peak_mib for run in runs)
    results.add("peak memory, full cycle from Stardust", "<= 150 MB", f"{peak_mib:.0f} MB", peak_mib <= 150)
    results.note(
        stardust_cycle_s=seconds, stardust_cycle_cpu_s=mean(run.cpu_s for run in runs), stardust_queries=queries,
        stardust_peak_mib=peak_mib, stardust_publish_alone_s=alone_s, stardust_rest_cpu_s=rest_s,
        netbeam_rest_cpu_s=netbeam_rest_s,
    )  # fmt: skip


def _run_rival(stage: Stage, results: Results, stardust: StardustProcess, python: str, messages: int) -> None:
    end_ms = settled_ms()
    stardust.tell(keep=[end_ms - RIVAL_SHARE_S * 1000, end_ms])
    place = stage.place()
    with place.emptied():
        words = (stardust.url, end_ms - RIVAL_SHARE_S * 1000, end_ms)
        run = run_module("tests.bench.rival_scan", *words, python=python, settings=place.environment)
    seconds, rival_cpu_s = (run[each] / run["messages"] * messages for each in ("seconds", "cpu_s"))
    share = run["messages"] / messages
    shown = f"{seconds:.0f} s, CPU {rival_cpu_s:.0f} s (measured on {share:.0%}, the rest by arithmetic)"
    results.add("opensearch-py's scan and pika, fire and forget", "", shown)
    results.note(scan_s=seconds, scan_cpu_s=rival_cpu_s)


def measure_opensearch(stage: Stage, results: Results) -> None:
    """Fifteen minutes of the list from a real engine on this machine: what a cycle takes, and where the time goes."""
    try:
        node = OpenSearch()
    except NotHereError as error:
        results.add("a cycle from a real OpenSearch", "", f"left out: {error}")
        return
    network = talking_network(len(stage.resources))
    names = tuple(network.resources)
    with closing(node), node:
        node.make()
        await_early_minute(30)
        began, end_ms = time.monotonic(), settled_ms()
        count = node.fill(whole_documents(SimulatedIndex(network), end_ms - CYCLE_S * 1000, end_ms + SETTLE_S * 1000))
        filled_s = time.monotonic() - began
        engine_s = cpu_s(node.pid)
        place = stage.place()
        fill(place.table, names, end_ms - CYCLE_S * 1000)
        with place.emptied() as taken:
            settings = {"SOURCE": "stardust", "STARDUST_URL": node.url, "SETTLE_DELAY": SETTLE_S, "LOG_LEVEL": "INFO"}
            collector = stage.collector(place, "run", "--once", **settings)
            collector.wait(PATIENCE_S)
        engine_s = cpu_s(node.pid) - engine_s
        cycle = collector.cycles()[-1]
        messages = taken[0] + place.purge()
    seconds, own_s = float(cycle["seconds"]), collector.cpu_s
    written = f"{count} documents, written in {filled_s:.0f} s"
    took = f"CPU {own_s:.1f} s, the engine's {engine_s:.1f} s; {collector.peak_mib:.0f} MB"
    shown = f"{seconds:.1f} s for {messages} messages; {took}"
    results.add("a cycle from a real OpenSearch on this machine", "", f"{shown} ({written})")
    results.note(opensearch_cycle_s=seconds, opensearch_engine_cpu_s=engine_s, opensearch_collector_cpu_s=own_s)
