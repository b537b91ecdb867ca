"""`/v1/realtime`: OpenAI's Realtime API for transcription, over the same conversations as `/v1/stream`."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from typing import Any, Final

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketDisconnect

from nautilus.assembly import Core
from nautilus.audio.headed_pcm import HeadedPcm
from nautilus.audio.pcm import PcmStream
from nautilus.errors import BadRequestError, NautilusError, NotReadyError, UnsupportedError, first_error
from nautilus.stream.deadline import longest_time
from nautilus.stream.service import Change, Clear, Command, Commit, converse
from nautilus.stream.session import Committed, Event, Partial, SpeechStarted, StreamLimits
from nautilus.stream.session import Final as FinalEvent
from nautilus.stream.sound import read_pcm
from nautilus.stream.watch import Watch
from nautilus.traces.trace import span
from nautilus.types import SAMPLE_RATE, Options
from nautilus.web.client_secrets import settings_of
from nautilus.web.deps import caller_of
from nautilus.web.stream import LONGEST_TIME, STOPPING, WELL, receive, refuse, send, subprotocol
from nautilus.web.usage import noted
from nautilus.wire import openai_realtime as wire
from nautilus.wire.languages import language_code
from nautilus.wire.live import look_ahead_for
from nautilus.wire.nvidia_realtime import DONE, forces_end
from nautilus.wire.realtime_items import Items

router = APIRouter(tags=["live"])

LEAST: Final = 0.1
"""Seconds of sound that can be committed."""
LONGEST: Final = 300.0
"""Seconds of one item after which its words are settled, though the client has not committed."""
EMPTY: Final = (
    "Error committing input audio buffer: buffer too small. Expected at least 100ms of audio, "
    "but buffer only has {:.2f}ms of audio."
)


@router.websocket("/v1/realtime")
async def realtime(websocket: WebSocket) -> None:
    """Transcribe live speech, as OpenAI's API does."""
    try:
        core: Core | None = getattr(websocket.app.state, "core", None)
        if core is None:
            raise NotReadyError
        if websocket.query_params.get("intent", "transcription") != "transcription":
            raise UnsupportedError("This server transcribes; connect with intent=transcription.", "intent")
        session = _session(websocket, core)
        async with core.limiter.place("streams", caller_of(websocket)):
            await _converse(websocket, core, session)
    except WebSocketDisconnect:
        return
    except NautilusError as error:
        await refuse(websocket, error)


async def _converse(websocket: WebSocket, core: Core, session: wire.RealtimeSession) -> None:
    """Hold a conversation, and note how much sound came."""
    conversation = Conversation(websocket, core, session)
    model = core.resolve(session.model)
    with (
        core.drain.conversation(),
        noted(websocket, core, "stream", model) as used,
        span("stream", {"nautilus.model": model}) as trace,
    ):
        try:
            with suppress(WebSocketDisconnect):  # as these conversations end
                await conversation.run()
        finally:
            used.seconds = conversation.received
            trace.note({"nautilus.audio_seconds": conversation.received})


def _session(websocket: WebSocket, core: Core) -> wire.RealtimeSession:
    """Return what is asked for from the start. Raises BadRequestError, UnauthorizedError."""
    expires_at = int(time.time() + core.settings.stream.longest_stream)
    session = wire.RealtimeSession(expires_at=expires_at)
    session = wire.update(session, {"session": settings_of(websocket, core)})
    if model := websocket.query_params.get("model"):
        session = replace(session, model=model)
    core.resolve(session.model)
    return session


