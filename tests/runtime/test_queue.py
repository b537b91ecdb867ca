from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from nautilus.errors import OverloadedError
from nautilus.runtime.queue import BatchLimits, Queue, Ticket
from nautilus.types import SAMPLE_RATE, Claim, Options, Priority, Waveform

EN, DE = Options(language="en"), Options(language="de")
JOB, LIVE = Claim(Priority.JOB), Claim(Priority.LIVE)
LIMITS = BatchLimits(max_items=4, max_waiting=8, max_padding=0.25)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def waiting(*asked: tuple[Claim, float, Options], limits: BatchLimits = LIMITS) -> Queue:
    queue = Queue(limits)
    for claim, seconds, options in asked:
        queue.add(silence(seconds), options, claim)
    return queue


def take(queue: Queue, share: int = 4, turn: float = 60.0, *, spare: bool = False) -> list[int]:
    return numbers(queue.take(share, turn, spare=spare))


def numbers(batch: Sequence[Ticket]) -> list[int]:
    return [ticket.place.number for ticket in batch]


async def test_live_goes_before_requests_and_requests_before_jobs() -> None:
    queue = waiting((JOB, 1, EN), (Claim(), 1, EN), (LIVE, 1, EN))
    assert [take(queue) for _ in range(4)] == [[2], [1], [0], []]


async def test_only_equal_options_share_a_batch() -> None:
    queue = waiting(*[(Claim(), 1, options) for options in (EN, DE, EN)])
    assert [take(queue) for _ in range(2)] == [[0, 2], [1]]


async def test_neighbours_are_of_similar_length() -> None:
    queue = waiting(*[(Claim(), seconds, EN) for seconds in (4, 20, 4.1, 19, 4.2)])
    assert [take(queue) for _ in range(2)] == [[0, 2, 4], [1, 3]]


async def test_the_padding_budget_ends_a_batch_but_never_refuses_the_first() -> None:
    limits = replace(LIMITS, max_seconds=20)
    queue = waiting(*[(Claim(), 10, EN)] * 3, limits=limits)
    assert [take(queue) for _ in range(2)] == [[0, 1], [2]]
    assert take(waiting((Claim(), 30, EN), limits=limits)) == [0]


async def test_a_worker_takes_no_more_than_its_share() -> None:
    assert take(waiting(*[(Claim(), 1, EN)] * 4), share=2) == [0, 1]


async def test_abandoned_tickets_are_dropped() -> None:
    queue = waiting((Claim(), 1, EN))
    leaving = queue.add(silence(1), EN, Claim())
    leaving.result.cancel()
    assert take(queue) == [0]
    assert len(queue) == 0


async def test_while_requests_come_a_spare_worker_takes_no_jobs() -> None:
    queue = waiting((Claim(), 1, EN), (JOB, 1, EN))
    assert [take(queue, spare=True) for _ in range(2)] == [[0], []]
    assert take(queue) == [1]


async def test_when_none_come_it_does() -> None:
    queue = waiting((Claim(), 1, EN), (JOB, 1, EN), limits=replace(LIMITS, reserve_seconds=0.0))
    assert [take(queue, spare=True) for _ in range(2)] == [[0], [1]]


@pytest.mark.parametrize("claim", [JOB, Claim(owner="flood")])
async def test_batches_are_short_while_others_ask(claim: Claim) -> None:
    assert take(waiting(*[(claim, 1, EN)] * 3), turn=2) == [0, 1, 2]
    queue = waiting((Claim(owner="seldom"), 1, DE), *[(claim, 1, EN)] * 4)
    assert [take(queue, turn=turn) for turn in (2, 2, 0)] == [[0], [1, 2], [3]]


async def test_who_asks_seldom_waits_for_one_batch_and_not_for_what_another_has_piled_up() -> None:
    queue = waiting(*[(Claim(owner="flood"), 5, EN)] * 20)
    assert take(queue, share=1) == [0]
    queue.add(silence(7), DE, Claim(owner="seldom"))
    assert [take(queue, share=1) for _ in range(3)] == [[20], [1], [2]]


async def test_owners_get_equal_seconds_not_equal_numbers() -> None:
    queue = Queue(LIMITS)
    for _ in range(12):
        queue.add(silence(1), EN, Claim(owner="short"))
        queue.add(silence(3), DE, Claim(owner="long"))
    heard = [queue.take(1, 60.0)[0] for _ in range(12)]
    seconds = {owner: sum(one.seconds for one in heard if one.claim.owner == owner) for owner in ("short", "long")}
    assert abs(seconds["short"] - seconds["long"]) <= 3


async def test_what_was_given_up_costs_its_owner_nothing() -> None:
    queue = waiting((Claim(owner="other"), 1, EN), limits=replace(LIMITS, max_items=1))
    for _ in range(50):
        queue.add(silence(60), EN, Claim(owner="hasty")).result.cancel()
    assert take(queue, share=1) == [0]
    for owner in ("other", "other", "hasty"):
        queue.add(silence(1), EN, Claim(owner=owner))
    assert [take(queue, share=1) for _ in range(2)] == [[51], [53]]


async def test_a_full_queue_refuses_only_who_has_a_share() -> None:
    queue = waiting(*[(Claim(owner="flood"), 1, EN)] * 8)
    with pytest.raises(OverloadedError):
        queue.check(Claim(owner="flood"), 100.0)
    for _ in range(4):
        queue.check(Claim(owner="seldom"), 100.0)
        queue.add(silence(1), EN, Claim(owner="seldom"))
    with pytest.raises(OverloadedError):
        queue.check(Claim(owner="seldom"), 100.0)


async def test_jobs_that_wait_keep_no_request_out_and_are_refused_by_number_alone() -> None:
    queue = waiting(*[(JOB, 600, EN)] * 8)
    queue.check(Claim(), 1.0)
    with pytest.raises(OverloadedError):
        queue.check(JOB, 1.0)
    waiting(*[(JOB, 600, EN)] * 7).check(JOB, 1.0)


async def test_a_refusal_comes_before_the_wait_and_says_how_long_that_would_be() -> None:
    queue = waiting(*[(Claim(owner="flood"), 10, EN)] * 7)
    queue.check(Claim(owner="flood"), 0.0)  # nobody knows yet
    queue.check(Claim(owner="flood"), 3.0)
    with pytest.raises(OverloadedError) as refusal:
        queue.check(Claim(owner="flood"), 1.0)
    assert refusal.value.retry_after == pytest.approx(40.0)
    queue.check(Claim(owner="seldom"), 1.0)


async def test_emptied_it_gives_back_all_that_waited() -> None:
    queue = waiting(*[(Claim(), 1, EN)] * 3)
    assert numbers(queue.empty()) == [0, 1, 2]
    assert len(queue) == 0
