"""A collector in a process of its own whose cycles begin when they are told to, at the time that they are told.

So cycles that are minutes apart by the source's clock come one after the other, and nobody waits.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from collector.commands import wiring
from collector.config.configuration import Config
from collector.core.report import CycleOutcome
from collector.core.shutdown import Stop
from tests.bench.netbeam import TOP
from tests.bench.stage import SETTINGS, Place


@dataclass(frozen=True, slots=True)
class Pass:
    """One cycle."""

    outcome: str
    seconds: float
    cpu_s: float


@contextmanager
def stepped(place: Place, settings: Mapping[str, str]) -> Iterator[Callable[[int], Pass]]:
    """Start the process; yields the function that has a cycle run at that time, in ms. Raises RuntimeError unless complete."""
    environment = {**os.environ, **place.environment, **SETTINGS, **settings}
    command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "tests.bench.stepped"]
    with subprocess.Popen(command, cwd=TOP, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        to_child, from_child = child.stdin, child.stdout
        from_child.readline()  # it is connected

        def step(now_ms: int) -> Pass:
            to_child.write(f"{now_ms}\n")
            to_child.flush()
            line = from_child.readline()
            done = Pass(**json.loads(line)) if line else None
            if done is None or done.outcome != CycleOutcome.COMPLETE:
                raise RuntimeError(f"a cycle was not complete: {done}")
            return done

        yield step
        to_child.close()


def main() -> int:
    """Run a cycle at each time that comes over the standard input, and say how it ended."""
    config = Config.from_mapping({name: os.environ[name] for name in os.environ if name.isupper()})
    systems = wiring.systems(config, sqlite=None, stop=Stop())
    store, publisher = systems.store, systems.publisher
    publisher.start()
    store.open()
    store.take_lock(10)
    while not publisher.ready:
        time.sleep(0.01)
    cycle = wiring.cycle(config, systems)
    print("ready", flush=True)
    for line in sys.stdin:
        began_s = time.process_time()
        report = cycle.run(int(line), math.inf)
        print(json.dumps(asdict(Pass(str(report.outcome), report.seconds, time.process_time() - began_s))), flush=True)
    publisher.close(5)
    store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
