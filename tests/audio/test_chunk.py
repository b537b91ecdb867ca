from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from nautilus.audio.chunk import Planner, TimeMap, Window, WindowLimits, join
from nautilus.audio.cuts import utterance_limits
from nautilus.audio.vad import HOP, Span
from nautilus.types import SAMPLE_RATE, Waveform, Word

LIMITS = WindowLimits()
SEEDS = range(4)
LOUD = np.random.default_rng(0).uniform(0.1, 0.9, 90 * SAMPLE_RATE).astype(np.float32)
LOUD.flags.writeable = False


def loud(waveform: Waveform) -> NDArray[np.float32]:
    """Detect without error in these tests' recordings."""
    padded = np.concatenate((waveform, np.zeros(-len(waveform) % HOP, np.float32)))
    return np.asarray(np.abs(padded.reshape(-1, HOP)).max(axis=1) > 0.01, np.float32)


def silence(seconds: float) -> Waveform:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def speech(seconds: float, seed: int = 0) -> Waveform:
    """Return loud samples, other ones for another seed."""
    start = seed * 7919 % SAMPLE_RATE
    return LOUD[start : start + round(seconds * SAMPLE_RATE)]


def recording(*parts: Waveform) -> Waveform:
    return np.concatenate(parts)


def random_recording(seed: int, *, long_speech: bool = True) -> Waveform:
    """Make minutes of all there is: breaths, pauses, long silences, and stretches without any silence."""
    rng = np.random.default_rng(seed)
    parts = [silence(rng.uniform(0, 3))]
    for index in range(int(rng.integers(12, 25))):
        longest = 80.0 if long_speech and rng.random() < 0.08 else 9.0
        parts.append(speech(rng.uniform(0.2, longest), seed * 1000 + index))
        parts.append(
            silence(float(rng.choice([0.1, 0.4, 0.7, 1.5, 2.5, 8.0, 40.0], p=[0.2, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05])))
        )
    return recording(*parts)


def plan(audio: Waveform, limits: WindowLimits = LIMITS, blocks: list[int] | None = None) -> list[Window]:
    planner = Planner(limits, loud)
    windows, place = [], 0
    for size in blocks or [len(audio)]:
        windows += planner.add(audio[place : place + size])
        place += size
    return [*windows, *planner.finish()]


def random_blocks(seed: int, total: int) -> list[int]:
    rng = np.random.default_rng(seed)
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(int(rng.choice([0, 1, 700, 16_000, 100_003, 900_000])) + int(rng.integers(0, 500)))
    return sizes


def pieces(window: Window) -> list[tuple[int, int]]:
    """List the samples of the recording that a window is made of."""
    starts = window.time_map.window_starts
    stops = [*starts[1:], window.time_map.seconds]
    return [
        (round(begin * SAMPLE_RATE), round((begin + stop - start) * SAMPLE_RATE))
        for start, stop, begin in zip(starts, stops, window.time_map.recording_starts, strict=True)
    ]


def times(windows: list[Window]) -> list[tuple[float, float]]:
    """Return start and end of each window in the recording, to the millisecond."""
    return [(round(window.start, 3), round(window.end, 3)) for window in windows]


def same(one: Window, other: Window) -> bool:
    facts = (one.time_map, one.fresh_from, one.seam) == (other.time_map, other.fresh_from, other.seam)
    return facts and np.array_equal(one.audio, other.audio)


def test_a_recording_that_fits_is_passed_whole_and_unheard() -> None:
    def never(_: Waveform) -> NDArray[np.float32]:
        pytest.fail("the detector ran")

    audio = recording(silence(3), speech(20), silence(7))
    planner = Planner(LIMITS, never)
    assert planner.add(audio) == []
    (window,) = planner.finish()
    assert np.array_equal(window.audio, audio)
    assert (window.start, window.end, window.fresh_from, window.seam) == (0.0, 30.0, 0.0, None)
    assert planner.speech_seconds == 30.0


def test_nothing_gives_no_window() -> None:
    assert Planner(LIMITS, loud).finish() == []


def test_a_long_silence_gives_no_window() -> None:
    planner = Planner(LIMITS, loud)
    assert planner.add(silence(300)) == []
    assert planner.finish() == []
    assert planner.speech_seconds == 0.0


def test_cuts_fall_into_the_middle_of_a_late_long_silence() -> None:
    audio = recording(speech(10), silence(0.4), speech(14), silence(0.8), speech(3), silence(0.3), speech(8))
    assert times(plan(audio)) == [(0.0, 24.8), (24.8, 36.5)]
    assert [(window.fresh_from, window.seam) for window in plan(audio)] == [(0.0, None), (24.8, None)]


