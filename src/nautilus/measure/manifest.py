"""NeMo manifests: one JSON object a line, `audio_filepath`, `duration`, `text`, optional `lang`, `speaker`, `set`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nautilus.errors import BadRequestError


@dataclass(frozen=True, slots=True)
class Utterance:
    """A recording and what is said in it."""

    path: Path
    text: str
    seconds: float
    """As the manifest says; 0 where it does not."""
    language: str
    """ISO-639-1 code; `en` where the manifest does not say."""
    speaker: str
    set: str
    """The manifest's own division, or the manifest's name."""


def read_manifest(manifest: Path) -> Iterator[Utterance]:
    """Yield the utterances of a manifest; paths in it are relative to its folder. Raises BadRequestError."""
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequestError(f"{manifest} cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            yield Utterance(
                path=manifest.parent / row["audio_filepath"],
                text=row["text"],
                seconds=float(row.get("duration") or 0.0),
                language=str(row.get("lang") or "en"),
                speaker=str(row.get("speaker") or ""),
                set=str(row.get("set") or manifest.stem),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadRequestError(f"{manifest}, line {number}, is no manifest entry: {error!r}.") from error
