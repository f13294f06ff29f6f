"""Runs inside a collector that a test starts with this directory on its PYTHONPATH, before anything else.

    HURRY=1                               waits that would make a test long become short
    INJECT=MODULE:CLASS.METHOD[@N]        the method (or the function, without a class) raises at its Nth call and ever after
"""

import functools
import importlib
import itertools
import os
import sys
from typing import Any

FOLDERS = {"core", "config", "source", "bus", "store", "cycle", "watch", "commands"}
CHANGED = (
    "bus.publisher", "source.netbeam.workers", "commands.run", "cycle.flow_control", "source.http.client", "commands.share_watch",
)  # fmt: skip


def hurry() -> None:
    """Shorten what waits for a broker or a source to come back: how it waits is not changed."""
    modules: list[Any] = [importlib.import_module(f"collector.{each}") for each in CHANGED]
    amqp, workers, daemon, gate, http, share_watch = modules
    quick = {"connect": 2.0, "heartbeat": 2, "confirm": 3.0, "first_delay": 0.2, "most_delay": 1.0, "proof": 1.0}
    for name, value in quick.items():
        object.__setattr__(amqp._USUAL, name, value)
    http.RETRY_DELAYS_S = (0.02, 0.05)
    workers.PROBE_FIRST_S, workers.PROBE_MOST_S = 0.1, 0.4
    gate.REFUSED_DELAYS_S = (0.2, 1.0)
    daemon.CONNECT_DELAYS_S = (0.2, 1.0)
    share_watch.LOOK_S = 1.0


def inject(target: str) -> None:
    """Have this method raise what nobody foresees."""
    path, _, number = target.partition("@")
    module, _, dotted = path.partition(":")
    *classes, name = dotted.split(".")
    # a module of the collector's own is named from its folder on
    owner: Any = importlib.import_module(f"collector.{module}" if module.split(".")[0] in FOLDERS else module)
    for each in classes:
        owner = getattr(owner, each)
    original, calls, first = getattr(owner, name), itertools.count(1), int(number or 1)

    @functools.wraps(original)
    def broken(*arguments: Any, **options: Any) -> Any:
        if next(calls) >= first:
            raise RuntimeError(f"injected into {dotted}")
        return original(*arguments, **options)

    setattr(owner, name, broken)


if os.environ.get("HURRY"):
    hurry()
if os.environ.get("INJECT"):
    try:
        inject(os.environ["INJECT"])
    except (ImportError, AttributeError) as error:
        # Python would say so, and run on with nothing injected
        print(f"nothing to inject into: {error}", file=sys.stderr, flush=True)
        os._exit(70)
