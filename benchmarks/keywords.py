"""What keywords bring back of missed words, and what they do where nobody says them.

    python benchmarks/keywords.py --speech FOLDER

FOLDER has `dev_en.jsonl`, `train_en.jsonl` and `noise.jsonl` in NeMo's manifest form. Only those recordings of `dev_en`
are heard that `boost` and `floor` were not chosen on. *Missed* keywords are the words that the model got wrong in
them, in lists of 50; *irrelevant* ones are random words that nobody says.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Final

import jiwer
import numpy as np
from threadpoolctl import threadpool_limits

import nautilus.resources
from conditions import read_rows
from engine_alone import decode
from nautilus.engines.bundle import read_bundle
from nautilus.engines.ctc import CtcVocabulary, best_path
from nautilus.engines.keywords import KeywordGraph, boosted
from nautilus.engines.onnx import open_session
from nautilus.engines.words import TimedPiece, words_of
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.types import SAMPLE_RATE, Waveform
from noise import VOICES

EMBEDDED: Final = Path(nautilus.resources.__file__).parent / "embedded"
EASY: Final = ("an4", "kathleen")
"""Sets that the embedded model mostly understands."""
HARD: Final = "speechocean762"
THIRD: Final = 3
"""One in so many recordings of the hard set is heard."""
LIST: Final = 50
LONG, SHORT = 5, (2, 4)
"""Letters of words that make good keywords, and of those that do not."""
NAMED: Final = 4
"""Letters of a missed word at least."""
LISTS: Final = 8
FEWER_LISTS: Final = 4
HALF_MINUTE: Final = 30 * SAMPLE_RATE
REPEATS: Final = 9


@dataclass(frozen=True, slots=True)
class Clip:
    """What the model makes of a recording before words are chosen."""

    text: str
    logprobs: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    greedy: list[TimedPiece]


class Ears:
    """The embedded model up to its log-probabilities."""

    def __init__(self) -> None:
        self._bundle = read_bundle(EMBEDDED)
        self._session = open_session(self._bundle.folder / self._bundle.offline)
        self.vocabulary = CtcVocabulary(self._bundle.pieces, self._bundle.blank, self._bundle.frame_seconds)

    def hear(self, waveform: Waveform, text: str = "") -> Clip:
        """Hear one recording."""
        features = self._bundle.features(waveform)
        feed = {"audio_signal": features[None], "length": np.array([features.shape[1]], np.int64)}
        logprobs = self._session.run(["logprobs"], feed)[0][0]
        return Clip(text, logprobs, best_path(logprobs, self.vocabulary))

    def graph(self, keywords: Sequence[str]) -> KeywordGraph:
        """Return what finds keywords."""
        return KeywordGraph(list(keywords), self.vocabulary)


class Clips:
    """Recordings that were heard, and what words they have."""

    def __init__(self, ears: Ears, clips: Iterable[Clip]) -> None:
        self._ears = ears
        self.clips = list(clips)
        self._plain = [words_in(clip.greedy) for clip in self.clips]

    def missed(self) -> tuple[list[str], list[tuple[int, str]]]:
        """Return the words that are said and not heard, and all places where they are said: a clip and the word."""
        said = [set(clip.text.split()) for clip in self.clips]
        words = sorted(
            {w for place, words in enumerate(said) for w in words if len(w) >= NAMED and w not in self._plain[place]}
        )
        return words, [(place, word) for place, words_said in enumerate(said) for word in words_said & set(words)]

    def brought_back(self) -> str:
        """Say how many missed words are heard without and with keywords, and what becomes of the word error rate."""
        words, places = self.missed()
        lists = [set(words[first : first + LIST]) for first in range(0, len(words), LIST)]
        before = after = 0
        wrong: list[tuple[float, float]] = []
        for keywords in lists:
            heard = self.boosted(sorted(keywords))
            asked = [(place, word) for place, word in places if word in keywords]
            before += sum(word in self._plain[place] for place, word in asked)
            after += sum(word in heard[place] for place, word in asked)
            some = sorted({place for place, _ in asked})
            wrong.append((self._rate(self._plain, some), self._rate(heard, some)))
        plain, boosted_rate = (float(np.mean(column)) for column in zip(*wrong, strict=True))
        share = f"{100 * before / len(places):.0f} → {100 * after / len(places):.0f} % of {len(places)}"
        return f"{share}; WER of the clips that say them {plain:.1f} → {boosted_rate:.1f} %"

    def harmed(self, lists: Iterable[Sequence[str]]) -> str:
        """Say what keywords that nobody says cost, in points of word error rate."""
        every = range(len(self.clips))
        plain = self._rate(self._plain, every)
        costs = [self._rate(self.boosted(keywords), every) - plain for keywords in lists]
        return f"{np.mean(costs):+.2f} (worst {max(costs):+.2f})"

    def changed(self, lists: Iterable[Sequence[str]]) -> float:
        """Return the share of recordings in which a keyword is heard, in percent."""
        found = [
            heard != plain
            for keywords in lists
            for heard, plain in zip(self.boosted(keywords), self._plain, strict=True)
        ]
        return 100 * float(np.mean(found))

    def boosted(self, keywords: Sequence[str]) -> list[list[str]]:
        """Return the words of all recordings with keywords."""
        graph = self._ears.graph(keywords)
        return [words_in(boosted(clip.logprobs, clip.greedy, graph)) for clip in self.clips]

    def _rate(self, heard: Sequence[Sequence[str]], places: Iterable[int]) -> float:
        chosen = list(places)
        return 100 * float(jiwer.wer([self.clips[p].text for p in chosen], [" ".join(heard[p]) for p in chosen]))


class Words:
    """Words that nobody says."""

    def __init__(self, speech: Path) -> None:
        said = {word for one in read_manifest(speech / "dev_en.jsonl") for word in one.text.split()}
        self._others = sorted({w for one in read_manifest(speech / "train_en.jsonl") for w in one.text.split()} - said)

    def lists(self, lists: int, count: int, shortest: int = LONG, longest: int = 99) -> Iterator[list[str]]:
        """Give random lists of words with so many letters; always the same."""
        words = [word for word in self._others if shortest <= len(word) <= longest]
        for seed in range(lists):
            yield random.Random(seed).sample(words, min(count, len(words)))  # noqa: S311 - reproducible, not secret


def words_in(pieces: Sequence[TimedPiece]) -> list[str]:
    """Return the words of pieces."""
    return [word.text for word in words_of(list(pieces))]


def section(speech: Path, work: Path) -> str:
    """Return the table of the docs as markdown."""
    del work
    ears, words = Ears(), Words(speech)
    utterances = list(read_manifest(speech / "dev_en.jsonl"))
    easy = Clips(ears, heard(ears, [one for one in utterances if one.set in EASY][1::2]))
    hard = Clips(ears, heard(ears, [one for one in utterances if one.set == HARD][1::2][::THIRD]))
    noises = [speech / row["audio_filepath"] for row in read_rows(speech / "noise.jsonl") if row["label"] != VOICES]
    noise = Clips(ears, (ears.hear(waveform) for waveform in decode(noises)))
    rows = [f"| | {', '.join(EASY)}: {len(easy.clips)} clips | {HARD}: {len(hard.clips)} clips |", "|---|---|---|"]
    rows.append(f"| missed keywords heard | {easy.brought_back()} | {hard.brought_back()} |")
    for name, arguments in {
        "50 irrelevant keywords": (LISTS, LIST),
        "100 irrelevant keywords": (FEWER_LISTS, 2 * LIST),
        "50 irrelevant words of 2 to 4 letters": (FEWER_LISTS, LIST, *SHORT),
    }.items():
        costs = (clips.harmed(words.lists(*arguments)) for clips in (easy, hard))
        rows.append(f"| points of WER that {name} cost | {' | '.join(costs)} |")
    changed = noise.changed(words.lists(FEWER_LISTS, LIST))
    rows.append(f"| recordings of noise with a keyword | {changed:.1f} % of {len(noise.clips)} | |")
    rows.append(
        f"| ms for 30 s of speech with 1, 20, 100 keywords; the model itself | {costs_of(ears, easy, words)} | |"
    )
    return "\n".join(rows) + "\n"


def heard(ears: Ears, utterances: Sequence[Utterance]) -> Iterator[Clip]:
    """Hear utterances."""
    for waveform, one in zip(decode([one.path for one in utterances]), utterances, strict=True):
        yield ears.hear(waveform, one.text)


def costs_of(ears: Ears, clips: Clips, words: Words) -> str:
    """Say how long keywords take for half a minute, and how long the model takes."""
    seconds = np.random.default_rng(0).normal(0, 0.1, HALF_MINUTE).astype(np.float32)
    frames = len(ears.hear(seconds).logprobs)
    logprobs = np.concatenate([clip.logprobs for clip in clips.clips])[:frames]
    greedy = best_path(logprobs, ears.vocabulary)
    costs = []
    for count in (1, 20, 100):
        (keywords,) = words.lists(1, count)
        graph = ears.graph(keywords)
        costs.append(median(timed(partial(boosted, logprobs, greedy, graph))))
    own = median(timed(lambda: ears.hear(seconds)))
    return f"{', '.join(f'{1000 * cost:.1f}' for cost in costs)}; {1000 * own:.0f}"


def timed(work: Callable[[], object]) -> Iterator[float]:
    """Give the seconds that something takes, several times."""
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        yield time.perf_counter() - started


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    with threadpool_limits(1):
        print(section(parser.parse_args().speech, Path()))


if __name__ == "__main__":
    main()