class Conversation:
    """One client's session: its settings, its messages, and the events it is told."""

    def __init__(self, websocket: WebSocket, core: Core, session: wire.RealtimeSession) -> None:
        self._websocket = websocket
        self._core = core
        self._session = session
        self._items = Items()
        self._pcm = _pcm(self._session)
        self._appended = self._uncommitted = 0  # samples
        self._committed_at = 0.0  # seconds
        self._ending = asyncio.Event()
        self._expired = self._done = False

    @property
    def received(self) -> float:
        """Seconds of sound that came."""
        return self._appended / SAMPLE_RATE

    async def run(self) -> None:
        """Greet, wait for the first sound, and hear the rest. Raises NautilusError, WebSocketDisconnect."""
        await self._websocket.accept(subprotocol(self._websocket))
        await self._send(self._items.event("session.created", session=self._shown()))
        with first_error():
            async with asyncio.TaskGroup() as tasks:
                waiting = tasks.create_task(self._end_with_server(), name="watch for the end")
                async with longest_time(self._core.settings.stream, _say_nothing, self._expire):
                    await self._hear()
                waiting.cancel()
        if self._expired:
            minutes = self._core.settings.stream.longest_stream / 60
            message = f"Your session hit the maximum duration of {minutes:g} minutes."
            await self._complain("session_expired", message, None, None)
        nvidia = self._session.nvidia
        if self._done and nvidia:
            await self._send(self._items.last(self.received, nvidia, self._session))
        code = LONGEST_TIME if self._expired else WELL if self._done else STOPPING  # else the client would have hung up
        await self._websocket.close(code)

    async def _hear(self) -> None:
        messages = self._commands()
        while isinstance(first := await anext(messages, None), Change | Clear):  # nothing to hear yet
            if isinstance(first, Clear):
                await self._send(self._cleared(0.0))
        if first is None:
            return
        async with self._core.pool.lease(self._core.resolve(self._session.model)) as lane:
            look_ahead = look_ahead_for(self._session.delay, lane.info.waits)
            options = Options(language=self._language(lane.info.languages))
            second = self._core.second_pass(None, options)
            async with lane.stream(look_ahead, options) as stream:
                watch = Watch(self._core.meters.streams, self._core.limiter.charge_to(caller_of(self._websocket)))
                commands = watch.commands(_after(first, messages))
                await converse(commands, watch.events(self._tell), stream, self._limits(), self._ending, second)

    async def _end_with_server(self) -> None:
        await self._core.drain.begun.wait()
        self._ending.set()

    def _expire(self) -> None:
        self._expired = True
        self._ending.set()

    def _language(self, known: Sequence[str]) -> str | None:
        """Return the session's language if the model is told one; clients name languages also to models that aren't."""
        code = language_code(self._session.language or "")
        return code if code in known else None

    def _shown(self) -> dict[str, Any]:
        return self._session.body(self._core.resolve(self._session.model))

    def _limits(self) -> StreamLimits:
        limits = self._core.settings.stream
        vad = self._session.vad
        if vad is None:
            return replace(limits, silence=inf, longest=LONGEST)
        return replace(limits, silence=vad.silence_duration_ms / 1000)

    async def _commands(self) -> AsyncIterator[Command]:
        """Read the client to its end; what only concerns the protocol is answered here."""
        while True:
            message = await receive(self._websocket, self._core.settings.stream.idle)
            event: dict[str, Any] = {}
            try:
                event = wire.read_event(message.get("text") or "")
                if event["type"] == DONE and self._session.nvidia:
                    self._done = True
                    yield self._pcm.finish()
                    return
                for command in await self._obey(event):
                    yield command
            except BadRequestError as error:  # of the message; an idle client is sent away
                await self._complain(error.code, str(error), error.param, event.get("event_id"))

    async def _obey(self, event: dict[str, Any]) -> list[Command]:
        if event["type"] not in wire.ACCEPTED:
            raise UnsupportedError(f"This server transcribes; it knows no '{event['type'][:80]}'.", "type")
        match event["type"]:
            case "input_audio_buffer.append":
                sound = await read_pcm(self._pcm, wire.read_audio(event), self._core.threads)
                self._appended += len(sound)
                self._uncommitted += len(sound)
                return [sound, *(self._forced() if forces_end(event) else ())]
            case "input_audio_buffer.commit":
                return await self._commit(event.get("event_id"))
            case "input_audio_buffer.clear":
                self._uncommitted = 0
                self._pcm.finish()  # what the resampler still held is forgotten, too
                return [Clear()]
            case kind if kind == DONE:
                raise UnsupportedError("Commit, or close the connection: only NVIDIA's dialect ends with this.", "type")
            case _:
                return [await self._change(event)]

    def _forced(self) -> list[Command]:
        """End the utterance with the sound so far."""
        rest = self._pcm.finish()
        self._appended += len(rest)
        self._uncommitted = 0
        return [rest, Commit()]

    async def _commit(self, event_id: object) -> list[Command]:
        if self._session.nvidia:  # commits each piece
            return []
        if self._uncommitted < LEAST * SAMPLE_RATE:
            reason = EMPTY.format(1000 * self._uncommitted / SAMPLE_RATE)
            await self._complain("input_audio_buffer_commit_empty", reason, None, event_id)
            return []
        return self._forced()

    async def _change(self, event: dict[str, Any]) -> Command:
        session = wire.update(self._session, event)
        self._core.resolve(session.model)
        if session.sound != self._session.sound:
            self._pcm = _pcm(session)
        self._session = session
        await self._send(self._items.event(wire.UPDATES[event["type"]], session=self._shown()))
        return Change(self._limits())

    async def _complain(self, code: str, message: str, param: str | None, event_id: object) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": param}
        await self._send(self._items.event("error", error=error | {"event_id": event_id}))

    async def _tell(self, event: Event) -> None:
        items, session = self._items, self._session
        match event:
            case SpeechStarted():
                events = items.started(event.at, session)
            case Partial():
                events = items.partial(event.words[: event.stable], session)
            case FinalEvent():
                events = items.final(event.words, event.until, session)
                if session.vad is not None:  # what came since the utterance ended can still be committed
                    since = self._appended - round(event.until * SAMPLE_RATE)
                    self._uncommitted = min(self._uncommitted, max(0, since))
            case Committed(cleared=True):
                events = [self._cleared(event.until)]
            case Committed():
                seconds = self._seconds(event.until)
                told = session.vad is not None and event.utterance is not None  # by its final
                events = [] if told else items.complete(seconds, session)
        for one in events:
            await self._send(one)

    def _cleared(self, until: float) -> dict[str, Any]:
        """Forget the item, and that its sound was ever sent."""
        self._items.forget()
        self._committed_at = until
        return self._items.event("input_audio_buffer.cleared")

    def _seconds(self, until: float) -> float:
        """Return how much sound a commit ended."""
        seconds, self._committed_at = until - self._committed_at, until
        return seconds

    async def _send(self, event: dict[str, Any]) -> None:
        await send(self._websocket, json.dumps(event, ensure_ascii=False), self._core.settings.stream.unread)


def _pcm(session: wire.RealtimeSession) -> PcmStream | HeadedPcm:
    encoding, rate, headed = session.sound
    return HeadedPcm(rate) if headed else PcmStream(encoding, rate)


async def _say_nothing(_: float) -> None:
    """Warn nobody: OpenAI's clients take what they don't know as fatal; `expires_at` tells from the start."""


async def _after(first: Command, rest: AsyncIterator[Command]) -> AsyncIterator[Command]:
    yield first
    async for command in rest:
        yield command
