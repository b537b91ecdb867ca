"""What a conversation promises the connections that carry it."""

import asyncio
import json
from typing import Any

import numpy as np
import pytest

from nautilus.audio.pcm import PcmStream
from nautilus.errors import (
    BadRequestError,
    EngineError,
    NautilusError,
    OverloadedError,
    SessionGoneError,
)
from nautilus.stream import conversation as conversations
from nautilus.stream.conversation import Conversation, Hold
from nautilus.stream.conversations import open_conversations
from nautilus.stream.drain import Drain
from nautilus.stream.service import Commit
from nautilus.stream.session import StreamLimits
from nautilus.stream.sound import RawSound


def sound() -> RawSound:
    from concurrent.futures import ThreadPoolExecutor

    return RawSound(PcmStream("pcm16", 16_000), ThreadPoolExecutor(1))


async def told(conversation: Conversation, hold: Hold) -> list[dict[str, Any]]:
    return [json.loads(text) async for text in conversation.follow(hold)]


async def blocked(task: asyncio.Task[Any]) -> bool:
    """Let everything run that can; whether the task still waits."""
    for _ in range(10):
        await asyncio.sleep(0)
    return not task.done()


async def test_what_is_taken_is_counted_and_comes_in_order() -> None:
    conversation = Conversation("acme")
    hold = conversation.hold()
    messages: list[conversations.Message] = [bytes(16), "commit", bytes(8), "end", bytes(2), "end", "commit"]
    for message in messages:
        await conversation.take(hold, message)
    commands = [command async for command in conversation.commands(sound())]
    lengths = [len(command) if isinstance(command, np.ndarray) else command for command in commands]
    assert lengths == [8, 0, Commit(), 4, 0]
    assert (conversation.received, conversation.commits) == (24, 1)
    assert conversation.seconds == 12 / 16_000


async def test_a_connection_that_lost_its_hold_brings_nothing_more() -> None:
    conversation = Conversation("acme")
    first = conversation.hold()
    await conversation.take(first, bytes(conversations.MOST_WAITING))
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(conversation.take(first, bytes(100)))
        following = tasks.create_task(told(conversation, first))
        assert await blocked(waiting)
        second = conversation.hold()
    assert following.result() == []
    assert conversation.received == conversations.MOST_WAITING
    assert (conversation.is_held(first), conversation.is_held(second)) == (False, True)
    conversation.release(first, leaving=True)
    assert conversation.is_held(second)


async def test_a_client_that_does_not_read_holds_up_what_is_heard_and_memory_stays_bounded() -> None:
    conversation = Conversation("acme")
    hold = conversation.hold()
    long = "x" * 100_000
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(_tell_many(conversation, long, 40))
        assert await blocked(telling)
        assert conversation._events.last == 2
        following = tasks.create_task(told(conversation, hold))
        await telling
        conversation.close()
    assert [event["seq"] for event in following.result()] == list(range(40))
    assert conversation._events._size <= conversations.MOST_REMEMBERED
    again = conversation.hold(35)
    assert [event["seq"] for event in await told(conversation, again)] == [36, 37, 38, 39]
    with pytest.raises(SessionGoneError, match="after event 3 is no longer known"):
        conversation.hold(3)
    with pytest.raises(BadRequestError, match="at most 39"):
        conversation.hold(40)
    assert conversation.is_held(again)


async def _tell_many(conversation: Conversation, text: str, count: int) -> None:
    for _ in range(count):
        await conversation.tell({"type": "partial", "text": text})


async def test_a_conversation_that_fails_tells_why_and_ends_no_other() -> None:
    async def fail(conversation: Conversation) -> None:
        await conversation.tell({"type": "ready"})
        raise EngineError("It broke.")

    async def break_down(conversation: Conversation) -> None:
        await conversation.tell({"type": "ready"})
        raise ZeroDivisionError

    async with open_conversations(StreamLimits(), Drain()) as all_of_them:
        failed, hold = await all_of_them.open(fail, "acme")
        broken, other = await all_of_them.open(break_down, "acme")
        assert len(await told(failed, hold)) == len(await told(broken, other)) == 1
        assert isinstance(failed.failure, EngineError)
        assert type(broken.failure) is NautilusError
        assert isinstance(broken.failure.__cause__, ZeroDivisionError)


async def test_what_keeps_a_conversation_from_starting_is_raised() -> None:
    async def refuse(conversation: Conversation) -> None:
        del conversation
        raise OverloadedError(5.0)

    drain = Drain()
    async with open_conversations(StreamLimits(), drain) as all_of_them:
        with pytest.raises(OverloadedError):
            await all_of_them.open(refuse, "acme")
        await drain.finish()
        with pytest.raises(OverloadedError):
            await all_of_them.open(refuse, "acme")
        assert "0, of which 0" in repr(all_of_them)


async def test_nobody_else_resumes_a_conversation() -> None:
    async def wait(conversation: Conversation) -> None:
        await conversation.tell({"type": "ready"})
        await conversation.ending.wait()

    async with open_conversations(StreamLimits(), Drain()) as all_of_them:
        conversation, _ = await all_of_them.open(wait, "acme")
        with pytest.raises(SessionGoneError):
            all_of_them.resume(conversation.id, -1, "globex")
        resumed, _ = all_of_them.resume(conversation.id, -1, "acme")
        assert resumed is conversation
