"""Every way in which a broker answers for what it was sent: single and multiple, acks and nacks, in any order."""

import random

import pytest

from collector.bus.confirms import Confirms, Sent
from collector.core.contracts import Batch, Outcome
from collector.core.model import Message


def batch(*message_ids: str) -> Batch:
    return Batch("key", [Message(each, b"{}") for each in message_ids], lambda _: None)


def sent(confirms: Confirms, *sizes: int) -> list[Batch]:
    """Batches of these sizes, sent; ids are unique."""
    batches = [batch(*(f"{number}-{index}" for index in range(size))) for number, size in enumerate(sizes)]
    for each in batches:
        confirms.add(each)
        assert confirms.send_next() is each
    return batches


def outcomes(through: list[Sent]) -> list[tuple[Batch, Outcome]]:
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
    assert [confirms.send_next() for _ in range(4)] == [second, third, waiting, None]
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
    assert confirms.send_next() is later
    assert outcomes(confirms.settle(5, True, False)) == [(later, Outcome.CONFIRMED)]
    sent(confirms, 1)
    confirms.give_up()
    confirms.restart()
    assert confirms.send_next() is None


def test_a_channel_has_caught_up_when_all_that_was_pending_before_it_is_settled() -> None:
    confirms = Confirms()
    assert confirms.caught_up
    first, second = sent(confirms, 2, 2)
    confirms.restart()
    later = batch("later")
    confirms.add(later)
    assert [confirms.send_next(), confirms.send_next()] == [first, second]
    assert confirms.settle(2, True, False)
    assert not confirms.caught_up
    assert confirms.send_next() is later
    assert confirms.settle(3, True, False) == []
    assert not confirms.caught_up
    assert confirms.settle(4, True, False)
    assert confirms.caught_up
    assert confirms.unsettled


def test_a_channel_has_caught_up_when_what_was_pending_is_given_up() -> None:
    confirms = Confirms()
    sent(confirms, 2, 2)
    confirms.restart()
    confirms.send_next()
    confirms.give_up()
    assert not confirms.caught_up
    confirms.settle(2, True, False)
    assert confirms.caught_up


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_of_answers_settles_every_batch_once(seed: int) -> None:
    choose = random.Random(seed)
    confirms = Confirms()
    batches = sent(confirms, *(choose.randint(1, 6) for _ in range(8)))
    total = sum(len(each.messages) for each in batches)
    refused: set[int] = set()
    through: list[Sent] = []
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
        expected = Outcome.REFUSED if refused & set(range(each.first, each.last + 1)) else Outcome.CONFIRMED
        assert each.outcome is expected
