"""`demo`: the collector at work on embedded parts. A simulated Netbeam on loopback, the table in a file that is thrown away,
messages on the screen; no server, no environment, no `.env`."""

import logging
import os
import tempfile
from pathlib import Path

from collector import parts, signals
from collector.config import Config
from collector.daemon import Daemon
from collector.simulated_network import SimulatedNetwork
from collector.simulation import Simulation
from collector.stop import Stop
from collector.tally import Tally

log = logging.getLogger(__name__)

POLL_S = 5
"""Short, so that there is something to see; points come as the minutes pass."""
LOOKBACK_S = 300
"""What a new interface starts with: some 10 points of each record type."""


def demo(*, interfaces: int, cycles: int | None = None) -> int:
    """Collect from a simulated network of so many interfaces, for so many cycles or until a signal; the exit code."""
    os.environ["NO_PROXY"] = "*"  # what is asked is on this machine
    stop, tally = Stop(), Tally()
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
        source = parts.source(config, stop, tally)
        store = parts.store(config, str(Path(folder, "esnet_interfaces.sqlite")), stop, tally)
        publisher = parts.publisher(config, True, stop, tally)
        return Daemon(config, source, store, publisher, stop, tally, cycles=cycles).serve()
