"""Signals: taken at whatever moment they come. Each case is a program of its own, which a signal may end."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BEGINNING = """
import signal
from collector.commands import signals
from collector.core.shutdown import Stop

stop = Stop()
signals.install(stop)
"""


def ended(program: str) -> int:
    return subprocess.run([sys.executable, "-c", BEGINNING + program], cwd=ROOT, timeout=20, check=False).returncode


def test_signal_is_taken_while_the_main_thread_holds_the_lock_of_the_event_that_it_sets() -> None:
    held = "with stop._event._cond:\n    signal.raise_signal(signal.SIGTERM)\n"
    assert ended(held + "raise SystemExit(0 if stop.wait(10) else 1)") == 0


def test_second_signal_ends_the_program_at_once_with_its_number() -> None:
    second = "signal.raise_signal(signal.SIGTERM)\nsignal.raise_signal(signal.SIGINT)\nraise SystemExit(1)"
    assert ended(second) == 128 + 2
