"""Collect the sentences that the synthetic voices read.

    python -m recipes.embedded.texts --work WORK [--prose FOLDER ...] [--count N] [--prose-share 0.7]

Writes `WORK/sentences.txt`, shuffled, one sentence per line: prose from text files (novels, speeches,
examples of a dictionary, fortunes), training transcripts, and phrases (`phrases.py`) for the rest.
Wordings of the development sets never appear, nor words that few people know.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import wordfreq
from recipes.embedded.corpus import read_shard, shard_names
from recipes.embedded.phrases import number, phrase, year

RAREST = 2.6
"""Zipf frequency (wordfreq) under which a word is too rare."""


def in_words(match: re.Match[str]) -> str:
    """Digits in words."""
    value = int(match.group().replace(",", ""))
    if len(match.group()) == 4 and 1100 <= value <= 2099:
        return year(value)
    return number(value) if value < 1_000_000 else " "


def sentences(text: str) -> Iterator[str]:
    """Plain sentences of 3 to 14 known words; long ones are cut at commas."""
    for rough in re.split(r"[.!?;:\n]\s|--|\n\n|\"", text):
        clauses, joined = rough.split(","), ""
        for clause in clauses:
            longer = f"{joined} {clause}"
            if len(longer.split()) > 14:
                yield from _plain(joined)
                longer = clause
            joined = longer
        yield from _plain(joined)


def _plain(text: str) -> Iterator[str]:
    """Yield the text in a-z, apostrophe and space, if it is speakable."""
    text = re.sub(r"\d[\d,]*", in_words, text.replace("\u2019", "'"))
    if re.search(r"[^A-Za-z' \n,.()_?!*-]", text):
        return
    words = [word.strip("'") for word in re.sub(r"[^a-z']", " ", text.lower()).split()]
    words = [word for word in words if word]
    if 3 <= len(words) <= 14 and all(wordfreq.zipf_frequency(word, "en") >= RAREST for word in words):
        yield " ".join(words)


def prose(folders: list[Path]) -> list[str]:
    """All distinct sentences of the text files below the folders."""
    found: dict[str, None] = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in ("", ".txt") and path.name.upper() == path.name:
                continue
            if path.is_file() and path.suffix in ("", ".txt"):
                text = path.read_text(encoding="utf-8", errors="ignore")
                found.update(dict.fromkeys(sentences(re.sub(r"(?<!\n)\n(?!\n|%)", " ", text))))
    return list(found)


def collect(work: Path, folders: list[Path], count: int, prose_share: float) -> list[str]:
    """`count` sentences in random order, of which so many are prose."""
    rng = np.random.default_rng(3)
    secret = {clip.text for name in shard_names(work, "dev-") for clip in read_shard(work, name).clips}
    transcripts = sorted({clip.text for clip in read_shard(work, "real").clips})
    texts = prose(folders)
    rng.shuffle(texts)
    mixed = texts[: int(count * prose_share)]
    mixed += [transcripts[i] for i in rng.permutation(len(transcripts))[: count // 6]]
    mixed += [phrase(rng) for _ in range(count - len(mixed))]
    kept = [text for text in mixed if text not in secret]
    rng.shuffle(kept)
    return kept


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--prose", type=Path, nargs="*", default=[])
    parser.add_argument("--count", type=int, default=40_000)
    parser.add_argument("--prose-share", type=float, default=0.5)
    options = parser.parse_args()
    found = collect(options.work, options.prose, options.count, options.prose_share)
    (options.work / "sentences.txt").write_text("\n".join(found) + "\n", encoding="utf-8")
    print(f"{len(found)} sentences, {len(set(found))} distinct")


if __name__ == "__main__":
    main()
