"""What a cycle's figures say to an operator."""

import pytest

from collector.core.model import RecordType
from collector.core.report import AnsweredUpTo, CycleOutcome, CycleReport, Reason, ReasonKind, WindowOutcome
from collector.watch.state import CollectorState
from tests.fakes import NOW_MS

SETTLE_MS = 900_000
SETTLED_MS = NOW_MS - SETTLE_MS


def report(outcome: CycleOutcome = CycleOutcome.COMPLETE, reasons: tuple[str, ...] = ()) -> CycleReport:
    return CycleReport(start_ms=NOW_MS, seconds=1.0, outcome=outcome, reasons=[Reason(each, ReasonKind.LEFT) for each in reasons])


@pytest.mark.parametrize(
    ("outcome", "reasons", "left"),
    [
        (CycleOutcome.COMPLETE, (), False),
        (CycleOutcome.COMPLETE, ("1 windows failed: status 500",), True),
        (CycleOutcome.CUT, (), True),
        (CycleOutcome.FAILED, ("listing: status 500",), True),
    ],
)
def test_anything_but_a_complete_cycle_without_a_reason_leaves_something_over(
    outcome: CycleOutcome, reasons: tuple[str, ...], left: bool
) -> None:
    assert report(outcome, reasons).left_over is left


def test_line_names_every_figure_once_and_windows_by_outcome() -> None:
    made = CycleReport(
        start_ms=NOW_MS,
        seconds=12.34,
        outcome=CycleOutcome.CUT,
        listed=9,
        points=90,
        done=5,
        windows={WindowOutcome.DONE: 3, WindowOutcome.EMPTY: 2, WindowOutcome.LOST: 0},
        outstanding=4,
        settle_ms=SETTLE_MS,
        answered_up_to={RecordType.TRAFFIC: AnsweredUpTo(SETTLED_MS - 960_400, SETTLED_MS - 60_000, 9)},
    )
    line = str(made.line())
    figures = dict(each.split("=") for each in line.split())
    assert len(figures) == len(line.split())
    expected = {"outcome": "cut", "seconds": "12.3", "listed": "9", "points": "90", "windows": "5", "windows_done": "3",
                "windows_empty": "2", "outstanding": "4", "lag_traffic": "972"}  # fmt: skip
    assert expected.items() <= figures.items()
    assert "windows_lost" not in figures


def test_line_s_lag_is_that_of_the_metrics_at_the_cycle_s_end() -> None:
    made = CycleReport(start_ms=NOW_MS, seconds=12.34, settle_ms=SETTLE_MS, settled_ms=SETTLED_MS - 30_000)
    answered = AnsweredUpTo(SETTLED_MS - 30_000, SETTLED_MS, 9)
    made.answered_up_to = {RecordType.TRAFFIC: answered, RecordType.ERRORS: AnsweredUpTo(NOW_MS, NOW_MS, 9)}
    state = CollectorState({}, 900, SETTLE_MS / 1000, now=lambda: NOW_MS / 1000 + 12.34)
    lag_s = state.snapshot().lag_s(answered.worst_ms)
    assert lag_s == pytest.approx(42.34)
    assert "lag_traffic=42 lag_errors=0" in str(made.line())


def test_line_says_that_the_listing_failed() -> None:
    assert "listed=failed" in str(report().line())
