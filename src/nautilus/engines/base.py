"""What the rest of the server knows about a speech model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias, TypeVar

from nautilus.types import Hypothesis, Options, Waveform

SHORTEST: Final = 320
"""Samples. What is shorter than two feature frames is silence to every engine: it has no deviation to normalise by."""

Report: TypeAlias = Callable[[str], None]
"""Takes a few words on how far the loading of a model is."""


REHEARD: Final = (1.5, 1.0, 0.75, 0.5, 0.3)
"""Seconds by which an utterance may grow before a model that goes over it again and again hears it once more."""


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What a loaded model can do; read by the pipeline, the API and `nautilus models info`."""

    name: str
    family: str
    """ctc, rnnt, tdt, aed, …"""
    runtime: str
    """onnx or nemo."""
    device: str
    """cpu or cuda."""
    languages: tuple[str, ...] = ()
    """ISO-639-1 codes it was trained on; empty where unknown."""
    max_seconds: float = 30.0
    """The longest window it hears comfortably."""
    utterances: bool = False
    """Whether it is best at single utterances, so that windows should end at every pause."""
    packed: bool = False
    """Whether padding costs next to nothing: recordings of other lengths can be heard together."""
    frame_seconds: float = 0.08
    """Resolution of its word times."""
    keywords: bool = False
    """True where `Options.keywords` are honoured."""
    look_aheads: tuple[float, ...] = ()
    """Seconds of sound to come that it may wait for in live streams, the most accurate first.

    Empty for a model that can't go on from where it stopped: of a live stream, it hears each utterance again and again.
    """
    translates: bool = False
    """True where `Options.translate_to` is honoured."""
    parameters: int | None = None

    @property
    def waits(self) -> tuple[float, ...]:
        """Return the seconds of sound to come that the words of a live stream may be told to wait for."""
        return self.look_aheads or REHEARD


@dataclass(frozen=True, slots=True)
class Live:
    """What has been heard of a stream's utterance so far; the next one replaces it."""

    hypothesis: Hypothesis
    """Its times start at the stream's zero."""
    until: float
    """Seconds of the stream that this covers."""
    silence: float
    """Seconds before `until` in which no sub-word was heard."""
    stable: int | None = None
    """How many of its first words will hardly change any more; None: all but the last."""
    over: bool = False
    """Whether the model itself says that the utterance is over."""


class Engine(Protocol):
    """A loaded model. Blocking. One that is not `reentrant` is called from one thread only.

    `tests/engines/test_contract.py` is what every engine promises.
    """

    @property
    def info(self) -> EngineInfo:
        """What this model is and can do."""
        ...

    @property
    def reentrant(self) -> bool:
        """Whether several threads may call `transcribe` at once."""
        ...

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Return one hypothesis per waveform, in order; times start at each waveform's own zero.

        A batch never changes an answer: each item is heard as if it were alone. An empty batch has no answers. A
        waveform of any length has one, though it may be without words. A word starts when its first sub-word is
        heard and ends with its last one (a model without times spreads its words), inside its waveform.
        """
        ...


State = TypeVar("State")


class StreamingEngine(Engine, Protocol[State]):
    """A model that goes on from where it stopped, many streams in one call."""

    def open(self, look_ahead: float, /) -> State:
        """Return the state of a stream that has heard nothing; `look_ahead` is one of `EngineInfo.look_aheads`."""
        ...

    def step(self, batch: Sequence[tuple[State, Waveform]], /) -> list[Live]:
        """Hear a little more of each stream, any number of samples; each state is changed, and is in one step at once.

        Neither its neighbours nor the lengths of its pieces change what is heard in a stream.
        """
        ...

    def cut(self, state: State, /) -> None:
        """End the utterance: what is heard from here on belongs to the next one."""
        ...

    def finish(self, state: State, /) -> Live:
        """Hear what is left in the buffers; the stream is over."""
        ...
