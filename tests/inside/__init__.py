"""What fault tests put inside a collector: see sitecustomize.py, which Python runs at its start."""

from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
PATH = f"{_HERE}:{_HERE.parents[1]}"
"""For PYTHONPATH: this directory, and the project, whose modules are changed."""
HURRIED: dict[str, Any] = {"PYTHONPATH": PATH, "HURRY": "1"}
"""Settings of a collector that waits for less long."""


def injected(target: str) -> dict[str, Any]:
    """Settings of a collector in which this raises: `MODULE:CLASS.METHOD[@N]`."""
    return {**HURRIED, "INJECT": target}
