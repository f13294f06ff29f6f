"""The settings that a cycle depends on."""

from dataclasses import dataclass

from collector.core.model import RecordType
from collector.core.share import WHOLE, Share

ALLOWANCE_MS = 600_000
"""A series may be two poll intervals and ten minutes behind before it counts as silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings by the names that they have outside, in milliseconds unless the name says otherwise."""

    record_types: tuple[RecordType, ...]
    poll_ms: int
    settle_ms: int
    lookback_ms: int
    max_window_ms: int
    max_backlog_ms: int
    """0: no limit."""
    idle_backoff_ms: int
    late_ms: int
    snapshot_s: float
    """All interfaces are published again after that time."""
    max_retired_share: float
    """1: every listing is believed at once, one that adds too many names too."""
    share: Share = WHOLE
    once: bool = False
    """There is no next cycle: everything is asked, and nothing waits for a second listing."""

    @property
    def behind_ms(self) -> int:
        """A series that is further behind the settled end has had no points for a while."""
        return 2 * self.poll_ms + ALLOWANCE_MS

    @property
    def alarm_possible(self) -> bool:
        """Whether a series can be behind and still count as one that talks."""
        return self.late_ms > self.behind_ms

    def talks(self, checkpoint_ms: int | None, settled_ms: int) -> bool:
        """Whether a series with this checkpoint has had points not long ago, as seen from that settled end.

        It talks while it is less than LATE_DATA behind; where that leaves no time for an alarm, with any checkpoint.
        """
        return checkpoint_ms is not None and (settled_ms - checkpoint_ms < self.late_ms or not self.alarm_possible)
