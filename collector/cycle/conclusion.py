"""How a cycle ended: what failed it as a whole, and what it left for the next one."""

from collections.abc import Mapping, Sequence

from collector.core.model import RecordType
from collector.core.report import MOST_FAILING, CycleReport, ReasonKind, WindowOutcome
from collector.core.text import counted
from collector.cycle.alarm import silence
from collector.cycle.pipeline import Pipeline
from collector.cycle.rules import Rules

MOST_REASONS = 3
"""Of failed windows: the commonest are named, the others counted."""


def conclude(
    report: CycleReport,
    pipeline: Pipeline,
    answered: Mapping[RecordType, Sequence[tuple[int | None, int]]],
    messages_left: bool,
    rules: Rules,
) -> None:
    """Say in the report why it failed and what is left; `answered` is as for `silence`, `messages_left` of interfaces."""
    source, broker = pipeline.source, pipeline.publisher.outage
    if source.outage.down:
        report.add(ReasonKind.DEPENDENCY, f"{source.name} is not available: {source.outage.last_error}")
    else:
        _say_failures(report)
    if broker.down and (report.outstanding or report.windows[WindowOutcome.LOST] or messages_left):
        report.add(ReasonKind.DEPENDENCY, f"{broker.dependency} is not available: {broker.last_error}")
    for key in pipeline.flow.unroutable:
        report.add(ReasonKind.FAILURE, f"no queue takes messages with routing key {key}")
    for reason in silence(answered, source.name, rules):
        report.add(ReasonKind.FAILURE, reason)
    _say_left(report, broker.dependency)
    asked_mostly = report.active * len(rules.record_types) - report.idle
    tried = sum(report.windows.values())
    got_through = any(report.windows[each] for each in (WindowOutcome.DONE, WindowOutcome.EMPTY, WindowOutcome.MOVED))
    # a few that fail by themselves and are due more often than the others are no failure of the whole
    if tried and 2 * tried >= asked_mostly and not got_through and not source.outage.down:
        report.add(ReasonKind.FAILURE, "no window got through")


def _say_failures(report: CycleReport) -> None:
    """The windows that the source did not answer."""
    report.failing = tuple(report.failures_of.most_common(MOST_FAILING))
    named = report.failures.most_common(MOST_REASONS)
    for reason, count in named:
        report.add(ReasonKind.LEFT, f"{counted(count, 'window')} failed: {reason}")
    if rest := report.failures.total() - sum(count for _, count in named):
        report.add(ReasonKind.LEFT, f"{counted(rest, 'window')} failed for other reasons")


def _say_left(report: CycleReport, broker: str) -> None:
    """The windows that were answered and are not done, and those that got no try."""
    for outcome, what in (
        (WindowOutcome.REFUSED, f"refused by {broker}"),
        (WindowOutcome.RETURNED, f"returned by {broker}"),
        (WindowOutcome.LOST, f"not confirmed by {broker}"),
        (WindowOutcome.MOVED, "not done: the checkpoint was changed in the table meanwhile"),
    ):
        if report.windows[outcome]:
            report.add(ReasonKind.LEFT, f"{counted(report.windows[outcome], 'window')} {what}")
    if report.outstanding:
        report.add(ReasonKind.NO_TRY, f"{counted(report.outstanding, 'window')} got no try")
