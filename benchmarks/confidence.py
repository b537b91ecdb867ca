"""What the confidence of words is worth, on recordings with known words; draws `docs/reliability.svg`.

    python benchmarks/confidence.py --speech FOLDER [--fit] [--svg docs/reliability.svg]

FOLDER has `dev_en.jsonl` in NeMo's manifest form. With `--fit` it prints the slope and the offset that would calibrate
the model, fitted on half of the speakers and judged on the other half: what its bundle's manifest should say.
"""

import argparse
from dataclasses import replace
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
from nautilus.measure.manifest import read_manifest
from nautilus.measure.reliability import Judged, auc, bins, calibration_error, judge, plot
from nautilus.types import Options

EMBEDDED = Path(nautilus.resources.__file__).parent / "embedded"
COLOURS = ("#3182ce", "#e53e3e")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--bundle", type=Path, default=EMBEDDED)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    utterances = [one for one in read_manifest(options.speech / "dev_en.jsonl") if one.text]
    waveforms = [enhance(waveform, "auto").waveform for waveform in decode([one.path for one in utterances])]
    bundle = read_bundle(options.bundle)
    table = Table("words of", "calibrated", "words", "right %", "AUC", "ECE %", box=None)
    drawn = {}
    for name, one in (("calibrated", bundle), ("as emitted", replace(bundle, calibration=UNCALIBRATED))):
        engine = OnnxEngine(one)
        heard = [engine.transcribe([waveform], Options())[0].words for waveform in waveforms]
        judged = [judge(utterance.text, words) for utterance, words in zip(utterances, heard, strict=True)]
        for group in ("all", *dict.fromkeys(utterance.set for utterance in utterances)):
            words = [
                word
                for row, utterance in zip(judged, utterances, strict=True)
                if group in ("all", utterance.set)
                for word in row
            ]
            table.add_row(group, name, *_row(words))
        drawn[name] = bins([word for row in judged for word in row])
    Console().print(table)
    if options.fit:
        print_fit(
            [(utterance.speaker, word) for row, utterance in zip(judged, utterances, strict=True) for word in row]
        )
    if options.svg:
        options.svg.write_text(plot(drawn, COLOURS), encoding="utf-8")


def print_fit(words: list[tuple[str, Judged]]) -> None:
    """Fit on half of the speakers, judge on the other half, then fit on all."""
    speakers = sorted({speaker for speaker, _ in words})
    first, second = ([word for speaker, word in words if speaker in speakers[half::2]] for half in (0, 1))
    slope, offset = fit(first)
    judged = [Judged(float(_sigmoid(slope * _logit(one.confidence) + offset)), one.right) for one in second]
    print(
        f"on the other speakers: ECE {100 * calibration_error(second):.1f} % -> {100 * calibration_error(judged):.1f} %"
    )
    print("of all: slope {:.2f}, offset {:.2f}".format(*fit([word for _, word in words])))


def fit(judged: list[Judged]) -> tuple[float, float]:
    """Fit slope and offset of the log-odds by maximum likelihood (Platt 1999)."""
    odds = _logit(np.array([one.confidence for one in judged]))
    right = np.array([one.right for one in judged], float)

    def loss(values: np.ndarray) -> float:
        chance = np.clip(_sigmoid(values[0] * odds + values[1]), 1e-9, 1 - 1e-9)
        return float(-np.mean(right * np.log(chance) + (1 - right) * np.log(1 - chance)))

    slope, offset = minimize(loss, np.array([1.0, 0.0])).x
    return float(slope), float(offset)


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
