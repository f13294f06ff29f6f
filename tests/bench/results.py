"""Bars and what was measured against them: kept, printed as a table, written as JSON."""

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the table; `ok` is None where nothing is demanded and the figure stands beside for comparison."""

    section: str
    what: str
    bar: str
    measured: str
    ok: bool | None


@dataclass(slots=True)
class Results:
    """Everything of one run."""

    interfaces: int
    bars: list[Bar] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    """Plain numbers by name with their unit; `tests/capacity.py` computes from them."""
    load: dict[str, str] = field(default_factory=dict)
    """The machine's load averages when a section began, over 1, 5 and 15 minutes: others' work spoils figures."""
    section: str = ""

    @contextmanager
    def measuring(self, section: str) -> Iterator[None]:
        """A section has begun."""
        self.section = section
        self.load[section] = " ".join(f"{each:.2f}" for each in os.getloadavg())
        print(f"# {section}: begun at {time.strftime('%H:%M:%S')}, load {self.load[section]}", flush=True)
        began = time.monotonic()
        yield
        print(f"# {section}: {time.monotonic() - began:.0f} s\n", flush=True)

    def add(self, what: str, bar: str, measured: str, ok: bool | None = None) -> None:
        """A line of the table, shown at once as well."""
        self.bars.append(Bar(self.section, what, bar, measured, ok))
        print(f"  {_mark(ok):<5} {what}: {measured}" + (f" (bar: {bar})" if bar else ""), flush=True)

    def note(self, **figures: float) -> None:
        """Keep numbers for the JSON."""
        self.figures |= {name: round(value, 6) for name, value in figures.items()}

    @property
    def ok(self) -> bool:
        """Whether no bar was missed."""
        return all(bar.ok is not False for bar in self.bars)

    def table(self) -> str:
        """The table, in Markdown."""
        lines = ["| what | bar | measured | ok |", "| --- | --- | --- | --- |"]
        lines += [f"| {bar.what} | {bar.bar} | {bar.measured} | {_mark(bar.ok)} |" for bar in self.bars]
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """As JSON, into that file."""
        written: dict[str, Any] = {
            "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
            "interfaces": self.interfaces,
            "load": self.load,
            "bars": [asdict(bar) for bar in self.bars],
            "figures": self.figures,
        }
        path.write_text(json.dumps(written, indent=1) + "\n")


def _mark(ok: bool | None) -> str:
    return "" if ok is None else "yes" if ok else "NO"
