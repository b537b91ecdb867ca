"""`/v1/stream`: live speech over a WebSocket, in our own protocol (docs/live.md)."""

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from nautilus import errors as failures
from nautilus.assembly import Core
from nautilus.audio.pcm import PcmStream
from nautilus.errors import IdleError, NautilusError, NotReadyError
from nautilus.stream.service import Command, Commit, converse
from nautilus.stream.session import Committed, Event, Partial, SpeechStarted
from nautilus.stream.session import Final as FinalEvent
from nautilus.types import Options, Waveform
from nautilus.web import errors
from nautilus.wire import live

router = APIRouter(tags=["live"])

LARGE: Final = 256 * 1024
"""Bytes."""
WELL: Final = 1000
STOPPING: Final = 1012
TRY_LATER: Final = 1013
FAULT_OF_THE_CLIENT: Final = 1008
FAULT_OF_OURS: Final = 1011


@router.websocket("/v1/stream")
async def stream(websocket: WebSocket) -> None:
    """Transcribe live speech: binary messages are sound, JSON events come back."""
    try:
        await _serve(websocket)
    except WebSocketDisconnect:
        return
    except NautilusError as error:
        await refuse(websocket, error)


async def _serve(websocket: WebSocket) -> None:
    core: Core | None = getattr(websocket.app.state, "core", None)
    if core is None:
        raise NotReadyError
    query = live.read_query(websocket.query_params)
    with core.drain.conversation():
        async with core.pool.lease(core.resolve(query.model)) as lane:
            look_ahead = live.look_ahead_for(query.delay, lane.info.waits)
            options = Options(language=query.language)
            second = core.second_pass(query.final_model, options)
            async with lane.stream(look_ahead, options) as heard:
                await websocket.accept()
                teller = Teller(websocket)
                await teller.send({"type": "ready", "model": lane.info.name, "look_ahead": look_ahead})
                sound = _commands(websocket, PcmStream(query.encoding, query.rate), core)
                await converse(sound, teller.tell, heard, core.settings.stream, core.drain.begun, second)
                await teller.send({"type": "end"})
                await websocket.close(STOPPING if core.drain.begun.is_set() else WELL)


async def receive(websocket: WebSocket, idle: float) -> MutableMapping[str, Any]:
    """Wait for the next message. Raises WebSocketDisconnect, and IdleError after so many seconds."""
    try:
        async with asyncio.timeout(idle):
            message = await websocket.receive()
    except TimeoutError:
        raise IdleError(idle) from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    return message


async def read(pcm: PcmStream, data: bytes, threads: Executor) -> Waveform:
    """Read a message's sound; a large one in a thread, as it may take many milliseconds."""
    if len(data) <= LARGE:
        return pcm.read(data)
    return await asyncio.get_running_loop().run_in_executor(threads, pcm.read, data)


async def _commands(websocket: WebSocket, pcm: PcmStream, core: Core) -> AsyncIterator[Command]:
    """Read a client until it says that it has ended, or hangs up."""
    while True:
        message = await receive(websocket, core.settings.stream.idle)
        if (data := message.get("bytes")) is not None:
            yield await read(pcm, data, core.threads)
        elif live.read_message(message.get("text") or "") == "commit":
            yield pcm.finish()
            yield Commit()
        else:
            yield pcm.finish()
            return


class Teller:
    """Numbers events and sends them."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._number = 0

    async def send(self, event: dict[str, Any]) -> None:
        """Send one event."""
        await self._websocket.send_text(json.dumps(event | {"seq": self._number}, ensure_ascii=False))
        self._number += 1

    async def tell(self, event: Event) -> None:
        """Send what happened in the conversation."""
        match event:
            case SpeechStarted():
                await self.send({"type": "speech_started", "utterance": event.utterance, "at": round(event.at, 3)})
            case Partial():
                told = live.told("partial", event.utterance, event.words, event.until)
                await self.send(told | {"stable": event.stable})
            case FinalEvent():
                await self.send(live.told("final", event.utterance, event.words, event.until))
            case Committed():
                await self.send({"type": "committed", "until": round(event.until, 3)})


async def refuse(websocket: WebSocket, error: NautilusError) -> None:
    """Answer HTTP as long as the connection is no WebSocket yet, else an event and a close code."""
    answer = errors.response(error)
    if websocket.application_state == WebSocketState.CONNECTING:
        await websocket.send_denial_response(answer)
        return
    busy = isinstance(error, failures.OverloadedError | NotReadyError)
    code = TRY_LATER if busy else FAULT_OF_THE_CLIENT if isinstance(error, failures.BadRequestError) else FAULT_OF_OURS
    with suppress(RuntimeError, WebSocketDisconnect):  # it may have gone meanwhile
        await websocket.send_text(json.dumps({"type": "error"} | json.loads(bytes(answer.body))))
        await websocket.close(code, type(error).code)
