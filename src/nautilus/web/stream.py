"""`/v1/stream`: live speech over a WebSocket, in our own protocol (docs/live.md).

A connection only carries messages to a conversation and its events back; the conversation itself may outlive it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from nautilus import errors as failures
from nautilus.access.keys import Caller
from nautilus.assembly import Core
from nautilus.audio.pcm import PcmStream
from nautilus.errors import IdleError, NautilusError, NotReadyError, UnreadError
from nautilus.stream.conversation import Conversation, Hold, Reason, Sound
from nautilus.stream.deadline import longest_time
from nautilus.stream.service import converse
from nautilus.stream.session import Committed, Event, Partial, SpeechStarted, StreamLimits
from nautilus.stream.session import Final as FinalEvent
from nautilus.stream.sound import RawSound
from nautilus.stream.watch import Watch
from nautilus.traces.trace import NOWHERE, here, span
from nautilus.types import Options
from nautilus.web import errors
from nautilus.web.deps import caller_of
from nautilus.web.usage import noted
from nautilus.wire import live

router = APIRouter(tags=["live"])

WELL: Final = 1000
FAULT_OF_THE_CLIENT: Final = 1008
FAULT_OF_OURS: Final = 1011
STOPPING: Final = 1012
TRY_LATER: Final = 1013
TAKEN_OVER: Final = 4000
LONGEST_TIME: Final = 4001
ENDS: Final[dict[Reason, int]] = {"client": WELL, "longest": LONGEST_TIME, "stopping": STOPPING}

SUBPROTOCOLS: Final = ("realtime", "nautilus")
Charge: TypeAlias = Callable[[float], None]
"""Told of seconds of sound that were heard."""

LAST_WORD: Final = 2.0
"""Seconds for telling a client why it is sent away."""
GOING_AWAY: Final = 1001
NO_CODE: Final = 1005


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Transcribe live speech: binary messages are sound, JSON events come back."""
    try:
        core: Core | None = getattr(websocket.app.state, "core", None)
        if core is None:
            raise NotReadyError
        query = live.read_query(websocket.query_params)
        if query.session:
            await _resume(websocket, core, query.session, query.after)
        else:
            await _begin(websocket, core, query)
    except WebSocketDisconnect:
        return
    except NautilusError as error:
        await refuse(websocket, error)


async def _begin(websocket: WebSocket, core: Core, query: live.StreamQuery) -> None:
    async def talk(conversation: Conversation) -> None:
        async with core.limiter.place("streams", caller):
            model = core.resolve(query.model)
            with noted(websocket, core, "stream", model) as used, span("stream", {"nautilus.model": model}) as trace:
                conversation.trace = trace
                try:
                    await _hear(core, query, conversation, caller)
                finally:
                    used.seconds = conversation.seconds
                    trace.note({"nautilus.audio_seconds": conversation.seconds})

    caller = caller_of(websocket)
    conversation, hold = await core.conversations.open(talk, caller.tenant)
    await _carry(websocket, core, conversation, hold)


async def _resume(websocket: WebSocket, core: Core, name: str, after: int) -> None:
    """Go on with a conversation. That it can't is told as an event: a browser shows no HTTP answer to an upgrade."""
    await websocket.accept(subprotocol(websocket))
    conversation, hold = core.conversations.resume(name, after, caller_of(websocket).tenant)
    (here() or NOWHERE).link(conversation.trace)
    await _carry(websocket, core, conversation, hold, greeting=live.resumed(conversation.greeting, after))


async def _hear(core: Core, query: live.StreamQuery, conversation: Conversation, caller: Caller) -> None:
    """Hear a conversation to its end, whichever connections carry it."""
    limits = core.settings.stream
    async with core.pool.lease(core.resolve(query.model)) as lane:
        look_ahead = live.look_ahead_for(query.delay, lane.info.waits)
        options = Options(language=query.language)
        second = core.second_pass(query.final_model, options)

        async def warn(notice: float) -> None:
            await conversation.tell(live.warning(notice, limits.longest_stream))

        async def tell(event: Event) -> None:
            await conversation.tell(_told(event, conversation))

        async with (
            lane.stream(look_ahead, options) as heard,
            _sound(core, query, caller.tenant) as sound,
            longest_time(limits, warn, lambda: conversation.end("longest")),
        ):
            conversation.greeting = live.ready(lane.info.name, look_ahead, conversation.id)
            await conversation.tell(conversation.greeting)
            watch = Watch(core.meters.streams, core.limiter.charge_to(caller))
            commands = watch.commands(conversation.commands(sound))
            await converse(commands, watch.events(tell), heard, limits, conversation.ending, second)
        await conversation.tell(live.end(conversation.reason))


