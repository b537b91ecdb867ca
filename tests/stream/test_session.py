from dataclasses import replace
from math import inf

from nautilus.engines.base import Live
from nautilus.stream.session import Final, Partial, Session, SpeechStarted, StreamLimits
from nautilus.types import Hypothesis, Word

LIMITS = StreamLimits(silence=0.5, longest=10.0)


def live(until: float, *words: tuple[str, float, float]) -> Live:
    said = tuple(Word(text, start, end, 0.9) for text, start, end in words)
    silence = until - (said[-1].end if said else 0.0)
    return Live(Hypothesis(" ".join(word.text for word in said), said), until, silence)


HELLO, WORLD = ("hello", 1.0, 1.4), ("world", 1.5, 1.9)


def test_silence_says_nothing() -> None:
    session = Session(LIMITS)
    assert [session.heard(live(until)) for until in (1.0, 5.0, 9.9)] == [([], False)] * 3


def test_a_long_silence_is_forgotten_without_a_word() -> None:
    session = Session(LIMITS)
    assert session.heard(live(10.0)) == ([], True)
    assert session.heard(live(19.9)) == ([], False)
    assert session.heard(live(20.0)) == ([], True)


def test_an_utterance_starts_grows_and_ends() -> None:
    session = Session(LIMITS)
    first, ends = session.heard(live(1.5, HELLO))
    assert [type(event) for event in first] == [SpeechStarted, Partial]
    assert (first[0], ends) == (SpeechStarted(0, at=1.0), False)
    second, ends = session.heard(live(2.0, HELLO, WORLD))
    assert [type(event) for event in second] == [Partial]
    assert not ends
    over = live(2.5, HELLO, WORLD)
    assert session.heard(over) == ([], True)
    (final,) = session.ended(over)
    assert isinstance(final, Final)
    assert ([word.text for word in final.words], final.utterance) == (["hello", "world"], 0)


def test_a_model_may_say_that_an_utterance_is_over() -> None:
    over = replace(live(1.5, HELLO), over=True)
    assert Session(LIMITS).heard(over) == ([SpeechStarted(0, 1.0)], True)
    by_hand = Session(replace(LIMITS, silence=inf))
    assert not by_hand.heard(over)[1]


def test_what_is_known_is_not_told_again() -> None:
    session = Session(LIMITS)
    session.heard(live(1.5, HELLO))
    assert session.heard(live(1.6, HELLO)) == ([], False)


def test_each_utterance_has_a_number() -> None:
    session = Session(LIMITS)
    for number in range(3):
        (started,), ends = session.heard(live(5.0, HELLO))
        (final,) = session.ended(live(5.0, HELLO))
        assert ends
        assert isinstance(final, Final)
        assert (started, final.utterance) == (SpeechStarted(number, 1.0), number)


def test_the_end_of_a_stream_ends_its_utterance() -> None:
    session = Session(LIMITS)
    session.heard(live(1.5, HELLO))
    (final,) = session.ended(live(1.9, HELLO, WORLD))
    assert isinstance(final, Final)
    assert len(final.words) == 2
    assert session.ended(live(1.9)) == []


def test_a_long_utterance_ends_at_a_pause_or_soon_after_without_one() -> None:
    steady = [(f"word{n}", 0.5 * n, 0.5 * n + 0.5) for n in range(40)]
    session = Session(LIMITS)
    assert session.heard(live(10.5, *steady[:21]))[1] is False
    assert session.heard(live(12.6, *steady[:25]))[1] is True
    paused = [*steady[:20], ("end", 10.0, 10.2)]
    assert Session(LIMITS).heard(live(10.4, *paused))[1] is True


def test_a_word_that_turns_out_to_be_none_is_taken_back() -> None:
    session = Session(LIMITS)
    session.heard(live(1.5, HELLO))
    events, _ = session.heard(live(1.6, ("yellow", 1.0, 1.4)))
    assert [word.text for event in events if isinstance(event, Partial) for word in event.words] == ["yellow"]


def test_all_words_but_the_last_are_stable_unless_the_stream_says_otherwise() -> None:
    session = Session(LIMITS)
    (_, partial), _ = session.heard(live(2.0, HELLO, WORLD))
    assert isinstance(partial, Partial)
    assert partial.stable == 1
    (again,), _ = session.heard(replace(live(2.1, HELLO, WORLD), stable=2))
    assert isinstance(again, Partial)
    assert again.stable == 2
