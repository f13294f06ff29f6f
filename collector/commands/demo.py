"""`demo`: the collector at work on embedded parts. A simulated Netbeam on loopback, the table in a file that is thrown away,
messages on the screen; no server, no environment, no `.env`."""

import logging
import os
import tempfile
from pathlib import Path

from collector.commands import signals, wiring
from collector.commands.run import Daemon
from collector.config.configuration import Config
from collector.core.counters import Counters
from collector.core.shutdown import Stop
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.server import Simulation

log = logging.getLogger(__name__)

POLL_S = 5
"""Short, so that there is something to see; points come as the minutes pass."""
LOOKBACK_S = 300
"""What a new interface starts with: some 10 points of each record type."""


def demo(*, interfaces: int, cycles: int | None = None) -> int:
    """Collect from a simulated network of so many interfaces, for so many cycles or until a signal; the exit code."""
    os.environ["NO_PROXY"] = "*"  # what is asked is on this machine
    stop, counters = Stop(), Counters()
    signals.install(stop)
    network = SimulatedNetwork.synthetic(interfaces)
    with Simulation(network) as simulation, tempfile.TemporaryDirectory(prefix="esnet-collector-") as folder:
        config = Config.from_mapping(
            {
                "NETBEAM_URL": simulation.url,
                "POLL_INTERVAL": str(POLL_S),
                "SETTLE_DELAY": "0",
                "INITIAL_LOOKBACK": str(LOOKBACK_S),
                "METRICS_PORT": "0",
            },
            without={"rmq", "mysql"},
        )
        log.info("demonstration begun interfaces=%d poll_interval=%d url=%s", len(network.resources), POLL_S, simulation.url)
        source = wiring.source(config, stop, counters)
        store = wiring.store(config, str(Path(folder, "esnet_interfaces.sqlite")), stop, counters)
        publisher = wiring.publisher(config, True, stop, counters)
        return Daemon(config, source, store, publisher, stop, counters, cycles=cycles).serve()
