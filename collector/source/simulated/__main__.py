"""`python -m collector.source.simulated`: serves the simulated network until it is stopped, as Netbeam or as Stardust."""

import argparse
import json
import signal
import threading
import time

from collector.source.simulated.netbeam import SimulatedNetbeam
from collector.source.simulated.network import SimulatedNetwork
from collector.source.simulated.server import SimulatedServer, wall_ms
from collector.source.simulated.stardust_server import SimulatedStardust


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m collector.source.simulated", description=__doc__)
    parser.add_argument("--stardust", action="store_true", help="serve a Stardust instead of a Netbeam")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any that is free")
    parser.add_argument("--interfaces", type=int, help="at most so many; without --csv, 100 by default")
    parser.add_argument("--csv", help="a file with the columns resource and speed_mbps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--settle-s", type=float, default=0.0, help="points younger than this are not there yet")
    parser.add_argument("--rotate-s", type=float, help="interfaces come and go, each away for this long")
    return parser.parse_args()


def main() -> int:
    """Serve until SIGTERM or SIGINT; prints the base URL when it is ready, and what was asked for at the end."""
    wanted = _arguments()
    if wanted.csv:
        network = SimulatedNetwork.from_csv(wanted.csv, limit=wanted.interfaces, seed=wanted.seed)
    else:
        network = SimulatedNetwork.synthetic(wanted.interfaces or 100, seed=wanted.seed)
    network.rotation_ms = int(wanted.rotate_s * 1000) if wanted.rotate_s else None
    kind: type[SimulatedServer] = SimulatedStardust if wanted.stardust else SimulatedNetbeam
    server = kind(network, host=wanted.host, port=wanted.port)
    server.latency_s = wanted.latency_ms / 1000
    server.settle_s = wanted.settle_s
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    network.encoded_listing(wall_ms())  # encoded for the first time, so that no request waits for it
    with server:
        print(server.url, flush=True)
        end.wait()
    figures = {"requests": server.counts, "connections": server.connections, "most_at_once": server.most_at_once}
    print(json.dumps({**figures, "cpu_s": round(time.process_time(), 3)}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
