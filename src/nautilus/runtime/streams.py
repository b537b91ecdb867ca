"""The live streams of one engine: where their states lie, and the steps that move them.

States stay beside the engine, mostly in another process; what travels is sound and what was heard of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nautilus.engines.base import Live, StreamingEngine
from nautilus.types import Waveform


@dataclass(frozen=True, slots=True)
class Step:
    """A little more of one stream."""

    stream: int
    look_ahead: float
    """Seconds."""
    first: bool
    """Whether nothing of this stream has been heard."""
    cut: bool
    """Whether an utterance ended before this."""
    last: bool
    """Whether nothing more will come."""
    drop: bool = False
    """Whether nobody wants to know any more: there is nothing to hear, the state is forgotten."""


class StreamTable:
    """The states of all open streams. Blocking; may be called from several threads, with different streams."""

    def __init__(self, engine: StreamingEngine[Any]) -> None:
        self._engine = engine
        self._states: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._states)

    def step(self, steps: Sequence[Step], sounds: Sequence[Waveform]) -> list[Live | None]:
        """Take a step in each stream; None for one whose state is not here (any more).

        Where the engine raises, nobody knows how far each state has come: all are forgotten.
        """
        try:
            return self._step(steps, sounds)
        except BaseException:
            for step in steps:
                self._states.pop(step.stream, None)
            raise

    def _step(self, steps: Sequence[Step], sounds: Sequence[Waveform]) -> list[Live | None]:
        for step in steps:
            if step.drop:
                self._states.pop(step.stream, None)
            elif step.first:
                self._states[step.stream] = self._engine.open(step.look_ahead)
        known = [(step, sound) for step, sound in zip(steps, sounds, strict=True) if step.stream in self._states]
        for step, _ in known:
            if step.cut:
                self._engine.cut(self._states[step.stream])
        heard = self._engine.step([(self._states[step.stream], sound) for step, sound in known])
        answers: dict[int, Live] = {}
        for (step, _), live in zip(known, heard, strict=True):
            answers[step.stream] = self._engine.finish(self._states.pop(step.stream)) if step.last else live
        return [answers.get(step.stream) for step in steps]
