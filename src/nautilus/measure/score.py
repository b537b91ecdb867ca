"""Word error rate as the Open ASR leaderboard counts it: normalised texts, aligned word by word.

The normalisers are Whisper's (Radford et al. 2022, appendix C), by the `whisper-normalizer` package: the English one
for English, the basic one for other languages. `plain` compares the words as they are, which is fairer where numbers
are spoken digit by digit: Whisper's normaliser makes one word of them. Alignment is `jiwer`'s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Protocol

import numpy as np

from nautilus.errors import ConfigurationError

RESAMPLES = 1000
"""Of the bootstrap."""


class _Normalise(Protocol):
    def __call__(self, text: str, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """One place where reference and hypothesis differ, or a stretch where they agree."""

    kind: str
    """equal, substitute, delete or insert."""
    reference: str
    hypothesis: str


@dataclass(frozen=True, slots=True)
class Score:
    """The errors of one utterance."""

    words: int
    """In the reference."""
    substitutions: int
    insertions: int
    deletions: int
    characters: int
    """In the reference, spaces included."""
    character_errors: int
    differences: tuple[Difference, ...] = ()

    @property
    def errors(self) -> int:
        """Word errors of every kind."""
        return self.substitutions + self.insertions + self.deletions


@dataclass(frozen=True, slots=True)
class Rate:
    """The error rates of many utterances. All rates are fractions."""

    wer: float
    low: float
    """Lower end of the 95 % confidence interval (bootstrap over utterances)."""
    high: float
    cer: float
    words: int
    substitutions: int
    insertions: int
    deletions: int


def check_installed() -> None:
    """Raise ConfigurationError where the packages that count errors are missing: they are no part of the default."""
    if find_spec("whisper_normalizer") is None or find_spec("jiwer") is None:
        raise ConfigurationError("Evaluating needs two more packages: pip install 'nautilus[evaluate]'.")


def score(reference: str, hypothesis: str, language: str, *, plain: bool = False) -> Score:
    """Normalise both texts (`plain`: only their case), align them and count. Needs what `check_installed` looks for."""
    import jiwer

    normalise = str.lower if plain else _normaliser("en" if language == "en" else "other")
    said, heard = normalise(reference).split(), normalise(hypothesis).split()
    if not said:
        return Score(0, 0, len(heard), 0, 0, len(" ".join(heard)), _inserted(heard))
    words = jiwer.process_words(" ".join(said), " ".join(heard))
    characters = jiwer.process_characters(" ".join(said), " ".join(heard))
    return Score(
        words=len(said),
        substitutions=words.substitutions,
        insertions=words.insertions,
        deletions=words.deletions,
        characters=len(" ".join(said)),
        character_errors=characters.substitutions + characters.insertions + characters.deletions,
        differences=tuple(
            Difference(
                chunk.type,
                " ".join(said[chunk.ref_start_idx : chunk.ref_end_idx]),
                " ".join(heard[chunk.hyp_start_idx : chunk.hyp_end_idx]),
            )
            for chunk in words.alignments[0]
        ),
    )


def rate(scores: Sequence[Score]) -> Rate:
    """Add up many scores. Without any reference word the rates are 0 where nothing was heard, else 1."""
    errors = np.array([one.errors for one in scores], np.float64)
    words = np.array([one.words for one in scores], np.float64)
    draws = np.random.default_rng(0).integers(0, max(1, len(scores)), (RESAMPLES, len(scores)))
    low, high = np.percentile([_ratio(errors[draw].sum(), words[draw].sum()) for draw in draws], (2.5, 97.5))
    return Rate(
        wer=_ratio(errors.sum(), words.sum()),
        low=float(low),
        high=float(high),
        cer=_ratio(_sum(one.character_errors for one in scores), _sum(one.characters for one in scores)),
        words=int(words.sum()),
        substitutions=_sum(one.substitutions for one in scores),
        insertions=_sum(one.insertions for one in scores),
        deletions=_sum(one.deletions for one in scores),
    )


def _sum(numbers: Iterable[int]) -> int:
    return sum(numbers)


def _ratio(errors: float, total: float) -> float:
    return float(errors / total) if total else float(errors > 0)


def _inserted(heard: list[str]) -> tuple[Difference, ...]:
    return (Difference("insert", "", " ".join(heard)),) if heard else ()


@cache
def _normaliser(kind: str) -> _Normalise:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalise: _Normalise = EnglishTextNormalizer() if kind == "en" else BasicTextNormalizer()
    return normalise
