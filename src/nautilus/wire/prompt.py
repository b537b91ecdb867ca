"""A prompt → the words to expect. These models continue no text, but a prompt mostly tells them names and terms.

`ZyntriQix, Digique Plus, CynapseFive` is a list: each entry counts. In running text (`The talk is about GANs and New
York.`) only what is written like a name or an abbreviation does, neighbours as one phrase.
"""

import re
from collections.abc import Iterator
from typing import Final

from nautilus.types import MAX_KEYWORD_CHARACTERS, MAX_KEYWORDS

PARTS: Final = re.compile(r"[,;:\n\t()\[\]{}\"“”„«»]|[.!?]+(?=\s|$)")
ENTRY_WORDS: Final = 4
"""A part of at most so many words is an entry of a list, not running text."""
LEAST: Final = 2
"""Letters of a word worth expecting."""


def expected_words(prompt: str) -> tuple[str, ...]:
    """Return the names and terms of a prompt, each once, in their order."""
    parts = [part.split() for part in PARTS.split(prompt)]
    parts = [part for part in parts if part]
    is_list = len(parts) > 1 or len(prompt.split()) <= ENTRY_WORDS
    found: list[str] = []
    for part in parts:
        found += [" ".join(part)] if is_list and len(part) <= ENTRY_WORDS else _names(part)
    fitting = (phrase for phrase in found if LEAST <= len(phrase) <= MAX_KEYWORD_CHARACTERS)
    return tuple(dict.fromkeys(fitting))[:MAX_KEYWORDS]


def _names(words: list[str]) -> Iterator[str]:
    """Give the names in a sentence; a capital at its start says nothing, unless there are more in the word."""
    phrase: list[str] = []
    for number, word in enumerate(words):
        if _is_name(word if number else word[:1].lower() + word[1:]):
            phrase.append(word)
        elif phrase:
            yield " ".join(phrase)
            phrase = []
    if phrase:
        yield " ".join(phrase)


def _is_name(word: str) -> bool:
    return any(letter.isupper() or letter.isdigit() for letter in word) and word not in ("I", "I'm", "I'll", "I've")
