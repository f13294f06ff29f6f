"""The benchmark: ESnet's full scale on real servers and a simulated Netbeam at 50 ms, beside rivals and over a floor.

    python tests/benchmark.py --json result.json               everything, over half an hour on two cores
    python tests/benchmark.py --only cycle,publisher           some of it
    python tests/benchmark.py --rival .venv-rival              the other ways too, in an environment made for them

Prints a table of bars and figures; exit code 1 when a bar is missed. ESnet's list is taken from ../shared/data beside this
repository when it is there, else one of the same shape is invented. `tests/capacity.py` computes from the JSON.
"""

import argparse
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TOP))

from tests.bench import catch_up, freshness, full_cycle, idle, memory, publisher, shares, stardust, start  # noqa: E402
from tests.bench.netbeam import COUNT, LIST  # noqa: E402
from tests.bench.results import Results  # noqa: E402
from tests.bench.stage import Stage  # noqa: E402

RIVAL_REQUIREMENTS = TOP / "tests" / "bench" / "rival-requirements.txt"
Section = Callable[[Stage, Results, argparse.Namespace], None]
SECTIONS: dict[str, Section] = {
    "cycle": lambda stage, results, wanted: full_cycle.measure(stage, results, wanted.rounds, wanted.rival_python),
    "publisher": lambda stage, results, wanted: publisher.measure(stage, results, wanted.rounds),
    "start": lambda stage, results, wanted: start.measure(stage, results),
    "memory": lambda stage, results, wanted: memory.measure(stage, results),
    "catch-up": lambda stage, results, wanted: catch_up.measure(stage, results, wanted.catch_up_s),
    "idle": lambda stage, results, wanted: idle.measure(stage, results),
    "shares": lambda stage, results, wanted: shares.measure(stage, results),
    "stardust": lambda stage, results, wanted: stardust.measure(stage, results, wanted.rounds, wanted.rival_python),
    "freshness": lambda stage, results, wanted: freshness.measure(stage, results),
    "opensearch": lambda stage, results, wanted: stardust.measure_opensearch(stage, results),
}


def main() -> int:
    """Run the sections that are wanted; the exit code."""
    wanted = _arguments()
    results = Results(wanted.interfaces)
    print(f"{wanted.interfaces} interfaces, {'the real list' if LIST.exists() else 'an invented list'}", flush=True)
    with Stage(wanted.interfaces) as stage:
        for name in wanted.only:
            with results.measuring(name):
                SECTIONS[name](stage, results, wanted)
            if wanted.json:
                results.write(wanted.json)
    print(results.table())
    return 0 if results.ok else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=_sections, default=list(SECTIONS), metavar="NAME[,NAME]", help=", ".join(SECTIONS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, anew after each section")
    parser.add_argument("--rival", type=Path, metavar="DIRECTORY", help="a virtual environment for the other ways")
    parser.add_argument("--rounds", type=int, default=2, help="of what is compared by turns (default: 2)")
    parser.add_argument("--catch-up-s", type=float, default=300.0, help="how long catching up is measured (default: 300)")
    parser.add_argument("--interfaces", type=int, default=COUNT, help="the length of the list; the bars are for the default")
    wanted = parser.parse_args()
    wanted.rival_python = str(_rival(wanted.rival)) if wanted.rival else None
    return wanted


def _sections(text: str) -> list[str]:
    names = text.split(",")
    if unknown := set(names) - set(SECTIONS):
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}: there are {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]


def _rival(directory: Path) -> Path:
    """The interpreter of the rival's environment, which is made when it is not there."""
    python = directory.absolute() / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", RIVAL_REQUIREMENTS], check=True)
    return python


if __name__ == "__main__":
    raise SystemExit(main())
