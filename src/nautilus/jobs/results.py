"""Transcripts and checkpoints as bytes that later versions can read. Floats come back exactly as they were."""

import asyncio
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from typing import Any, Final

from nautilus.hearing import Standing
from nautilus.segments import segments_of
from nautilus.types import AudioFacts, Timings, Token, Transcript, Word

LONG: Final = 120.0
"""Seconds of audio whose transcript the event loop may write."""
LARGE: Final = 64 * 1024
"""Bytes of a transcript that the event loop may read."""


def dump_transcript(transcript: Transcript) -> bytes:
    """Return a transcript as JSON; segments are made anew from words."""
    body = {
        "words": [_dump_word(word) for word in transcript.words],
        "model": transcript.model,
        "language": transcript.language,
        "audio": asdict(transcript.audio),
        "timings": asdict(transcript.timings),
        "warnings": transcript.warnings,
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def load_transcript(stored: bytes) -> Transcript:
    """Return the transcript that `dump_transcript` stored."""
    body = json.loads(stored)
    segments = segments_of(map(_load_word, body["words"]))
    return Transcript(
        text=" ".join(segment.text for segment in segments),
        segments=segments,
        model=body["model"],
        language=body["language"],
        audio=AudioFacts(**body["audio"]),
        timings=Timings(**body["timings"]),
        warnings=tuple(body["warnings"]),
    )


async def dumped(transcript: Transcript, threads: Executor) -> bytes:
    """Return a transcript as JSON; a long one from a thread, as hours of words take a while."""
    if transcript.audio.duration <= LONG:
        return dump_transcript(transcript)
    return await asyncio.get_running_loop().run_in_executor(threads, dump_transcript, transcript)


async def loaded(stored: bytes, threads: Executor) -> Transcript:
    """Return a stored transcript; a long one from a thread."""
    if len(stored) <= LARGE:
        return load_transcript(stored)
    return await asyncio.get_running_loop().run_in_executor(threads, load_transcript, stored)


def dump_words(words: Iterable[Word]) -> bytes:
    """Return words as JSON."""
    return json.dumps([_dump_word(word) for word in words], ensure_ascii=False, separators=(",", ":")).encode()


def load_words(stored: bytes) -> tuple[Word, ...]:
    """Return the words that `dump_words` stored."""
    return tuple(map(_load_word, json.loads(stored)))


def dump_standing(standing: Standing) -> dict[str, Any]:
    """Return where a hearing stands as what a JSON column takes."""
    return {
        "windows": standing.windows,
        "held": [_dump_word(word) for word in standing.held],
        "language": standing.language,
        "queue": standing.queue,
        "inference": standing.inference,
    }


def load_standing(stored: dict[str, Any]) -> Standing:
    """Return what `dump_standing` stored."""
    return Standing(
        windows=stored["windows"],
        held=tuple(map(_load_word, stored["held"])),
        language=stored["language"],
        queue=stored["queue"],
        inference=stored["inference"],
    )


def _dump_word(word: Word) -> Sequence[Any]:
    return (word.text, word.start, word.end, word.confidence, [(token.text, token.logprob) for token in word.tokens])


def _load_word(stored: Sequence[Any]) -> Word:
    text, start, end, confidence, tokens = stored
    return Word(text, start, end, confidence, tuple(Token(text, logprob) for text, logprob in tokens))
