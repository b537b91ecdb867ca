"""How true the times of words are: speech of a synthesiser, which knows when it said what.

    python benchmarks/word_times.py [--sentences 100] [--fit]

Wants Debian's `festival` and `festvox-us-slt-hts`. With `--fit` it measures the model as it is, without its
calibration, and prints the delay and the tail that fit best: what its bundle's manifest should say.
"""

import argparse
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np

import nautilus.resources
from engine_alone import decode
from nautilus.engines.bundle import Bundle, read_bundle
from nautilus.engines.onnx import OnnxEngine
from nautilus.engines.words import UNCALIBRATED, Calibration, calibrated
from nautilus.types import SAMPLE_RATE, Hypothesis, Options, Waveform, Word

EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded"
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty sixty".split()  # noqa: SIM905 - reads better
COMMANDS = "yes no go stop help repeat start erase enter january march april june july october december".split()  # noqa: SIM905
PROSE = (
    "the weather is nice today and we will go to the park",
    "please open the door and come into the house",
    "she said that the train leaves at seven",
    "my brother lives in a small house near the river",
)
SCHEME = """(set! spoken (SynthText "{text}"))
(utt.save.wave spoken "{file}.wav" 'riff)
(set! file (fopen "{file}.words" "w"))
(mapcar (lambda (word) (format file "%s %f %f\\n" (item.name word) (item.feat word "word_start")
  (item.feat word "word_end"))) (utt.relation.items spoken 'Word))
(fclose file)
"""


@dataclass(frozen=True, slots=True)
class Pair:
    """A word as it was said, and as it was heard."""

    said: Word
    heard: Word


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--bundle", type=Path, default=EMBEDDED)
    options = parser.parse_args()
    bundle = read_bundle(options.bundle)
    with tempfile.TemporaryDirectory() as folder:
        clips = synthesise(Path(folder), options.sentences)
    print_errors("as it is served", list(pairs(clips, hear(bundle, clips))))
    if options.fit:
        plain = hear(replace(bundle, calibration=UNCALIBRATED), clips)
        print_errors("not calibrated", list(pairs(clips, plain)))
        best = fit(clips, plain)
        print_errors(f"{best}", list(pairs(clips, moved(clips, plain, best))))


def section(_: Path, work: Path) -> str:
    """Return the table of the docs as markdown."""
    if shutil.which("festival") is None:
        return "Times of words: not measured, since Festival is not installed (Debian: festival, festvox-us-slt-hts).\n"
    bundle = read_bundle(EMBEDDED)
    clips = synthesise(work, 100)
    plain = replace(bundle, calibration=UNCALIBRATED)
    lines = ["| median error | starts | ends |\n|---|---|---|\n"]
    for title, one in (("as emitted", plain), ("calibrated", bundle)):
        found = list(pairs(clips, hear(one, clips)))
        starts, ends = (
            1000 * np.median(np.abs([getattr(pair.heard, edge) - getattr(pair.said, edge) for pair in found]))
            for edge in ("start", "end")
        )
        lines.append(f"| {title}, {len(found)} synthesised words | {starts:.0f} ms | {ends:.0f} ms |\n")
    return "".join(lines)


Clip = tuple[Waveform, list[Word]]


def synthesise(folder: Path, count: int) -> list[Clip]:
    """Have digits, commands and prose spoken."""
    rng = random.Random(0)  # noqa: S311 - no secret
    script = ["(voice_cmu_us_slt_arctic_hts)"]
    for number in range(count):
        list_of_words = [rng.choice(NUMBERS + COMMANDS) for _ in range(rng.randint(3, 8))]
        text = rng.choice([" ".join(list_of_words), ", ".join(list_of_words), rng.choice(PROSE)])
        script.append(SCHEME.format(text=text, file=folder / str(number)))
    (folder / "all.scm").write_text("\n".join(script))
    subprocess.run(["festival", "-b", str(folder / "all.scm")], check=True, capture_output=True)
    waveforms = decode([folder / f"{number}.wav" for number in range(count)])
    return [(waveform, _words(folder / f"{number}.words")) for number, waveform in enumerate(waveforms)]


def hear(bundle: Bundle, clips: list[Clip]) -> list[Hypothesis]:
    """Hear all clips."""
    engine = OnnxEngine(bundle)
    return [engine.transcribe([waveform], Options())[0] for waveform, _ in clips]


def pairs(clips: list[Clip], heard: list[Hypothesis]) -> Iterator[Pair]:
    """Yield the words that were heard right."""
    for (_, said), hypothesis in zip(clips, heard, strict=True):
        texts = [word.text for word in said], [word.text for word in hypothesis.words]
        for block in SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks():
            for step in range(block.size):
                yield Pair(said[block.a + step], hypothesis.words[block.b + step])


def moved(clips: list[Clip], heard: list[Hypothesis], calibration: Calibration) -> list[Hypothesis]:
    """Calibrate what was heard."""
    return [
        replace(one, words=calibrated(one.words, len(waveform) / SAMPLE_RATE, calibration))
        for (waveform, _), one in zip(clips, heard, strict=True)
    ]


def fit(clips: list[Clip], plain: list[Hypothesis]) -> Calibration:
    """Find the delay and the tail of least error, by 5 ms and 10 ms."""
    delay = float(np.median([pair.heard.start - pair.said.start for pair in pairs(clips, plain)]))
    delay = round(delay / 0.005) * 0.005

    def error(tail: float) -> float:
        calibration = replace(UNCALIBRATED, delay=delay, tail=tail)
        found = pairs(clips, moved(clips, plain, calibration))
        return float(np.mean([min(0.5, abs(pair.heard.end - pair.said.end)) for pair in found]))

    tail = min((step / 100 for step in range(41)), key=error)
    return replace(UNCALIBRATED, delay=round(delay, 3), tail=tail)


def print_errors(title: str, found: list[Pair]) -> None:
    """Print the errors of starts and ends in milliseconds."""
    starts = 1000 * np.array([pair.heard.start - pair.said.start for pair in found])
    ends = 1000 * np.array([pair.heard.end - pair.said.end for pair in found])
    print(f"{title}: {len(found)} words")
    for name, errors in (("starts", starts), ("ends", ends)):
        low, middle, high = np.percentile(errors, (10, 50, 90))
        print(f"  {name}: median error {np.median(np.abs(errors)):.0f} ms; {low:+.0f}, {middle:+.0f}, {high:+.0f} ms")


def _words(file: Path) -> list[Word]:
    rows = [line.split() for line in file.read_text().splitlines()]
    return [Word(text.lower(), float(start), float(end), 1.0) for text, start, end in rows]


if __name__ == "__main__":
    main()
