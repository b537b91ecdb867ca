"""Forced alignment of the recordings: when each word was said.

    python -m recipes.embedded.align --work WORK

Uses the acoustic model inside the `pocketsphinx` wheel. Clips that it cannot align (a word outside
its dictionary, a reader who slipped) get `null` and are trained without guidance.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from functools import cache
from pathlib import Path

from pocketsphinx import Decoder
from recipes.embedded.corpus import Word, read_shard, write_lines

FRAMES_PER_SECOND = 100
"""PocketSphinx counts in frames of 10 ms."""


@cache
def decoder() -> Decoder:
    """Make the aligner of this process."""
    return Decoder(lm=None, bestpath=False, loglevel="FATAL")


def spelling(word: str) -> str | None:
    """Find the word as the dictionary writes it (single letters have a dot); None if it is not there."""
    letter = len(word) == 1 and word not in ("a", "i")
    candidates = (f"{word}.",) if letter else (word, word.replace("'", ""))
    return next((candidate for candidate in candidates if candidate and decoder().lookup_word(candidate)), None)


def align(text: str, raw: bytes) -> list[Word] | None:
    """Words with times for int16 samples at 16 kHz, or None."""
    words = text.split()
    spelled = [spelling(word) for word in words]
    if not words or None in spelled:
        return None
    aligner = decoder()
    try:
        aligner.set_align_text(" ".join(word for word in spelled if word))
        aligner.start_utt()
        aligner.process_raw(raw, full_utt=True)
        aligner.end_utt()
    except RuntimeError:
        return None
    found = [segment for segment in aligner.seg() or () if segment.word[0] not in "<["]
    if len(found) != len(words):
        return None
    return [
        Word(word, segment.start_frame / FRAMES_PER_SECOND, (segment.end_frame + 1) / FRAMES_PER_SECOND)
        for word, segment in zip(words, found, strict=True)
    ]


def align_part(work: Path, name: str, indices: range) -> list[list[Word] | None]:
    """Align some clips of a shard."""
    shard = read_shard(work, name)
    return [align(shard.clips[i].text, shard.samples(i).tobytes()) for i in indices]


def align_shard(work: Path, name: str, pool: ProcessPoolExecutor, step: int = 64) -> None:
    """Write `name.align.jsonl` beside the shard, one line per clip."""
    count = len(read_shard(work, name).clips)
    parts = [range(at, min(at + step, count)) for at in range(0, count, step)]
    done = [words for part in pool.map(align_part, [work] * len(parts), [name] * len(parts), parts) for words in part]
    lines = [words if words is None else [astuple(word) for word in words] for words in done]
    write_lines(work / "shards" / f"{name}.align.jsonl", lines)
    print(f"{name}: {sum(words is not None for words in done)} of {count} clips aligned", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shards", nargs="+", default=["real", "digits"])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.processes) as pool:
        for name in options.shards:
            if not (options.work / "shards" / f"{name}.align.jsonl").exists():
                align_shard(options.work, name, pool)


if __name__ == "__main__":
    main()
