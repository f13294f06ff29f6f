"""Which batches the broker has been sent and has not confirmed yet: delivery tags in, outcomes out. No I/O."""

from bisect import bisect_right
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from collector.core.contracts import Batch, Outcome
from collector.core.model import Message

FULL = 1 << 15
"""A limit of so many messages in flight, or more, is none."""
MOST_IN_A_ROW = 10
"""Messages that are given up before one is confirmed. A broker that refuses more than that refuses everything."""


class Delivery:
    """A batch on its way, in one part or more, and what is known of its outcome."""

    __slots__ = ("batch", "confirmed", "given_up", "refused", "returned", "unacceptable", "unsettled_parts")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.unsettled_parts = 1
        self.confirmed = self.returned = self.refused = self.unacceptable = self.given_up = False

    @property
    def outcome(self) -> Outcome:
        """What has become of a batch whose every part is settled."""
        if self.returned:
            return Outcome.RETURNED
        if self.refused:
            return Outcome.REFUSED
        return Outcome.UNACCEPTABLE if self.unacceptable and not self.confirmed else Outcome.CONFIRMED


class Part:
    """Messages of one batch, and once they are sent their delivery tags: `first` to `last`, both inclusive."""

    __slots__ = ("_next", "_singles", "delivery", "first", "last", "messages", "refused", "returned")

    def __init__(self, delivery: Delivery, messages: Sequence[Message]) -> None:
        self.delivery = delivery
        self.messages = messages

    def send(self, first: int) -> None:
        """Number the messages from this tag on; nothing that was said of them before counts."""
        self.first = first
        self.last = first + len(self.messages) - 1
        self.returned = self.refused = False
        self._next = first  # the first tag that is open
        self._singles: set[int] = set()  # settled tags after it

    def split(self, messages: int) -> "Part":
        """Keep so many messages; returns a part with the rest."""
        rest = Part(self.delivery, self.messages[messages:])
        self.messages = self.messages[:messages]
        self.delivery.unsettled_parts += 1
        return rest

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


@dataclass(frozen=True, slots=True)
class Verdict:
    """A message for which the broker closed a channel that carried nothing else."""

    message: Message
    routing_key: str
    outcome: Outcome
    """UNACCEPTABLE, or REFUSED together with all that waited under the same routing key."""


