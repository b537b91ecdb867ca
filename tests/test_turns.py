import asyncio
from contextlib import ExitStack

import pytest

from nautilus.errors import OverloadedError
from nautilus.turns import Room, Turns
from nautilus.types import Claim, Priority


async def order_of(turns: Turns, *claims: Claim) -> list[int]:
    """Have all wait behind one turn; return in which order they came to theirs."""
    came: list[int] = []

    async def come(number: int, claim: Claim) -> None:
        async with turns.taken(claim):
            came.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks, turns.taken(Claim()):
        for number, claim in enumerate(claims):
            tasks.create_task(come(number, claim))
            await asyncio.sleep(0)
    return came


async def test_owners_take_turns_however_much_one_asks_for() -> None:
    flood, seldom = Claim(owner="flood"), Claim(owner="seldom")
    assert await order_of(Turns(1), flood, flood, flood, flood, seldom) == [0, 4, 1, 2, 3]


async def test_requests_go_before_jobs() -> None:
    assert await order_of(Turns(1), Claim(Priority.JOB), Claim(), Claim(Priority.JOB), Claim()) == [1, 3, 0, 2]


async def test_so_many_have_a_turn_at_once() -> None:
    turns, most, now = Turns(3), 0, 0

    async def come() -> None:
        nonlocal most, now
        async with turns.taken(Claim()):
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    async with asyncio.TaskGroup() as tasks:
        for _ in range(10):
            tasks.create_task(come())
    assert most == 3
    assert repr(turns) == "<Turns: 3 free, 0 waiting>"


async def test_no_turn_is_lost_by_those_who_leave_waiting_or_called() -> None:
    turns = Turns(1)

    async def come() -> None:
        async with turns.taken(Claim()):
            pass

    async with asyncio.TaskGroup() as tasks:
        async with turns.taken(Claim()):
            waits, called = tasks.create_task(come()), tasks.create_task(come())
            await asyncio.sleep(0)
            waits.cancel()
            await asyncio.sleep(0)
        called.cancel()  # its turn has come, and it has not seen it yet
    assert repr(turns) == "<Turns: 1 free, 0 waiting>"


async def test_who_leaves_at_the_very_moment_of_being_called_is_passed_over() -> None:
    turns, came = Turns(1), []

    async def come(name: str) -> None:
        async with turns.taken(Claim()):
            came.append(name)

    async with asyncio.TaskGroup() as tasks, turns.taken(Claim()):
        leaves = tasks.create_task(come("leaves"))
        tasks.create_task(come("stays"))
        await asyncio.sleep(0)
        leaves.cancel()  # it does not know yet when the turn is passed on
    assert came == ["stays"]
    assert repr(turns) == "<Turns: 1 free, 0 waiting>"


async def test_a_full_room_lets_in_who_has_less_than_a_share() -> None:
    room = Room(4, retry_after=2.0)
    with ExitStack() as inside:
        for _ in range(4):
            inside.enter_context(room.held("flood"))
        for _ in range(2):
            inside.enter_context(room.held("seldom"))
        for owner in ("flood", "seldom"):
            with pytest.raises(OverloadedError), room.held(owner):
                pass
        assert len(room) == 6
    assert len(room) == 0
