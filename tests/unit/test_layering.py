"""The architecture, as far as imports show it: which folder may know which, and where each driver is."""

import ast
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "collector"
EVERYTHING = {"core", "config", "source", "bus", "store", "cycle", "watch", "commands"}
MAY_IMPORT = {
    "core": set(),
    "config": {"core"},
    "source": {"core", "config"},
    "bus": {"core", "config"},
    "store": {"core", "config"},
    "cycle": {"core"},
    "watch": {"core"},
    "commands": EVERYTHING,
}
"""Folder by folder, what it may import besides itself; docs/developing.md has the same table with each folder's purpose."""
INSIDE_SOURCE = {"http": set(), "netbeam": {"http"}, "stardust": {"http"}, "simulated": set()}
"""The same for the folders of `source`: one source never knows another."""
DRIVERS = {
    "requests": {"source/http"},
    "urllib3": {"source/http"},
    "orjson": {"source/http"},
    "mysql": {"store"},
    "sqlite3": {"store"},
    "pika": {"bus"},
    "prometheus_client": {"watch"},
    "jinja2": {"watch"},
    "markupsafe": {"watch"},
    "dotenv": {"config"},
    "tqdm": {"commands"},
}
"""Everything that is not in the standard library, and sqlite3: the folders that may import it."""

MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE)


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


def forbidden(module: str, source: str) -> set[str]:
    """What a module of the package imports against the tables above."""
    folder, *below = module.split("/")
    wrong = set()
    for name in imports_in(source):
        package, *path = name.split(".")
        if package == "collector" and path and path[0] in EVERYTHING:
            allowed = {folder} | MAY_IMPORT[folder]
            wrong |= {name} - ({name} if path[0] in allowed else set())
            if folder == path[0] == "source" and len(path) > 1 and len(below) > 1:
                wrong |= {name} - ({name} if path[1] in {below[0]} | INSIDE_SOURCE[below[0]] else set())
        elif package in DRIVERS:
            wrong |= {name} - ({name} if any(module.startswith(f"{each}/") for each in DRIVERS[package]) else set())
        elif package != "collector" and package not in sys.stdlib_module_names:
            wrong.add(name)
    return wrong


def test_a_folder_imports_what_the_table_allows() -> None:
    found = {module: forbidden(module, (PACKAGE / module).read_text("utf-8")) for module in MODULES}
    assert len(found) > 100
    assert {module: names for module, names in found.items() if names} == {}


def test_every_folder_stands_in_the_table_and_says_its_purpose_in_a_line() -> None:
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == set(MAY_IMPORT) == EVERYTHING
    for path in PACKAGE.rglob("*/__init__.py"):
        assert len(path.read_text("utf-8").splitlines()) == 1


def test_the_table_catches_what_it_is_for() -> None:
    hidden = "def f():\n    from collector import watch\n    if f:\n        import collector.store.mysql as m"
    assert forbidden("cycle/cycle.py", hidden) == {"collector.watch", "collector.store.mysql"}
    assert forbidden("source/netbeam/api.py", "from collector.source.simulated import server")
    assert forbidden("cycle/cycle.py", "import pika") == {"pika"}
    assert forbidden("bus/publisher.py", "import pika, requests") == {"requests"}
