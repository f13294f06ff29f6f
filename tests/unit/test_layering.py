"""The architecture, as far as imports show it: who may know whom, and where each driver is."""

import ast
import sys
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
ROWS = (
    "model errors style words answer simulated_answer",
    "backoff stop outage tally meter report breaker schedule frames logs options environment arguments simulated_network",
    "config points table reconcile plan contracts board silence signals plot simulated_content",
    "memory standing message gate confirms broker mysql_session exchange health simulated_faults healthcheck",
    "announce http crew link mysql sqlite stdout transfer metrics page simulation",
    "netbeam progress slices amqp web",
    "rounds",
    "cycle",
    "parts",
    "daemon backfill status check",
    "demo",
    "cli",
)
"""From the bottom up: a module imports from the rows above its own in this list, and never sideways."""
DRIVERS = {
    "requests": {"http"},
    "urllib3": {"http", "exchange"},
    "mysql": {"mysql_session"},
    "sqlite3": {"sqlite"},
    "pika": {"broker", "link"},
    "prometheus_client": {"metrics"},
    "dotenv": {"environment"},
    "tqdm": {"meter"},
}
"""Everything that is not in the standard library, and sqlite3: the modules that may import it."""

MODULES = sorted(path.stem for path in (TOP / "collector").glob("*.py") if path.stem != "__init__")
ROW_OF = {name: number for number, names in enumerate(ROWS) for name in names.split()}


def imports_in(source: str) -> set[str]:
    """What this source imports, in functions and under conditions too; `from a import b` is both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "no relative imports"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@cache
def imports_of(module: str) -> set[str]:
    """What a module of the package imports."""
    return imports_in((TOP / "collector" / f"{module}.py").read_text("utf-8"))


def packages_of(module: str) -> set[str]:
    """The first names of what a module imports."""
    return {name.partition(".")[0] for name in imports_of(module)}


def neighbours(imports: set[str]) -> set[str]:
    """The modules of the package among these imports."""
    return {name.split(".")[1] for name in imports if name.startswith("collector.")} & set(MODULES)


def test_every_module_stands_in_exactly_one_row() -> None:
    listed = " ".join(ROWS).split()
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(MODULES)


def test_modules_import_only_from_the_rows_before_their_own() -> None:
    faults = [
        f"{name} imports {other}"
        for name in MODULES
        for other in sorted(neighbours(imports_of(name)))
        if ROW_OF.get(other, 0) >= ROW_OF.get(name, 0)
    ]
    assert faults == []


def test_drivers_are_imported_only_behind_their_modules() -> None:
    assert {driver: {name for name in MODULES if driver in packages_of(name)} for driver in DRIVERS} == DRIVERS


def test_no_other_package_is_imported() -> None:
    known = sys.stdlib_module_names | DRIVERS.keys() | {"collector"}
    assert {name: packages_of(name) - known for name in MODULES if packages_of(name) - known} == {}


def test_entry_point_knows_the_command_line_and_nothing_else() -> None:
    assert neighbours(imports_in((TOP / "esnet_collector.py").read_text("utf-8"))) == {"cli"}


def test_imports_in_functions_count() -> None:
    source = "def f():\n    from collector import cli\n    if f:\n        import collector.model as m"
    assert neighbours(imports_in(source)) == {"cli", "model"}
