import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from nautilus.audio import vad
from nautilus.audio.presence import Finding
from nautilus.runtime import ears
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


async def test_what_the_detector_does_not_settle_silero_does_by_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def confirmed(finding: Finding, _: Waveform) -> Finding:
        asked.append(threading.current_thread().name)
        return replace(finding, words=finding.words[:1])

    monkeypatch.setattr(ears, "spoken", lambda words, _: Finding(words, 1.0, settled=False))
    monkeypatch.setattr(ears, "confirmed", confirmed)
    with ThreadPoolExecutor(1, thread_name_prefix="threads") as threads:
        assert await really_spoken(DOUBTFUL * 2, silence(2), threads) == DOUBTFUL
    assert asked == ["threads_0"]


async def test_what_is_settled_is_not_listened_to_again(
    gone: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vad.speech_probabilities(silence(1))
    monkeypatch.setattr(ears, "spoken", lambda words, _: Finding(words, 9.0, settled=True))
    assert await really_spoken(DOUBTFUL, silence(2), gone) == DOUBTFUL


async def test_words_beyond_doubt_are_not_looked_at(gone: ThreadPoolExecutor) -> None:
    sure = (Word("yes", 0.2, 0.4, 1.0),)
    assert await really_spoken(sure, silence(SHORT + 1), gone) == sure