def test_long_silences_are_not_in_any_window() -> None:
    audio = recording(silence(5), speech(10), silence(4), speech(12), silence(9))
    planner = Planner(LIMITS, loud)
    windows = planner.add(audio) + planner.finish()
    assert times(windows) == [(4.8, 15.2), (18.8, 31.2)]
    assert planner.speech_seconds == pytest.approx(10.4 + 12.4)


def test_a_short_tail_joins_the_window_before() -> None:
    audio = recording(silence(10), speech(12), silence(2), speech(0.5), silence(20))
    assert times(plan(audio)) == [(9.8, 24.7)]


def test_a_short_tail_that_does_not_fit_stands_alone() -> None:
    audio = recording(speech(29), silence(2), speech(0.5), silence(20))
    assert times(plan(audio)) == [(0.0, 29.2), (30.8, 31.7)]


def test_single_utterances_end_at_every_pause() -> None:
    audio = recording(silence(1), speech(10), silence(0.5), speech(8), silence(3), speech(20), silence(1))
    assert times(plan(audio, utterance_limits(30.0))) == [(0.6, 11.06), (11.1, 19.56), (22.1, 42.56)]


def test_the_silence_between_two_utterances_is_the_lead_of_the_second() -> None:
    audio = recording(speech(20), silence(0.34), speech(20))
    assert times(plan(audio, utterance_limits(30.0))) == [(0.0, 20.06), (20.06, 40.34)]


def test_speech_without_silence_is_cut_with_overlap() -> None:
    first, second, third = plan(speech(70))
    assert times([first, second, third]) == [(0.0, 30.0), (28.0, 58.0), (56.0, 70.0)]
    assert second.seam == Span(28.0, 30.0)
    assert (first.fresh_from, second.fresh_from, third.fresh_from) == (0.0, 29.0, 57.0)


def test_windows_leave_as_soon_as_they_are_certain() -> None:
    planner = Planner(LIMITS, loud)
    early = planner.add(recording(speech(10), silence(60)))
    assert times(early) == [(0.0, 10.2)]


def test_removed_silence_is_carried_by_the_time_map() -> None:
    audio = recording(speech(10, 1), silence(0.9), speech(10, 2), silence(0.7), speech(5, 3), silence(10))
    (window,) = plan(audio, replace(LIMITS, remove_silence=True))
    assert pieces(window) == [(0, 163_200), (171_200, 337_600), (342_400, 428_800)]
    assert len(window.audio) == round(26.0 * SAMPLE_RATE)
    assert [window.time_map.to_recording(t) for t in (5.0, 12.0, 25.0)] == pytest.approx([5.0, 12.5, 25.8])


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_sizes_of_blocks_do_not_matter(seed: int, remove: bool) -> None:
    audio, limits = random_recording(seed), replace(LIMITS, remove_silence=remove)
    whole, parts = plan(audio, limits), plan(audio, limits, random_blocks(seed, len(audio)))
    assert len(whole) == len(parts)
    assert all(same(one, other) for one, other in zip(whole, parts, strict=True))


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_sample_of_speech_is_in_a_window_and_none_is_changed(seed: int, remove: bool) -> None:
    audio = random_recording(seed)
    covered = np.zeros(len(audio), bool)
    for window in plan(audio, replace(LIMITS, remove_silence=remove)):
        assert np.array_equal(window.audio, np.concatenate([audio[start:stop] for start, stop in pieces(window)]))
        for start, stop in pieces(window):
            covered[start:stop] = True
    assert not np.abs(audio[~covered]).any()


