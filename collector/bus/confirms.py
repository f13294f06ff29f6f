"""Which batches the broker has been sent and has not confirmed yet: delivery tags in, outcomes out. No I/O."""

from bisect import bisect_right
from collections import deque
from collections.abc import Collection

from collector.core.contracts import Batch, Outcome


class Sent:
    """A batch on the current channel, with the delivery tags of its messages: `first` to `last`, both inclusive."""

    __slots__ = ("_next", "_singles", "batch", "first", "given_up", "last", "refused", "returned")

    def __init__(self, batch: Batch, first: int) -> None:
        self.batch = batch
        self.first = first
        self.last = first + len(batch.messages) - 1
        self.returned = self.refused = self.given_up = False
        self._next = first  # the first tag that is open
        self._singles: set[int] = set()  # settled tags after it

    @property
    def outcome(self) -> Outcome:
        """What has become of a batch whose every tag is settled."""
        if self.returned:
            return Outcome.RETURNED
        return Outcome.REFUSED if self.refused else Outcome.CONFIRMED

    def settle(self, tag: int, refused: bool) -> bool:
        """Settle one tag; True when that was the last one open."""
        if tag > self._next:
            self._singles.add(tag)
        elif tag == self._next:
            self._advance(tag + 1)
        self.refused |= refused
        return self._settled

    def settle_up_to(self, tag: int, refused: bool) -> bool:
        """Settle every open tag up to this one; True when none is left open."""
        if tag >= self._next:
            self.refused |= refused  # the tag before which all are settled is itself open
            self._singles = {single for single in self._singles if single > tag}
            self._advance(tag + 1)
        return self._settled

    def _advance(self, tag: int) -> None:
        while tag in self._singles:
            self._singles.remove(tag)
            tag += 1
        self._next = tag

    @property
    def _settled(self) -> bool:
        return self._next + len(self._singles) > self.last


class Confirms:
    """Batches in the order in which they were given: sent ones with their tags, then those that wait to be sent.

    A new channel counts its tags from 1, and what was sent on the old one without a confirm has to be sent again.
    """

    def __init__(self) -> None:
        self._sent: list[Sent] = []
        self._waiting: deque[Batch] = deque()
        self._last_tag = 0
        self._repeated = 0  # the last tag of what had been pending when the channel began

    def add(self, batch: Batch) -> None:
        """Let a batch wait to be sent."""
        self._waiting.append(batch)

    @property
    def unsettled(self) -> bool:
        """Whether the broker still owes an answer for something that was sent, given up or not."""
        return bool(self._sent)

    @property
    def pending(self) -> bool:
        """Whether somebody still waits for a batch's outcome."""
        return bool(self._waiting) or any(not each.given_up for each in self._sent)

    @property
    def caught_up(self) -> bool:
        """Whether all that was pending when the channel began has been settled on it, and so did not end it."""
        return self._last_tag >= self._repeated and (not self._sent or self._sent[0].first > self._repeated)

    def send_next(self) -> Batch | None:
        """The next waiting batch, which counts as sent now; None when none waits."""
        if not self._waiting:
            return None
        batch = self._waiting.popleft()
        sent = Sent(batch, self._last_tag + 1)
        self._last_tag = sent.last
        self._sent.append(sent)
        return batch

    def settle(self, tag: int, multiple: bool, refused: bool) -> list[Sent]:
        """Take an ack, or with `refused` a nack; returns the batches that are through now. Tags that are unknown are ignored."""
        if multiple:
            through = self._settle_up_to(tag or self._last_tag, refused)
        else:
            index = bisect_right(self._sent, tag, key=lambda sent: sent.first) - 1
            if index < 0 or tag > self._sent[index].last or not self._sent[index].settle(tag, refused):
                return []
            through = [self._sent.pop(index)]
        return [each for each in through if not each.given_up]

    def _settle_up_to(self, tag: int, refused: bool) -> list[Sent]:
        count = bisect_right(self._sent, tag, key=lambda sent: sent.last)
        through = self._sent[:count]
        del self._sent[:count]
        if refused:
            for each in through:
                each.refused = True
        if self._sent and self._sent[0].settle_up_to(tag, refused):
            through.append(self._sent.pop(0))
        return through

    def mark_returned(self, message_ids: Collection[str]) -> None:
        """Note messages that no queue took: the batches that hold them are returned, whatever the acks say.

        Looks at all that is sent (20,000 messages take 1 ms): call it once for many ids, before the acks that came with them.
        """
        for each in self._sent:
            if not each.returned and any(message.message_id in message_ids for message in each.batch.messages):
                each.returned = True

    def restart(self) -> None:
        """The channel is gone: what was sent on it waits again, in order; nothing that was said of it counts."""
        self._waiting.extendleft(each.batch for each in reversed(self._sent) if not each.given_up)
        self._sent.clear()
        self._last_tag = 0
        self._repeated = sum(len(batch.messages) for batch in self._waiting)

    def give_up(self) -> list[Batch]:
        """Forget all that is pending; returns it. Tags of what was sent are still awaited, for nobody."""
        given_up = [each.batch for each in self._sent if not each.given_up]
        for each in self._sent:
            each.given_up = True
        given_up += self._waiting
        self._waiting.clear()
        self._repeated = min(self._repeated, self._last_tag)
        return given_up
