"""The program as a process of its own: where it is started, and words that cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from collector import __version__

TOP = Path(__file__).resolve().parents[2]


def test_program_runs_from_any_directory(tmp_path: Path) -> None:
    program = [sys.executable, str(TOP / "esnet_collector.py"), "--version"]
    ended = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"esnet-collector {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        ("--version >/dev/full", ""),
        ("--help >/dev/full", "1"),
        ("status --help >/dev/full", ""),
        ("--version >&-", ""),
        ("--version >&-", "1"),
    ],
)
def test_words_that_cannot_be_written_are_one_line_and_exit_code_1(words: str, unbuffered: str) -> None:
    command = f'exec "{sys.executable}" "{TOP / "esnet_collector.py"}" {words}'
    ended = subprocess.run(
        ["/bin/sh", "-c", command],
        env={"PYTHONUNBUFFERED": unbuffered},
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "stdout cannot be written: No space left" in line or "stdout was closed" in line