@pytest.mark.parametrize(
    "limits", [LIMITS, WindowLimits(8.0, 1.0, lead=0.6, tail=0.6), WindowLimits(12.0, remove_silence=True)]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_windows_are_short_enough_and_in_order(seed: int, limits: WindowLimits) -> None:
    windows = plan(random_recording(seed), limits)
    assert max(len(window.audio) for window in windows) <= limits.max_seconds * SAMPLE_RATE
    for before, after in pairwise(windows):
        shared = limits.overlap if after.seam else 0.0
        assert after.start >= before.end - shared - 1e-9
        assert before.fresh_from < after.fresh_from <= after.end


@pytest.mark.parametrize("seed", SEEDS)
def test_time_maps_never_go_back(seed: int) -> None:
    for window in plan(random_recording(seed), replace(LIMITS, remove_silence=True)):
        times = [window.time_map.to_recording(second) for second in np.linspace(-1, window.time_map.seconds + 1, 500)]
        assert times == sorted(times)
        assert (times[0], times[-1]) == (window.start, window.end)


def test_memory_stays_bounded() -> None:
    planner = Planner(LIMITS, loud)
    longest = 0
    part = speech(10)
    for _ in range(60):
        planner.add(part)
        longest = max(longest, sum(len(part) for part in planner._tape._parts))
    assert longest <= 2 * 30 * SAMPLE_RATE + 20 * SAMPLE_RATE


def test_a_block_may_be_reused_by_its_owner() -> None:
    block = speech(1).copy()
    planner = Planner(LIMITS, loud)
    planner.add(block)
    expected = block.copy()
    block[:] = 0
    assert np.array_equal(planner.finish()[0].audio, expected)


def test_a_time_map_is_clipped_to_its_window() -> None:
    time_map = TimeMap((0.0, 2.0), (10.0, 15.0), 5.0)
    assert [time_map.to_recording(t) for t in (-1.0, 0.0, 1.5, 2.0, 5.0, 9.0)] == [10.0, 10.0, 11.5, 15.0, 18.0, 18.0]


# Words across seams


@dataclass(frozen=True)
class Engine:
    """Returns the words that are wholly inside a window, and fragments of those that are cut."""

    words: list[Word]
    jitter: float
    fragments: bool

    def hear(self, window: Window) -> list[Word]:
        """Return words in window time."""
        rng = np.random.default_rng(round(window.start * 1000))
        heard = []
        for word in self.words:
            for (start, stop), place in zip(pieces(window), window.time_map.window_starts, strict=True):
                low, high = start / SAMPLE_RATE, stop / SAMPLE_RATE
                inside = min(word.end, high) - max(word.start, low)
                shift = place - low + rng.uniform(-self.jitter, self.jitter)
                if inside >= word.end - word.start - 1e-9:
                    heard.append(replace(word, start=word.start + shift, end=word.end + shift))
                elif self.fragments and inside > 0.05:
                    begin = max(word.start, low) + shift
                    heard.append(replace(word, text=word.text[:2], start=begin, end=begin + inside))
        return heard


def spoken(seed: int, vocabulary: int) -> tuple[Waveform, list[Word]]:
    """Make a recording and its words, 0.25 to 0.5 s each; some stretches have no silence for half a minute."""
    rng = np.random.default_rng(seed)
    parts, words, now = [silence(1.0)], [], 1.0
    for _ in range(int(rng.integers(3, 7))):
        for _ in range(int(rng.integers(1, 120))):
            length = round(rng.uniform(0.25, 0.5), 2)
            words.append(Word(f"w{rng.integers(vocabulary)}rd", now, now + length, 1.0))
            parts.append(speech(length))
            now += length
        pause = round(float(rng.choice([0.4, 0.8, 2.0, 6.0])), 2)
        parts.append(silence(pause))
        now += pause
    return recording(*parts), words


def heard_words(windows: list[Window], engine: Engine) -> list[str]:
    words: list[Word] = []
    for window in windows:
        to = window.time_map.to_recording
        mapped = [replace(word, start=to(word.start), end=to(word.end)) for word in engine.hear(window)]
        words = join(words, mapped, window.seam) if window.seam else [*words, *mapped]
    return [word.text for word in words]


@pytest.mark.parametrize("remove", [False, True])
@pytest.mark.parametrize(("vocabulary", "jitter"), [(10**6, 0.0), (10**6, 0.15), (40, 0.1)])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_word_is_heard_exactly_once(seed: int, vocabulary: int, jitter: float, remove: bool) -> None:
    audio, words = spoken(seed, vocabulary)
    windows = plan(audio, WindowLimits(20.0, 3.0, remove_silence=remove))
    assert any(window.seam for window in windows)
    for fragments in (False, True):
        assert heard_words(windows, Engine(words, jitter, fragments)) == [word.text for word in words]


@pytest.mark.parametrize("seconds", [0.5, 30.0, 30.1, 70.0])
def test_a_recording_that_is_all_there_gives_the_same_windows(seconds: float) -> None:
    recording = np.random.default_rng(3).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    limits = WindowLimits()
    blocks = Planner(limits, detect=lambda waveform: np.ones(-(-len(waveform) // 320), np.float32))
    whole = Planner(limits, detect=lambda waveform: np.ones(-(-len(waveform) // 320), np.float32))
    expected = [*blocks.add(recording), *blocks.finish()]
    found = whole.whole(recording)
    assert [window.time_map for window in found] == [window.time_map for window in expected]
    assert all(np.array_equal(a.audio, b.audio) for a, b in zip(found, expected, strict=True))
    assert whole.speech_seconds == blocks.speech_seconds