@asynccontextmanager
async def _sound(core: Core, query: live.StreamQuery, owner: str) -> AsyncIterator[Sound]:
    if isinstance(query.sound, live.RawFormat):
        yield RawSound(PcmStream(query.sound.encoding, query.sound.rate), core.threads)
        return
    async with core.sandbox.listen(query.sound, owner) as sound:
        yield sound


def _told(event: Event, conversation: Conversation) -> dict[str, Any]:
    match event:
        case SpeechStarted():
            return live.speech_started(event.utterance, event.at)
        case Partial():
            lag = conversation.seconds - event.until
            return live.told("partial", event.utterance, event.words, event.until, lag) | {"stable": event.stable}
        case FinalEvent():
            return live.told("final", event.utterance, event.words, event.until, conversation.seconds - event.until)
        case Committed():
            return live.committed(event.until)


async def _carry(
    websocket: WebSocket, core: Core, conversation: Conversation, hold: Hold, greeting: dict[str, Any] | None = None
) -> None:
    """Carry messages and events, until the conversation is over or another connection takes it over."""
    leaving = False
    try:
        if greeting is None:
            await websocket.accept(subprotocol(websocket))
        else:
            taken = {"received": conversation.received, "commits": conversation.commits}
            await websocket.send_text(json.dumps(greeting | taken))
        await _exchange(websocket, core.settings.stream, conversation, hold)
        if not conversation.is_held(hold):
            await websocket.close(TAKEN_OVER, "resumed by another connection")
        elif conversation.failure:
            await refuse(websocket, conversation.failure)
        else:
            await websocket.close(ENDS[conversation.reason], conversation.reason)
    except ClientLeft:
        leaving = True
    finally:
        core.conversations.release(conversation, hold, leaving=leaving)


async def _exchange(websocket: WebSocket, limits: StreamLimits, conversation: Conversation, hold: Hold) -> None:
    """Return when there is nothing more to tell this client. Raises WebSocketDisconnect, ClientLeft, UnreadError."""
    with failures.first_error():
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(websocket, limits.idle, conversation, hold), name="read the client")
            async with aclosing(conversation.follow(hold)) as events:
                async for event in events:
                    await send(websocket, event, limits.unread)
            reading.cancel()


async def _read(websocket: WebSocket, idle: float, conversation: Conversation, hold: Hold) -> None:
    """Read a client until it goes; a mistake of its ends the conversation."""
    while True:
        try:
            message = await receive(websocket, idle)
            data = message.get("bytes")
            if data == b"":  # which brings nothing, and would cost as much as a message that does
                continue
            await conversation.take(hold, live.read_message(message.get("text") or "") if data is None else data)
        except NautilusError as error:
            await conversation.take(hold, error)
            return


def subprotocol(websocket: WebSocket) -> str | None:
    """Return what to call the protocol: browsers that send a secret as one want an answer to another that they name."""
    offered = websocket.scope.get("subprotocols", [])
    return next((name for name in SUBPROTOCOLS if name in offered), None)


class ClientLeft(WebSocketDisconnect):
    """A client closed its connection, as one does that will not come back."""


async def receive(websocket: WebSocket, idle: float) -> MutableMapping[str, Any]:
    """Wait for the next message. Raises WebSocketDisconnect, ClientLeft, and IdleError after so many seconds."""
    try:
        async with asyncio.timeout(idle):
            message = await websocket.receive()
    except TimeoutError:
        raise IdleError(idle) from None
    if message["type"] == "websocket.disconnect":
        code = message.get("code", NO_CODE)
        # A broken connection has the code of one that was closed without a code, but no reason, not even an empty one.
        left = code in (WELL, GOING_AWAY) or (code == NO_CODE and "reason" in message)
        raise (ClientLeft if left else WebSocketDisconnect)(code)
    return message


async def send(websocket: WebSocket, event: str, patience: float) -> None:
    """Tell an event, waiting for a client that reads slowly. Raises UnreadError after so many seconds."""
    try:
        async with asyncio.timeout(patience):
            await websocket.send_text(event)
    except TimeoutError:
        raise UnreadError(patience) from None


async def refuse(websocket: WebSocket, error: NautilusError) -> None:
    """Answer HTTP as long as the connection is no WebSocket yet, else an event and a close code."""
    answer = errors.response(error)
    if websocket.application_state == WebSocketState.CONNECTING:
        await websocket.send_denial_response(answer)
        return
    busy = isinstance(error, failures.OverloadedError | NotReadyError)
    code = TRY_LATER if busy else FAULT_OF_THE_CLIENT if isinstance(error, failures.BadRequestError) else FAULT_OF_OURS
    # It may have gone meanwhile, or read nothing of this either.
    with suppress(RuntimeError, WebSocketDisconnect, TimeoutError):
        async with asyncio.timeout(LAST_WORD):
            await websocket.send_text(json.dumps(live.failed(json.loads(bytes(answer.body)))))
            await websocket.close(code, type(error).code)
