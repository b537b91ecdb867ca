from nautilus.segments import SegmentLimits, segments_of
from nautilus.types import Word

LIMITS = SegmentLimits(pause=0.8, longest=2.0, breath=0.25, hard=4.0)


def words(*places: tuple[str, float, float]) -> list[Word]:
    return [Word(text, start, end, 1.0) for text, start, end in places]


def texts(*places: tuple[str, float, float]) -> list[str]:
    return [segment.text for segment in segments_of(words(*places), LIMITS)]


def test_no_words_no_segments() -> None:
    assert segments_of([]) == ()


def test_a_sentence_end_ends_a_segment() -> None:
    assert texts(("hi.", 0, 0.2), ("so", 0.3, 0.5)) == ["hi.", "so"]


def test_a_pause_ends_a_segment() -> None:
    assert texts(("one", 0, 0.2), ("two", 0.9, 1.0), ("three", 1.8, 2.0)) == ["one two", "three"]


def test_a_long_segment_ends_at_the_next_breath() -> None:
    assert texts(("a", 0, 1.0), ("b", 1.1, 1.9), ("c", 2.2, 2.5)) == ["a b", "c"]


def test_speech_without_breath_is_cut_in_the_end() -> None:
    breathless = [("w", n * 0.5, n * 0.5 + 0.5) for n in range(20)]
    assert all(segment.end - segment.start <= 4.0 for segment in segments_of(words(*breathless), LIMITS))


def test_speech_without_breath_is_cut_at_its_longest_pause() -> None:
    places = [("w", n * 0.5 + (0.2 if n > 5 else 0), n * 0.5 + (0.2 if n > 5 else 0) + 0.5) for n in range(10)]
    assert [len(segment.words) for segment in segments_of(words(*places), LIMITS)] == [6, 4]


def test_abbreviations_and_initials_end_no_sentence() -> None:
    assert texts(("Mr.", 0, 0.2), ("J.", 0.3, 0.4), ("Doe", 0.4, 0.5)) == ["Mr. J. Doe"]
    assert texts(("so", 0, 0.1), ("am", 0.1, 0.2), ("I.", 0.2, 0.3), ("Why?", 0.4, 0.5)) == ["so am I.", "Why?"]


def test_a_closing_quote_may_follow_the_end_of_a_sentence() -> None:
    assert texts(("\u201cYes.\u201d", 0, 0.2), ("He", 0.3, 0.5)) == ["\u201cYes.\u201d", "He"]


def test_a_segment_spans_its_words() -> None:
    (segment,) = segments_of(words(("one", 0.5, 0.7), ("two", 0.8, 1.1)))
    assert (segment.start, segment.end) == (0.5, 1.1)
