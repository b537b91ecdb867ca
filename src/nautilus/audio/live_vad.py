"""The detector of speech on a stream: each frame is judged once, when a little more than it has come.

    samples → log-mels, once for each frame → every 160 ms one pass over the last seconds → probabilities, `LAG` late

A pass costs the same however long the stream is. What it hears depends on the position in the stream only, so the
lengths of the pieces change nothing.
"""

from typing import Final

import numpy as np

from nautilus.audio.vad import BANDS, HOP, Matrix, Probabilities, judge, log_mels
from nautilus.types import SAMPLE_RATE, Waveform

STEP: Final = 8
"""Frames that come between two passes (160 ms)."""
LAG: Final = 12
"""Frames that are heard beyond the one that is judged (240 ms)."""
LAG_SECONDS: Final = (LAG + STEP) * HOP / SAMPLE_RATE
"""Seconds after which a frame is judged at the latest."""
WINDOW: Final = 448
"""Frames that a pass hears (8.96 s): what comes is judged against how loud and how noisy these were."""

_REACH: Final = HOP
"""Samples kept before the next frame, which begins a little before its own."""
_NEEDED: Final = _REACH + (STEP + 1) * HOP
"""Samples, those included, that the log-mels of one step are made of."""


class LiveVad:
    """Judges a stream as it comes. Blocking."""

    def __init__(self) -> None:
        self._kept = np.zeros(_REACH, np.float32)
        self._mels: Matrix = np.zeros((0, BANDS), np.float32)
        self._undecided = 0

    @property
    def needed(self) -> int:
        """Samples after which the next frames are judged."""
        return _NEEDED - len(self._kept)

    def add(self, sound: Waveform) -> Probabilities:
        """Take the next samples, any number; return the probabilities of the frames that are decided now, in order."""
        self._kept = np.concatenate([self._kept, sound])
        decided = [np.zeros(0, np.float32)]
        while len(self._kept) >= _NEEDED:
            mels = log_mels(self._kept[:_NEEDED])[1 : STEP + 1]
            self._kept = self._kept[STEP * HOP :]
            self._mels = np.concatenate([self._mels, mels])[-WINDOW:]
            self._undecided += STEP
            if self._undecided > LAG:
                decided.append(judge(self._mels)[-self._undecided : -LAG])
                self._undecided = LAG
        return np.concatenate(decided)

    def rest(self) -> Probabilities:
        """Judge what has come and is not decided, as if nothing more came; the stream may go on."""
        fresh = log_mels(self._kept)[1:] if len(self._kept) > _REACH else self._mels[:0]
        mels = np.concatenate([self._mels, fresh])[-WINDOW:]
        count = self._undecided + len(fresh)
        return judge(mels)[-count:] if count else np.zeros(0, np.float32)
