"""The alarm of silence: whether so many series stay without points that a person should look. No checkpoint depends on it."""

from collections.abc import Mapping, Sequence

from collector.core.model import RecordType, iso
from collector.cycle.rules import Rules

FEW = 10
"""So many series may be silent without an alarm."""


def silence(answered: Mapping[RecordType, Sequence[tuple[int | None, int]]], source: str, rules: Rules) -> list[str]:
    """Why to raise the alarm, a line each; empty when all is well.

    `answered` holds, by record type, the checkpoints of the active series that were answered, when last asked, up to what was
    then the settled end, and that end. One talks while its checkpoint lies less than LATE_DATA behind that end.
    """
    if not rules.alarm_possible:
        return []
    reasons = []
    for record_type, series in answered.items():
        talking = [(checkpoint_ms, end_ms) for checkpoint_ms, end_ms in series if rules.talks(checkpoint_ms, end_ms)]
        behind = [at for at, end_ms in talking if at is not None and end_ms - at > rules.behind_ms]
        if len(behind) > max(FEW, len(talking) / 2):
            since = iso(max(behind))
            reasons.append(f"{source} has had no {record_type} points for {len(behind)} of {len(talking)} series since {since}")
    known = [each for series in answered.values() for each in series if each[0] is not None]
    if len(known) > FEW and not any(rules.talks(*each) for each in known):
        since = iso(max(at for at, _ in known if at is not None))
        reasons.append(f"{source} has had no points for any of {len(known)} series since {since}")
    return reasons
