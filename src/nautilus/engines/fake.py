"""An engine that needs no model: it says how many seconds it heard. For tests, and to measure the server alone."""

from collections.abc import Sequence

from nautilus.engines.base import EngineInfo
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform, Word


class FakeEngine:
    """Hears one word a second: `one two three …`, each in the middle of its second."""

    reentrant = True
    NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

    def __init__(self, max_seconds: float = 30.0) -> None:
        self.info = EngineInfo("fake", "ctc", "fake", "cpu", languages=("en",), max_seconds=max_seconds)

    def transcribe(self, batch: Sequence[Waveform], options: Options, /) -> list[Hypothesis]:
        """Hear a batch; see `Engine`. NaN in a waveform raises, as a broken model would."""
        del options
        return [self._hear(waveform) for waveform in batch]

    def _hear(self, waveform: Waveform) -> Hypothesis:
        if len(waveform) and waveform[0] != waveform[0]:
            raise ValueError("not a number")
        seconds = len(waveform) // SAMPLE_RATE
        words = tuple(Word(self.NUMBERS[n % 10], n + 0.25, n + 0.75, 1.0) for n in range(seconds))
        return Hypothesis(" ".join(word.text for word in words), words, "en")
