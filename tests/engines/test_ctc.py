import numpy as np

from nautilus.engines.ctc import CtcVocabulary, best_path

VOCABULARY = CtcVocabulary(("▁a", "b", "▁c"), 3, 0.08)


def path(*tokens: int, peak: float = 0.0) -> np.ndarray:
    logprobs = np.full((len(tokens), 4), -9.0, np.float32)
    logprobs[np.arange(len(tokens)), tokens] = np.linspace(-1.0, peak, len(tokens))
    return logprobs


def test_repeats_merge_and_blanks_separate() -> None:
    heard = best_path(path(3, 0, 0, 3, 0, 1, 3), VOCABULARY)
    assert [piece.piece for piece in heard] == ["▁a", "▁a", "b"]


def test_a_piece_lasts_as_long_as_its_run() -> None:
    first, second = best_path(path(3, 0, 0, 2), VOCABULARY)
    assert (first.start, first.end) == (0.08, 0.24)
    assert (second.start, second.end) == (0.24, 0.32)


def test_the_score_is_the_peak_s() -> None:
    (piece,) = best_path(path(0, 0, 0, peak=-0.25), VOCABULARY)
    assert piece.logprob == -0.25


def test_silence_has_no_pieces() -> None:
    assert best_path(path(3, 3, 3), VOCABULARY) == []
    assert best_path(np.zeros((0, 4), np.float32), VOCABULARY) == []
