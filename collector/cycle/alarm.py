"""The alarm of silence: whether so many series stay without points that a person should look. No checkpoint depends on it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from collector.core.model import RecordType, iso

FEW = 10
"""So many series may be silent without an alarm."""
ALLOWANCE_MS = 600_000
"""A series may be two poll intervals and ten minutes behind before it counts as silent."""


@dataclass(frozen=True, slots=True)
class AlarmRules:
    """The settings that the alarm depends on, in milliseconds."""

    poll_ms: int
    late_ms: int

    @property
    def behind_ms(self) -> int:
        """A series that is further behind the settled end has had no points for a while."""
        return 2 * self.poll_ms + ALLOWANCE_MS

    @property
    def possible(self) -> bool:
        """Whether a series can be behind and still count as one that talks."""
        return self.late_ms > self.behind_ms

    def talks(self, checkpoint_ms: int | None, end_ms: int) -> bool:
        """Whether a series with this checkpoint has had points not long ago, as seen from that end."""
        return checkpoint_ms is not None and end_ms - checkpoint_ms < self.late_ms


def silence(
    counted: Mapping[RecordType, Sequence[tuple[int | None, int]]], source: str, rules: AlarmRules
) -> list[str]:
    """Why to raise the alarm, a line each; empty when all is well.

    `counted` holds, by record type, the checkpoints of the active series that were answered, when last asked, up to what was
    then the settled end, and that end. One talks while its checkpoint lies less than LATE_DATA behind that end.
    """
    if not rules.possible:
        return []
    reasons = []
    for record_type, series in counted.items():
        talking = [(checkpoint_ms, end_ms) for checkpoint_ms, end_ms in series if rules.talks(checkpoint_ms, end_ms)]
        behind = [at for at, end_ms in talking if at is not None and end_ms - at > rules.behind_ms]
        if len(behind) > max(FEW, len(talking) / 2):
            since = iso(max(behind))
            reasons.append(f"{source} has had no {record_type} points for {len(behind)} of {len(talking)} series since {since}")
    known = [each for series in counted.values() for each in series if each[0] is not None]
    if len(known) > FEW and not any(rules.talks(*each) for each in known):
        since = iso(max(at for at, _ in known if at is not None))
        reasons.append(f"{source} has had no points for any of {len(known)} series since {since}")
    return reasons
