"""JSON from strangers: what the standard library reads, less what later steps can't take.

A text nested a thousand deep ends the parser by RecursionError, half a surrogate pair can't be encoded again, and no
database of text keeps a NUL.
"""

import json
import re
from typing import Any, Final, NoReturn

MOST_NESTED: Final = 32
"""Lists and objects inside each other; ours are four."""
_NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def read_json(given: str | bytes | bytearray) -> Any:
    """Return what JSON in UTF-8 says. Raises ValueError."""
    text = given if isinstance(given, str) else given.decode()
    try:
        read = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not _is_shallow(read):
        raise ValueError("nested too deeply")
    if "\\u" in text:  # nothing else makes half a pair, or a NUL
        if _NUL.search(text):
            raise ValueError("NUL characters")
        json.dumps(read, ensure_ascii=False).encode()
    return read


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _is_shallow(read: Any) -> bool:
    level = [read]
    for _ in range(MOST_NESTED):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, dict | list)]
        if not level:
            return True
    return False


def _inner(outer: Any) -> Any:
    if isinstance(outer, dict):
        return outer.values()
    return outer if isinstance(outer, list) else ()
