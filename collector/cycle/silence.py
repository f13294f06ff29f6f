"""The silence of all (SPEC section 3): a source whose points are late or gone answers "empty" for everything. Moving on
would lose them with every light green, so such a round moves nothing."""

from dataclasses import dataclass, field

from collector.core.model import Window

FEW = 10
"""So many series may fall silent together without being taken for a failure of Netbeam."""


@dataclass(slots=True)
class Silence:
    """Counts one round's answers, and judges whether Netbeam has failed."""

    others_talk: bool = False
    """Whether any series is known to have had points in its last window, asked in this round or not."""
    active: int = 0
    """How many series are collected in all."""
    talked_before: int = 0
    """Series that had points in their last window that was done, and were answered now."""
    fell_silent: int = 0
    """Those of them that came back without points."""
    doubted: int = 0
    """Those that talked before, but came back empty in the last cycle already."""
    doubted_silent: int = 0
    unknown: int = 0
    """Series of which no earlier window is known, that may have had points in it, and that were answered now."""
    unknown_silent: int = 0
    again_silent: int = 0
    """Series that came back empty once more, up to the same time."""
    heard: bool = False
    """Somebody had points."""
    whole: bool = True
    """Every window was asked for: the round was not cut short."""
    failed: int = 0
    """Windows that were asked for and not answered."""
    answered: int = 0
    empty: list[Window] = field(default_factory=list)
    """Whether they are empty or Netbeam has failed shows when the round is over."""

    def add(self, window: Window, talks: bool | None, points: int, *, doubted: bool = False, again: bool = False) -> None:
        """Count an answer with so many points for a series that had (`talks`) points in its last window, or None: perhaps.

        `doubted`: it has come back empty already, and was not believed; `again`: up to the same time, in which those that
        talk have nothing new, so that it does not count.
        """
        self.answered += 1
        if points:
            self.heard = True
        else:
            self.empty.append(window)
        if again:
            self.again_silent += not points
            return
        if talks:
            self.talked_before += 1
            self.fell_silent += not points
            if doubted:
                self.doubted += 1
                self.doubted_silent += not points
        elif talks is None:
            self.unknown += 1
            self.unknown_silent += not points

    @property
    def of_all(self) -> bool:
        """Whether this round's empty answers are Netbeam's failure.

        More than half of those that talked, and more than ten, unless most of those that were not doubted already talk on;
        or, where nothing is known of any earlier window (the first cycle), every one of more than ten series that may have
        had points. After a first cycle that was cut short, a few series that are known do not vouch for all the others; but
        where those that talk have nothing due, as in the second cycle of a minute, the silence of the others is nothing special.
        """
        trusted, trusted_silent = self.talked_before - self.doubted, self.fell_silent - self.doubted_silent
        if self.fell_silent > FEW and 2 * self.fell_silent > self.talked_before and 2 * trusted_silent > trusted:
            return True
        nobody_talks = self.fell_silent == self.talked_before and self.unknown_silent == self.unknown
        talkers_due = self.talked_before > 0 or not (self.others_talk or 2 * self.unknown < self.active)
        return nobody_talks and talkers_due and self.unknown_silent > FEW

    @property
    def sound(self) -> bool:
        """Whether an empty answer says anything: a failing Netbeam may have answered few windows, and all of those empty."""
        return self.heard or (self.whole and self.failed <= self.answered)

    @property
    def credible(self) -> bool:
        """Whether an empty answer may be believed, the second time: somebody had points, or it is about few."""
        return self.heard or self.silent + self.again_silent <= FEW

    @property
    def silent(self) -> int:
        """How many series came back without points though they should have had some."""
        return self.fell_silent + self.unknown_silent
