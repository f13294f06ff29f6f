"""Every way in which a broker answers for what it was sent: single and multiple, acks and nacks, in any order."""

import itertools
import random

import pytest

from collector.bus.confirms import FULL, MOST_IN_A_ROW, Confirms, Delivery
from collector.core.contracts import Batch, Outcome
from collector.core.model import Message


def batch(*message_ids: str) -> Batch:
    return Batch("key", [Message(each, b"{}") for each in message_ids], lambda _: None)


def send_next(confirms: Confirms) -> Batch | None:
    """The batch that was sent next, whole."""
    part = confirms.send_next()
    if part is None:
        return None
    assert part.messages == part.delivery.batch.messages
    return part.delivery.batch


def sent(confirms: Confirms, *sizes: int) -> list[Batch]:
    """Batches of these sizes, sent; ids are unique."""
    batches = [batch(*(f"{number}-{index}" for index in range(size))) for number, size in enumerate(sizes)]
    for each in batches:
        confirms.add(each)
        assert send_next(confirms) is each
    return batches


def outcomes(through: list[Delivery]) -> list[tuple[Batch, Outcome]]:
    return [(each.batch, each.outcome) for each in through]


def test_a_batch_is_confirmed_when_its_last_message_is() -> None:
    confirms = Confirms()
    first, second = sent(confirms, 2, 1)
    assert confirms.settle(1, False, False) == []
    assert outcomes(confirms.settle(3, False, False)) == [(second, Outcome.CONFIRMED)]
    assert outcomes(confirms.settle(2, False, False)) == [(first, Outcome.CONFIRMED)]
    assert not confirms.unsettled


def test_multiple_confirms_everything_up_to_its_tag() -> None:
    confirms = Confirms()
    first, second, third = sent(confirms, 3, 3, 3)
    assert outcomes(confirms.settle(7, True, False)) == [(first, Outcome.CONFIRMED), (second, Outcome.CONFIRMED)]
    assert outcomes(confirms.settle(9, True, False)) == [(third, Outcome.CONFIRMED)]


def test_multiple_with_tag_zero_confirms_everything() -> None:
    confirms = Confirms()
    both = sent(confirms, 2, 2)
    assert [each.batch for each in confirms.settle(0, True, False)] == both


@pytest.mark.parametrize("singles", [[1], [2], [3], [2, 3], [3, 1], [1, 2]])
def test_a_batch_acked_partly_one_by_one_and_then_by_multiple_finishes(singles: list[int]) -> None:
    confirms = Confirms()
    (first,) = sent(confirms, 4)
    for tag in singles:
        assert confirms.settle(tag, False, False) == []
    assert confirms.settle(3, True, False) == []
    assert outcomes(confirms.settle(4, False, False)) == [(first, Outcome.CONFIRMED)]


def test_singles_beyond_a_multiple_count() -> None:
    confirms = Confirms()
    (first,) = sent(confirms, 4)
    assert confirms.settle(4, False, False) == []
    assert confirms.settle(2, True, False) == []
    assert outcomes(confirms.settle(3, False, False)) == [(first, Outcome.CONFIRMED)]


@pytest.mark.parametrize("tag", [1, 2, 3])
def test_one_nack_refuses_its_batch_and_no_other(tag: int) -> None:
    confirms = Confirms()
    first, second, third = sent(confirms, 3, 3, 3)
    assert confirms.settle(3 + tag, False, True) == []
    assert outcomes(confirms.settle(9, True, False)) == [
        (first, Outcome.CONFIRMED),
        (second, Outcome.REFUSED),
        (third, Outcome.CONFIRMED),
    ]


def test_a_multiple_nack_refuses_what_is_open_up_to_its_tag() -> None:
    confirms = Confirms()
    first, second, third = sent(confirms, 2, 2, 2)
    assert outcomes(confirms.settle(3, True, True)) == [(first, Outcome.REFUSED)]
    assert outcomes(confirms.settle(6, True, False)) == [(second, Outcome.REFUSED), (third, Outcome.CONFIRMED)]


def test_a_multiple_nack_leaves_alone_what_was_acked_before() -> None:
    confirms = Confirms()
    (first,) = sent(confirms, 3)
    for tag in (1, 2):
        confirms.settle(tag, False, False)
    assert confirms.settle(2, True, True) == []
    assert outcomes(confirms.settle(3, False, False)) == [(first, Outcome.CONFIRMED)]


def test_a_returned_message_returns_its_batch_though_it_is_acked() -> None:
    confirms = Confirms()
    first, second = sent(confirms, 2, 2)
    confirms.mark_returned({"1-1", "unknown"})
    assert outcomes(confirms.settle(4, True, False)) == [(first, Outcome.CONFIRMED), (second, Outcome.RETURNED)]


@pytest.mark.parametrize("tag", [5, 99])
def test_an_answer_for_an_unknown_tag_is_ignored(tag: int) -> None:
    confirms = Confirms()
    sent(confirms, 2, 2)
    assert confirms.settle(tag, False, False) == []
    assert confirms.settle(tag - 100, False, False) == []
    assert confirms.unsettled


