"""All live conversations of a server: each runs in a task of its own, with or without a connection.

One whose client vanished is kept for a while, with its place at the model; one that is over is kept as long, without
the place, so that its last words can still be told. Of either kind only so many are kept, and the oldest goes first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import structlog

from nautilus.errors import NautilusError, SessionGoneError
from nautilus.stream.conversation import Conversation, Hold
from nautilus.stream.drain import Drain
from nautilus.stream.session import StreamLimits

log = structlog.get_logger(__name__)

Talk: TypeAlias = Callable[[Conversation], Awaitable[None]]
"""Hears a conversation to its end; the first event that it tells means that it can."""


class _Gone(Exception):  # noqa: N818 - no failure: it ends the task of a conversation
    """The client of a conversation is gone for good."""


class Conversations:
    """Starts conversations, finds them again, and lets those go that nobody comes back for."""

    def __init__(self, limits: StreamLimits, drain: Drain, tasks: asyncio.TaskGroup) -> None:
        self._limits = limits
        self._drain = drain
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._all: dict[str, Conversation] = {}
        self._kept: dict[str, Conversation] = {}
        """Those without a connection, the oldest first."""

    def __repr__(self) -> str:
        return f"<Conversations: {len(self._all)}, of which {len(self._kept)} without a connection>"

    @property
    def held(self) -> int:
        """Return how many have a connection."""
        return len(self._all) - len(self._kept)

    @property
    def kept(self) -> int:
        """Return how many are kept for clients that may come back."""
        return len(self._kept)

    async def open(self, talk: Talk, owner: str) -> tuple[Conversation, Hold]:
        """Start one; it can hear when this returns. Raises what `talk` does before its first event, OverloadedError."""
        conversation = Conversation(owner)
        hold = conversation.hold()
        task = self._tasks.create_task(self._run(conversation, talk), name=f"conversation {conversation.id[:6]}")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        try:
            await conversation.started()
        except BaseException:
            conversation.release(hold, leaving=True)
            raise
        return conversation, hold

    def resume(self, name: str, after: int, owner: str) -> tuple[Conversation, Hold]:
        """Take one over that is the same owner's. Raises SessionGoneError, BadRequestError."""
        conversation = self._all.get(name)
        if conversation is None or conversation.owner != owner:
            raise SessionGoneError("it is over, or was kept too long without you")
        hold = conversation.hold(after)
        self._kept.pop(name, None)
        return conversation, hold

    def release(self, conversation: Conversation, hold: Hold, *, leaving: bool) -> None:
        """Let go of one; it is kept for its client, unless that is `leaving`."""
        if not conversation.is_held(hold):
            return
        conversation.release(hold, leaving=leaving or self._drain.begun.is_set())
        if not leaving:
            self._kept[conversation.id] = conversation
            alike = [one for one in self._kept.values() if one.over == conversation.over]
            for one in alike[: -self._limits.most_kept or None]:
                one.forget()

    def end(self) -> None:
        """End all."""
        for task in self._running:
            task.cancel()

    async def _run(self, conversation: Conversation, talk: Talk) -> None:
        self._all[conversation.id] = conversation
        try:
            with self._drain.conversation():
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._end_without_client(conversation))
                    tasks.create_task(self._end_with_server(conversation))
                    await _talk(talk, conversation)
        except* _Gone:
            pass
        except* NautilusError as group:  # no new ones: the server is stopping
            error = group.exceptions[0]
            conversation.close(error if isinstance(error, NautilusError) else None)
        finally:
            conversation.close()
            del self._all[conversation.id]
            self._kept.pop(conversation.id, None)

    async def _end_without_client(self, conversation: Conversation) -> None:
        await conversation.gone(self._limits.resume)
        raise _Gone

    async def _end_with_server(self, conversation: Conversation) -> None:
        await self._drain.begun.wait()
        conversation.end("stopping")


async def _talk(talk: Talk, conversation: Conversation) -> None:
    try:
        await talk(conversation)
    except NautilusError as error:
        conversation.close(error)
    except Exception as error:  # the outermost of a conversation: one that fails ends no other
        log.exception("live conversation failed")
        failure = NautilusError("A live conversation failed.")
        failure.__cause__ = error
        conversation.close(failure)
    else:
        conversation.close()


@asynccontextmanager
async def open_conversations(limits: StreamLimits, drain: Drain) -> AsyncIterator[Conversations]:
    """Let conversations run for the length of the block; its end ends them."""
    async with asyncio.TaskGroup() as tasks:
        conversations = Conversations(limits, drain, tasks)
        try:
            yield conversations
        finally:
            conversations.end()
