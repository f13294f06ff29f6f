"""The command lines that the collector prints for an operator to run: complete, and quoted for a shell."""

import shlex
import sys
from pathlib import Path

from collector.core.model import iso

PROGRAM = Path(__file__).resolve().parents[2] / "esnet_collector.py"


def backfill_command(begin_ms: int, end_ms: int, *, to_stdout: bool = False, **options: object) -> str:
    """`backfill` of this range by the interpreter and the program that run now.

    `options` are by their names with `_` in place of `-`; None leaves one out.
    """
    words = [sys.executable or "python3", str(PROGRAM), "backfill", "--begin", iso(begin_ms), "--end", iso(end_ms)]
    # with "=", as a value may begin with a hyphen
    words += [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value is not None]
    return shlex.join([*words, *(["--stdout"] if to_stdout else [])])