def test_an_answer_that_comes_twice_counts_once() -> None:
    confirms = Confirms()
    (first,) = sent(confirms, 3)
    for tag in (3, 3, 1, 1):
        assert confirms.settle(tag, False, False) == []
    assert outcomes(confirms.settle(2, False, False)) == [(first, Outcome.CONFIRMED)]


def test_a_new_channel_sends_the_unconfirmed_again_in_order_and_from_tag_one() -> None:
    confirms = Confirms()
    _, second, third = sent(confirms, 2, 2, 2)
    waiting = batch("w")
    confirms.add(waiting)
    confirms.settle(2, True, False)
    confirms.settle(3, False, True)
    confirms.mark_returned({"2-0"})
    confirms.restart()
    assert not confirms.unsettled
    assert confirms.pending
    assert [send_next(confirms) for _ in range(4)] == [second, third, waiting, None]
    assert outcomes(confirms.settle(5, True, False)) == [(each, Outcome.CONFIRMED) for each in (second, third, waiting)]


def test_what_is_given_up_is_not_sent_again_and_not_told_twice() -> None:
    confirms = Confirms()
    first, second = sent(confirms, 2, 2)
    waiting = batch("w")
    confirms.add(waiting)
    assert confirms.give_up() == [first, second, waiting]
    assert confirms.give_up() == []
    assert confirms.unsettled
    assert not confirms.pending
    later = batch("later")
    confirms.add(later)
    assert send_next(confirms) is later
    assert outcomes(confirms.settle(5, True, False)) == [(later, Outcome.CONFIRMED)]
    sent(confirms, 1)
    confirms.give_up()
    confirms.restart()
    assert send_next(confirms) is None


def test_a_channel_has_caught_up_when_all_that_was_pending_before_it_is_settled() -> None:
    confirms = Confirms()
    assert confirms.caught_up
    first, second = sent(confirms, 2, 2)
    confirms.restart()
    later = batch("later")
    confirms.add(later)
    assert [send_next(confirms), send_next(confirms)] == [first, second]
    assert confirms.settle(2, True, False)
    assert not confirms.caught_up
    assert send_next(confirms) is later
    assert confirms.settle(3, True, False) == []
    assert not confirms.caught_up
    assert confirms.settle(4, True, False)
    assert confirms.caught_up
    assert confirms.unsettled


def test_a_channel_has_caught_up_when_what_was_pending_is_given_up() -> None:
    confirms = Confirms()
    sent(confirms, 2, 2)
    confirms.restart()
    send_next(confirms)
    confirms.give_up()
    assert not confirms.caught_up
    confirms.settle(2, True, False)
    assert confirms.caught_up


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_of_answers_settles_every_batch_once(seed: int) -> None:
    choose = random.Random(seed)
    confirms = Confirms()
    batches = sent(confirms, *(choose.randint(1, 6) for _ in range(8)))
    ends = list(itertools.accumulate(len(each.messages) for each in batches))
    total = ends[-1]
    tags = {id(each): set(range(end - len(each.messages) + 1, end + 1)) for each, end in zip(batches, ends, strict=True)}
    refused: set[int] = set()
    through: list[Delivery] = []
    open_tags = set(range(1, total + 1))
    while open_tags:
        tag, multiple, nack = choose.choice(sorted(open_tags)), choose.random() < 0.3, choose.random() < 0.2
        settled = {each for each in open_tags if each <= tag} if multiple else {tag}
        open_tags -= settled
        if nack:
            refused |= settled
        through += confirms.settle(tag, multiple, nack)
    assert not confirms.unsettled
    assert {id(each.batch) for each in through} == {id(each) for each in batches}
    assert len(through) == len(batches)
    for each in through:
        expected = Outcome.REFUSED if refused & tags[id(each.batch)] else Outcome.CONFIRMED
        assert each.outcome is expected


# A message that the broker does not take, for which it closes the channel


class Broker:
    """Takes messages in order and closes the channel at a bad one; what it took before is confirmed, or not yet."""

    def __init__(self, confirms: Confirms, bad: set[str], choose: random.Random) -> None:
        self.confirms, self.bad, self.choose = confirms, bad, choose
        self.channels = 1
        self.got: list[str] = []
        self.given_up: list[str] = []
        self.told: list[tuple[Batch, Outcome]] = []

    def serve(self) -> bool:
        """Take what is sent until nothing more comes (False), or until the channel is closed (True)."""
        tag = 0
        while (part := self.confirms.send_next()) is not None:
            for message in part.messages:
                tag += 1
                if message.message_id in self.bad:
                    self._close()
                    return True
                self.got.append(message.message_id)
                if self.choose.random() < 0.3:
                    self.told += outcomes(self.confirms.settle(tag, True, False))
            if self.choose.random() < 0.5 or len(part.messages) == 1:
                self.told += outcomes(self.confirms.settle(tag, True, False))
        self.told += outcomes(self.confirms.settle(tag, True, False))
        return bool(self.confirms.pending)

    def _close(self) -> None:
        self.channels += 1
        verdict, through = self.confirms.find_fault()
        if verdict is not None and verdict.outcome is Outcome.UNACCEPTABLE:
            self.given_up.append(verdict.message.message_id)
        self.told += outcomes(through)
        self.confirms.restart()