class Confirms:
    """Batches in the order in which they were given: sent ones with their tags, then those that wait to be sent.

    A new channel counts its tags from 1, and what was sent on the old one without a confirm has to be sent again.

    When the broker closed the channel for one of the messages on it, the limit of messages in flight becomes half of what
    was in flight, and so on until the channel carries that message alone. It is then given up, and the limit doubles with
    each lot that is confirmed. So one bad message of 60,000 costs some twenty channels, and holds up nobody for long.
    """

    def __init__(self) -> None:
        self._sent: list[Part] = []
        self._waiting: deque[Part] = deque()
        self._last_tag = 0
        self._repeated = 0
        """The last tag of what had been pending when the channel began."""
        self._limit = FULL
        """Of the next lot, messages in flight at the most."""
        self._room: int | None = None
        """How many messages may still be sent before those in flight are settled; None: there is no limit."""
        self._may_give_up = 0
        """How many messages may be given up before the next confirm."""

    def add(self, batch: Batch) -> None:
        """Let a batch wait to be sent."""
        self._waiting.append(Part(Delivery(batch), batch.messages))

    @property
    def unsettled(self) -> bool:
        """Whether the broker still owes an answer for something that was sent, given up or not."""
        return bool(self._sent)

    @property
    def pending(self) -> bool:
        """Whether somebody still waits for a batch's outcome."""
        return bool(self._waiting) or any(not each.delivery.given_up for each in self._sent)

    @property
    def caught_up(self) -> bool:
        """Whether all that was pending when the channel began has been settled on it, and so did not end it."""
        return self._last_tag >= self._repeated and (not self._sent or self._sent[0].first > self._repeated)

    def send_next(self) -> Part | None:
        """What is to be sent next, which counts as sent now; None when nothing waits, or nothing may be sent yet."""
        if not self._waiting:
            return None
        if self._room is not None and not self._make_room(self._room):
            return None
        part = self._waiting.popleft()
        part.send(self._last_tag + 1)
        self._last_tag = part.last
        self._sent.append(part)
        return part

    def _make_room(self, room: int) -> bool:
        """Cut what waits first to what the limit allows; False when the lot that is in flight has to be settled before."""
        if not self._sent:
            if self._limit >= FULL:
                self._room = None
                return True
            room = self._limit
            self._limit *= 2  # for the next lot; a fault in this one goes by what was in flight
        if not room:
            return False
        if len(self._waiting[0].messages) > room:
            self._waiting.insert(1, self._waiting[0].split(room))
        self._room = room - len(self._waiting[0].messages)
        return True

    def settle(self, tag: int, multiple: bool, refused: bool) -> list[Delivery]:
        """Take an ack, or with `refused` a nack; returns the batches that are through now. Tags that are unknown are ignored."""
        if not refused:
            self._may_give_up = MOST_IN_A_ROW
        if multiple:
            return self._through(self._settle_up_to(tag or self._last_tag, refused))
        index = bisect_right(self._sent, tag, key=lambda part: part.first) - 1
        if index < 0 or tag > self._sent[index].last or not self._sent[index].settle(tag, refused):
            return []
        return self._through([self._sent.pop(index)])

    def _settle_up_to(self, tag: int, refused: bool) -> list[Part]:
        count = bisect_right(self._sent, tag, key=lambda part: part.last)
        settled = self._sent[:count]
        del self._sent[:count]
        if refused:
            for each in settled:
                each.refused = True
        if self._sent and self._sent[0].settle_up_to(tag, refused):
            settled.append(self._sent.pop(0))
        return settled

    @staticmethod
    def _through(settled: list[Part]) -> list[Delivery]:
        through = []
        for part in settled:
            delivery = part.delivery
            delivery.unsettled_parts -= 1
            delivery.confirmed = True
            delivery.returned |= part.returned
            delivery.refused |= part.refused
            if not (delivery.unsettled_parts or delivery.given_up):
                through.append(delivery)
        return through

    def mark_returned(self, message_ids: Collection[str]) -> None:
        """Note messages that no queue took: the batches that hold them are returned, whatever the acks say.

        Looks at all that is sent (20,000 messages take 1 ms): call it once for many ids, before the acks that came with them.
        """
        for each in self._sent:
            if not each.returned and any(message.message_id in message_ids for message in each.messages):
                each.returned = True

    def restart(self) -> None:
        """The channel is gone: what was sent on it waits again, in order; nothing that was said of it counts."""
        self._waiting.extendleft(each for each in reversed(self._sent) if not each.delivery.given_up)
        self._sent.clear()
        self._last_tag = 0
        self._repeated = sum(len(part.messages) for part in self._waiting)

    def find_fault(self) -> tuple[Verdict | None, list[Delivery]]:
        """The broker closed the channel for one of the messages on it; call before `restart`.

        Returns that message, when it was alone, and the batches that are through with it.
        """
        in_flight = sum(len(part.messages) for part in self._sent)
        self._limit = max(1, min(in_flight, FULL) // 2)  # with more in flight than FULL half of it would be no limit
        self._room = 0
        if in_flight != 1:
            return None, []
        part = self._sent.pop()
        delivery = part.delivery
        if delivery.given_up:
            return None, []
        verdict = Verdict(
            part.messages[0], delivery.batch.routing_key, Outcome.UNACCEPTABLE if self._may_give_up else Outcome.REFUSED
        )
        delivery.unsettled_parts -= 1
        if not self._may_give_up:
            delivery.refused = True
            return verdict, self._refuse_all(delivery)
        self._may_give_up -= 1
        delivery.unacceptable = True
        return verdict, [] if delivery.unsettled_parts else [delivery]

    def _refuse_all(self, first: Delivery) -> list[Delivery]:
        """Withdraw a batch, and all that waits under its routing key."""
        refused = {id(first): first}
        kept: deque[Part] = deque()
        for part in self._waiting:
            delivery = part.delivery
            if delivery.batch.routing_key == first.batch.routing_key:
                delivery.refused = True
                refused[id(delivery)] = delivery
            else:
                kept.append(part)
        self._waiting = kept
        return list(refused.values())

    def give_up(self) -> list[Batch]:
        """Forget all that is pending; returns it. Tags of what was sent are still awaited, for nobody."""
        given_up = []
        for part in (*self._sent, *self._waiting):
            if not part.delivery.given_up:
                part.delivery.given_up = True
                given_up.append(part.delivery.batch)
        self._waiting.clear()
        self._repeated = min(self._repeated, self._last_tag)
        return given_up
