from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from nautilus.audio import vad
from nautilus.runtime.ears import SHORT, really_spoken
from nautilus.types import SAMPLE_RATE, Waveform, Word

DOUBTFUL = (Word("hm", 0.2, 0.4, 0.3),)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


@pytest.fixture
def gone() -> ThreadPoolExecutor:
    """Threads that take no more work."""
    threads = ThreadPoolExecutor(1)
    threads.shutdown()
    return threads


async def test_short_sound_is_doubted_without_a_thread(gone: ThreadPoolExecutor) -> None:
    vad.speech_probabilities(silence(1))
    assert await really_spoken(DOUBTFUL, silence(SHORT), gone) == ()


async def test_long_sound_is_doubted_by_a_thread(gone: ThreadPoolExecutor) -> None:
    vad.speech_probabilities(silence(1))
    with pytest.raises(RuntimeError, match="shutdown"):
        await really_spoken(DOUBTFUL, silence(SHORT + 1), gone)


async def test_the_event_loop_never_waits_for_the_detector_to_be_imported(gone: ThreadPoolExecutor) -> None:
    vad._weights.cache_clear()
    with pytest.raises(RuntimeError, match="shutdown"):
        await really_spoken(DOUBTFUL, silence(1), gone)


async def test_words_beyond_doubt_are_not_looked_at(gone: ThreadPoolExecutor) -> None:
    sure = (Word("yes", 0.2, 0.4, 1.0),)
    assert await really_spoken(sure, silence(SHORT + 1), gone) == sure
