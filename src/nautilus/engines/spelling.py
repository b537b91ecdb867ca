"""Words in all the ways that a vocabulary of sub-words can write them, as arcs between their prefixes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from unicodedata import combining, normalize

from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.words import WORD_START


class Arc(NamedTuple):
    """A sub-word that leads from one prefix of a keyword to a longer one."""

    target: str
    token: int
    source: str


def spellings_of(keywords: Sequence[str], vocabulary: CtcVocabulary) -> dict[str, list[Arc]]:
    """Spell keywords in all ways: each one's arcs, those to shorter prefixes first; none if it cannot be spelled."""
    tokens = {
        piece.replace(" ", WORD_START): token
        for token, piece in enumerate(vocabulary.pieces)
        if piece and token != vocabulary.blank and not (piece[0] == "<" and piece[-1] == ">")
    }
    letters = frozenset("".join(tokens))
    cased = any(letter.isupper() for letter in letters)
    return {word: _lattice(_written(word if cased else word.lower(), letters), tokens) for word in keywords}


def _written(keyword: str, letters: frozenset[str]) -> str:
    """Write with the vocabulary's letters, `▁` before each word; nothing where it lacks a letter or digit."""
    written = ""
    for word in normalize("NFC", keyword).replace("\u2019", "'").replace("-", "-" if "-" in letters else " ").split():
        spelled = [letter for sign in word if (letter := _letter(sign, letters)) is not None]
        if len(spelled) < len(word):
            return ""
        written += WORD_START * any(spelled) + "".join(spelled)
    return written


def _letter(sign: str, letters: frozenset[str]) -> str | None:
    """Take a sign, or it without its accents; drop other signs, but not letters and digits."""
    plain = sign if sign in letters else "".join(part for part in normalize("NFKD", sign) if not combining(part))
    if letters.issuperset(plain):
        return plain
    return None if sign.isalnum() else ""


def _lattice(text: str, tokens: Mapping[str, int]) -> list[Arc]:
    """Cut a text into sub-words in all ways."""
    longest = max(map(len, tokens), default=0)
    arcs: list[Arc] = []
    reached, useful = {""}, {text}
    for end in range(1, len(text) + 1):
        for start in range(max(0, end - longest), end):
            if text[:start] in reached and text[start:end] in tokens:
                arcs.append(Arc(text[:end], tokens[text[start:end]], text[:start]))
                reached.add(text[:end])
    for arc in reversed(arcs):
        if arc.target in useful:
            useful.add(arc.source)
    return [arc for arc in arcs if arc.target in useful]


def fewest(arcs: Sequence[Arc]) -> int:
    """Count the sub-words of the shortest spelling."""
    counts = {"": 0}
    for arc in arcs:
        counts[arc.target] = min(counts.get(arc.target, len(arcs)), counts[arc.source] + 1)
    return counts[arcs[-1].target]
