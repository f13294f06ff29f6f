"""Confirmed messages a second: the collector's publisher against a bare pipelined loop, near the broker and 20 ms away."""

from collections.abc import Mapping

from tests.bench.proxy import delayed
from tests.bench.results import Results
from tests.bench.stage import Stage, run_module

MESSAGES = 240_000
DELAY_S = 0.02
"""Added in each direction, 40 ms there and back: the stricter reading of "20 ms between collector and broker"."""


def measure(stage: Stage, results: Results, rounds: int) -> None:
    """Both ways by turns."""
    place = stage.place()

    def rate(kind: str, environment: Mapping[str, str]) -> float:
        with place.emptied():
            return _rate(kind, environment)

    rates: dict[str, list[float]] = {"bare": [], "collector": []}
    for _ in range(rounds + 1):
        for kind, kept in rates.items():
            kept.append(rate(kind, place.environment))
    # of each the best: whatever else the machine does only takes away from it
    bare, collector = max(rates["bare"]), max(rates["collector"])
    shown = f"{collector / bare:.2f} ({collector:,.0f}/s over {bare:,.0f}/s)"
    results.add("publisher, confirmed messages/s, over the bare loop, queue emptied", ">= 1.2", shown, collector / bare >= 1.2)
    growing = {}
    for kind in rates:
        growing[kind] = _rate(kind, place.environment)
        place.purge()
    shown = f"{growing['collector'] / growing['bare']:.2f} ({growing['collector']:,.0f}/s over {growing['bare']:,.0f}/s)"
    results.add("into a queue that nobody empties", "", shown)
    with delayed(place.bus.vhost.host, place.bus.vhost.port, DELAY_S) as port:
        far = {**place.environment, "RMQ_PORT": str(port)}
        distant = max(rate("collector", far) for _ in range(2))
    results.add("with 20 ms each way added, queue emptied", ">= 5,000/s", f"{distant:,.0f}/s", distant >= 5000)
    results.note(publisher_per_s=collector, bare_per_s=bare, distant_per_s=distant)


def _rate(kind: str, environment: Mapping[str, str]) -> float:
    run = run_module("tests.bench.publish", kind, MESSAGES, settings=environment)
    return float(run["messages"] / run["seconds"])