def through(confirms: Confirms, batches: list[Batch], bad: set[str], seed: int = 0) -> Broker:
    """Have a broker take these batches, to the end."""
    for each in batches:
        confirms.add(each)
    broker = Broker(confirms, bad, random.Random(seed))
    while broker.serve():
        assert broker.channels < 1000, "no end"
    return broker


@pytest.mark.parametrize("seed", range(8))
def test_bad_messages_alone_are_given_up_and_all_others_arrive_confirmed(seed: int) -> None:
    choose = random.Random(seed)
    batches = [batch(*(f"{number}-{index}" for index in range(choose.randint(1, 30)))) for number in range(60)]
    ids = [message.message_id for each in batches for message in each.messages]
    bad = set(choose.sample(ids[1:], choose.choice([1, 2, 8])))
    broker = through(Confirms(), batches, bad, seed)
    assert sorted(broker.given_up) == sorted(bad)
    assert set(broker.got) == set(ids) - bad
    assert {id(each) for each, _ in broker.told} == {id(each) for each in batches}
    assert len(broker.told) == len(batches)
    for each, outcome in broker.told:
        only_bad = {message.message_id for message in each.messages} <= bad
        assert outcome is (Outcome.UNACCEPTABLE if only_bad else Outcome.CONFIRMED)


def test_one_bad_message_of_many_costs_few_channels_and_full_speed_returns() -> None:
    confirms = Confirms()
    batches = [batch(*(f"{number}-{index}" for index in range(30))) for number in range(600)]
    broker = through(confirms, batches, {"300-7"})
    assert broker.channels <= 20
    later = [batch(f"later {number}") for number in range(100)]
    for each in later:
        confirms.add(each)
    assert [send_next(confirms) for _ in later] == later


def test_a_broker_that_takes_nothing_has_everything_refused_and_nothing_given_up() -> None:
    batches = [batch(f"{number}-0", f"{number}-1") for number in range(40)]
    broker = through(Confirms(), batches, {message.message_id for each in batches for message in each.messages})
    assert broker.given_up == []
    assert [outcome for _, outcome in broker.told] == [Outcome.REFUSED] * 40
    assert broker.channels < 20


def test_a_broker_that_suddenly_takes_nothing_costs_no_more_than_a_few_messages() -> None:
    confirms = Confirms()
    through(confirms, [batch("good")], set())
    batches = [batch(f"{number}-0", f"{number}-1") for number in range(40)]
    broker = through(confirms, batches, {message.message_id for each in batches for message in each.messages})
    assert len(broker.given_up) == MOST_IN_A_ROW
    assert Outcome.CONFIRMED not in {outcome for _, outcome in broker.told}


def test_messages_of_another_key_go_on_when_those_of_one_are_refused() -> None:
    confirms = Confirms()
    other = Batch("other", [Message("fine", b"{}")], lambda _: None)
    batches = [*(batch(f"{number}-0") for number in range(40)), other]
    broker = through(confirms, batches, {f"{number}-0" for number in range(40)})
    assert broker.got == ["fine"]
    assert broker.told[-1] == (other, Outcome.CONFIRMED)
    assert [outcome for _, outcome in broker.told[:-1]] == [Outcome.REFUSED] * 40


def test_a_bad_message_that_was_withdrawn_is_looked_for_no_further() -> None:
    confirms = Confirms()
    sent(confirms, 4, 4)
    confirms.give_up()
    assert confirms.find_fault() == (None, [])
    confirms.restart()
    assert not confirms.pending
    sent(confirms, 1)
    confirms.give_up()
    assert confirms.find_fault() == (None, [])


@pytest.mark.parametrize("in_flight", [FULL, FULL + 1, 2 * FULL, 2 * FULL + 1])
def test_of_more_messages_than_any_limit_the_next_lot_is_half_a_limit(in_flight: int) -> None:
    confirms = Confirms()
    sent(confirms, in_flight)
    confirms.find_fault()
    confirms.restart()
    part = confirms.send_next()
    assert part is not None
    assert len(part.messages) == FULL // 2
    assert confirms.send_next() is None


def test_a_batch_in_pieces_is_told_once_when_it_is_withdrawn() -> None:
    confirms = Confirms()
    (first,) = sent(confirms, 8)
    confirms.find_fault()
    confirms.restart()
    part = confirms.send_next()
    assert part is not None
    assert len(part.messages) == 4
    assert confirms.send_next() is None
    assert confirms.give_up() == [first]
    assert confirms.settle(4, True, False) == []
