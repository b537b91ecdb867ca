"""What the confidence of words is worth, on recordings with known words; draws `docs/reliability.svg`.

    python benchmarks/confidence.py --speech FOLDER [--fit] [--svg docs/reliability.svg]

FOLDER has `dev_en.jsonl` in NeMo's manifest form. With `--fit` it prints the slope and the offset that would calibrate
the model, fitted on half of the speakers and judged on the other half: what its bundle's manifest should say.
"""

import argparse
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

import nautilus.resources
from engine_alone import decode
from nautilus.audio.enhance import enhance
from nautilus.engines.bundle import read_bundle
from nautilus.engines.onnx import OnnxEngine
from nautilus.engines.words import UNCALIBRATED
from nautilus.measure.manifest import Utterance, read_manifest
from nautilus.measure.reliability import Judged, auc, bins, calibration_error, judge, plot
from nautilus.types import Options, Word

EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded"
COLOURS = ("#3182ce", "#e53e3e")
MEAN, PRODUCT, CALIBRATED = "geometric mean", "product", "calibrated"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=EMBEDDED)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    found = measure(options.speech, options.bundle)
    table = Table("words of", "measure", "words", "right %", "AUC", "ECE %", box=None)
    for name in found.measures:
        for group in found.groups:
            table.add_row(group, name, *_row(found.words(name, group)))
    Console().print(table)
    if options.fit:
        print_fit(found)
    if options.svg:
        options.svg.write_text(reliability(found), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Found:
    """The words of each utterance, judged by each measure of confidence."""

    utterances: list[Utterance]
    measures: dict[str, list[list[Judged]]]

    @property
    def groups(self) -> tuple[str, ...]:
        """All, and each set."""
        return (*dict.fromkeys(one.set for one in self.utterances), "all")

    def words(self, measure: str, group: str = "all") -> list[Judged]:
        """Return all words of a set."""
        rows = zip(self.measures[measure], self.utterances, strict=True)
        return [word for row, utterance in rows if group in ("all", utterance.set) for word in row]


def measure(speech: Path, bundle: Path = EMBEDDED) -> Found:
    """Hear the development sets, and judge what was heard."""
    utterances = [one for one in read_manifest(speech / "dev_en.jsonl") if one.text]
    waveforms = [enhance(waveform, "auto").waveform for waveform in decode([one.path for one in utterances])]
    heard = {}
    for name, calibration in ((CALIBRATED, None), (PRODUCT, UNCALIBRATED)):
        one = read_bundle(bundle)
        engine = OnnxEngine(replace(one, calibration=calibration) if calibration else one)
        heard[name] = [engine.transcribe([waveform], Options())[0].words for waveform in waveforms]
    heard[MEAN] = [tuple(map(_mean, words)) for words in heard[PRODUCT]]
    judged = {
        name: [judge(utterance.text, words) for utterance, words in zip(utterances, heard[name], strict=True)]
        for name in (MEAN, PRODUCT, CALIBRATED)
    }
    return Found(utterances, judged)


def section(speech: Path, _: Path) -> str:
    """Return the table of the docs as markdown."""
    found = measure(speech)
    lines = [f"| words of | AUC: {MEAN}, {PRODUCT} | ECE: {MEAN}, {PRODUCT}, {CALIBRATED} |\n|---|---|---|\n"]
    for group in found.groups:
        ranks = ", ".join(f"{auc(found.words(name, group)):.3f}" for name in (MEAN, PRODUCT))
        gaps = ", ".join(f"{100 * calibration_error(found.words(name, group)):.1f}" for name in found.measures)
        lines.append(f"| {group if group == 'all' else f'`{group}`'} | {ranks} | {gaps} % |\n")
    before, after = judged_by_others(found)
    lines.append(f"\nFitted on half of the speakers, ECE on the other half: {before:.1f} to {after:.1f} %.\n")
    return "".join(lines)


def reliability(found: Found) -> str:
    """Draw the plot of the docs."""
    return plot({name: bins(found.words(name)) for name in (CALIBRATED, PRODUCT)}, COLOURS)


def judged_by_others(found: Found) -> tuple[float, float]:
    """Fit on half of the speakers; the calibration error of the other half in percent, before and after."""
    words = _by_speaker(found)
    speakers = sorted({speaker for speaker, _ in words})
    first, second = ([word for speaker, word in words if speaker in speakers[half::2]] for half in (0, 1))
    slope, offset = fit(first)
    judged = [Judged(float(_sigmoid(slope * _logit(one.confidence) + offset)), one.right) for one in second]
    return 100 * calibration_error(second), 100 * calibration_error(judged)


def print_fit(found: Found) -> None:
    """Fit on half of the speakers, judge on the other half, then fit on all."""
    print("on the other speakers: ECE {:.1f} % -> {:.1f} %".format(*judged_by_others(found)))
    print("of all: slope {:.2f}, offset {:.2f}".format(*fit([word for _, word in _by_speaker(found)])))


def fit(judged: list[Judged]) -> tuple[float, float]:
    """Fit slope and offset of the log-odds by maximum likelihood (Platt 1999)."""
    odds = _logit(np.array([one.confidence for one in judged]))
    right = np.array([one.right for one in judged], float)

    def loss(values: np.ndarray) -> float:
        chance = np.clip(_sigmoid(values[0] * odds + values[1]), 1e-9, 1 - 1e-9)
        return float(-np.mean(right * np.log(chance) + (1 - right) * np.log(1 - chance)))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(offset)


def _by_speaker(found: Found) -> list[tuple[str, Judged]]:
    rows = zip(found.measures[PRODUCT], found.utterances, strict=True)
    return [(utterance.speaker, word) for row, utterance in rows for word in row]


def _mean(word: Word) -> Word:
    """Give a word the geometric mean of its sub-words' probabilities."""
    return replace(word, confidence=math.exp(sum(one.logprob for one in word.tokens) / max(1, len(word.tokens))))


def _row(words: list[Judged]) -> list[str]:
    right = 100 * float(np.mean([word.right for word in words]))
    return [str(len(words)), f"{right:.1f}", f"{auc(words):.3f}", f"{100 * calibration_error(words):.1f}"]


def _logit(chance: np.ndarray | float) -> np.ndarray:
    held = np.clip(chance, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(held / (1 - held)))


def _sigmoid(odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-odds)))


if __name__ == "__main__":
    main()
